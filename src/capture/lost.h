/*
 * lost.h
 *		Changes that no inbox had a place for: everybody is to be recomputed.
 */
#ifndef REPUTATION_LOST_H
#define REPUTATION_LOST_H

#include "postgres.h"

extern void lost_init(void);

/* For the writer: before its commit; then either of the others. */
extern void lost_mark(void);
extern void lost_report(bool prepared);
extern void lost_nothing(void);

/* For who drains, and for who waits. */
extern bool lost_take(void);
extern bool lost_pending(void);

#endif							/* REPUTATION_LOST_H */

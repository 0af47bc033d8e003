/*
 * rank_top.h
 *		Which tops of boards may have changed since they were cached.
 */
#ifndef REPUTATION_RANK_TOP_H
#define REPUTATION_RANK_TOP_H

#include "postgres.h"

extern void rank_top_init(void);
extern void rank_top_note(int tree, uint64 key);
extern bool rank_top_is_stale(int tree);
extern void rank_top_refresh_begins(int tree);
extern void rank_top_refresh_ends(int tree, uint64 threshold);

/* The highest key: the top has changed, whatever it is. */
#define RANK_TOP_ANY	PG_UINT64_MAX

#endif							/* REPUTATION_RANK_TOP_H */

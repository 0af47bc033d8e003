/*
 * bound.h
 *		How long a worker stays in code of the application's.
 */
#ifndef REPUTATION_BOUND_H
#define REPUTATION_BOUND_H

#include "postgres.h"

#define LONGEST_SUSPENSION	600000	/* ms */

extern void bound_init(void);
extern bool bound_begin(int engine, double rows);
extern void bound_end(bool began);
extern void bound_explain(ErrorData *error);
extern bool bound_exceeded(const ErrorData *error);
extern long bound_suspension(void);

#endif							/* REPUTATION_BOUND_H */

/*
 * batch.h
 *		Runs of batch jobs that are worked off in steps.
 */
#ifndef REPUTATION_BATCH_H
#define REPUTATION_BATCH_H

#include "nodes/pg_list.h"

extern bool batch_is_on(void);
extern bool batch_step(List *engines, bool raise);

#endif							/* REPUTATION_BATCH_H */

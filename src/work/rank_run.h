/*
 * rank_run.h
 *		The rank column of an engine's users table.
 */
#ifndef REPUTATION_RANK_RUN_H
#define REPUTATION_RANK_RUN_H

#include "engine/engine.h"

extern void rank_run_start(const Engine *engine);
extern void rank_run_schedule(void);

#endif							/* REPUTATION_RANK_RUN_H */

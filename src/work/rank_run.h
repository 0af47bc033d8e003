/*
 * rank_run.h
 *		The rank column of an engine's users table.
 */
#ifndef REPUTATION_RANK_RUN_H
#define REPUTATION_RANK_RUN_H

#include "engine/engine.h"

extern void rank_run_start(const Engine *engine);
extern bool rank_run_is_on(void);
extern bool rank_step(List *engines, bool raise);

#endif							/* REPUTATION_RANK_RUN_H */

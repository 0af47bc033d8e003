/*
 * source_check.h
 *		What becomes of sources while engines are attached.
 */
#ifndef REPUTATION_SOURCE_CHECK_H
#define REPUTATION_SOURCE_CHECK_H

#include "engine/engine.h"

extern void source_check_init(void);
extern bool sources_look(List *engines, bool now);
extern void sources_mend(List *engines);
extern void sources_repair(const Engine *engine);

#endif							/* REPUTATION_SOURCE_CHECK_H */

/*
 * board_engine.h
 *		Engines that are made at run time: boards over an application's table.
 */
#ifndef REPUTATION_BOARD_ENGINE_H
#define REPUTATION_BOARD_ENGINE_H

#include "engine/engine.h"

extern void board_engine_init(void);
extern const EngineDescriptor *board_descriptor(int id, const char *name);

#endif							/* REPUTATION_BOARD_ENGINE_H */

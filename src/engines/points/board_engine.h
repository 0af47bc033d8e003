/*
 * board_engine.h
 *		The class of the engines that are boards over an application's table.
 */
#ifndef REPUTATION_BOARD_ENGINE_H
#define REPUTATION_BOARD_ENGINE_H

#include "engine/engine.h"

extern const EngineClass *const board_class;

extern void board_engine_init(void);

#endif							/* REPUTATION_BOARD_ENGINE_H */

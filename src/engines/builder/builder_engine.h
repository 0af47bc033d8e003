/*
 * builder_engine.h
 *		The builder engine.
 */
#ifndef REPUTATION_BUILDER_ENGINE_H
#define REPUTATION_BUILDER_ENGINE_H

#include "engine/engine.h"

extern const EngineClass builder_class;

#endif							/* REPUTATION_BUILDER_ENGINE_H */

/*
 * engines.h
 *		Which engines there are. A new one has a line here, and one in reputation.c.
 */
#ifndef REPUTATION_ENGINES_H
#define REPUTATION_ENGINES_H

#include "engine.h"

extern const EngineDescriptor builder_engine;
extern const EngineDescriptor trust_engine;
extern const EngineDescriptor session_engine;
extern const EngineDescriptor points_engine;
extern const EngineDescriptor badges_engine;

#endif							/* REPUTATION_ENGINES_H */

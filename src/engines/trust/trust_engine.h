/*
 * trust_engine.h
 *		The trust engine.
 */
#ifndef REPUTATION_TRUST_ENGINE_H
#define REPUTATION_TRUST_ENGINE_H

#include "engine/engine.h"

extern const EngineClass trust_class;

#endif							/* REPUTATION_TRUST_ENGINE_H */

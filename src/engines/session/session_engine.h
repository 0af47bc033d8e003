/*
 * session_engine.h
 *		What the session engine computes of a user.
 */
#ifndef REPUTATION_SESSION_ENGINE_H
#define REPUTATION_SESSION_ENGINE_H

#include "core/session.h"
#include "engine/engine.h"

extern const EngineClass session_class;

extern SessionResult session_result(const Engine *engine, const Score *score);

#endif							/* REPUTATION_SESSION_ENGINE_H */

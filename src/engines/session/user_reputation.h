/*
 * user_reputation.h
 *		A user's session reputation, as user_reputation() gives it.
 */
#ifndef REPUTATION_USER_REPUTATION_H
#define REPUTATION_USER_REPUTATION_H

#include "cache/read_cache.h"
#include "engine/engine.h"

extern void session_reputation_compute(Engine *engine, char *key, CachedReputation *value);

#endif							/* REPUTATION_USER_REPUTATION_H */

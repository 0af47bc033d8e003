/*
 * user_reputation.h
 *		A user's session reputation, as user_reputation() gives it.
 */
#ifndef REPUTATION_USER_REPUTATION_H
#define REPUTATION_USER_REPUTATION_H

#include "engine.h"

typedef struct CachedReputation
{
	int32		score;
	int32		badge;			/* a SessionBadge */
	int64		completed;
	int64		no_shows;
	TimestampTz computed_at;
} CachedReputation;

extern void session_reputation_compute(Engine *engine, char *key, CachedReputation *value);

#endif							/* REPUTATION_USER_REPUTATION_H */

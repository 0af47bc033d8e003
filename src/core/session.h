/*
 * session.h
 *		The session reputation's formula. Pure C.
 */
#ifndef REPUTATION_CORE_SESSION_H
#define REPUTATION_CORE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

/* Whose confirmation makes a completed session count for a user. */
typedef enum SessionPolicy
{
	SESSION_ANY,				/* either's, for both */
	SESSION_OWN,				/* the partner's of the user */
	SESSION_BOTH				/* both */
} SessionPolicy;

typedef enum SessionBadge
{
	SESSION_RED,
	SESSION_GREEN,
	SESSION_GOLD
} SessionBadge;

/* The parameters; the defaults are session_default_weights(). */
typedef struct SessionWeights
{
	SessionPolicy policy;
	double		min;			/* bounds of the score */
	double		max;
	double		gold;			/* the least scores of the badges */
	double		green;
} SessionWeights;

/* Completed sessions by who confirmed them, and those the user failed to show up at. */
typedef struct SessionSignals
{
	int64_t		confirmed_any;
	int64_t		confirmed_own;
	int64_t		confirmed_both;
	int64_t		no_shows;
} SessionSignals;

typedef struct SessionResult
{
	int64_t		completed;
	int64_t		no_shows;
	int32_t		score;
	SessionBadge badge;
} SessionResult;

extern SessionWeights session_default_weights(void);
extern bool session_policy_named(const char *name, SessionPolicy *policy);
extern const char *session_policy_name(SessionPolicy policy);
extern const char *session_badge_name(SessionBadge badge);
extern SessionResult session_compute(const SessionWeights *weights, const SessionSignals *signals);

#endif							/* REPUTATION_CORE_SESSION_H */

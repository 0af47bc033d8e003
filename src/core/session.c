/*
 * session.c
 *		The session reputation: completed sessions against no-shows.
 *
 * clamp(completed - no_shows, min, max), and a badge for what that comes to.
 *
 * Source: docs/SPEC.md, section "Session reputation".
 */
#include "session.h"

#include <math.h>
#include <string.h>

static const char *const policy_names[] = {"any", "own", "both"};
static const char *const badge_names[] = {"red", "green", "gold"};

/*
 * session_default_weights -- the parameters of algorithm version 1.
 */
SessionWeights
session_default_weights(void)
{
	SessionWeights weights = {
		.policy = SESSION_ANY,
		.min = -5,
		.max = 20,
		.gold = 10,
		.green = 0
	};

	return weights;
}

/*
 * session_policy_named -- finds a policy; false when there is none of that name.
 */
bool
session_policy_named(const char *name, SessionPolicy *policy)
{
	for (int i = SESSION_ANY; i <= SESSION_BOTH; i++)
	{
		if (strcmp(policy_names[i], name) != 0)
			continue;
		*policy = (SessionPolicy) i;
		return true;
	}
	return false;
}

/*
 * session_policy_name, session_badge_name -- the names in parameters and results.
 */
const char *
session_policy_name(SessionPolicy policy)
{
	return policy_names[policy];
}

const char *
session_badge_name(SessionBadge badge)
{
	return badge_names[badge];
}

static int64_t
completed_by(SessionPolicy policy, const SessionSignals *signals)
{
	switch (policy)
	{
		case SESSION_OWN:
			return signals->confirmed_own;
		case SESSION_BOTH:
			return signals->confirmed_both;
		default:
			return signals->confirmed_any;
	}
}

/* Rounded half away from zero, as far as an int32 goes. */
static int32_t
to_score(double points)
{
	points = round(points);
	if (points >= (double) INT32_MAX)
		return INT32_MAX;
	if (points <= (double) INT32_MIN)
		return INT32_MIN;
	return (int32_t) points;
}

/*
 * session_compute -- the score, its badge and what they are made of. The bounds
 * are in order.
 */
SessionResult
session_compute(const SessionWeights *weights, const SessionSignals *signals)
{
	SessionResult result = {
		.completed = completed_by(weights->policy, signals),
		.no_shows = signals->no_shows
	};
	double		points = (double) result.completed - (double) result.no_shows;

	result.score = to_score(fmax(weights->min, fmin(weights->max, points)));
	if (result.score >= weights->gold)
		result.badge = SESSION_GOLD;
	else if (result.score >= weights->green)
		result.badge = SESSION_GREEN;
	else
		result.badge = SESSION_RED;
	return result;
}

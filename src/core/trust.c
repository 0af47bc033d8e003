/*
 * trust.c
 *		The trust score: how complete a profile is, how much of it is verified,
 *		how active its user is; less the longer the user stays away.
 *
 * round((profile * P + verification * V + activity * A) * D), clamped to 0 .. 100
 *
 * Source: docs/SPEC.md, section "Trust score".
 *
 * The result changes with time alone: D falls, events get too old to count, a
 * user is no longer new. trust_next_due() says when that can happen next. While
 * nobody writes anything and no event comes or goes, the score only falls and
 * badges only go; so the first moment with another result is found by bisection,
 * to the microsecond, with trust_compute() itself.
 */
#include "trust.h"

#include <math.h>

#define USECS_PER_DAY	86400000000.0

/* A sum of decimals that should be a half may lack some of it. */
#define ROUNDING_SLACK	1e-9

static const char *const badge_names[TRUST_BADGES] = {
	"verified", "complete", "active", "trusted", "new"
};

/*
 * trust_default_weights -- the weights of algorithm version 1.
 */
TrustWeights
trust_default_weights(void)
{
	TrustWeights weights = {
		.profile = 0.40, .verification = 0.35, .activity = 0.25,
		.photo = 25, .bio = 20, .bio_full = 50, .interests = 15, .interests_full = 3,
		.name = 10, .birthdate = 10, .location = 10, .job = 10,
		.email_verified = 25, .phone_verified = 25, .photo_verified = 25, .id_verified = 25,
		.activity_full = 50, .activity_days = 30,
		.grace_days = 7, .half_life_days = 30, .decay_min = 0.5,
		.complete_profile = 90, .active_activity = 50, .active_days = 7,
		.trusted_score = 80, .new_days = 7
	};

	return weights;
}

/*
 * trust_badge_name -- the name of a badge by the number of its bit.
 */
const char *
trust_badge_name(int number)
{
	return badge_names[number];
}

static int64_t
near_time(int64_t time)
{
	if (time > TRUST_FAR)
		return TRUST_FAR;
	if (time < -TRUST_FAR)
		return -TRUST_FAR;
	return time;
}

/* Microseconds between two times; both are limited, so it cannot overflow. */
static int64_t
elapsed(int64_t since, int64_t now)
{
	return near_time(now) - near_time(since);
}

/* A time so many days later; TRUST_NEVER when that is too far away. */
static int64_t
days_later(int64_t time, double days)
{
	double		usecs = days * USECS_PER_DAY;

	if (!(usecs < (double) TRUST_FAR))
		return TRUST_NEVER;
	return near_time(time) + (int64_t) usecs;
}

/* The part of the whole that an amount gives; of nothing any amount is all. */
static double
part(double amount, double whole)
{
	if (!(whole > 0))
		return 1;
	return fmin(1, amount / whole);
}

static double
profile_of(const TrustWeights *weights, const TrustSignals *signals)
{
	return (signals->photo ? weights->photo : 0) +
		(signals->name ? weights->name : 0) +
		(signals->birthdate ? weights->birthdate : 0) +
		(signals->location ? weights->location : 0) +
		(signals->job ? weights->job : 0) +
		weights->bio * (signals->bio > 0 ? part((double) signals->bio, weights->bio_full) : 0) +
		weights->interests * (signals->interests > 0 ?
							  part((double) signals->interests, weights->interests_full) : 0);
}

static double
verification_of(const TrustWeights *weights, const TrustSignals *signals)
{
	return (signals->email_verified ? weights->email_verified : 0) +
		(signals->phone_verified ? weights->phone_verified : 0) +
		(signals->photo_verified ? weights->photo_verified : 0) +
		(signals->id_verified ? weights->id_verified : 0);
}

static double
activity_of(const TrustWeights *weights, const TrustSignals *signals)
{
	if (!signals->has_source)
		return signals->has_last_active ? 100 : 0;
	if (signals->events <= 0)
		return 0;
	return 100 * part(log1p((double) signals->events), log1p(weights->activity_full));
}

/*
 * trust_idle_days -- for how long the user has been away; 0 when that is not
 * known.
 */
double
trust_idle_days(const TrustSignals *signals, int64_t now)
{
	if (!signals->has_last_active || now <= signals->last_active)
		return 0;
	return (double) elapsed(signals->last_active, now) / USECS_PER_DAY;
}

static double
decay_of(const TrustWeights *weights, const TrustSignals *signals, int64_t now)
{
	double		idle = trust_idle_days(signals, now) - weights->grace_days;

	if (!(idle > 0))
		return 1;
	if (!(weights->half_life_days > 0))
		return weights->decay_min;
	return fmax(weights->decay_min, exp2(-idle / weights->half_life_days));
}

/*
 * trust_compute -- sub-scores, score and badges at a time. The events are those
 * that count at that time.
 */
TrustResult
trust_compute(const TrustWeights *weights, const TrustSignals *signals, int64_t now)
{
	TrustResult result = {
		.profile = profile_of(weights, signals),
		.verification = verification_of(weights, signals),
		.activity = activity_of(weights, signals),
		.decay = decay_of(weights, signals, now)
	};

	result.points = (weights->profile * result.profile +
					 weights->verification * result.verification +
					 weights->activity * result.activity) * result.decay;
	result.score = (int32_t) fmin(100, fmax(0, round(result.points + ROUNDING_SLACK)));

	if (result.verification >= 100 - ROUNDING_SLACK)
		result.badges |= TRUST_VERIFIED;
	if (result.profile >= weights->complete_profile - ROUNDING_SLACK)
		result.badges |= TRUST_COMPLETE;
	if (result.activity >= weights->active_activity - ROUNDING_SLACK &&
		signals->has_last_active && trust_idle_days(signals, now) <= weights->active_days)
		result.badges |= TRUST_ACTIVE;
	if (result.score >= weights->trusted_score)
		result.badges |= TRUST_TRUSTED;
	if (signals->has_created && now < days_later(signals->created, weights->new_days))
		result.badges |= TRUST_NEW;
	return result;
}

static bool
same_result(const TrustResult *a, const TrustResult *b)
{
	return a->score == b->score && a->badges == b->badges;
}

/*
 * From when on nothing but events can change the result: the decay is at its
 * bottom, and the badges that go with time are gone.
 */
static int64_t
settled_from(const TrustWeights *weights, const TrustSignals *signals, int64_t now)
{
	int64_t		settled = now;

	if (signals->has_last_active)
	{
		/* A decay that goes down to 0 gives no point after 1,100 half-lives. */
		double		halvings = weights->decay_min > 0 ? -log2(fmin(1, weights->decay_min)) : 1100;
		double		days = fmax(weights->active_days,
								weights->grace_days + halvings * weights->half_life_days);
		int64_t		bottom = days_later(signals->last_active, days + 1);

		if (bottom > settled)
			settled = bottom;
	}
	if (signals->has_created)
	{
		int64_t		old = days_later(signals->created, weights->new_days);

		if (old != TRUST_NEVER && old > settled)
			settled = old;
	}
	return settled < TRUST_FAR ? settled : TRUST_FAR;
}

/*
 * trust_next_due -- the first moment after now at which score or badges may be
 * others if nothing is written; TRUST_NEVER when they stay. Of the events only
 * the oldest and the next one are known, so the moment an event goes or comes
 * counts, whether it changes the result or not.
 */
int64_t
trust_next_due(const TrustWeights *weights, const TrustSignals *signals, int64_t now)
{
	TrustResult present = trust_compute(weights, signals, now);
	int64_t		same = now;
	int64_t		other = settled_from(weights, signals, now);
	TrustResult result = trust_compute(weights, signals, other);
	int64_t		due = TRUST_NEVER;

	if (!same_result(&present, &result))
	{
		while (other - same > 1)
		{
			int64_t		middle = same + (other - same) / 2;

			result = trust_compute(weights, signals, middle);
			if (same_result(&present, &result))
				same = middle;
			else
				other = middle;
		}
		due = other;
	}
	if (signals->has_source)
	{
		int64_t		leaves = signals->oldest_event == TRUST_NEVER ? TRUST_NEVER :
		days_later(signals->oldest_event, weights->activity_days);

		if (leaves > now && leaves < due)
			due = leaves;
		if (signals->next_event > now && signals->next_event < due)
			due = signals->next_event;
	}
	return due;
}

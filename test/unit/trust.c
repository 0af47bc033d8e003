/*
 * trust.c
 *		The trust score's formula, its badges, and the moments they change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "trust.h"

#define SECOND	INT64_C(1000000)
#define DAY		(86400 * SECOND)

/* Users are looked at from here on. */
#define START	(1000 * DAY)

static TrustWeights weights;

static int
set_weights(void **state)
{
	weights = trust_default_weights();
	return 0;
}

/* A user of whom nothing is known. */
static TrustSignals
nobody(void)
{
	TrustSignals signals = {.oldest_event = TRUST_NEVER, .next_event = TRUST_NEVER};

	return signals;
}

/* Everything there is, active at the start, registered long ago. */
static TrustSignals
paragon(void)
{
	TrustSignals signals = nobody();

	signals.photo = signals.name = signals.birthdate = signals.location = signals.job = true;
	signals.bio = 50;
	signals.interests = 3;
	signals.email_verified = signals.phone_verified = true;
	signals.photo_verified = signals.id_verified = true;
	signals.has_last_active = signals.has_created = true;
	signals.last_active = START;
	return signals;
}

static TrustResult
compute(TrustSignals signals, int64_t now)
{
	return trust_compute(&weights, &signals, now);
}

static int64_t
next_due(TrustSignals signals, int64_t now)
{
	return trust_next_due(&weights, &signals, now);
}

/* Not cmocka's assert_float_equal(): that takes an infinity for any number. */
#define assert_number(actual, expected) assert_number_at((actual), (expected), __LINE__)

static void
assert_number_at(double actual, double expected, int line)
{
	if (!(fabs(actual - expected) < 1e-12))
		fail_msg("line %d: %.17g, not %.17g", line, actual, expected);
}

static void
nobody_has_nothing(void **state)
{
	TrustResult result = compute(nobody(), START);

	assert_number(result.profile, 0);
	assert_number(result.verification, 0);
	assert_number(result.activity, 0);
	assert_number(result.decay, 1);
	assert_int_equal(result.score, 0);
	assert_int_equal(result.badges, 0);
	assert_true(next_due(nobody(), START) == TRUST_NEVER);
}

static void
paragon_has_all(void **state)
{
	TrustResult result = compute(paragon(), START);

	assert_number(result.profile, 100);
	assert_number(result.verification, 100);
	assert_number(result.activity, 100);
	assert_number(result.decay, 1);
	assert_int_equal(result.score, 100);
	assert_int_equal(result.badges,
					 TRUST_VERIFIED | TRUST_COMPLETE | TRUST_ACTIVE | TRUST_TRUSTED);
}

#define assert_profile(field, value, points) \
	do { \
		TrustSignals signals = nobody(); \
		signals.field = (value); \
		assert_number(compute(signals, START).profile, (points)); \
	} while (0)

static void
each_part_of_the_profile(void **state)
{
	assert_profile(photo, true, 25);
	assert_profile(name, true, 10);
	assert_profile(birthdate, true, 10);
	assert_profile(location, true, 10);
	assert_profile(job, true, 10);
	assert_profile(bio, 1, 0.4);
	assert_profile(bio, 25, 10);
	assert_profile(bio, 49, 19.6);
	assert_profile(bio, 50, 20);
	assert_profile(bio, 51, 20);
	assert_profile(bio, INT64_MAX, 20);
	assert_profile(bio, -1, 0);
	assert_profile(interests, 1, 5);
	assert_profile(interests, 2, 10);
	assert_profile(interests, 3, 15);
	assert_profile(interests, 4, 15);
	assert_profile(interests, -1, 0);
}

static void
each_verification(void **state)
{
	TrustSignals signals = nobody();

	signals.email_verified = true;
	assert_number(compute(signals, START).verification, 25);
	assert_int_equal(compute(signals, START).score, 9); /* 8.75 */
	signals.phone_verified = true;
	assert_number(compute(signals, START).verification, 50);
	signals.photo_verified = true;
	assert_number(compute(signals, START).verification, 75);
	assert_false(compute(signals, START).badges & TRUST_VERIFIED);
	signals.id_verified = true;
	assert_number(compute(signals, START).verification, 100);
	assert_true(compute(signals, START).badges & TRUST_VERIFIED);
}

static void
activity_without_a_source(void **state)
{
	TrustSignals signals = nobody();

	signals.events = 50;
	assert_number(compute(signals, START).activity, 0);
	signals.has_last_active = true;
	signals.last_active = START - 1000 * DAY;
	assert_number(compute(signals, START).activity, 100);
}

static void
activity_of_events(void **state)
{
	TrustSignals signals = nobody();

	signals.has_source = true;
	signals.has_last_active = true;
	signals.last_active = START;
	assert_number(compute(signals, START).activity, 0);
	signals.events = 1;
	assert_number(compute(signals, START).activity, 100 * log(2) / log(51));
	signals.events = 6;
	assert_number(compute(signals, START).activity, 100 * log(7) / log(51));
	assert_false(compute(signals, START).badges & TRUST_ACTIVE);
	signals.events = 7;			/* 52.9 */
	assert_true(compute(signals, START).badges & TRUST_ACTIVE);
	signals.events = 49;
	assert_true(compute(signals, START).activity < 100);
	signals.events = 50;
	assert_number(compute(signals, START).activity, 100);
	signals.events = INT64_MAX;
	assert_number(compute(signals, START).activity, 100);
	signals.events = -1;
	assert_number(compute(signals, START).activity, 0);
}

static void
decay_of_the_idle(void **state)
{
	TrustSignals signals = paragon();

	assert_number(compute(signals, START - 5 * DAY).decay, 1);
	assert_number(compute(signals, START + 7 * DAY).decay, 1);
	assert_true(compute(signals, START + 7 * DAY + SECOND).decay < 1);
	assert_number(compute(signals, START + 22 * DAY).decay, sqrt(0.5));
	assert_number(compute(signals, START + 37 * DAY).decay, 0.5);
	assert_true(compute(signals, START + 37 * DAY - SECOND).decay > 0.5);
	assert_number(compute(signals, START + 10000 * DAY).decay, 0.5);
	assert_int_equal(compute(signals, START + 22 * DAY).score, 71);
	assert_int_equal(compute(signals, START + 10000 * DAY).score, 50);
	signals.has_last_active = false;
	assert_number(compute(signals, START + 10000 * DAY).decay, 1);
}

/* Decimals that give a half are rounded away from zero, though 0.35 is none in binary. */
static void
halves_go_up(void **state)
{
	TrustSignals signals = nobody();

	weights.verification = 0.38;	/* 25 * 0.38 = 9.5 */
	signals.email_verified = true;
	assert_int_equal(compute(signals, START).score, 10);
	weights.verification = 0.58;	/* 14.499999999999998 in binary */
	assert_int_equal(compute(signals, START).score, 15);
	weights.verification = 0.5799;
	assert_int_equal(compute(signals, START).score, 14);
}

static void
score_is_clamped(void **state)
{
	weights.profile = 1e300;
	assert_int_equal(compute(paragon(), START).score, 100);
	weights.profile = -1e300;
	assert_int_equal(compute(paragon(), START).score, 0);
}

static void
badges_at_their_bounds(void **state)
{
	TrustSignals signals = paragon();

	signals.job = false;		/* 90 */
	assert_true(compute(signals, START).badges & TRUST_COMPLETE);
	signals.bio = 49;			/* 89.6 */
	assert_false(compute(signals, START).badges & TRUST_COMPLETE);

	signals = paragon();
	assert_true(compute(signals, START + 7 * DAY).badges & TRUST_ACTIVE);
	assert_false(compute(signals, START + 7 * DAY + 1).badges & TRUST_ACTIVE);

	signals.has_created = true;
	signals.created = START;
	assert_true(compute(signals, START - DAY).badges & TRUST_NEW);
	assert_true(compute(signals, START + 7 * DAY - 1).badges & TRUST_NEW);
	assert_false(compute(signals, START + 7 * DAY).badges & TRUST_NEW);
	signals.has_created = false;
	assert_false(compute(signals, START).badges & TRUST_NEW);

	signals = nobody();			/* 40 + 35 */
	signals.photo = signals.name = signals.birthdate = signals.location = signals.job = true;
	signals.bio = 50;
	signals.interests = 3;
	signals.email_verified = signals.phone_verified = true;
	signals.photo_verified = signals.id_verified = true;
	assert_int_equal(compute(signals, START).score, 75);
	assert_false(compute(signals, START).badges & TRUST_TRUSTED);
	weights.trusted_score = 75;
	assert_true(compute(signals, START).badges & TRUST_TRUSTED);
}

static void
every_badge_has_a_name(void **state)
{
	const char *const names[] = {"verified", "complete", "active", "trusted", "new"};

	for (int i = 0; i < TRUST_BADGES; i++)
		assert_string_equal(trust_badge_name(i), names[i]);
}

/* The first moment of each kind of change, to the microsecond. */
static void
due_at_each_kind_of_change(void **state)
{
	TrustSignals signals = paragon();

	/* No longer active; then the first step of the decay, to 99. */
	assert_true(next_due(signals, START) == START + 7 * DAY + 1);
	int64_t		step = next_due(signals, START + 7 * DAY + 1);

	assert_int_equal(compute(signals, step - 1).score, 100);
	assert_int_equal(compute(signals, step).score, 99);
	/* At the bottom nothing is due any more. */
	assert_true(next_due(signals, START + 37 * DAY) == TRUST_NEVER);

	signals = nobody();
	signals.has_created = true;
	signals.created = START;
	assert_true(next_due(signals, START) == START + 7 * DAY);
	assert_true(next_due(signals, START + 7 * DAY) == TRUST_NEVER);

	signals = nobody();
	signals.has_source = true;
	signals.events = 3;
	signals.oldest_event = START - 20 * DAY;
	assert_true(next_due(signals, START) == START + 10 * DAY);
	signals.next_event = START + DAY;
	assert_true(next_due(signals, START) == START + DAY);
	/* Without a source there are no events. */
	signals.has_source = false;
	assert_true(next_due(signals, START) == TRUST_NEVER);
}

/*
 * Walks through a year in steps and asserts that the result changes only where
 * it was due; returns how often it was.
 */
static int
walk(TrustSignals signals, int64_t from, int64_t step)
{
	TrustResult present = compute(signals, from);
	int64_t		due = next_due(signals, from);
	int			changes = 0;

	for (int64_t now = from + step; now < from + 365 * DAY; now += step)
	{
		TrustResult result;

		if (now >= due)
		{
			result = compute(signals, due - 1);
			assert_int_equal(result.score, present.score);
			assert_int_equal(result.badges, present.badges);
			present = compute(signals, due);
			due = next_due(signals, due);
			changes++;
			now -= step;
			continue;
		}
		result = compute(signals, now);
		assert_int_equal(result.score, present.score);
		assert_int_equal(result.badges, present.badges);
	}
	return changes;
}

/* 100 loses active, falls in steps to 50, on the way below 80; new is lost at 3 days. */
static void
year_second_by_second(void **state)
{
	TrustSignals signals = paragon();

	signals.has_created = true;
	signals.created = START - 4 * DAY;
	assert_int_equal(walk(signals, START, SECOND), 52);
}

/* Whoever has been idle at any time, at any weights: steps are never missed. */
static void
years_of_others(void **state)
{
	for (int i = 0; i < 200; i++)
	{
		TrustSignals signals = paragon();

		signals.job = i % 2;
		signals.id_verified = i % 3 == 0;
		signals.bio = i % 60;
		signals.created = START - i % 10 * DAY;
		signals.last_active = START - i * (DAY / 4) + (i % 7) * SECOND;
		weights.grace_days = i % 11;
		weights.half_life_days = i % 5 == 0 ? 0.01 : i;
		weights.decay_min = (i % 4) / 4.0;
		assert_true(walk(signals, START, DAY / 3 + 12345) < 110);
	}
}

/* Between one change and the next nothing is due: asking from anywhere there gives the same. */
static void
due_does_not_depend_on_when_it_is_asked(void **state)
{
	TrustSignals signals = paragon();

	for (int64_t now = START; next_due(signals, now) != TRUST_NEVER; now = next_due(signals, now))
	{
		int64_t		due = next_due(signals, now);

		assert_true(next_due(signals, now + (due - now) / 3) == due);
		assert_true(next_due(signals, due - 1) == due);
		assert_true(next_due(signals, due) > due);
	}
}

static void
extreme_times(void **state)
{
	TrustSignals signals = paragon();

	signals.last_active = INT64_MIN;
	assert_number(compute(signals, START).decay, 0.5);
	assert_true(next_due(signals, START) == TRUST_NEVER);
	signals.last_active = INT64_MAX;
	assert_number(compute(signals, START).decay, 1);
	assert_true(next_due(signals, START) > START);
	signals.created = INT64_MAX;
	assert_true(compute(signals, START).badges & TRUST_NEW);
	signals.created = INT64_MIN;
	assert_false(compute(signals, START).badges & TRUST_NEW);
	weights.half_life_days = weights.grace_days = weights.active_days = weights.new_days = 1e300;
	assert_number(compute(paragon(), START).decay, 1);
	assert_true(next_due(paragon(), START) == TRUST_NEVER);
	assert_true(compute(paragon(), START).badges & TRUST_NEW);
	weights = trust_default_weights();
	weights.half_life_days = 0;
	assert_number(compute(paragon(), START + 8 * DAY).decay, 0.5);
	weights.bio_full = weights.interests_full = weights.activity_full = 0;
	assert_number(compute(paragon(), START).profile, 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nobody_has_nothing, set_weights),
		cmocka_unit_test_setup(paragon_has_all, set_weights),
		cmocka_unit_test_setup(each_part_of_the_profile, set_weights),
		cmocka_unit_test_setup(each_verification, set_weights),
		cmocka_unit_test_setup(activity_without_a_source, set_weights),
		cmocka_unit_test_setup(activity_of_events, set_weights),
		cmocka_unit_test_setup(decay_of_the_idle, set_weights),
		cmocka_unit_test_setup(halves_go_up, set_weights),
		cmocka_unit_test_setup(score_is_clamped, set_weights),
		cmocka_unit_test_setup(badges_at_their_bounds, set_weights),
		cmocka_unit_test_setup(every_badge_has_a_name, set_weights),
		cmocka_unit_test_setup(due_at_each_kind_of_change, set_weights),
		cmocka_unit_test_setup(year_second_by_second, set_weights),
		cmocka_unit_test_setup(years_of_others, set_weights),
		cmocka_unit_test_setup(due_does_not_depend_on_when_it_is_asked, set_weights),
		cmocka_unit_test_setup(extreme_times, set_weights)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

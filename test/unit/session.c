/*
 * session.c
 *		The session reputation's formula, its policies and badges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "session.h"

/* Completed sessions that every policy counts, and no-shows. */
static SessionResult
compute(const SessionWeights *weights, int64_t completed, int64_t no_shows)
{
	SessionSignals signals = {completed, completed, completed, no_shows};

	return session_compute(weights, &signals);
}

static void
check(int64_t completed, int64_t no_shows, int32_t score, SessionBadge badge)
{
	SessionWeights weights = session_default_weights();
	SessionResult result = compute(&weights, completed, no_shows);

	assert_int_equal(result.score, score);
	assert_int_equal(result.badge, badge);
	assert_true(result.completed == completed);
	assert_true(result.no_shows == no_shows);
}

static void
new_user(void **state)
{
	check(0, 0, 0, SESSION_GREEN);
}

static void
bounds_and_badges(void **state)
{
	check(19, 0, 19, SESSION_GOLD);
	check(20, 0, 20, SESSION_GOLD);
	check(21, 0, 20, SESSION_GOLD);
	check(10, 0, 10, SESSION_GOLD);
	check(9, 0, 9, SESSION_GREEN);
	check(30, 21, 9, SESSION_GREEN);
	check(3, 3, 0, SESSION_GREEN);
	check(3, 4, -1, SESSION_RED);
	check(0, 5, -5, SESSION_RED);
	check(0, 6, -5, SESSION_RED);
}

static void
large_numbers(void **state)
{
	SessionWeights weights = session_default_weights();

	check(INT64_MAX, 0, 20, SESSION_GOLD);
	check(0, INT64_MAX, -5, SESSION_RED);
	check(INT64_MAX, INT64_MAX, 0, SESSION_GREEN);
	weights.min = -INFINITY;
	weights.max = INFINITY;
	assert_int_equal(compute(&weights, INT64_MAX, 0).score, INT32_MAX);
	assert_int_equal(compute(&weights, 0, INT64_MAX).score, INT32_MIN);
	assert_int_equal(compute(&weights, INT64_C(2147483646), 0).score, INT32_MAX - 1);
	assert_int_equal(compute(&weights, 0, INT64_C(2147483648)).score, INT32_MIN);
}

static void
policies(void **state)
{
	SessionWeights weights = session_default_weights();
	SessionSignals signals = {7, 4, 2, 1};

	assert_int_equal(session_compute(&weights, &signals).score, 6);
	weights.policy = SESSION_OWN;
	assert_int_equal(session_compute(&weights, &signals).score, 3);
	assert_true(session_compute(&weights, &signals).completed == 4);
	weights.policy = SESSION_BOTH;
	assert_int_equal(session_compute(&weights, &signals).score, 1);
	assert_true(session_compute(&weights, &signals).completed == 2);
	assert_true(session_compute(&weights, &signals).no_shows == 1);
}

static void
other_weights(void **state)
{
	SessionWeights weights = {.policy = SESSION_ANY, .min = -2.5, .max = 7.5, .gold = 7.5, .green = -1};

	/* Half away from zero, and the badge by what is shown. */
	assert_int_equal(compute(&weights, 100, 0).score, 8);
	assert_int_equal(compute(&weights, 100, 0).badge, SESSION_GOLD);
	assert_int_equal(compute(&weights, 7, 0).badge, SESSION_GREEN);
	assert_int_equal(compute(&weights, 0, 9).score, -3);
	assert_int_equal(compute(&weights, 0, 1).badge, SESSION_GREEN);
	assert_int_equal(compute(&weights, 0, 2).badge, SESSION_RED);
	weights.min = weights.max = 4;
	assert_int_equal(compute(&weights, 0, 9).score, 4);
}

static void
names(void **state)
{
	SessionPolicy policy = SESSION_ANY;

	assert_true(session_policy_named("both", &policy));
	assert_int_equal(policy, SESSION_BOTH);
	assert_true(session_policy_named("own", &policy));
	assert_int_equal(policy, SESSION_OWN);
	assert_true(session_policy_named("any", &policy));
	assert_int_equal(policy, SESSION_ANY);
	policy = SESSION_BOTH;
	assert_false(session_policy_named("", &policy));
	assert_false(session_policy_named("Any", &policy));
	assert_int_equal(policy, SESSION_BOTH);
	assert_string_equal(session_policy_name(SESSION_ANY), "any");
	assert_string_equal(session_policy_name(SESSION_OWN), "own");
	assert_string_equal(session_policy_name(SESSION_BOTH), "both");
	assert_string_equal(session_badge_name(SESSION_RED), "red");
	assert_string_equal(session_badge_name(SESSION_GREEN), "green");
	assert_string_equal(session_badge_name(SESSION_GOLD), "gold");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_user),
		cmocka_unit_test(bounds_and_badges),
		cmocka_unit_test(large_numbers),
		cmocka_unit_test(policies),
		cmocka_unit_test(other_weights),
		cmocka_unit_test(names)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

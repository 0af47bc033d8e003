/*
 * builder.c
 *		The builder score's formula, term by term and at its bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "builder.h"

static BuilderTerms
default_terms(int64_t own_shipped, int64_t collab_shipped, int64_t vouches, double impact)
{
	BuilderWeights weights = builder_default_weights();
	BuilderSignals signals;

	signals.own_shipped = own_shipped;
	signals.collab_shipped = collab_shipped;
	signals.vouches = vouches;
	signals.impact = impact;
	return builder_terms(&weights, &signals);
}

static int32_t
default_score(int64_t own_shipped, int64_t collab_shipped, int64_t vouches, double impact)
{
	BuilderTerms terms = default_terms(own_shipped, collab_shipped, vouches, impact);

	return builder_total(&terms);
}

/* The total of a sum, given as one term. */
static int32_t
total_of(double sum)
{
	BuilderTerms terms = {sum, 0, 0, 0};

	return builder_total(&terms);
}

/* Not cmocka's assert_float_equal(): that takes an infinity for any number. */
static void
assert_number_at(const char *what, double actual, double expected, int line)
{
	if (!(actual == expected))
		fail_msg("line %d: %s is %.17g, not %.17g", line, what, actual, expected);
}

#define assert_terms(terms, own, collab, vouches, impact) \
	assert_terms_at((terms), (own), (collab), (vouches), (impact), __LINE__)

static void
assert_terms_at(BuilderTerms terms, double own, double collab, double vouches, double impact,
				int line)
{
	assert_number_at("own", terms.own, own, line);
	assert_number_at("collab", terms.collab, collab, line);
	assert_number_at("vouches", terms.vouches, vouches, line);
	assert_number_at("impact", terms.impact, impact, line);
}

static void
nothing_is_zero(void **state)
{
	assert_terms(default_terms(0, 0, 0, 0), 0, 0, 0, 0);
	assert_int_equal(default_score(0, 0, 0, 0), 0);
}

static void
own_projects_count_ten(void **state)
{
	assert_terms(default_terms(1, 0, 0, 0), 10, 0, 0, 0);
	assert_terms(default_terms(7, 0, 0, 0), 70, 0, 0, 0);
}

static void
collaborations_count_six(void **state)
{
	assert_terms(default_terms(0, 1, 0, 0), 0, 6, 0, 0);
	assert_terms(default_terms(0, 7, 0, 0), 0, 42, 0, 0);
}

static void
vouches_count_five_up_to_ten(void **state)
{
	assert_terms(default_terms(0, 0, 1, 0), 0, 0, 5, 0);
	assert_terms(default_terms(0, 0, 9, 0), 0, 0, 45, 0);
	assert_terms(default_terms(0, 0, 10, 0), 0, 0, 50, 0);
}

static void
vouches_count_one_beyond_ten(void **state)
{
	assert_terms(default_terms(0, 0, 11, 0), 0, 0, 51, 0);
	assert_terms(default_terms(0, 0, 110, 0), 0, 0, 150, 0);
}

/* 10 * log10(1 + impact), in whole points. */
static void
impact_counts_by_magnitude(void **state)
{
	assert_terms(default_terms(0, 0, 0, 0), 0, 0, 0, 0);
	assert_terms(default_terms(0, 0, 0, 1), 0, 0, 0, 3);
	assert_terms(default_terms(0, 0, 0, 2), 0, 0, 0, 5);
	assert_terms(default_terms(0, 0, 0, 9), 0, 0, 0, 10);
	assert_terms(default_terms(0, 0, 0, 99), 0, 0, 0, 20);
}

static void
impact_rounds_half_away_from_zero(void **state)
{
	BuilderWeights weights = builder_default_weights();
	BuilderSignals signals = {0, 0, 0, 9};

	weights.impact = 2.5;
	assert_terms(builder_terms(&weights, &signals), 0, 0, 0, 3);
	weights.impact = 2.49;
	assert_terms(builder_terms(&weights, &signals), 0, 0, 0, 2);
}

static void
impact_is_bounded(void **state)
{
	/* 49.49 and 49.51 before rounding */
	assert_terms(default_terms(0, 0, 0, 88919), 0, 0, 0, 49);
	assert_terms(default_terms(0, 0, 0, 89329), 0, 0, 0, 50);
	assert_terms(default_terms(0, 0, 0, 1e5), 0, 0, 0, 50);
	assert_terms(default_terms(0, 0, 0, 1e6), 0, 0, 0, 50);
	assert_terms(default_terms(0, 0, 0, INFINITY), 0, 0, 0, 50);
}

static void
impact_that_is_no_number_counts_nothing(void **state)
{
	assert_terms(default_terms(1, 0, 0, -1), 10, 0, 0, 0);
	assert_terms(default_terms(1, 0, 0, -1e300), 10, 0, 0, 0);
	assert_terms(default_terms(1, 0, 0, -INFINITY), 10, 0, 0, 0);
	assert_terms(default_terms(1, 0, 0, NAN), 10, 0, 0, 0);
	assert_int_equal(default_score(1, 0, 0, NAN), 10);
}

static void
score_is_the_sum_of_the_terms(void **state)
{
	assert_int_equal(default_score(3, 4, 12, 99), 30 + 24 + 52 + 20);
}

static void
total_adds_every_term(void **state)
{
	BuilderTerms terms = {1, 20, 300, 4000};

	assert_int_equal(builder_total(&terms), 4321);
}

/* Each weight has a value of its own, so that none can stand in for another. */
static void
weights_are_used(void **state)
{
	BuilderWeights weights = {
		.own = 1.5,
		.collab = 2.25,
		.vouch = 3,
		.vouch_full = 2,
		.vouch_more = 0.5,
		.impact = 100,
		.impact_max = 250
	};
	BuilderSignals signals = {
		.own_shipped = 2,
		.collab_shipped = 4,
		.vouches = 5,
		.impact = 99
	};
	BuilderTerms terms = builder_terms(&weights, &signals);

	assert_terms(terms, 3, 9, 6 + 1.5, 200);
	assert_int_equal(builder_total(&terms), 220);	/* 219.5 */

	signals.impact = 999;
	assert_terms(builder_terms(&weights, &signals), 3, 9, 7.5, 250);
}

static void
weights_may_be_zero_or_negative(void **state)
{
	BuilderWeights weights = builder_default_weights();
	BuilderSignals signals = {2, 3, 20, 1e9};

	weights.own = 0;
	weights.collab = -1;
	weights.vouch_full = 0;
	weights.impact_max = 0;
	assert_terms(builder_terms(&weights, &signals), 0, -3, 20, 0);
}

static void
total_rounds_half_away_from_zero(void **state)
{
	assert_int_equal(total_of(0.49), 0);
	assert_int_equal(total_of(0.5), 1);
	assert_int_equal(total_of(1.5), 2);
	assert_int_equal(total_of(2.5), 3);
	assert_int_equal(total_of(2.49), 2);
}

static void
total_is_never_negative(void **state)
{
	assert_int_equal(total_of(-0.4), 0);
	assert_int_equal(total_of(-0.5), 0);
	assert_int_equal(total_of(-1e300), 0);
	assert_int_equal(total_of(-INFINITY), 0);
	assert_int_equal(total_of(NAN), 0);
}

/* Only the end is clamped: a negative term still takes from the others. */
static void
total_is_clamped_at_the_end_only(void **state)
{
	BuilderTerms terms = {30, -10, 0, 5};

	assert_int_equal(builder_total(&terms), 25);

	terms.own = 3e9;
	terms.collab = -2.5e9;
	assert_int_equal(builder_total(&terms), 500000005);
}

static void
total_is_at_most_int32_max(void **state)
{
	assert_int_equal(total_of(INT32_MAX - 1.0), INT32_MAX - 1);
	assert_int_equal(total_of(INT32_MAX), INT32_MAX);
	assert_int_equal(total_of(INT32_MAX + 1.0), INT32_MAX);
	assert_int_equal(total_of(1e300), INT32_MAX);
	assert_int_equal(total_of(INFINITY), INT32_MAX);
	assert_int_equal(default_score(INT64_MAX, 0, 0, 0), INT32_MAX);
	assert_int_equal(default_score(INT64_MAX, INT64_MAX, INT64_MAX, INFINITY), INT32_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_zero),
		cmocka_unit_test(own_projects_count_ten),
		cmocka_unit_test(collaborations_count_six),
		cmocka_unit_test(vouches_count_five_up_to_ten),
		cmocka_unit_test(vouches_count_one_beyond_ten),
		cmocka_unit_test(impact_counts_by_magnitude),
		cmocka_unit_test(impact_rounds_half_away_from_zero),
		cmocka_unit_test(impact_is_bounded),
		cmocka_unit_test(impact_that_is_no_number_counts_nothing),
		cmocka_unit_test(score_is_the_sum_of_the_terms),
		cmocka_unit_test(total_adds_every_term),
		cmocka_unit_test(weights_are_used),
		cmocka_unit_test(weights_may_be_zero_or_negative),
		cmocka_unit_test(total_rounds_half_away_from_zero),
		cmocka_unit_test(total_is_never_negative),
		cmocka_unit_test(total_is_clamped_at_the_end_only),
		cmocka_unit_test(total_is_at_most_int32_max)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

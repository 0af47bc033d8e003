/*
 * points.c
 *		When rows leave the windows of points.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "points.h"

static void
scores_are_clamped(void **state)
{
	assert_int_equal(points_score(7), 7);
	assert_int_equal(points_score(INT64_C(5000000000)), INT32_MAX);
	assert_int_equal(points_score(INT64_C(-5000000000)), INT32_MIN);
}

static void
rolling_windows(void **state)
{
	PointsWindow windows[] = {{.first = 100, .length = 70}, {.first = 150, .length = 10}};

	assert_true(points_next_due(POINTS_NEVER, windows, 2) == 160);
	assert_true(points_next_due(155, windows, 2) == 155);
	windows[1].first = POINTS_NEVER;
	assert_true(points_next_due(POINTS_NEVER, windows, 2) == 170);
	windows[0].first = POINTS_NEVER;
	assert_true(points_next_due(POINTS_NEVER, windows, 2) == POINTS_NEVER);
	windows[0] = (PointsWindow) {.first = INT64_MAX - 5, .length = 70};
	assert_true(points_next_due(POINTS_NEVER, windows, 1) == POINTS_NEVER);
}

static void
calendar_windows(void **state)
{
	PointsWindow windows[] = {{.first = 100, .end = 700}, {.first = POINTS_NEVER, .end = 200}};

	assert_true(points_next_due(POINTS_NEVER, windows, 2) == 700);
	windows[1].first = 150;
	assert_true(points_next_due(POINTS_NEVER, windows, 2) == 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scores_are_clamped),
		cmocka_unit_test(rolling_windows),
		cmocka_unit_test(calendar_windows)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

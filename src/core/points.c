/*
 * points.c
 *		Points: the integer that stands for a sum, and the next moment at which
 *		time alone changes a sum.
 *
 * Source: docs/SPEC.md, section "Points".
 *
 * A rolling window at t has the rows of (t - length, t], so a row leaves at the
 * moment it is as old as the window is long. A calendar's rows leave together,
 * when its period ends.
 */
#include "points.h"

/*
 * points_score -- a sum as an int, the nearest one there is.
 */
int32_t
points_score(int64_t all_time)
{
	if (all_time > INT32_MAX)
		return INT32_MAX;
	if (all_time < INT32_MIN)
		return INT32_MIN;
	return (int32_t) all_time;
}

/* When the window's oldest row leaves it. */
static int64_t
leaves_at(const PointsWindow *window)
{
	if (window->first == POINTS_NEVER)
		return POINTS_NEVER;
	if (window->length == 0)
		return window->end;
	if (window->first > POINTS_NEVER - window->length)
		return POINTS_NEVER;
	return window->first + window->length;
}

/*
 * points_next_due -- the first moment at which a row leaves a window, or the next
 * row (POINTS_NEVER: there is none) begins to count; POINTS_NEVER when nothing
 * changes any more.
 */
int64_t
points_next_due(int64_t next_row, const PointsWindow *windows, int count)
{
	int64_t		due = next_row;

	for (int i = 0; i < count; i++)
	{
		int64_t		leaves = leaves_at(&windows[i]);

		if (leaves < due)
			due = leaves;
	}
	return due;
}

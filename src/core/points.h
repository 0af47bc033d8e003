/*
 * points.h
 *		What a ledger's points come to, and when time changes that. Pure C.
 */
#ifndef REPUTATION_CORE_POINTS_H
#define REPUTATION_CORE_POINTS_H

#include <stdbool.h>
#include <stdint.h>

/* Times are microseconds from any origin; this one never comes. */
#define POINTS_NEVER INT64_MAX

/* A period of a board that time moves. */
typedef struct PointsWindow
{
	int64_t		first;			/* its oldest row; POINTS_NEVER: it has none */
	int64_t		length;			/* rolling: for so long a row counts; 0: a calendar's */
	int64_t		end;			/* of the calendar's period, when length is 0 */
} PointsWindow;

extern int32_t points_score(int64_t all_time);
extern int64_t points_next_due(int64_t next_row, const PointsWindow *windows, int count);

#endif							/* REPUTATION_CORE_POINTS_H */

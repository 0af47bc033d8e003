/*
 * worker_units.c
 *		The units of a worker: what it does in one transaction (unit.c).
 */
#include "postgres.h"

#include <time.h>

#include "access/twophase.h"
#include "attach/home.h"
#include "attach/source_check.h"
#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "miscadmin.h"
#include "rank/board.h"
#include "work/batch.h"
#include "work/drain.h"
#include "worker/worker_units.h"

#define LONGEST_SLEEP		60000	/* ms */
#define PREPARED_SLEEP		250 /* ms, while there are prepared transactions */
#define SHORTEST_POLL		10	/* ms, while somebody else is at what there is to do */
#define RESTORE_SLEEP		1000	/* ms, while a restore is on */
#define LONGEST_DAY			(26 * USECS_PER_HOUR)	/* between two runs of a daily job; so has
													 * run_due_jobs() */
#define SCHEDULE_INTERVAL	USECS_PER_SEC	/* between looks at the schedule, and refreshed tops,
											 * under load */

/*
 * unit_held_off -- how long the next fold is held off, in ms; the clock may have
 * been set back.
 */
long
unit_held_off(const Worker *worker)
{
	int64		ms = (worker->next_fold - GetCurrentTimestamp()) / 1000;

	return ms > guc_drain_interval ? 0 : Max(ms, 0);
}

/*
 * unit_poll -- how long to wait for somebody else, in ms: twice as long each
 * time, until there was something to do.
 */
long
unit_poll(Worker *worker)
{
	worker->poll_ms = Min(Max(2 * worker->poll_ms, SHORTEST_POLL), LONGEST_POLL);
	return worker->poll_ms;
}

/* The time of a clock that nobody sets, in us. */
static int64
steady_us(void)
{
	struct timespec steady;

	clock_gettime(CLOCK_MONOTONIC, &steady);
	return steady.tv_sec * USECS_PER_SEC + steady.tv_nsec / 1000;
}

/* Was the clock set since unit_clock() saw to that? */
static bool
clock_was_set(const Worker *worker)
{
	int64		moved = clock_now() - steady_us() - worker->clock_offset;

	return moved < -USECS_PER_MINUTE || moved > USECS_PER_MINUTE;
}

/*
 * Is a run in steps on, and when is the next job due? DT_NOEND when there is none, or it is
 * for another to start. One that is due is left to unit_clock().
 */
static TimestampTz
look_at_schedule(Worker *worker)
{
	TimestampTz next;
	TimestampTz now = clock_now();
	Datum		scheduled;
	bool		none;

	worker->schedule_seen = steady_us();
	worker->batch = batch_is_on();
	worker->job_due = false;
	if (worker->number != 0)
		return DT_NOEND;
	spi_exec("SELECT min(next_run_at) FROM reputation.job_schedule "
			 "WHERE started_by = 'worker' AND works", 0, NULL, NULL, NULL);
	scheduled = spi_datum(0, 1, &none);
	if (none)
		return DT_NOEND;
	next = DatumGetTimestampTz(scheduled);
	/* More than a day ahead: the clock was set back; run_due_jobs() sees to it. */
	worker->job_due = next <= now || next > now + LONGEST_DAY;
	worker->clock_due |= worker->job_due;
	return next;
}

/* When this worker has nothing to do: tidies up, and sees how long to sleep. */
static void
look_ahead(Worker *worker, List *engines)
{
	TimestampTz next;
	TimestampTz now = clock_now();
	bool		folds;

	queue_compact();
	careful_tidy(worker);
	folds = board_fold_deltas(engines);
	next = Min(look_at_schedule(worker), Min(queue_next_due(), due_next(engines)));
	worker->sleep_ms = LONGEST_SLEEP;
	if (next > now && next != DT_NOEND && !clock_is_set())
		worker->sleep_ms = Min(LONGEST_SLEEP, (next - now) / 1000 + 1);
	/* Nobody tells when he is through; and a commit wakes before it unlocks. */
	if (next <= now || worker->locked_out || folds)
		worker->sleep_ms = Min(worker->sleep_ms, unit_poll(worker));
	if (worker->prepared)
		worker->sleep_ms = Min(worker->sleep_ms, PREPARED_SLEEP);
}

/*
 * Are there prepared transactions? To be asked before the snapshots of the rest
 * of the unit are taken: what is committed in between is seen by those.
 */
static bool
any_prepared(void)
{
	return max_prepared_xacts > 0 &&
		spi_exec("SELECT 1 FROM pg_catalog.pg_prepared_xacts "
				 "WHERE database = pg_catalog.current_database() LIMIT 1", 0, NULL, NULL, NULL) > 0;
}

/* Queues the users whose scores time has changed. */
static void
feed_due(Worker *worker, List *engines)
{
	ListCell   *cell;

	worker->due_seen = steady_us();
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);

		if (worker->careful == 0 && engine->retry_at <= clock_now())
			worker->fed |= due_feed(engine, guc_batch_size, false) > 0;
	}
}

/*
 * unit_drain -- the unit of all days: folds, works on a batch of one engine (the
 * next unit begins with the next one), or feeds a sweep, or looks ahead. What
 * goes by the clock, and runs in steps, are looked at under load, too. While a
 * restore is on, what is being restored is left alone: jobs are neither made of it nor
 * worked on, and scheduled jobs do not start.
 */
void
unit_drain(Worker *worker, List *engines)
{
	DrainScope	scope = unit_scope(worker);
	List	   *restored = engines;
	int			nengines;
	ListCell   *cell;

	worker->batch = worker->boards = false;
	worker->locked_out = worker->skipped;
	if (!queue_try())
	{
		worker->sleep_ms = unit_poll(worker);
		return;
	}
	engines = home_move(restored);
	nengines = list_length(engines);
	if (nengines == 0 && restored != NIL)
	{
		worker->sleep_ms = RESTORE_SLEEP;
		return;
	}
	worker->clock_due = clock_was_set(worker);
	worker->prepared = any_prepared();
	if (sources_look(engines, false))
		worker->clock_due |= worker->number == 0;
	if (!worker->locked_out)
		sweep_where_lost(engines);
	foreach(cell, engines)
		sweep_where_set_back(lfirst(cell));
	if (unit_held_off(worker) == 0 && !worker->locked_out)
	{
		int			keys = fold_inbox(&scope, restored);

		worker->keys = Max(keys, 0);
		worker->locked_out |= keys < 0;
	}
	for (int i = 0; i < nengines && worker->jobs == 0 && worker->careful == 0; i++)
		worker->jobs = drain_claim(list_nth(engines, worker->turn++ % nengines), &scope);
	if (worker->jobs == 0 || steady_us() - worker->due_seen >= SCHEDULE_INTERVAL)
		feed_due(worker, engines);
	if (worker->jobs == 0 && worker->careful == 0 && !worker->fed)
		worker->fed = sweep_feed(engines, guc_batch_size, false);
	if (worker->keys == 0 && worker->jobs == 0 && worker->careful == 0 && !worker->fed)
	{
		look_ahead(worker, engines);
		if (nengines < list_length(restored))
			worker->sleep_ms = Min(worker->sleep_ms, RESTORE_SLEEP);
	}
	else if (steady_us() - worker->schedule_seen >= SCHEDULE_INTERVAL)
		(void) look_at_schedule(worker);
	worker->boards = board_caches_are_stale(engines) &&
		(worker->jobs == 0 || steady_us() - worker->boards_seen >= SCHEDULE_INTERVAL);
}

/*
 * unit_clock -- brings due times back in reach if the clock was set, starts the
 * scheduled jobs that are due, and mends triggers that miss changes. There was nothing to do
 * if all it was called for is a job whose schedule somebody is just changing.
 */
void
unit_clock(Worker *worker, List *engines)
{
	int64		offset = clock_now() - steady_us();
	ListCell   *cell;

	worker->fed = !worker->job_due;
	if (clock_was_set(worker))
	{
		foreach(cell, engines)
			queue_rebase(lfirst(cell));
		worker->fed = true;
	}
	if (worker->number == 0)
	{
		if (engines == NIL || home_engines(engines) != NIL)
		{
			spi_exec("SELECT reputation.run_due_jobs()", 0, NULL, NULL, NULL);
			worker->fed |= spi_int(0, 1, NULL) > 0;
		}
		sources_mend(engines);
	}
	worker->clock_offset = offset;
}

/*
 * unit_nothing -- only what comes before each unit.
 */
void
unit_nothing(Worker *worker, List *engines)
{
}

/*
 * unit_compact -- keeps the tables of the queue small.
 */
void
unit_compact(Worker *worker, List *engines)
{
	queue_compact();
	if (queue_try())
		careful_tidy(worker);
}

/*
 * unit_batch -- does the next step of a run of a batch job; a unit of its own, so that
 * it holds up no fold.
 */
void
unit_batch(Worker *worker, List *engines)
{
	worker->fed = batch_step(engines, false);
}

/*
 * unit_boards -- refreshes the caches of boards whose top may have changed. What
 * another is at is tried again.
 */
void
unit_boards(Worker *worker, List *engines)
{
	worker->boards_seen = steady_us();
	board_refresh_caches(engines, false);
	if (board_caches_are_stale(engines) || worker->skipped)
		worker->sleep_ms = Min(worker->sleep_ms, unit_poll(worker));
}

/*
 * unit_notify -- tells of the scores that changed.
 */
void
unit_notify(Worker *worker, List *engines)
{
	notify_send();
}

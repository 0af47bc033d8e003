/*
 * sweep.c
 *		Computing everybody: runs that feed all users into the job table.
 *
 * A sweep is a running row of reputation.job_runs whose fed_all is not null.
 * It is fed in portions, in the order of the users' key, while fewer than a
 * portion of its jobs are waiting; the cursor and the jobs of a portion are
 * committed together, so a crash repeats or skips nothing. Its jobs are like
 * any other, at low priority. It is finished when all were fed and as many
 * were done.
 *
 * Whoever is through with jobs of a run inserts a tally (queue.c) in the same
 * transaction that removes the jobs, so no job is counted twice or never. The
 * run's next step moves the tallies into its row. It locks the row first, only
 * if nobody else has it, and then takes the snapshot of the statement that
 * deletes and adds: what an earlier step added is gone from that snapshot, what
 * is committed later stays for the next step. So "done" is never too high; once
 * it is "fed", no tally of the run can come any more, which is why finish()
 * may set both to 0. A step comes at the latest when a portion of jobs was
 * tallied, so there are few tallies to scan; under a pinned xmin horizon the
 * dead ones, a row per unit, are removed by queue_compact().
 *
 * Users that appear behind the cursor are captured as events; those that
 * vanish are computed as gone. Asking for a sweep that is on sets "again": what
 * changed may concern users it already did, so it starts over at its end. The
 * row says who asked last; which of its users got their first score of a new version
 * is seen by their score rows, whoever asked (drain.c).
 *
 * A writer that found every segment of the inbox locked, the reserve too, has
 * everybody computed as well: lost.c.
 *
 * A clock that was set back makes scores of a time to come wrong, and a row does not
 * tell when it was last looked at: one of which only next_due_at moved keeps its
 * computed_at. So the engine's row has the time that was reached (computed_until).
 * Each unit compares and, when that moved on, notes it before it computes; whoever
 * finds the clock before it has everybody computed. Of several only one does: the
 * row is changed if it still is what the unit read, and not locked; who passes it
 * over because another holds it finds it changed, or does it, in the next unit. A unit
 * at work with the old time holds its lanes: the run's jobs come after it.
 */
#include "postgres.h"

#include "access/transam.h"
#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "cache/invalidate.h"
#include "capture/capture.h"
#include "capture/lost.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_sweep_start);

/* A running sweep, as its row is once it is locked and the tallies are added. */
typedef struct Sweep
{
	int64		id;
	char	   *cursor;
	bool		fed_all;
	bool		again;
	int64		waiting;		/* fed and not done */
} Sweep;

/*
 * sweep_start -- starts a sweep, or has the one that is on start over, for the new
 * reason and with the present version; returns its run id.
 */
int64
sweep_start(const Engine *engine, const char *job_name, const char *trigger)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(job_name), CStringGetTextDatum(trigger),
		CStringGetTextDatum(engine->descriptor->name), TimestampTzGetDatum(clock_now()),
	Int32GetDatum(engine->version)};

	if (engine->descriptor->class->read_cached)
		invalidate_everyone();
	spi_exec("INSERT INTO reputation.job_runs AS r "
			 "(job_name, status, trigger, scope, started_at, algorithm_version, fed_all) "
			 "VALUES ($1, 'running', $2, $3, $4, nullif($5, 0), false) "
			 "ON CONFLICT (job_name, scope) WHERE status = 'running' DO UPDATE SET again = true, "
			 "trigger = excluded.trigger, algorithm_version = excluded.algorithm_version "
			 "RETURNING id", 5, types, values, NULL);
	return spi_int(0, 1, NULL);
}

/*
 * reputation.sweep_start(engine, job_name, trigger) -- sweep_start() for SQL.
 * 55000 when the engine is not attached.
 */
Datum
reputation_sweep_start(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *job_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *trigger = text_to_cstring(PG_GETARG_TEXT_PP(2));
	int64		id;

	spi_begin();
	id = sweep_start(engine_attached(name), job_name, trigger);
	spi_end();
	capture_wake_at_commit();
	PG_RETURN_INT64(id);
}

/* Users that are worth counting for the progress; of more an estimate will do. */
#define COUNTED_USERS		1000000

static int64
count_users(const Engine *engine, const char *usable)
{
	double		estimate = engine_users_estimate(engine);

	if (estimate > COUNTED_USERS)
		return (int64) estimate;
	engine_exec_all(engine, psprintf("SELECT count(*) FROM %s t WHERE %s", engine->users_name,
									 usable));
	return spi_int(0, 1, NULL);
}

/* Feeds the users after the cursor; the run's row is locked. */
static void
feed_run(const Engine *engine, const Sweep *sweep, int portion)
{
	Oid			types[] = {engine->key_type};
	Datum		cursor;
	uint64		count;
	char	  **keys;
	Oid			run_types[] = {INT8OID, TEXTOID, INT8OID, BOOLOID, INT8OID};
	Datum		run[5];
	int64		total = 0;
	const char *usable = engine_usable_keys(engine, psprintf("t.%s", engine->users_key));

	if (sweep->cursor == NULL)
	{
		total = count_users(engine, usable);
		count = engine_exec(engine, false,
							psprintf("SELECT t.%1$s::text FROM %2$s t WHERE %4$s "
									 "ORDER BY t.%1$s LIMIT %3$d",
									 engine->users_key, engine->users_name, portion, usable),
							0, NULL, NULL);
	}
	else
	{
		cursor = engine_key_datum(engine, sweep->cursor);
		count = engine_exec(engine, false,
							psprintf("SELECT t.%1$s::text FROM %2$s t WHERE t.%1$s > $1 AND %4$s "
									 "ORDER BY t.%1$s LIMIT %3$d",
									 engine->users_key, engine->users_name, portion, usable),
							1, types, &cursor);
	}

	keys = palloc(sizeof(char *) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	if (count > 0)
		queue_enqueue_run(engine, keys, (int) count, sweep->id);

	run[0] = Int64GetDatum(sweep->id);
	run[1] = CStringGetTextDatum(count > 0 ? keys[count - 1] : "");
	run[2] = Int64GetDatum((int64) count);
	run[3] = BoolGetDatum(count < (uint64) portion);
	run[4] = Int64GetDatum(total);
	spi_exec("UPDATE reputation.job_runs SET cursor = CASE WHEN $3 > 0 THEN $2 ELSE cursor END, "
			 "fed = fed + $3, fed_all = $4, "
			 "total = CASE WHEN $4 THEN fed + $3 WHEN cursor IS NULL THEN $5 ELSE total END "
			 "WHERE id = $1", 5, run_types, run, NULL);
}

/*
 * Removes the tallies of runs that are over: of jobs that outlived a run which
 * was cancelled. Waits for nobody who is at it, too.
 */
static void
remove_stray_tallies(void)
{
	spi_exec("DELETE FROM reputation.run_tally WHERE ctid = ANY (ARRAY("
			 "SELECT t.ctid FROM reputation.run_tally t WHERE NOT EXISTS "
			 "(SELECT FROM reputation.job_runs r WHERE r.id = t.run_id AND r.status = 'running') "
			 "FOR UPDATE OF t SKIP LOCKED))", 0, NULL, NULL, NULL);
}

/* Removes the rows of runs that ended long ago. */
static void
remove_old_runs(void)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(clock_now())};

	if (guc_job_run_retention > 0)
		spi_exec(psprintf("DELETE FROM reputation.job_runs WHERE id = ANY (ARRAY("
						  "SELECT id FROM reputation.job_runs WHERE status <> 'running' "
						  "AND started_at < $1 - interval '%d days' FOR UPDATE SKIP LOCKED))",
						  guc_job_run_retention), 1, types, values, NULL);
}

/* All were fed and done: the end, or once more. */
static void
finish(Engine *engine, const Sweep *sweep)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(sweep->id)};

	if (sweep->again)
	{
		spi_exec("UPDATE reputation.job_runs SET again = false, fed_all = false, cursor = NULL, "
				 "fed = 0, done = 0 WHERE id = $1", 1, types, values, NULL);
		return;
	}
	recheck_orphans(engine);
	spi_exec("SELECT reputation.job_run_done($1, NULL::text)", 1, types, values, NULL);
	remove_stray_tallies();
	remove_old_runs();
}

/* Locks a sweep of the engine that seems to need a step; false when none does. */
static bool
lock_sweep(const Engine *engine, int portion, Sweep *sweep)
{
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name),
	Int64GetDatum(portion)};

	if (spi_exec("SELECT id FROM reputation.job_runs r "
				 "WHERE status = 'running' AND scope = $1 AND fed_all IS NOT NULL "
				 "AND fed - done - (SELECT coalesce(sum(t.done), 0) "
				 "FROM reputation.run_tally t WHERE t.run_id = r.id) "
				 "< CASE WHEN fed_all THEN 1 ELSE $2 END "
				 "ORDER BY id LIMIT 1 FOR UPDATE OF r SKIP LOCKED", 2, types, values, NULL) == 0)
		return false;
	sweep->id = spi_int(0, 1, NULL);
	return true;
}

/* Moves the tallies of a locked sweep into its row, and reads that. */
static void
add_tallies(Sweep *sweep)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(sweep->id)};
	bool		isnull;

	spi_exec("WITH taken AS (DELETE FROM reputation.run_tally WHERE run_id = $1 "
			 "RETURNING done, changed), total AS (SELECT coalesce(sum(done), 0)::bigint AS done, "
			 "coalesce(sum(changed), 0)::bigint AS changed FROM taken) "
			 "UPDATE reputation.job_runs r SET done = r.done + total.done, "
			 "changed = r.changed + total.changed FROM total WHERE r.id = $1 "
			 "RETURNING r.cursor, r.fed_all, r.again, r.fed - r.done", 1, types, values, NULL);
	sweep->cursor = spi_text(0, 1);
	sweep->fed_all = DatumGetBool(spi_datum(0, 2, &isnull));
	sweep->again = DatumGetBool(spi_datum(0, 3, &isnull));
	sweep->waiting = spi_int(0, 4, NULL);
}

/* Users that are fed in one step, at least. */
#define SMALLEST_PORTION	1000

typedef struct Step
{
	Engine	   *engine;
	int			portion;
	bool		done;			/* there was something to do */
} Step;

/*
 * The next step of a sweep of the engine, if one needs it. The statement that
 * found it may have counted tallies twice, if another's step was just then
 * committed; so what it needs is decided when they are added.
 */
static void
step(void *arg)
{
	Step	   *this = arg;
	Sweep		sweep;

	if (!lock_sweep(this->engine, this->portion, &sweep))
		return;
	this->done = true;
	add_tallies(&sweep);
	if (!sweep.fed_all && sweep.waiting < this->portion)
		feed_run(this->engine, &sweep, this->portion);
	else if (sweep.fed_all && sweep.waiting <= 0)
		finish(this->engine, &sweep);
}

/*
 * sweep_feed -- does the next step of a sweep that needs one, which feeds a portion
 * of so many users; false when none does. An engine whose users table cannot be read is suspended; in a session
 * (raise) the error is raised.
 */
bool
sweep_feed(List *engines, int portion, bool raise)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		Step		this = {.engine = lfirst(cell), .portion = Max(portion, SMALLEST_PORTION)};
		ErrorData  *error;

		if (this.engine->retry_at > clock_now() && !raise)
			continue;
		error = subxact_try(step, &this);
		if (error != NULL && raise)
			ReThrowError(error);
		if (error != NULL && (!error_is_transient(error) || bound_exceeded(error)))
			engine_suspend(this.engine, error);
		if (error == NULL && this.done)
			return true;
	}
	return false;
}

/* Steps of the clock, either way, that are not noted (us). */
#define CLOCK_STEP	(30 * USECS_PER_SEC)

/*
 * sweep_where_set_back -- notes the time as of which scores are computed from now on, and
 * starts a run over everybody if it is before the noted one.
 */
void
sweep_where_set_back(const Engine *engine)
{
	Oid			types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz now = clock_now();
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), TimestampTzGetDatum(now),
	TimestampTzGetDatum(engine->computed_until)};
	bool		set_back = now < engine->computed_until - CLOCK_STEP;

	if (!engine->descriptor->class->timed || (!set_back && now < engine->computed_until + CLOCK_STEP &&
											  engine->computed_until != 0))
		return;
	if (spi_exec("UPDATE reputation.engine SET computed_until = $2 "
				 "WHERE id = (SELECT id FROM reputation.engine WHERE id = $1 "
				 "FOR NO KEY UPDATE SKIP LOCKED) "
				 "AND computed_until IS NOT DISTINCT FROM $3", 3, types, values,
				 engine->computed_until == 0 ? "  n" : NULL) > 0 &&
		engine->computed_until != 0 && set_back)
		(void) sweep_start(engine, "recompute", "clock");
}

/*
 * sweep_where_lost -- starts a sweep of every engine when a writer found no inbox
 * segment to write to (inbox.c). If the (sub)transaction is rolled back somebody
 * else will.
 */
void
sweep_where_lost(List *engines)
{
	ListCell   *cell;

	if (!lost_take())
		return;
	foreach(cell, engines)
		sweep_start(lfirst(cell), "recompute", "resync");
}

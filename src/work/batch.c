/*
 * batch.c
 *		Runs of batch jobs that are worked off in steps.
 *
 * A job is a row of reputation.batch_job, which the module that has it registers; this
 * file knows none by name. A run of one, of an engine, is a row of reputation.job_runs. If
 * the job has a step function, whoever has nothing better to do calls that for the next
 * step, a transaction, until it says that there is no more. (A job without one is a
 * sweep, and its users go through the job table.) What a step has to remember it keeps in
 * the run's row or in tables, so a run outlives the process and the server.
 *
 * 1. A step is done by one process at a time: it holds the run's row from before the step
 *	  to the end of the transaction, and passes over a row that is held
 *	  (isolation/batch_steps).
 * 2. One run does not keep another waiting: each process goes through the runs in turn, a
 *	  step each, and a step that fails ends its run alone (t/batch_jobs).
 * 3. No request for a run that is on is lost. It is "again" in the run's row, which the
 *	  last step holds when it looks: the request is seen, or waits and finds the run started
 *	  over, or over (isolation/ranks).
 * 4. Only functions in the schema reputation that the owner of the extension owns are
 *	  called, looked up anew for each step (regress/15_jobs).
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "engine/engine.h"
#include "utils/builtins.h"
#include "work/batch.h"
#include "work/queue.h"

PG_FUNCTION_INFO_V1(reputation_batch_step);

/* A running run. */
typedef struct BatchRun
{
	int64		id;
	char	   *job;
	char	   *step;			/* the function's name */
	Engine	   *engine;
	bool		locked;			/* its row is this transaction's */
} BatchRun;

/* The run that this process did a step of last: the next one's turn comes after it. */
static int64 last_run = 0;

/*
 * batch_is_on -- is there a run that may need a step?
 */
bool
batch_is_on(void)
{
	return spi_exec("SELECT 1 FROM reputation.job_runs r JOIN reputation.batch_job b "
					"ON b.name = r.job_name AND b.step_function IS NOT NULL "
					"WHERE r.status = 'running' AND r.fed_all IS NULL LIMIT 1",
					0, NULL, NULL, NULL) > 0;
}

static Engine *
engine_of_scope(List *engines, const char *scope)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);

		if (strcmp(engine->descriptor->name, scope) == 0)
			return engine;
	}
	return NULL;
}

/*
 * The runs of these engines that are on, in this process's order. Of an engine that is
 * being restored there may be one in the dump.
 */
static List *
list_runs(List *engines)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(last_run)};
	uint64		count;
	List	   *runs = NIL;

	count = spi_exec("SELECT r.id, r.job_name, s.step_function::text, r.scope "
					 "FROM reputation.job_runs r "
					 "JOIN reputation.job_schedule s ON s.job_name = r.job_name AND s.works "
					 "AND s.step_function IS NOT NULL "
					 "JOIN reputation.engine e ON e.name = r.scope AND e.home = reputation.home() "
					 "WHERE r.status = 'running' AND r.fed_all IS NULL "
					 "ORDER BY r.id <= $1, r.id", 1, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		Engine	   *engine = engine_of_scope(engines, spi_text(row, 4));
		BatchRun   *run;

		if (engine == NULL)
			continue;
		run = palloc0(sizeof(BatchRun));
		run->id = spi_int(row, 1, NULL);
		run->job = spi_text(row, 2);
		run->step = spi_text(row, 3);
		run->engine = engine;
		runs = lappend(runs, run);
	}
	return runs;
}

static void
lock_run(void *arg)
{
	BatchRun   *run = arg;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run->id)};

	run->locked = spi_exec("SELECT 1 FROM reputation.job_runs "
						   "WHERE id = $1 AND status = 'running' FOR UPDATE SKIP LOCKED",
						   1, types, values, NULL) > 0;
}

static void
call_step(void *arg)
{
	BatchRun   *run = arg;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run->id)};
	bool		isnull;
	bool		more;

	spi_exec(psprintf("SELECT reputation.%s($1)", quote_identifier(run->step)),
			 1, types, values, NULL);
	more = DatumGetBool(spi_datum(0, 1, &isnull)) && !isnull;
	if (more ||
		spi_exec("UPDATE reputation.job_runs SET again = false, total = NULL, cursor = NULL, "
				 "done = 0 WHERE id = $1 AND again", 1, types, values, NULL) > 0)
		return;
	spi_exec("SELECT reputation.job_run_done($1, NULL::text)", 1, types, values, NULL);
}

/* A step failed on its own account: so did the run. */
static void
fail_run(const BatchRun *run, const ErrorData *error)
{
	Oid			types[] = {INT8OID, TEXTOID};
	char	   *text = failure_text(run->engine, error);
	Datum		values[] = {Int64GetDatum(run->id), CStringGetTextDatum(text)};

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("the job %s of the engine \"%s\" failed: %s", run->job,
					run->engine->descriptor->name, text)));
	spi_exec("SELECT reputation.job_run_done($1, $2)", 2, types, values, NULL);
}

/*
 * Code of the application's took too long over a step: the run failed, and the engine is
 * suspended as if a computation had. A user is queued: that the next one succeeds ends
 * the suspension.
 */
static void
suspend_over_step(BatchRun *run, const ErrorData *error)
{
	Engine	   *engine = run->engine;
	char	   *user;

	engine_suspend(engine, error);
	if (spi_exec(psprintf("SELECT user_id FROM reputation.%s LIMIT 1",
						  engine->descriptor->score_table), 0, NULL, NULL, NULL) == 0)
		return;
	user = spi_text(0, 1);
	queue_enqueue_run(engine, &user, 1, RUN_RECHECK);
}

/*
 * Does the run's next step if nobody else is at it; false when it was not to be done.
 * Errors that say nothing about the run are raised in a session.
 */
static bool
step_run(BatchRun *run, bool raise)
{
	ErrorData  *error = subxact_try(lock_run, run);

	if (error == NULL && !run->locked)
		return false;
	if (error == NULL)
		error = subxact_try(call_step, run);
	if (error != NULL && run->locked && bound_exceeded(error))
		suspend_over_step(run, error);
	else if (error != NULL && (!run->locked || error_is_transient(error)))
	{
		if (raise)
			ReThrowError(error);
		return false;
	}
	if (error != NULL)
		fail_run(run, error);
	return true;
}

/*
 * batch_step -- does the next step of a run of these engines; false when none needs one. A
 * session (raise) raises errors that say nothing about the run; a worker tries again, and
 * leaves engines that are suspended alone.
 */
bool
batch_step(List *engines, bool raise)
{
	ListCell   *cell;

	foreach(cell, list_runs(engines))
	{
		BatchRun   *run = lfirst(cell);

		if (!raise && run->engine->retry_at > clock_now())
			continue;
		if (step_run(run, raise))
		{
			last_run = run->id;
			return true;
		}
	}
	return false;
}

/*
 * reputation.batch_step() -- batch_step() for SQL.
 */
Datum
reputation_batch_step(PG_FUNCTION_ARGS)
{
	bool		skipped;
	bool		worked;

	spi_begin();
	worked = batch_step(engine_list(true, &skipped), true);
	spi_end();
	PG_RETURN_BOOL(worked);
}

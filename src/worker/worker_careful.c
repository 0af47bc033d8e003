/*
 * worker_careful.c
 *		Crash quarantine: which key a process did not survive.
 *
 * A worker commits a row in reputation.worker_mark when it starts and removes
 * it when it leaves in good order. One that finds the row of its predecessor
 * works carefully for a while: one key a unit, with the key in the mark,
 * durably, before the work. Crashes over a key are counted until it succeeds;
 * at the third it becomes a dead letter. Somebody else may compute a key that
 * is counted, in a batch: a key without a job row has been computed, since a unit
 * removes the row when it commits, and one that crashes does not. A worker that leaves before it was
 * careful for long enough leaves the mark, without a key: its successor goes on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "attach/home.h"
#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "work/drain.h"
#include "worker/worker_units.h"

/*
 * Not at once: a process also ends because another one crashed, and one key may
 * be in the way of that again and again, while somebody holds its row locked.
 */
#define CRASHES_TO_GIVE_UP	3

/* The worker's mark, with the key it is about to work on alone, or none. */
static void
write_mark(Worker *worker, const Engine *engine, const Job *job)
{
	Oid			types[] = {INT4OID, INT4OID, INT4OID, INT2OID, TEXTOID};
	Datum		values[5] = {Int32GetDatum(worker->number), Int32GetDatum(MyProcPid)};
	const char *nulls = "  nnn";

	if (job != NULL)
	{
		values[2] = Int32GetDatum(engine->descriptor->id);
		values[3] = Int16GetDatum(job->kind);
		values[4] = CStringGetTextDatum(job->key);
		nulls = NULL;
	}
	spi_exec("INSERT INTO reputation.worker_mark (slot, pid, started_at, engine, kind, key) "
			 "VALUES ($1, $2, reputation.clock(), $3, $4, $5) "
			 "ON CONFLICT (slot) DO UPDATE SET pid = $2, engine = $3, kind = $4, key = $5",
			 5, types, values, nulls);
}

/* Counts a crash over a key; how many there were since it last succeeded. */
static int
count_crash(int engine, const Job *job)
{
	Oid			types[] = {INT4OID, INT2OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine), Int16GetDatum(job->kind),
	CStringGetTextDatum(job->key)};

	spi_exec("INSERT INTO reputation.crash AS c (engine, kind, key, crashes) "
			 "VALUES ($1, $2, $3, 1) "
			 "ON CONFLICT (engine, kind, key) DO UPDATE SET crashes = c.crashes + 1 "
			 "RETURNING crashes", 3, types, values, NULL);
	return (int) spi_int(0, 1, NULL);
}

static void
forget_crashes(int engine, const Job *job)
{
	Oid			types[] = {INT4OID, INT2OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine), Int16GetDatum(job->kind),
	CStringGetTextDatum(job->key)};

	spi_exec("DELETE FROM reputation.crash WHERE engine = $1 AND kind = $2 AND key = $3",
			 3, types, values, NULL);
}

/* Gives up a key that crashed the process too often. */
static void
quarantine(List *engines, int engine_id, Job *job)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		DrainScope	scope = {.workers = 1, .only = job};
		Tallies		tallies = {0};
		Job		   *taken;

		if (engine->descriptor->id != engine_id)
			continue;
		if (queue_claim(engine, &scope, &taken, &tallies) == 0)
			return;				/* another worker is at it: the next time */
		taken[0].attempt = guc_max_attempts;
		queue_fail(engine, &taken[0], "the server process crashed three times while it was computed");
		tally(&tallies, taken[0].run_id, 1, 0);
		tallies_store(&tallies);
		ereport(WARNING,
				(errmsg("reputation gave up \"%s\" of the engine \"%s\": its computation crashed "
						"the server process three times", job->key, engine->descriptor->name)));
	}
	forget_crashes(engine_id, job);
}

/*
 * Suspends the engine of whose code the predecessor died, for that catches every cancel
 * (bound.c): the other engines' keys come first.
 */
static void
suspend_uncancellable(Worker *worker, List *engines)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		const char *where = worker->slot->uncancellable_where;

		if (worker->slot->uncancellable != engine->descriptor->id)
			continue;
		engine_suspend_for(engine,
						   psprintf("the application's code took longer than "
									"reputation.application_timeout and catches the cancel%s%s, as %s",
									*where ? ", in " : "", where,
									GetUserNameFromId(engine->role, true)),
						   ERRCODE_QUERY_CANCELED, bound_suspension());
		shmem_worker_uncancellable(0, NULL);
	}
}

/*
 * careful_start -- the first unit: looks for a predecessor's mark, leaves one of
 * its own.
 */
void
careful_start(Worker *worker, List *engines)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(worker->number)};

	if (spi_exec("SELECT engine, kind, key FROM reputation.worker_mark WHERE slot = $1", 1, types,
				 values, NULL) > 0)
	{
		Job			job = {.kind = (int16) spi_int(0, 2, NULL), .key = spi_text(0, 3)};
		int			engine = (int) spi_int(0, 1, NULL);

		worker->careful = 2 * guc_batch_size;
		if (job.key != NULL && count_crash(engine, &job) >= CRASHES_TO_GIVE_UP)
			quarantine(engines, engine, &job);
	}
	suspend_uncancellable(worker, engines);
	write_mark(worker, NULL, NULL);
	ForceSyncCommit();
}

/*
 * careful_tidy -- forgets the crashes over keys that were computed since. The
 * first worker does it, so that no two wait for each other's rows.
 */
void
careful_tidy(const Worker *worker)
{
	if (worker->number == 0)
		spi_exec("DELETE FROM reputation.crash c WHERE NOT EXISTS (SELECT FROM reputation.job j "
				 "WHERE j.engine = c.engine AND j.kind = c.kind AND j.key = c.key)",
				 0, NULL, NULL, NULL);
}

/*
 * careful_leave -- the last unit: the worker leaves in good order. Waits for
 * nobody; when somebody has the table locked the mark stays as it is.
 */
void
careful_leave(Worker *worker, List *engines)
{
	Oid			table = get_relname_relid("worker_mark", get_namespace_oid("reputation", false));
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(worker->number)};

	if (!ConditionalLockRelationOid(table, RowExclusiveLock))
		return;
	if (worker->careful > 0)
		write_mark(worker, NULL, NULL);
	else
		spi_exec("DELETE FROM reputation.worker_mark WHERE slot = $1", 1, types, values, NULL);
	ForceSyncCommit();
}

/* Between the two units of careful work: which key it is about. */
static Job	careful_job;
static int	careful_engine;

static void
unit_mark(Worker *worker, List *engines)
{
	ListCell   *cell;

	careful_engine = 0;
	foreach(cell, home_engines(engines))
	{
		Engine	   *engine = lfirst(cell);
		Job			job;

		if (engine->retry_at > clock_now())
			continue;
		/* Whom time alone makes due gets a job first, which a crash leaves there. */
		if (!queue_peek(engine, &job) && !(due_job(engine) && queue_peek(engine, &job)))
			continue;
		careful_engine = engine->descriptor->id;
		careful_job = job;
		careful_job.key = MemoryContextStrdup(TopMemoryContext, job.key);
		write_mark(worker, engine, &job);
		ForceSyncCommit();
		return;
	}
}

static void
unit_careful(Worker *worker, List *engines)
{
	DrainScope	scope = unit_scope(worker);
	ListCell   *cell;

	scope.only = &careful_job;
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);

		if (engine->descriptor->id != careful_engine)
			continue;
		sweep_where_set_back(engine);
		worker->jobs = drain_claim(engine, &scope);
	}
	if (worker->jobs > 0)
		forget_crashes(careful_engine, &careful_job);
	write_mark(worker, NULL, NULL);
}

/*
 * careful_work -- one key, marked durably before it is worked on; the status of
 * the last unit.
 */
UnitStatus
careful_work(Worker *worker)
{
	UnitStatus	status = unit_run(worker, unit_mark);

	if (status != UNIT_OK)
		return status;
	if (careful_engine == 0)
	{
		worker->careful = 0;	/* nothing is due that could have been it */
		return UNIT_OK;
	}
	status = unit_run(worker, unit_careful);
	pfree(careful_job.key);
	if (worker->jobs > 0)
		worker->careful--;
	return status;
}

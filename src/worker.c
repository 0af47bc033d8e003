/*
 * worker.c
 *		The background worker that drains one database's work.
 *
 * A unit is one transaction: it folds the inbox and works on a batch of one
 * engine, or, when there is nothing, feeds a sweep, or else looks how long it may
 * sleep. Before each the worker takes the extension's object lock, shared, and only if it is
 * to be had at once; so DROP EXTENSION waits for one unit at most, and while it
 * is at it the worker keeps away. It also compares the extension's version with
 * the library's, and idles while they differ.
 *
 * Sleeping. Before each unit the latch is reset and the slot's "asleep"
 * set; a commit that appends keys exchanges it for 0 and sets the latch. So a
 * commit that the unit's fold does not see any more has its latch set, and the
 * wait that follows returns at once. A fold that found several keys means load:
 * then the next one is held off for reputation.drain_interval, with "asleep"
 * at 0, so that the writers' commits cost no system call and the worker folds
 * many changes at once. COMMIT PREPARED wakes nobody; while there are prepared
 * transactions the worker looks four times a second.
 *
 * Crashes. A worker commits a row in reputation.worker_mark when it starts and
 * removes it when it leaves in good order. One that finds the row of its
 * predecessor works carefully for a while: one key a unit, with the key in the
 * mark, durably, before the work. Crashes over a key are counted until it
 * succeeds; at the second it becomes a dead letter. The launcher and the utility
 * hook first ask a worker to leave between two units, and terminate it only when
 * it takes longer.
 *
 * Commits are asynchronous: what a lost one did is undone as a whole, the keys
 * are back in the inbox or the job table, and are worked on again.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "access/twophase.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "drain.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shmem.h"
#include "spi.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "version.h"
#include "worker.h"

#define LONGEST_SLEEP		60000	/* ms */
#define PREPARED_SLEEP		250 /* ms, while there are prepared transactions */
#define LOCKED_OUT_SLEEP	50	/* ms, while somebody attaches or drains in a session */
#define RESTORE_SLEEP		1000	/* ms, while a restore is on */
#define ERROR_SLEEP			1000	/* ms, after a unit failed */
#define BUSY_LANE_SLEEP		10	/* ms, while another worker has the lane of a due job */
#define LOAD_KEYS			5	/* a fold that finds so many means load */
#define COMPACT_INTERVAL	16	/* busy units between two looks at the tables' sizes */
#define CRASHES_TO_GIVE_UP	2

typedef enum UnitStatus
{
	UNIT_OK,
	UNIT_FAILED,				/* an error, reported */
	UNIT_BUSY,					/* somebody has the extension: DROP or ALTER */
	UNIT_MISMATCH,				/* the versions differ */
	UNIT_NO_EXTENSION
} UnitStatus;

typedef struct Worker
{
	WorkerSlot *slot;
	int			number;
	MemoryContext context;		/* reset after each unit */
	bool		mismatch_logged;
	TimestampTz next_fold;		/* held off until then */
	int64		clock_offset;	/* of the clock from a steady one, in us */
	int			turn;			/* which engine's is next */
	unsigned	busy_units;		/* units with something to do */
	int			careful;		/* keys still to be worked on one by one */
	bool		started;		/* the first unit was done */
	/* what the unit that ran left behind */
	int			keys;
	bool		locked_out;		/* somebody has an engine or the inbox */
	int			jobs;
	bool		fed;
	long		sleep_ms;
} Worker;

typedef void (*Unit) (Worker *worker, List *engines);

/*
 * What a role's or a database's settings must not change under a worker. The
 * planner is told to use the internal tables' indexes, whose statistics are
 * always out of date, and to plan once; engine_enter() gives the engines its full
 * choice of plans.
 */
static const char *const pinned[][2] = {
	{"role", "none"},
	{"search_path", "pg_catalog, pg_temp"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"lock_timeout", "100ms"},
	{"deadlock_timeout", "10ms"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"synchronous_commit", "off"},
	{"client_min_messages", "warning"},
	{"row_security", "on"},
	{"jit", "off"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_nestloop", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_sort", "on"},
	{"plan_cache_mode", "force_generic_plan"},
	{"max_parallel_workers_per_gather", "0"}
};

static void
pin_settings(void)
{
	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* Takes the extension's lock and compares versions, inside a transaction. */
static UnitStatus
check_extension(Worker *worker)
{
	LOCKTAG		tag;
	Oid			oid = get_extension_oid("reputation", true);
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(oid)};

	if (!OidIsValid(oid))
		return UNIT_NO_EXTENSION;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return UNIT_BUSY;
	AcceptInvalidationMessages();
	if (get_extension_oid("reputation", true) != oid)
		return UNIT_BUSY;

	if (spi_exec("SELECT extversion FROM pg_catalog.pg_extension WHERE oid = $1", 1, types,
				 values, NULL) != 1)
		return UNIT_BUSY;
	if (strcmp(spi_text(0, 1), REPUTATION_VERSION) != 0)
	{
		if (!worker->mismatch_logged)
			ereport(WARNING,
					(errmsg("reputation is loaded in version %s, but the extension in database "
							"\"%s\" has version %s", REPUTATION_VERSION,
							get_database_name(MyDatabaseId), spi_text(0, 1)),
					 errhint("Run ALTER EXTENSION reputation UPDATE, or restart the server with "
							 "the new library.")));
		worker->mismatch_logged = true;
		return UNIT_MISMATCH;
	}
	worker->mismatch_logged = false;
	return UNIT_OK;
}

/* Runs a unit in a transaction of its own; errors are reported and end here. */
static UnitStatus
run_unit(Worker *worker, Unit unit)
{
	volatile UnitStatus status = UNIT_OK;

	worker->keys = worker->jobs = 0;
	worker->fed = false;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		MemoryContextSwitchTo(worker->context);
		PushActiveSnapshot(GetTransactionSnapshot());
		spi_begin();
		status = check_extension(worker);
		if (status == UNIT_OK)
		{
			spi_utility("SET CONSTRAINTS ALL IMMEDIATE");
			unit(worker, engine_list(false, &worker->locked_out));
		}
		spi_end();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		status = UNIT_FAILED;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(worker->context);
	pg_atomic_fetch_add_u64(&worker->slot->units, 1);
	pg_atomic_fetch_add_u64(&worker->slot->users, worker->jobs);
	pgstat_report_stat(false);
	return status;
}

static int
share_of_workers(void)
{
	return Max(guc_workers, 1);
}

/* How long the next fold is held off, in ms; the clock may have been set back. */
static long
held_off(const Worker *worker)
{
	int64		ms = (worker->next_fold - GetCurrentTimestamp()) / 1000;

	return ms > guc_drain_interval ? 0 : Max(ms, 0);
}

/* Was the clock set since this was last asked? */
static bool
clock_was_set(Worker *worker)
{
	struct timespec steady;
	int64		offset;
	int64		moved;

	clock_gettime(CLOCK_MONOTONIC, &steady);
	offset = clock_now() - (steady.tv_sec * USECS_PER_SEC + steady.tv_nsec / 1000);
	moved = offset - worker->clock_offset;
	worker->clock_offset = offset;
	return moved < -USECS_PER_MINUTE || moved > USECS_PER_MINUTE;
}

/* When this worker has nothing to do: compaction, schedule, how long to sleep. */
static void
look_ahead(Worker *worker, List *engines)
{
	TimestampTz next;
	bool		none = true;
	Datum		scheduled = (Datum) 0;
	ListCell   *cell;

	queue_compact();
	if (clock_was_set(worker))
	{
		foreach(cell, engines)
			queue_rebase(lfirst(cell));
	}
	if (worker->number == 0)
	{
		spi_exec("SELECT min(next_run_at) FROM reputation.schedule WHERE started_by = 'worker'",
				 0, NULL, NULL, NULL);
		scheduled = spi_datum(0, 1, &none);
	}
	/* More than a day ahead: the clock was set back; run_due_jobs() sees to it. */
	if (!none && (DatumGetTimestampTz(scheduled) <= clock_now() ||
				  DatumGetTimestampTz(scheduled) > clock_now() + 25 * USECS_PER_HOUR))
	{
		spi_exec("SELECT reputation.run_due_jobs()", 0, NULL, NULL, NULL);
		worker->sleep_ms = 0;
		return;
	}

	next = queue_next_due();
	if (!none)
		next = Min(next, DatumGetTimestampTz(scheduled));
	worker->sleep_ms = LONGEST_SLEEP;
	if (next != DT_NOEND)
	{
		TimestampTz now = clock_now();

		if (next <= now)
			worker->sleep_ms = BUSY_LANE_SLEEP;
		else if (!clock_is_set())
			worker->sleep_ms = Min(LONGEST_SLEEP, (next - now) / 1000 + 1);
	}
	if (max_prepared_xacts > 0 &&
		spi_exec("SELECT 1 FROM pg_catalog.pg_prepared_xacts "
				 "WHERE database = pg_catalog.current_database() LIMIT 1", 0, NULL, NULL, NULL) > 0)
		worker->sleep_ms = Min(worker->sleep_ms, PREPARED_SLEEP);
}

/*
 * The unit of all days: folds, works on a batch of one engine (the next unit
 * begins with the next one), or feeds a sweep, or looks ahead.
 */
static void
unit_drain(Worker *worker, List *engines)
{
	DrainScope	scope = {.number = worker->number, .workers = share_of_workers(),
	.limit = guc_batch_size};
	int			nengines = list_length(engines);
	bool		foreign = sweep_where_moved(engines);

	sweep_where_reshaped(engines, false);
	if (!worker->locked_out)
		sweep_where_lost(engines);
	if (held_off(worker) == 0 && !worker->locked_out)
	{
		int			keys = fold_inbox(&scope, engines);

		worker->keys = Max(keys, 0);
		worker->locked_out |= keys < 0;
	}
	for (int i = 0; i < nengines && worker->jobs == 0 && worker->careful == 0; i++)
		worker->jobs = drain_batch(list_nth(engines, worker->turn++ % nengines), &scope);
	if (worker->jobs == 0 && worker->careful == 0)
		worker->fed = sweep_feed(engines, false);
	if (worker->keys == 0 && worker->jobs == 0 && worker->careful == 0 && !worker->fed)
	{
		look_ahead(worker, engines);
		/* They are not told to wake us; and a commit wakes before it unlocks. */
		if (worker->locked_out)
			worker->sleep_ms = Min(worker->sleep_ms, LOCKED_OUT_SLEEP);
		if (foreign)
			worker->sleep_ms = Min(worker->sleep_ms, RESTORE_SLEEP);
	}
}

static void
unit_nothing(Worker *worker, List *engines)
{
}

static void
unit_compact(Worker *worker, List *engines)
{
	queue_compact();
}

static void
unit_notify(Worker *worker, List *engines)
{
	notify_send();
}

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

		if (engine->descriptor->id != engine_id ||
			queue_claim(engine, &scope, &taken, &tallies) == 0)
			continue;
		taken[0].attempt = guc_max_attempts;
		queue_fail(engine, &taken[0], "the server process crashed twice while it was computed");
		tally(&tallies, taken[0].run_id, 1, 0);
		tallies_store(&tallies);
		ereport(WARNING,
				(errmsg("reputation gave up \"%s\" of the engine \"%s\": its computation crashed "
						"the server process twice", job->key, engine->descriptor->name)));
	}
	forget_crashes(engine_id, job);
}

/* The first unit: looks for a predecessor's mark, leaves one of its own. */
static void
unit_start(Worker *worker, List *engines)
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
	write_mark(worker, NULL, NULL);
	ForceSyncCommit();
}

static void
unit_leave(Worker *worker, List *engines)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(worker->number)};

	spi_exec("DELETE FROM reputation.worker_mark WHERE slot = $1", 1, types, values, NULL);
}

/* Between the two units of careful work: which key it is about. */
static Job	careful_job;
static int	careful_engine;

static void
unit_mark(Worker *worker, List *engines)
{
	ListCell   *cell;

	careful_engine = 0;
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		Job			job;

		if (engine->retry_at > clock_now() || !queue_peek(engine, &job))
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
	DrainScope	scope = {.number = worker->number, .workers = share_of_workers(), .limit = 1,
	.only = &careful_job};
	ListCell   *cell;

	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);

		if (engine->descriptor->id == careful_engine)
			worker->jobs = drain_batch(engine, &scope);
	}
	forget_crashes(careful_engine, &careful_job);
	write_mark(worker, NULL, NULL);
}

/* One key, marked durably before it is worked on. */
static UnitStatus
work_carefully(Worker *worker)
{
	UnitStatus	status = run_unit(worker, unit_mark);

	if (status != UNIT_OK)
		return status;
	if (careful_engine == 0)
	{
		worker->careful = 0;	/* nothing is due that could have been it */
		return UNIT_OK;
	}
	status = run_unit(worker, unit_careful);
	pfree(careful_job.key);
	worker->careful--;
	return status;
}

/*
 * One round; true when there was something to do. The status is that of the
 * last unit.
 */
static bool
cycle(Worker *worker, UnitStatus *status)
{
	bool		worked;

	if (!worker->started)
	{
		if ((*status = run_unit(worker, unit_start)) != UNIT_OK)
			return false;
		worker->started = true;
	}
	if ((*status = run_unit(worker, unit_drain)) != UNIT_OK)
		return false;
	worked = worker->keys > 0 || worker->jobs > 0 || worker->fed;
	if (worker->keys >= LOAD_KEYS)
		worker->next_fold = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														guc_drain_interval);
	if (worker->careful > 0)
	{
		if ((*status = work_carefully(worker)) != UNIT_OK)
			return false;
		worked = worker->jobs > 0 || worker->careful == 0;
		worker->sleep_ms = BUSY_LANE_SLEEP;
	}
	/* There is more than one can do: wake another, if there is one. */
	if (worker->jobs >= guc_batch_size && guc_workers > 1)
	{
		pg_atomic_write_u32(&worker->slot->asleep, 0);
		shmem_wake_workers();
	}
	if (notify_pending())
		*status = run_unit(worker, unit_notify);
	if (worked && ++worker->busy_units % COMPACT_INTERVAL == 0 && *status == UNIT_OK)
		*status = run_unit(worker, unit_compact);
	return worked && *status == UNIT_OK;
}

/* A SIGTERM between two units, or a request to leave: leaves in good order. */
static void
leave_if_asked(Worker *worker)
{
	if (ProcDiePending || pg_atomic_read_u64(&worker->slot->leave) != 0)
	{
		ProcDiePending = false;
		if (worker->started)
			(void) run_unit(worker, unit_leave);
		proc_exit(0);
	}
	QueryCancelPending = false; /* a cancel is for a unit that is over */
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static void
wait_for(Worker *worker, long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
}

/* Waits out a hold-off, whatever the latch says, unless it is to leave. */
static void
hold_off(Worker *worker)
{
	pg_atomic_write_u32(&worker->slot->asleep, 0);
	while (held_off(worker) > 0)
	{
		wait_for(worker, held_off(worker));
		ResetLatch(MyLatch);
		leave_if_asked(worker);
	}
}

/* After a cycle with nothing to do. */
static void
idle(Worker *worker, UnitStatus status)
{
	if (status == UNIT_OK && held_off(worker) > 0)
	{
		hold_off(worker);
		return;
	}
	if (status == UNIT_NO_EXTENSION)
	{
		shmem_worker_no_extension();
		proc_exit(0);
	}
	shmem_worker_report(worker->slot, status == UNIT_MISMATCH ? WORKER_MISMATCH : WORKER_IDLE);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, status == UNIT_MISMATCH ?
						   "library and extension versions differ" : NULL);
	wait_for(worker, status == UNIT_OK ? worker->sleep_ms : ERROR_SLEEP);
	shmem_worker_report(worker->slot, WORKER_BUSY);
	pgstat_report_activity(STATE_RUNNING, "draining");
}

/*
 * reputation_worker_main -- the worker's life.
 */
void
reputation_worker_main(Datum main_arg)
{
	int			index = DatumGetInt32(main_arg);
	Oid			database = shmem_worker_database(index);
	Worker		worker = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!OidIsValid(database))
		proc_exit(0);			/* the slot was given to another */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pin_settings();

	worker.slot = shmem_worker_attach(index);
	if (worker.slot == NULL)
		proc_exit(0);			/* somebody wants the database free of workers */
	worker.number = worker.slot->number;
	worker.context = AllocSetContextCreate(TopMemoryContext, "reputation unit",
										   ALLOCSET_DEFAULT_SIZES);
	if (run_unit(&worker, unit_nothing) == UNIT_NO_EXTENSION)
	{
		shmem_worker_no_extension();
		proc_exit(0);
	}
	shmem_worker_has_extension();
	pgstat_report_activity(STATE_RUNNING, "draining");

	for (;;)
	{
		UnitStatus	status;

		ResetLatch(MyLatch);
		leave_if_asked(&worker);
		pg_atomic_write_u32(&worker.slot->asleep, 1);
		pg_memory_barrier();
		if (!cycle(&worker, &status))
			idle(&worker, status);
	}
}

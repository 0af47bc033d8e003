/*
 * worker.c
 *		The background worker that drains one database's work.
 *
 * A unit is one transaction: it folds the inbox and works on a batch of one
 * engine, or, when there is nothing, feeds a sweep, or else looks how long it may
 * sleep. Batch jobs that are worked off in steps get a step when there is nothing else to
 * do, and under a backlog that lasts one a second (worker_units.c). After a crash it works carefully for a while
 * (worker_careful.c).
 *
 * Sleeping. Before each unit the latch is reset and the slot's "asleep"
 * set; a commit that appends keys exchanges it for 0 and sets the latch. So a
 * commit that the unit's fold does not see any more has its latch set, and the
 * wait that follows returns at once. (Should the unit have waited for a lock and
 * swallowed that, "asleep" is 0, and it does not begin to wait.) A fold that
 * found several keys means load:
 * then the next one is held off for reputation.drain_interval, with "asleep"
 * at 0, so that the writers' commits cost no system call and the worker folds
 * many changes at once. COMMIT PREPARED wakes nobody; while there are prepared
 * transactions the worker looks four times a second.
 *
 * 1. The worker is deaf to its latch only while a hold-off lasts (a minute at most, as it is
 *	  set), for ERROR_SLEEP after a unit failed, and for LONGEST_POLL when unit_drain() was
 *	  kept from an engine or the inbox: no commit helps with that. "asleep" is 0 then.
 * 2. How long it sleeps otherwise, and whether it was kept from anything, is
 *	  unit_drain()'s to say. A unit that comes after it in the same round (notify, compact,
 *	  boards, batch) says in "skipped" that it was; it may shorten the sleep, and
 *	  leaves "locked_out" alone. An attach that took an engine between the two wakes the
 *	  worker when it commits, as any commit does.
 *
 * Once "locked_out" was everybody's, and an attach in that moment made the wait deaf that
 * unit_drain() had meant to be a sleep of a minute. No test meets a moment between two
 * transactions of a process; so 1 is an assertion.
 *
 * Leaving. The launcher and the utility hook first ask a worker to leave between
 * two units, and terminate it only when it takes longer. Terminated in the middle
 * of a unit, by them, an administrator or a shutdown, it ends with FATAL at the
 * next check for interrupts; a callback then undoes the unit and takes the mark
 * away, so that this does not pass for a crash. The same when the postmaster
 * died. Any other exit in a unit is the unit's own doing, and does.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "base/guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "worker/worker.h"
#include "worker/worker_units.h"

#define ERROR_SLEEP			1000	/* ms, after a unit failed */
#define LOAD_KEYS			5	/* a fold that finds so many means load */
#define COMPACT_INTERVAL	16	/* busy units between two looks at the tables' sizes */

/* Was this process told to end? */
static volatile sig_atomic_t terminated = false;

/*
 * What a role's or a database's settings must not change under a worker. The
 * planner is told to use the internal tables' indexes, whose statistics are
 * always out of date; engine_enter() gives the engines its full choice.
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
	/* What errors say of where they came up is looked at (subxact.c). */
	{"lc_messages", "C"},
	{"row_security", "on"},
	{"jit", "off"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_nestloop", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_sort", "on"},
	{"plan_cache_mode", "auto"},
	{"max_parallel_workers_per_gather", "0"}
};

static void
pin_settings(void)
{
	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * One round; true when there was something to do. The status is that of the
 * last unit.
 */
static bool
cycle(Worker *worker, UnitStatus *status)
{
	bool		worked;
	bool		clock_due;

	if (!worker->started)
	{
		if ((*status = unit_run(worker, careful_start)) != UNIT_OK)
			return false;
		worker->started = true;
	}
	if ((*status = unit_run(worker, unit_drain)) != UNIT_OK)
		return false;
	worked = worker->keys > 0 || worker->jobs > 0 || worker->fed;
	clock_due = worker->clock_due;
	if (worker->keys >= LOAD_KEYS)
		worker->next_fold = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														guc_drain_interval);
	if (worker->careful > 0)
	{
		if ((*status = careful_work(worker)) != UNIT_OK)
			return false;
		worked = worker->jobs > 0 || worker->careful == 0;
		if (!worked)
			worker->sleep_ms = unit_poll(worker);
	}
	/* There is more than one can do: wake another, if there is one. */
	if (worker->jobs >= guc_batch_size && guc_workers > 1)
	{
		pg_atomic_write_u32(&worker->slot->asleep, 0);
		shmem_wake_workers();
	}
	if (worker->batch)
	{
		*status = unit_run(worker, unit_batch);
		worked |= worker->fed;
		/* If it could not: somebody has the run's row or the users table. */
		worker->sleep_ms = Min(worker->sleep_ms, ERROR_SLEEP);
	}
	if (worker->boards && *status == UNIT_OK)
		*status = unit_run(worker, unit_boards);
	if (notify_pending())
		*status = unit_run(worker, unit_notify);
	if (worked && ++worker->busy_units % COMPACT_INTERVAL == 0 && *status == UNIT_OK)
		*status = unit_run(worker, unit_compact);
	if (clock_due && *status == UNIT_OK)
	{
		*status = unit_run(worker, unit_clock);
		worked |= worker->fed;
	}
	if (worked)
		worker->poll_ms = 0;
	return worked && *status == UNIT_OK;
}

static void
handle_sigterm(SIGNAL_ARGS)
{
	terminated = true;
	die(postgres_signal_arg);
}

/* At an exit in the middle of a unit. */
static void
leave_at_exit(int code, Datum arg)
{
	Worker	   *worker = (Worker *) DatumGetPointer(arg);

	if (!worker->started || (!terminated && PostmasterIsAlive()))
		return;
	worker->started = false;
	AbortOutOfAnyTransaction();
	unit_run_at_exit(worker, careful_leave);
}

/* A SIGTERM between two units, or a request to leave: leaves in good order. */
static void
leave_if_asked(Worker *worker)
{
	if (ProcDiePending || pg_atomic_read_u64(&worker->slot->leave) != 0)
	{
		ProcDiePending = false;
		if (worker->started)
			(void) unit_run(worker, careful_leave);
		worker->started = false;
		proc_exit(0);
	}
	QueryCancelPending = false; /* a cancel is for a unit that is over */
	CHECK_FOR_INTERRUPTS();
	unit_reload();
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
	while (unit_held_off(worker) > 0)
	{
		wait_for(worker, unit_held_off(worker));
		ResetLatch(MyLatch);
		leave_if_asked(worker);
	}
}

/* The same for a moment: what is in the way is not over by anybody's commit. */
static void
wait_out(Worker *worker, long ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	long		left = ms;

	Assert(ms <= ERROR_SLEEP);
	pg_atomic_write_u32(&worker->slot->asleep, 0);
	/* More than the whole: the clock was set back. */
	while (left > 0 && left <= ms)
	{
		wait_for(worker, left);
		ResetLatch(MyLatch);
		leave_if_asked(worker);
		left = (until - GetCurrentTimestamp()) / 1000;
	}
}

/* After a cycle with nothing to do. */
static void
idle(Worker *worker, UnitStatus status)
{
	if (status == UNIT_OK && unit_held_off(worker) > 0)
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
	if (status != UNIT_OK)
		wait_out(worker, ERROR_SLEEP);
	else if (worker->locked_out)
		wait_out(worker, Min(worker->sleep_ms, LONGEST_POLL));
	else if (pg_atomic_read_u32(&worker->slot->asleep) == 1)
		wait_for(worker, worker->sleep_ms);
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
	static Worker worker;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	BackgroundWorkerUnblockSignals();
	if (!OidIsValid(database))
		proc_exit(0);			/* the slot was given to another */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pin_settings();

	worker.slot = shmem_worker_attach(index);
	if (worker.slot == NULL)
		proc_exit(0);			/* somebody wants the database free of workers */
	before_shmem_exit(leave_at_exit, PointerGetDatum(&worker));
	worker.number = worker.slot->number;
	worker.context = AllocSetContextCreate(TopMemoryContext, "reputation unit",
										   ALLOCSET_DEFAULT_SIZES);
	if (unit_run(&worker, unit_nothing) == UNIT_NO_EXTENSION)
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

/*
 * launcher.c
 *		The static background worker that keeps workers in every database.
 *
 * It runs on every server that has ended recovery, connected to no database.
 * Each pass compares what should be (the rows of pg_database,
 * reputation.workers, what probes found) with what is (the slots in shared
 * memory) and mends the difference; nothing is assumed from the pass before,
 * so a crash, a restart of the launcher or a lost wake-up is mended too.
 * Between passes it waits on its latch, which is set when a worker ends, when
 * a commit wants workers in a database that has none, and after a statement on
 * databases.
 *
 * Of shared memory it uses what slots.c offers, under that file's lock. A pass
 * is one short transaction. It never waits for a lock on a database: it only
 * tries whether a new connection would have to wait there, because a worker
 * that waits to connect would appear in the middle of somebody's DROP
 * DATABASE.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "shmem/shmem.h"
#include "worker/launcher.h"

#define LAUNCHER_RESTART	1	/* s until the postmaster restarts it */
#define PASS_INTERVAL		10000	/* ms between passes when nothing happens */
#define RETRY_INTERVAL		1000	/* ... when a worker could not start yet */
#define EXHAUSTED_INTERVAL	5000	/* ... when there was no room for a worker */
#define EXHAUSTED_PATIENCE	1000	/* ms until that is worth a message */

/* DROP DATABASE was interrupted: nobody can connect; not in all minor versions. */
#define CONNLIMIT_INVALID_DB	(-2)

typedef enum StartResult
{
	START_DONE,					/* started, or nothing to start */
	START_LATER,
	START_NO_SLOT,
	START_NO_PROCESS
} StartResult;

/* A condition that is worth a message when it lasts, once. */
typedef struct Complaint
{
	TimestampTz since;			/* 0: all is well */
	bool		made;
} Complaint;

/* What the launcher started in each slot, until it sees that it ended. */
typedef struct Start
{
	BackgroundWorkerHandle *handle;
	uint64		start_id;
} Start;

static Start starts[MAX_WORKER_SLOTS];

/*
 * launcher_init -- registers the launcher; only while the server preloads. Not
 * during pg_upgrade, which wants the databases for itself.
 */
void
launcher_init(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "reputation launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "reputation launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "reputation", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "reputation_launcher_main", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART;
	RegisterBackgroundWorker(&worker);
}

/*
 * read_databases -- the databases a worker may connect to and should: templates
 * are left alone, since they are there to be copied.
 */
static List *
read_databases(void)
{
	List	   *databases = NIL;
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(relation, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->datallowconn && !database->datistemplate &&
			database->datconnlimit != CONNLIMIT_INVALID_DB)
			databases = lappend_oid(databases, database->oid);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	return databases;
}

/*
 * reap_ended_workers -- frees the slots of workers that ended before they
 * attached (the database was dropped meanwhile, or too many connections).
 */
static void
reap_ended_workers(void)
{
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		pid_t		pid;

		if (starts[i].handle != NULL &&
			GetBackgroundWorkerPid(starts[i].handle, &pid) == BGWH_STOPPED)
		{
			shmem_release_slot(i, starts[i].start_id, true);
			pfree(starts[i].handle);
			starts[i].handle = NULL;
		}
	}
}

/*
 * database_exists -- is there the database now? By a new snapshot: DROP DATABASE has the
 * launcher woken when its commit is visible, but before the catalog caches are told, and
 * while it was at work they may have got the row.
 */
static bool
database_exists(Oid database)
{
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		exists;

	InvalidateCatalogSnapshot();
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	/* Without the index: who is connected to no database may not have it at hand. */
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 1, &key);
	exists = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return exists;
}

/*
 * tidy_databases -- sends away the workers that are too many, and forgets what
 * has been dropped. A database that is not in the list may have been created
 * after it was read, so the catalog is asked again.
 */
static void
tidy_databases(List *databases)
{
	Oid		   *known = palloc(MAX_DATABASES * sizeof(Oid));
	int			count = shmem_databases(known);

	for (int i = 0; i < count; i++)
	{
		if (list_member_oid(databases, known[i]))
			shmem_stop_workers(known[i], guc_workers);
		else
		{
			shmem_stop_workers(known[i], 0);
			if (!database_exists(known[i]))
				shmem_forget_database(known[i]);
		}
	}
}

/*
 * database_is_free -- could one connect now without waiting for DROP DATABASE
 * and the like?
 */
static bool
database_is_free(Oid database)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, RowExclusiveLock, false);
	return true;
}

/*
 * register_worker -- asks the postmaster for a worker in the slot; false when
 * max_worker_processes are in use.
 */
static bool
register_worker(Oid database, int number, int slot_index, uint64 start_id)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	MemoryContext before;
	bool		registered;

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "reputation worker %d of database %u",
			 number, database);
	strlcpy(worker.bgw_type, "reputation worker", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "reputation", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "reputation_worker_main", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(slot_index);
	memcpy(worker.bgw_extra, &start_id, sizeof(start_id));

	before = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(before);
	if (!registered)
		return false;

	if (starts[slot_index].handle != NULL)
		pfree(starts[slot_index].handle);
	starts[slot_index].handle = handle;
	starts[slot_index].start_id = start_id;
	return true;
}

/*
 * start_worker -- starts the worker with this number in the database if it is
 * missing.
 */
static StartResult
start_worker(Oid database, int number)
{
	int			slot_index;
	uint64		start_id;

	switch (shmem_claim_slot(database, number, &slot_index, &start_id))
	{
		case SLOT_CLAIMED:
			break;
		case SLOT_LATER:
			return START_LATER;
		case SLOT_NONE_LEFT:
			return START_NO_SLOT;
		default:
			return START_DONE;
	}

	if (!database_is_free(database))
	{
		shmem_release_slot(slot_index, start_id, false);
		return START_LATER;
	}
	if (!register_worker(database, number, slot_index, start_id))
	{
		shmem_release_slot(slot_index, start_id, false);
		return START_NO_PROCESS;
	}
	return START_DONE;
}

/*
 * complaint_due -- shall a condition be reported now? Once, when it has lasted:
 * a worker that just ended may still hold its place for a moment.
 */
static bool
complaint_due(Complaint *complaint, bool exists)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!exists)
	{
		complaint->since = 0;
		complaint->made = false;
		return false;
	}
	if (complaint->since == 0)
		complaint->since = now;
	if (complaint->made ||
		!TimestampDifferenceExceeds(complaint->since, now, EXHAUSTED_PATIENCE))
		return false;
	complaint->made = true;
	return true;
}

/*
 * report_exhaustion -- tells the administrator which limit keeps workers out.
 */
static void
report_exhaustion(bool no_slot, bool no_process)
{
	static Complaint slots;
	static Complaint processes;

	if (complaint_due(&processes, no_process))
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker process is left for reputation"),
				 errdetail("Some databases have fewer workers than reputation.workers; starting them is retried."),
				 errhint("You might need to increase max_worker_processes.")));
	if (complaint_due(&slots, no_slot))
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many workers or databases for reputation"),
				 errdetail("There can be %d workers in the server, in %d databases.",
						   MAX_WORKER_SLOTS, MAX_DATABASES),
				 errhint("You might need to decrease reputation.workers.")));
}

/*
 * start_missing_workers -- every database gets its first worker before any
 * gets its second. Returns the time in ms until that has to be tried again.
 */
static long
start_missing_workers(List *databases)
{
	bool		later = false;
	bool		no_slot = false;
	bool		no_process = false;

	for (int number = 0; number < guc_workers && !no_process; number++)
	{
		ListCell   *cell;

		foreach(cell, databases)
		{
			StartResult result = start_worker(lfirst_oid(cell), number);

			later |= result == START_LATER;
			no_slot |= result == START_NO_SLOT;
			no_process |= result == START_NO_PROCESS;
			if (no_process)
				break;
		}
	}
	report_exhaustion(no_slot, no_process);

	if (later)
		return RETRY_INTERVAL;
	return no_slot || no_process ? EXHAUSTED_INTERVAL : PASS_INTERVAL;
}

/*
 * launcher_pass -- makes the workers what they should be. Returns the time in
 * ms until the next pass.
 */
static long
launcher_pass(void)
{
	List	   *databases;
	long		wait;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, "starting and stopping workers");

	reap_ended_workers();
	databases = read_databases();
	tidy_databases(databases);
	wait = start_missing_workers(databases);

	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	return wait;
}

/*
 * reputation_launcher_main -- the process.
 */
void
reputation_launcher_main(Datum main_arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	shmem_launcher_attach();

	for (;;)
	{
		long		wait = launcher_pass();

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);

		/* Not an error; with exit code 0 it would not be restarted. */
		if (ProcDiePending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

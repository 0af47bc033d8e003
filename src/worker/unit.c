/*
 * unit.c
 *		One unit of a worker: a transaction.
 *
 * Before each the worker takes the extension's object lock, shared, and only if
 * it is to be had at once; so DROP EXTENSION waits for one unit at most, and
 * while it is at it the worker keeps away. It also compares the extension's
 * version with the library's, and idles while they differ.
 *
 * Commits are asynchronous: what a lost one did is undone as a whole, the keys
 * are back in the inbox or the job table, and are worked on again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/guc.h"
#include "base/spi.h"
#include "base/version.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/lock.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker_units.h"

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

/*
 * unit_reload -- reads the settings again if the server was told to.
 */
void
unit_reload(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Begins a unit's transaction, with the settings as they are: the clock may be among them. */
static UnitStatus
begin_unit(Worker *worker)
{
	SetCurrentStatementStartTimestamp();
	unit_reload();
	StartTransactionCommand();
	MemoryContextSwitchTo(worker->context);
	PushActiveSnapshot(GetTransactionSnapshot());
	spi_begin();
	return check_extension(worker);
}

static void
end_unit(void)
{
	spi_end();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * unit_run -- runs a unit in a transaction of its own; errors are reported and
 * end here.
 */
UnitStatus
unit_run(Worker *worker, Unit unit)
{
	volatile UnitStatus status = UNIT_OK;

	worker->keys = worker->jobs = 0;
	worker->fed = worker->clock_due = worker->skipped = false;
	shmem_worker_unit(true);
	PG_TRY();
	{
		status = begin_unit(worker);
		if (status == UNIT_OK)
		{
			spi_utility("SET CONSTRAINTS ALL IMMEDIATE");
			unit(worker, engine_list(false, &worker->skipped));
		}
		end_unit();
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

	shmem_worker_unit(false);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(worker->context);
	pg_atomic_fetch_add_u64(&worker->slot->units, 1);
	pg_atomic_fetch_add_u64(&worker->slot->users, worker->jobs);
	pgstat_report_stat(false);
	return status;
}

/*
 * unit_run_at_exit -- runs a unit that needs no engines in a process that is
 * exiting, outside of a transaction. It must not wait, since no timeout would
 * end that; and an error, being FATAL now, ends in the next exit callback.
 */
void
unit_run_at_exit(Worker *worker, Unit unit)
{
	if (begin_unit(worker) == UNIT_OK)
		unit(worker, NIL);
	end_unit();
}

/*
 * unit_scope -- the worker's part of the work, a batch at a time.
 */
DrainScope
unit_scope(const Worker *worker)
{
	DrainScope	scope = {.number = worker->number, .workers = Max(guc_workers, 1)};

	scope.limit = guc_batch_size;
	return scope;
}

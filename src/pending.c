/*
 * pending.c
 *		What is still to be computed of a user, and waiting for it.
 */
#include "postgres.h"

#include "access/transam.h"
#include "api.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "inbox.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "spi.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(reputation_wait);

/* How often reputation_wait() looks (ms). */
#define WAIT_INTERVAL	2

/* What of a user is still pending: NULL when nothing is. */
static char *
pending_work(const Engine *engine, const char *key, TransactionId horizon)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), CStringGetTextDatum(key)};
	char	   *due;

	if (inbox_has_keys_before(horizon))
		return "changes that were not folded yet";

	/*
	 * Locked before the snapshot is taken: a compaction leaves an older one nothing to see.
	 */
	LockRelationOid(get_relname_relid("job", get_namespace_oid("reputation", false)),
					AccessShareLock);
	spi_exec("SELECT format('a computation due at %s%s', min(due_at), "
			 "max('; it failed: ' || error)) FROM reputation.job "
			 "WHERE engine = $1 AND kind = 0 AND key = $2 HAVING count(*) > 0", 2, types, values,
			 NULL);
	due = SPI_processed > 0 ? spi_text(0, 1) : NULL;
	UnlockRelationOid(get_relname_relid("job", get_namespace_oid("reputation", false)),
					  AccessShareLock);
	return due;
}

/*
 * reputation_wait(uid, engine, timeout) -- waits until everything that was
 * committed before the call is computed for the user.
 */
Datum
reputation_wait(PG_FUNCTION_ARGS)
{
	char	   *name = api_text(fcinfo, 1);
	TransactionId horizon = ReadNextTransactionId();
	TimestampTz give_up;
	List	   *engines;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	api_require_read_committed("reputation_wait");
	give_up = PG_ARGISNULL(2) ? DT_NOEND :
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												TimestampTzGetDatum(GetCurrentTimestamp()),
												PG_GETARG_DATUM(2)));
	spi_begin();
	engines = api_engines(name);
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		char	   *key = engine_key_from_argument(fcinfo, 0, engine);
		char	   *what;

		while ((what = pending_work(engine, key, horizon)) != NULL)
		{
			if (GetCurrentTimestamp() >= give_up)
				ereport(ERROR,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg("timed out waiting for user \"%s\" of the engine \"%s\"", key,
								engine->descriptor->name),
						 errdetail("Still pending: %s.", what),
						 errhint("reputation_status() tells whether a worker is running.")));
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 WAIT_INTERVAL, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	spi_end();
	PG_RETURN_VOID();
}

/*
 * upsert_wait.c
 *		upsert_user_and_wait(): writes a user, and waits for the score.
 *
 * It commits, and then looks again and again, each time in a transaction of its
 * own. What it finds deferred to the end of the debounce window it queues once
 * more, due now: a claim takes all jobs of the user.
 */
#include "postgres.h"

#include "engines/trust/trust_engine.h"
#include "base/args.h"
#include "access/transam.h"
#include "api/api.h"
#include "api/pending.h"
#include "base/clock.h"
#include "base/spi.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "engines/trust/upsert.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "work/queue.h"

PG_FUNCTION_INFO_V1(reputation_upsert_user_and_wait);

/* How often upsert_user_and_wait() looks (ms). */
#define WAIT_INTERVAL	2

/* Has a user who only waits for the debounce window computed now. */
static void
hurry(const Engine *engine, char *key)
{
	Oid			types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), CStringGetTextDatum(key),
	TimestampTzGetDatum(clock_now())};

	if (spi_exec("SELECT 1 FROM reputation.job WHERE engine = $1 AND kind = 0 AND key = $2 "
				 "HAVING count(*) > 0 AND bool_and(due_at > $3 AND attempt = 0)", 3, types, values,
				 NULL) == 0)
		return;
	queue_enqueue(engine, &key, 1, PRIORITY_HIGH);
	capture_wake_at_commit();
}

/* One look at what is pending of the user, in a transaction: NULL when nothing is. */
static char *
look_and_hurry(FunctionCallInfo fcinfo, PendingLook *look, char *key)
{
	EngineContext caller;
	Engine	   *engine;
	char	   *what;

	spi_begin();
	owner_enter(fcinfo, &caller);
	engine = api_engine_get(fcinfo, &trust_class, 2);
	what = pending_look_once(look, engine, key);
	if (what != NULL)
	{
		what = MemoryContextStrdup(PortalContext, what);
		hurry(engine, key);
	}
	owner_leave(&caller);
	spi_end();
	return what;
}

/*
 * upsert_user_and_wait(doc, timeout, engine) -- see sql/31-trust.sql.
 */
Datum
reputation_upsert_user_and_wait(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	PendingLook look = {.changes_only = true};
	TimestampTz give_up;
	char	   *key;
	char	   *what;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("upsert_user_and_wait() cannot run inside a transaction block"),
				 errhint("Workers see the user only after a commit. CALL it on its own, or use "
						 "upsert_user() and, after the COMMIT, reputation_wait().")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"doc\" must not be null")));
	give_up = pending_give_up(fcinfo, 1);

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	key = upsert_write(fcinfo, 2, PG_GETARG_JSONB_P(0), PortalContext);
	SPI_commit();
	SPI_start_transaction();
	look.horizon = ReadNextTransactionId();
	while (key != NULL && (what = look_and_hurry(fcinfo, &look, key)) != NULL)
	{
		if (GetCurrentTimestamp() >= give_up)
			pending_timed_out(args_required_text(fcinfo, 2, "engine"), key, what);
		pfree(what);
		SPI_commit();
		SPI_start_transaction();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_INTERVAL,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	PG_RETURN_VOID();
}

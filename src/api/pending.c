/*
 * pending.c
 *		What is still to be computed of a user, and waiting for it.
 *
 * Whatever makes a change reach a user's score is in one of these places, in
 * the order of its way:
 *
 * - this backend's memory, while the change is the calling transaction's own:
 *	 nobody else sees it yet, but a recomputation here does;
 * - the inbox; or, when it was not to be had, a flag in shared memory (lost.c); or
 *	 nowhere, but the database is not the one the engine was attached in. The
 *	 latter two lead to a run over everybody, and so does a TRUNCATE's key;
 * - such a run that has not come to the user: it is not all fed, and the user's
 *	 key is behind its cursor, or it will start over;
 * - the job table: a job of the user (whichever it is: a change may have been
 *	 left out because of it), or of a lookup, which may lead to any user;
 * - the user's score row, whose next_due_at has come.
 *
 * Once it is committed it goes from one place to the next in one transaction,
 * so a look at all of them in one snapshot misses nothing; but for the flag,
 * which is reset after the commit that makes the run visible, and is therefore
 * read before the snapshot is taken. The inbox and the job table are locked
 * before, too: to a snapshot older than a truncation they would seem empty.
 *
 * Whoever compares what is stored with a recomputation does both in that
 * snapshot: then a difference without pending work is drift, whatever the
 * workers do at the same time. (In REPEATABLE READ the snapshot is the
 * transaction's, and the comparison as good as that allows.)
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "api/api.h"
#include "api/pending.h"
#include "base/args.h"
#include "base/clock.h"
#include "base/spi.h"
#include "capture/capture.h"
#include "capture/inbox.h"
#include "capture/lost.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem/shmem.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(reputation_wait);

/* How often reputation_wait() looks (ms). */
#define WAIT_INTERVAL	2

/* A longer timeout is none. */
#define LONGEST_WAIT_DAYS	36500

static Oid
job_table(void)
{
	return get_relname_relid("job", get_namespace_oid("reputation", false));
}

/*
 * pending_begin -- makes the moment of the look the active snapshot, until
 * pending_end(). False when a table is locked and it shall not wait.
 */
bool
pending_begin(PendingLook *look, bool wait)
{
	if (!inbox_lock_segments(wait))
		return false;
	if (wait)
		LockRelationOid(job_table(), AccessShareLock);
	else if (!ConditionalLockRelationOid(job_table(), AccessShareLock))
	{
		inbox_unlock_segments();
		return false;
	}
	look->resync = lost_pending();
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

void
pending_end(void)
{
	PopActiveSnapshot();
	UnlockRelationOid(job_table(), AccessShareLock);
	inbox_unlock_segments();
}

/* The order of keys in which a sweep feeds them; the collation is the key column's. */
static int
compare_pending(const Engine *engine, Oid collation, const char *a, const char *b)
{
	TypeCacheEntry *type = lookup_type_cache(engine->key_type, TYPECACHE_CMP_PROC_FINFO);

	return DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo, collation,
										   engine_key_datum(engine, a),
										   engine_key_datum(engine, b)));
}

/*
 * Has a sweep come to the user? All that were fed when it does not start over;
 * those that came later, behind its cursor, are captured as events.
 */
static bool
sweep_passed(const Engine *engine, const char *key, uint64 row)
{
	bool		fed_all = spi_int(row, 3, NULL) != 0;
	char	   *cursor = spi_text(row, 4);
	bool		no_column;
	Oid			collation = (Oid) spi_int(row, 5, &no_column);

	return fed_all || (cursor != NULL && !no_column &&
					   compare_pending(engine, collation, key, cursor) <= 0);
}

/* A run over everybody that has not come to the user: NULL when there is none. */
static char *
pending_run(const PendingLook *look, const Engine *engine, const char *key)
{
	Oid			types[] = {INT4OID, BOOLOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id),
	BoolGetDatum(look->changes_only)};
	uint64		count;

	if (look->resync)
		return "a run over everybody that is about to start";
	count = spi_read("SELECT (e.home <> reputation.home())::int, r.job_name, "
					 "(r.fed_all AND NOT r.again)::int, CASE WHEN NOT r.again THEN r.cursor END, "
					 "a.attcollation::oid FROM reputation.engine e "
					 "LEFT JOIN reputation.job_runs r ON r.scope = e.name AND r.status = 'running' "
					 "AND r.fed_all IS NOT NULL AND (NOT $2 OR NOT EXISTS "
					 "(SELECT FROM reputation.batch_job b WHERE b.name = r.job_name)) "
					 "LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = e.users "
					 "AND a.attname = e.users_key WHERE e.id = $1", 2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		char	   *job = spi_text(row, 2);

		if (spi_int(row, 1, NULL) != 0)
			return "a run over everybody, since this database is a copy";
		if (job != NULL && !sweep_passed(engine, key, row))
			return psprintf("the run \"%s\", which has not come to the user", job);
	}
	return NULL;
}

/* A job of the user, or of a lookup: NULL when there is none. */
static char *
pending_job(const Engine *engine, const char *key)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), CStringGetTextDatum(key)};

	if (spi_read("SELECT format('a computation due at %s%s', min(due_at), "
				 "max('; it failed: ' || error)) FROM reputation.job "
				 "WHERE engine = $1 AND kind <= 0 AND key = $2 HAVING count(*) > 0", 2, types,
				 values, NULL) > 0 ||
		spi_read("SELECT format('a lookup of the users that a change concerns, due at %s%s', "
				 "min(due_at), max('; it failed: ' || error)) FROM reputation.job "
				 "WHERE engine = $1 AND kind <> 0 AND kind + 0 > 0 HAVING count(*) > 0", 1, types,
				 values, NULL) > 0)
		return spi_text(0, 1);
	return NULL;
}

/* A change with time that has come and that nobody was told of yet: or NULL. */
static char *
pending_time(const Engine *engine, const char *key)
{
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(key), TimestampTzGetDatum(clock_now()),
	CStringGetTextDatum(engine->descriptor->name)};

	if (!engine->descriptor->class->timed ||
		spi_read(psprintf("SELECT format('a change with time, due at %%s', s.next_due_at) "
						  "FROM reputation.%s s WHERE s.user_id = $1 AND s.next_due_at <= $2 "
						  "AND NOT EXISTS (SELECT FROM reputation.dead_letter d "
						  "WHERE d.key = $1 AND d.engine = $3 AND d.kind = 0)",
						  engine->descriptor->score_table), 3, types, values, NULL) == 0)
		return NULL;
	return spi_text(0, 1);
}

/*
 * pending_work -- what may still change the user's score, as a text; NULL when
 * nothing does. Between pending_begin() and pending_end().
 */
char *
pending_work(const PendingLook *look, const Engine *engine, const char *key)
{
	char	   *job;

	if (!TransactionIdIsValid(look->horizon) && capture_is_pending())
		return "changes of this transaction";
	if (inbox_has_keys_before(look->horizon))
		return "changes that were not folded yet";
	job = pending_job(engine, key);
	if (job == NULL)
		job = pending_time(engine, key);
	return job != NULL ? job : pending_run(look, engine, key);
}

/* 55000 when the user's computation was given up: what is stored is of before. */
static void
require_not_given_up(const Engine *engine, const char *key)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name),
	CStringGetTextDatum(key)};

	if (spi_read("SELECT attempts, error FROM reputation.dead_letter "
				 "WHERE engine = $1 AND kind <= 0 AND key = $2 ORDER BY id DESC LIMIT 1",
				 2, types, values, NULL) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the engine \"%s\" gave up user \"%s\"", engine->descriptor->name, key),
			 errdetail("Attempts: " INT64_FORMAT "; the last error: %s", spi_int(0, 1, NULL),
					   spi_text(0, 2)),
			 errhint("The score is of before. Mend what is wrong and write the user again, or "
					 "call reputation_retry().")));
}

/*
 * pending_look_once -- pending_work() once, without waiting for a lock and with
 * nothing left behind. When nothing is pending because the user was given up,
 * which is seen in the same snapshot: 55000.
 */
char *
pending_look_once(PendingLook *look, const Engine *engine, const char *key)
{
	MemoryContext caller = CurrentMemoryContext;
	SpiReader	reader;
	char	   *what = "a lock on the inbox or the job table";

	spi_reader_begin(&reader);
	if (pending_begin(look, false))
	{
		what = pending_work(look, engine, key);
		if (what == NULL)
			require_not_given_up(engine, key);
		pending_end();
	}
	if (what != NULL)
		what = MemoryContextStrdup(caller, what);
	spi_reader_end(&reader);
	return what;
}

/*
 * pending_give_up -- when a function with an interval as this argument gives up waiting:
 * never when it is null, or more than the longest. One without an end is no error.
 */
TimestampTz
pending_give_up(FunctionCallInfo fcinfo, int argno)
{
	const Interval *timeout;
	double		us;

	if (PG_ARGISNULL(argno))
		return DT_NOEND;
	timeout = PG_GETARG_INTERVAL_P(argno);
	us = (double) timeout->time +
		((double) timeout->day + DAYS_PER_MONTH * (double) timeout->month) * USECS_PER_DAY;
	if (us > LONGEST_WAIT_DAYS * (double) USECS_PER_DAY)
		return DT_NOEND;
	return GetCurrentTimestamp() + (int64) Max(us, 0);
}

/*
 * pending_timed_out -- raises 55P03 with what is still pending.
 */
void
pending_timed_out(const char *engine, const char *key, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("timed out waiting for user \"%s\" of the engine \"%s\"", key, engine),
			 errdetail("Still pending: %s.", what),
			 errhint("reputation_status() tells whether a worker is running.")));
}

/*
 * reputation_wait(uid, engine, timeout) -- waits until everything that was
 * committed before the call is computed for the user. 55000 when it was given up.
 */
Datum
reputation_wait(PG_FUNCTION_ARGS)
{
	char	   *name = args_text(fcinfo, 1);
	PendingLook look = {.horizon = ReadNextTransactionId(), .changes_only = true};
	TimestampTz give_up;
	List	   *engines;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	args_require_read_committed("reputation_wait");
	give_up = pending_give_up(fcinfo, 2);
	spi_begin();
	engines = engine_chosen(name);
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		char	   *key = engine_key_from_argument(fcinfo, 0, engine);
		char	   *what;

		while ((what = pending_look_once(&look, engine, key)) != NULL)
		{
			if (GetCurrentTimestamp() >= give_up)
				pending_timed_out(engine->descriptor->name, key, what);
			pfree(what);
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 WAIT_INTERVAL, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	spi_end();
	PG_RETURN_VOID();
}

/*
 * api.c
 *		What the SQL functions do: read, recalculate, explain, drain, wait,
 *		verify, repair.
 *
 * They run in the caller's transaction. recalc, recalc_all and repair store
 * without a claim, so a worker looks once more at what they wrote (queue.c tells
 * why). reputation_process() claims
 * like a worker; it needs READ COMMITTED, where every statement has a snapshot
 * of its own, and holds the fold and the lanes until the transaction ends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "api.h"
#include "capture.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "drain.h"
#include "funcapi.h"
#include "guc.h"
#include "inbox.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem.h"
#include "spi.h"
#include "srf.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(reputation_process);
PG_FUNCTION_INFO_V1(reputation_wait);
PG_FUNCTION_INFO_V1(reputation_verify);
PG_FUNCTION_INFO_V1(reputation_repair);
PG_FUNCTION_INFO_V1(reputation_rank_refresh);
PG_FUNCTION_INFO_V1(reputation_forget);
PG_FUNCTION_INFO_V1(reputation_sample);

/* Users that reputation.sample() looks at. */
#define SAMPLE_ROWS 100

/* How often reputation_wait() looks (ms). */
#define WAIT_INTERVAL	2

static void
unknown_user(const Engine *engine, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("there is no user \"%s\" in %s", key, engine->users_name)));
}

static char *
text_argument(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* The engine named, or all that are attached. 55000 when there is none. */
static List *
engines_named(const char *name)
{
	return name != NULL ? list_make1(engine_get(name)) : engine_get_all();
}

/*
 * api_score -- the cached value of a user, as a plain read by primary key.
 */
Datum
api_score(FunctionCallInfo fcinfo, const char *name)
{
	EngineContext outside;
	Engine	   *engine;
	char	   *key;
	Oid			type;
	Datum		id;
	Datum		score;
	bool		isnull;

	spi_begin();
	owner_enter(fcinfo, &outside);
	engine = engine_cached(name);
	key = engine_key_from_argument(fcinfo, 0, engine);
	type = engine->key_type;
	id = engine_key_datum(engine, key);
	if (engine_read(engine, psprintf("SELECT coalesce(%s, 0) FROM %s WHERE %s = $1",
									 engine->cached_column, engine->users_name,
									 engine->users_key), 1, &type, &id) == 0)
		unknown_user(engine, key);
	score = Int32GetDatum((int32) spi_int(0, 1, &isnull));
	owner_leave(&outside);
	spi_end();
	PG_RETURN_DATUM(score);
}

/*
 * api_recalc -- computes a user now, stores and returns the score.
 */
Datum
api_recalc(FunctionCallInfo fcinfo, const char *name)
{
	Engine	   *engine;
	char	   *key;
	Oid			type;
	Datum		id;
	Score	   *score;
	int32		result;

	spi_begin();
	engine = engine_get(name);
	key = engine_key_from_argument(fcinfo, 0, engine);
	if (engine_compute(engine, &key, 1, &score) == 0)
		unknown_user(engine, key);
	engine_store(engine, score, 1, false);
	type = engine->key_type;
	id = engine_key_datum(engine, key);
	/* Somebody holds the row: that is no reason not to store what was asked for. */
	if (!score->stored)
	{
		engine_exec(engine, false,
					psprintf("SELECT 1 FROM %s WHERE %s = $1 FOR NO KEY UPDATE",
							 engine->users_name, engine->users_key), 1, &type, &id);
		if (engine_compute(engine, &key, 1, &score) == 0)
			unknown_user(engine, key);
		engine_store(engine, score, 1, false);
	}
	if (score->changed)
		notify_add(engine, key);
	result = score->score;
	notify_send();
	spi_end();
	PG_RETURN_INT32(result);
}

/* Counts what it stored; takes the number as its argument. */
static void
store_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	int64	   *changed = arg;

	engine_store(engine, scores, count, false);
	for (int i = 0; i < count; i++)
	{
		if (scores[i].changed)
		{
			(*changed)++;
			notify_add(engine, scores[i].user);
		}
	}
}

/*
 * api_recalc_all -- computes everybody in one snapshot and stores what differs;
 * returns how many changed.
 */
Datum
api_recalc_all(FunctionCallInfo fcinfo, const char *name)
{
	int64		changed = 0;
	Engine	   *engine;

	spi_begin();
	engine = engine_get(name);
	engine_scan(engine, store_scanned, &changed);
	engine_queue_orphans(engine);
	notify_send();
	spi_end();
	PG_RETURN_INT64(changed);
}

/* Appends computed_at and age of the stored score, and whether work is pending. */
static void
explain_state(StringInfo json, Engine *engine, const char *key)
{
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(key), TimestampTzGetDatum(clock_now()),
	Int32GetDatum(engine->descriptor->id)};
	char	   *computed = NULL;
	char	   *due;

	if (spi_exec(psprintf("SELECT to_jsonb(computed_at)::text, "
						  "round(extract(epoch FROM $2 - computed_at)) "
						  "FROM reputation.%s WHERE user_id = $1",
						  engine->descriptor->score_table), 2, types, values, NULL) > 0)
		computed = spi_text(0, 1);
	appendStringInfo(json, ", \"computed_at\": %s, \"age_seconds\": %s",
					 computed ? computed : "null", computed ? spi_text(0, 2) : "null");

	values[1] = values[2];
	types[1] = INT4OID;
	spi_exec("SELECT to_jsonb(min(due_at))::text FROM reputation.job "
			 "WHERE engine = $2 AND kind = 0 AND key = $1", 2, types, values, NULL);
	due = spi_text(0, 1);
	appendStringInfo(json, ", \"pending\": %s, \"due_at\": %s",
					 due || !inbox_is_empty() ? "true" : "false", due ? due : "null");
}

/*
 * api_explain -- how a user's score comes about, as jsonb.
 */
Datum
api_explain(FunctionCallInfo fcinfo, const char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData json;
	Engine	   *engine;
	char	   *key;
	Score	   *score;
	char	   *text;

	spi_begin();
	engine = engine_get(name);
	key = engine_key_from_argument(fcinfo, 0, engine);
	if (engine_compute(engine, &key, 1, &score) == 0)
		unknown_user(engine, key);

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"user_id\": ");
	engine_append_json_key(&json, engine, key);
	appendStringInfo(&json, ", \"score\": %d, \"cached\": ", score->score);
	if (score->cached_null)
		appendStringInfoString(&json, "null, ");
	else
		appendStringInfo(&json, "%d, ", score->cached);
	engine->descriptor->explain(&json, engine->weights, score->signals, score->nulls);
	appendStringInfo(&json, ", \"algorithm_version\": %d", engine->version);
	explain_state(&json, engine, key);
	appendStringInfoChar(&json, '}');
	text = MemoryContextStrdup(caller, json.data);
	spi_end();
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static void
require_read_committed(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s() needs a READ COMMITTED transaction", function),
				 errhint("It must see what others commit while it runs.")));
}

/* Internal tables are small now and large a moment later: index scans always. */
static int
queue_settings(void)
{
	int			level = spi_settings_begin();

	spi_set("enable_seqscan", "off");
	spi_set("enable_hashjoin", "off");
	spi_set("enable_mergejoin", "off");
	spi_set("jit", "off");
	return level;
}

/*
 * reputation_process(engine, max_users) -- drains what is due in the calling
 * transaction.
 */
Datum
reputation_process(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0);
	int64		limit = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	int64		done = 0;
	int			settings;
	List	   *all;
	List	   *engines;
	ListCell   *cell;
	bool		skipped;
	bool		worked;

	require_read_committed("reputation_process");
	spi_begin();
	settings = queue_settings();
	all = engine_list(true, &skipped);
	engines = engines_named(name);
	if (!skipped)
		sweep_where_lost(all);
	sweep_where_moved(all);
	sweep_where_reshaped(all, true);
	foreach(cell, engines)
		queue_rebase(lfirst(cell));
	do
	{
		DrainScope	scope = {.workers = 1, .wait = true};

		worked = !skipped && fold_inbox(&scope, all) > 0;
		foreach(cell, engines)
		{
			int			count;

			CHECK_FOR_INTERRUPTS();
			scope.limit = (int) Min(guc_batch_size, limit - done);
			if (scope.limit <= 0)
				break;
			count = drain_batch(lfirst(cell), &scope);
			done += count;
			worked |= count > 0;
		}
		worked |= done < limit && sweep_feed(engines, true);
	} while (worked && done < limit);
	if (!skipped && shmem_workers_in_database(MyDatabaseId) == 0)
		queue_remove_windows();
	spi_settings_end(settings);
	notify_send();
	spi_end();
	PG_RETURN_INT64(done);
}

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
	char	   *name = text_argument(fcinfo, 1);
	TransactionId horizon = ReadNextTransactionId();
	TimestampTz give_up;
	List	   *engines;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	require_read_committed("reputation_wait");
	give_up = PG_ARGISNULL(2) ? DT_NOEND :
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												TimestampTzGetDatum(GetCurrentTimestamp()),
												PG_GETARG_DATUM(2)));
	spi_begin();
	engines = engines_named(name);
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

typedef struct Report
{
	Tuplestorestate *rows;
	TupleDesc	desc;
} Report;

static void
report(Report *to, const Engine *engine, const char *user, const char *item, const char *cached,
	   const char *expected)
{
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name),
		CStringGetTextDatum(user), CStringGetTextDatum(item),
		cached ? CStringGetTextDatum(cached) : (Datum) 0,
	expected ? CStringGetTextDatum(expected) : (Datum) 0};
	bool		nulls[] = {false, false, false, cached == NULL, expected == NULL};

	tuplestore_putvalues(to->rows, to->desc, values, nulls);
}

static void
report_differences(Engine *engine, Score *scores, int count, void *arg)
{
	for (int i = 0; i < count; i++)
	{
		const Score *s = &scores[i];
		char	   *expected = psprintf("%d", s->score);

		if (s->cached_null || s->cached != s->score)
			report(arg, engine, s->user, engine->cached_name,
				   s->cached_null ? NULL : psprintf("%d", s->cached), expected);
		if (!s->has_row || s->row_score != s->score)
			report(arg, engine, s->user, engine->descriptor->score_table,
				   s->has_row ? psprintf("%d", s->row_score) : NULL, expected);
		else if (s->row_version != engine->version)
			report(arg, engine, s->user, "algorithm_version", psprintf("%d", s->row_version),
				   psprintf("%d", engine->version));
	}
}

/* Score rows of users that do not exist. */
static void
report_orphans(Engine *engine, Report *to)
{
	uint64		count = engine_read(engine,
									psprintf("SELECT s.user_id, s.score::text "
											 "FROM reputation.%s s WHERE NOT EXISTS "
											 "(SELECT FROM %s t WHERE t.%s::text = s.user_id)",
											 engine->descriptor->score_table,
											 engine->users_name, engine->users_key),
									0, NULL, NULL);

	for (uint64 row = 0; row < count; row++)
		report(to, engine, spi_text(row, 1), engine->descriptor->score_table, spi_text(row, 2),
			   NULL);
}

/*
 * reputation_verify(engine) -- lists each cached value that differs from a
 * recomputation; everything is seen in the calling statement's snapshot.
 */
Datum
reputation_verify(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0);
	Report		to;
	ListCell   *cell;

	to.rows = srf_begin(fcinfo, &to.desc);
	spi_begin();
	foreach(cell, engines_named(name))
	{
		engine_scan(lfirst(cell), report_differences, &to);
		report_orphans(lfirst(cell), &to);
	}
	spi_end();
	return (Datum) 0;
}

/* Stores what differs, and waits for nobody: locked rows are left to the worker. */
static void
repair_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	Score	   *differing = palloc(sizeof(Score) * count);
	int			ndiffering = 0;
	int64	   *mended = arg;

	for (int i = 0; i < count; i++)
	{
		if (score_differs(engine, &scores[i]))
			differing[ndiffering++] = scores[i];
	}
	store_scanned(engine, differing, ndiffering, &(int64) {0});
	for (int i = 0; i < ndiffering; i++)
		*mended += differing[i].stored;
}

/*
 * reputation_repair(engine) -- mends what verify would list; returns how many
 * users.
 */
Datum
reputation_repair(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0);
	int64		mended = 0;
	ListCell   *cell;

	spi_begin();
	foreach(cell, engines_named(name))
	{
		engine_scan(lfirst(cell), repair_scanned, &mended);
		mended += engine_queue_orphans(lfirst(cell));
	}
	notify_send();
	spi_end();
	PG_RETURN_INT64(mended);
}

/*
 * reputation.rank_refresh(engine) -- writes the rank column where it changed.
 */
Datum
reputation_rank_refresh(PG_FUNCTION_ARGS)
{
	Engine	   *engine;
	int64		changed = 0;

	spi_begin();
	engine = engine_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (engine->rank_column != NULL)
		changed = (int64)
			engine_exec(engine, true,
						psprintf("WITH ranked AS MATERIALIZED ("
								 "SELECT %2$s AS id, rank() OVER (ORDER BY %3$s DESC) AS rank "
								 "FROM %1$s), free AS ("
								 "SELECT t.%2$s AS id, r.rank FROM %1$s t "
								 "JOIN ranked r ON r.id = t.%2$s "
								 "WHERE t.%4$s IS DISTINCT FROM r.rank "
								 "FOR NO KEY UPDATE OF t SKIP LOCKED) "
								 "UPDATE %1$s t SET %4$s = free.rank FROM free "
								 "WHERE t.%2$s = free.id",
								 engine->users_name, engine->users_key, engine->cached_column,
								 engine->rank_column), 0, NULL, NULL);
	spi_end();
	PG_RETURN_INT64(changed);
}

/*
 * reputation_forget(uid, mode) -- removes what is kept about a user, in every
 * engine. 22023 when the mode is neither erase nor anonymize.
 */
Datum
reputation_forget(PG_FUNCTION_ARGS)
{
	char	   *mode = text_argument(fcinfo, 1);
	int64		removed = 0;
	ListCell   *cell;

	if (strcmp(mode, "erase") != 0 && strcmp(mode, "anonymize") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode must be erase or anonymize, not \"%s\"", mode)));
	spi_begin();
	foreach(cell, engines_named(NULL))
	{
		Engine	   *engine = lfirst(cell);
		char	   *key = engine_key_from_argument(fcinfo, 0, engine);
		Oid			types[] = {TEXTOID, TEXTOID};
		Datum		values[] = {CStringGetTextDatum(key), CStringGetTextDatum(mode)};
		Oid			key_type = engine->key_type;
		Datum		id = engine_key_datum(engine, key);

		spi_exec("SELECT reputation.forget_user($1, $2)", 2, types, values, NULL);
		removed += spi_int(0, 1, NULL);
		engine_exec(engine, false, psprintf("UPDATE %1$s SET %2$s = 0 WHERE %3$s = $1 "
											"AND %2$s IS DISTINCT FROM 0",
											engine->users_name, engine->cached_column,
											engine->users_key), 1, &key_type, &id);
		/* Takes what is queued for the user along; who is still there starts anew. */
		queue_enqueue_run(engine, &key, 1, RUN_RECHECK);
	}
	capture_wake_at_commit();
	spi_end();
	PG_RETURN_INT64(removed);
}

/* Is a job of the user waiting? */
static bool
has_job(const Engine *engine, const char *key)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), CStringGetTextDatum(key)};

	return spi_exec("SELECT 1 FROM reputation.job WHERE engine = $1 AND kind = 0 AND key = $2",
					2, types, values, NULL) > 0;
}

/*
 * reputation.sample(engine) -- recomputes some users picked at random; how many,
 * and how many differ from what is stored although nothing is pending.
 */
Datum
reputation_sample(PG_FUNCTION_ARGS)
{
	Engine	   *engine;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	Score	   *scores;
	char	  **keys;
	uint64		count;
	int			found;
	int			differing = 0;
	bool		pending;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	spi_begin();
	engine = engine_get(text_argument(fcinfo, 0));
	count = engine_exec(engine, false,
						psprintf("SELECT t.%1$s::text FROM %2$s t TABLESAMPLE SYSTEM (least(100, "
								 "(SELECT 100 * 5000.0 / greatest(reltuples, 1) "
								 "FROM pg_class WHERE oid = %3$u))) LIMIT %4$d",
								 engine->users_key, engine->users_name, engine->users,
								 SAMPLE_ROWS), 0, NULL, NULL);
	keys = palloc(sizeof(char *) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	found = engine_compute(engine, keys, (int) count, &scores);
	pending = !inbox_is_empty();
	for (int i = 0; i < found; i++)
		differing += score_differs(engine, &scores[i]) && !pending &&
			!has_job(engine, scores[i].user);
	spi_end();

	values[0] = Int32GetDatum(found);
	values[1] = Int32GetDatum(differing);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * api.c
 *		What the SQL functions do: read, recalculate, explain, drain, forget.
 *
 * They run in the caller's transaction. recalc and recalc_all store without a
 * claim, so a worker looks once more at what they wrote (queue.c tells why).
 * reputation_process() claims like a worker; it needs READ COMMITTED, where
 * every statement has a snapshot of its own, and holds the fold and the lanes
 * until the transaction ends. The rest is in api_verify.c and pending.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/api.h"
#include "api/pending.h"
#include "api/score_read.h"
#include "attach/home.h"
#include "attach/source_check.h"
#include "base/args.h"
#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "cache/invalidate.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "rank/board.h"
#include "shmem/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_process);
PG_FUNCTION_INFO_V1(reputation_forget);
PG_FUNCTION_INFO_V1(reputation_user_key);

/* The query of a user's stored score: 0 when there is none yet. */
static char *
score_query(const Engine *engine)
{
	if (engine->cached_column != NULL)
		return psprintf("SELECT coalesce(%s, 0) FROM %s WHERE %s = $1", engine->cached_column,
						engine->users_name, engine->users_key);
	return psprintf("SELECT coalesce((SELECT s.score FROM reputation.%1$s s "
					"WHERE s.user_id = t.%3$s::text COLLATE \"C\"), 0) FROM %2$s t "
					"WHERE t.%3$s = $1", engine->descriptor->score_table, engine->users_name,
					engine->users_key);
}

/*
 * api_require_class -- the engine, if it is of the class. 22023 otherwise.
 */
Engine *
api_require_class(Engine *engine, const EngineClass *class)
{
	if (engine->descriptor->class != class)
		(void) engine_of_class(engine->descriptor->name, class);
	return engine;
}

/*
 * api_engine -- the engine of a class that an argument names, as engine_cached() has it, for
 * a function that anybody may call, outside of SPI. 22023 when it is of another class.
 */
Engine *
api_engine(FunctionCallInfo fcinfo, const EngineClass *class, int argno)
{
	EngineContext outside;
	SpiReader	reader;
	char	   *name = args_required_text(fcinfo, argno, "engine");
	Engine	   *engine = engine_remembered(name);

	if (engine != NULL && engine->descriptor->class == class)
		return engine;
	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	engine = api_require_class(engine_cached(name), class);
	owner_leave(&outside);
	spi_reader_end(&reader);
	return engine;
}

/*
 * api_engine_get -- the same, as engine_get() has it, for a function that runs with the
 * extension owner's rights; in SPI.
 */
Engine *
api_engine_get(FunctionCallInfo fcinfo, const EngineClass *class, int argno)
{
	return api_require_class(engine_get(args_required_text(fcinfo, argno, "engine")), class);
}

/*
 * api_score -- the stored score of a user, as a plain read by primary key: without a
 * query where that will do (score_read.c). Arguments uid, engine.
 */
Datum
api_score(FunctionCallInfo fcinfo, const EngineClass *class)
{
	EngineContext outside;
	SpiReader	reader;
	Engine	   *engine = api_engine(fcinfo, class, 1);
	char	   *key = engine_key_from_argument(fcinfo, 0, engine);
	Oid			type;
	Datum		id;
	Datum		score;
	int32		value;
	bool		isnull;
	bool		exists;

	if (score_read(engine, key, &exists, &value))
	{
		if (!exists)
			engine_unknown_user(engine, key);
		PG_RETURN_INT32(value);
	}
	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	engine = engine_cached(args_required_text(fcinfo, 1, "engine"));
	key = engine_key_from_argument(fcinfo, 0, engine);
	type = engine->key_type;
	id = engine_key_datum(engine, key);
	if (engine_read(engine, score_query(engine), 1, &type, &id) == 0)
		engine_unknown_user(engine, key);
	score = Int32GetDatum((int32) spi_int(0, 1, &isnull));
	owner_leave(&outside);
	spi_reader_end(&reader);
	PG_RETURN_DATUM(score);
}

/*
 * api_require_user -- P0002 unless there is such a user; hold: keeps the user from being
 * deleted or given another id until the transaction ends (FOR KEY SHARE), after waiting for
 * whoever is just doing that. In SPI.
 */
void
api_require_user(const Engine *engine, const char *key, bool hold)
{
	Oid			type = engine->key_type;
	Datum		id = engine_key_datum(engine, key);
	char	   *sql = psprintf("SELECT 1 FROM %s t WHERE t.%s = $1%s", engine->users_name,
							   engine->users_key, hold ? " FOR KEY SHARE" : "");

	if ((hold ? engine_exec(engine, false, sql, 1, &type, &id) :
		 engine_read(engine, sql, 1, &type, &id)) == 0)
		engine_unknown_user(engine, key);
}

/*
 * reputation.user_key(engine, uid) -- a user id as the engine's tables have it.
 * P0002 when there is no such user.
 */
Datum
reputation_user_key(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	SpiReader	reader;
	Engine	   *engine;
	char	   *key;

	spi_reader_begin(&reader);
	engine = engine_cached(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	key = engine_key_from_argument(fcinfo, 1, engine);
	api_require_user(engine, key, false);
	key = MemoryContextStrdup(caller, key);
	spi_reader_end(&reader);
	PG_RETURN_TEXT_P(cstring_to_text(key));
}

/* Computes and stores a user by hand. */
static Score *
recalculate(Engine *engine, char *key, StoreMode mode)
{
	Score	   *score;

	if (engine_compute(engine, &key, 1, &score) == 0)
		engine_unknown_user(engine, key);
	score->audit = engine->descriptor->audit_table != NULL;
	engine_store(engine, score, 1, mode);
	recheck_queue(engine, score, 1);
	return score;
}

/*
 * Waits for whoever is in the way of storing the user: for the row with the cached
 * column or, where there is none, for the score row, if it is there. It may have to be
 * added, which waits for who is just adding it.
 */
static StoreMode
wait_to_store(Engine *engine, const char *key)
{
	Oid			types[] = {engine->cached_column != NULL ? engine->key_type : TEXTOID};
	Datum		values[1];

	if (engine->cached_column != NULL)
	{
		values[0] = engine_key_datum(engine, key);
		engine_exec(engine, false, psprintf("SELECT 1 FROM %s WHERE %s = $1 FOR NO KEY UPDATE",
											engine->users_name, engine->users_key),
					1, types, values);
		return STORE_SESSION;
	}
	values[0] = CStringGetTextDatum(key);
	spi_exec(psprintf("SELECT 1 FROM reputation.%s WHERE user_id = $1 FOR NO KEY UPDATE",
					  engine->descriptor->score_table), 1, types, values, NULL);
	return STORE_SESSION_ADDING;
}

/*
 * api_recalc -- computes a user now, stores and returns the score. Arguments uid, engine.
 */
Datum
api_recalc(FunctionCallInfo fcinfo, const EngineClass *class)
{
	Engine	   *engine;
	char	   *key;
	Score	   *score;
	int32		result;

	spi_begin();
	engine = api_engine_get(fcinfo, class, 1);
	key = engine_key_from_argument(fcinfo, 0, engine);
	score = recalculate(engine, key, STORE_SESSION);

	/*
	 * Somebody holds the row: that is no reason not to store what was asked for. A score row may
	 * come or go between the look and the store: each time because somebody has just committed
	 * that.
	 */
	do
	{
		StoreMode	mode;

		if (score->stored)
			break;
		CHECK_FOR_INTERRUPTS();
		mode = wait_to_store(engine, key);
		score = recalculate(engine, key, mode);
	} while (engine->cached_column == NULL);
	if (score->changed)
		notify_add(engine, key);
	result = score->score;
	notify_send();
	spi_end();
	PG_RETURN_INT32(result);
}

/*
 * api_store_scanned -- stores what was scanned, and adds the number of users whose
 * score changed to the one it takes as its argument.
 */
void
api_store_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	int64	   *changed = arg;

	engine_store(engine, scores, count, STORE_SESSION);
	recheck_queue(engine, scores, count);
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
 * returns how many changed. Argument engine.
 */
Datum
api_recalc_all(FunctionCallInfo fcinfo, const EngineClass *class)
{
	int64		changed = 0;
	Engine	   *engine;

	spi_begin();
	engine = api_engine_get(fcinfo, class, 0);
	engine_scan(engine, api_store_scanned, &changed);
	recheck_orphans(engine);
	if (engine->descriptor->class->read_cached)
		invalidate_everyone();
	notify_send();
	spi_end();
	PG_RETURN_INT64(changed);
}

/*
 * Appends computed_at and age of the stored score, and whether work is pending,
 * all by the active snapshot.
 */
static void
explain_state(StringInfo json, Engine *engine, const char *key, const PendingLook *look)
{
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(key), TimestampTzGetDatum(clock_now()),
	Int32GetDatum(engine->descriptor->id)};
	char	   *computed = NULL;
	char	   *due;

	if (spi_read(psprintf("SELECT to_jsonb(computed_at)::text, "
						  "round(extract(epoch FROM $2 - computed_at)) "
						  "FROM reputation.%s WHERE user_id = $1",
						  engine->descriptor->score_table), 2, types, values, NULL) > 0)
		computed = spi_text(0, 1);
	appendStringInfo(json, ", \"computed_at\": %s, \"age_seconds\": %s",
					 computed ? computed : "null", computed ? spi_text(0, 2) : "null");

	values[1] = values[2];
	types[1] = INT4OID;
	spi_read("SELECT to_jsonb(min(due_at))::text FROM reputation.job "
			 "WHERE engine = $2 AND kind = 0 AND key = $1", 2, types, values, NULL);
	due = spi_text(0, 1);
	appendStringInfo(json, ", \"pending\": %s, \"due_at\": %s",
					 pending_work(look, engine, key) != NULL ? "true" : "false",
					 due ? due : "null");
}

/*
 * api_explain -- how a user's score comes about, as jsonb: computed, stored and
 * pending at one moment. Arguments uid, engine.
 */
Datum
api_explain(FunctionCallInfo fcinfo, const EngineClass *class)
{
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData json;
	Engine	   *engine;
	char	   *key;
	Score	   *score;
	Score	   *next;
	char	   *text;
	PendingLook look = {0};

	spi_begin();
	engine = api_engine_get(fcinfo, class, 1);
	key = engine_key_from_argument(fcinfo, 0, engine);
	(void) pending_begin(&look, true);
	if (engine_compute_in_snapshot(engine, &key, 1, &score) == 0)
		engine_unknown_user(engine, key);

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"user_id\": ");
	engine_append_json_key(&json, engine, key);
	appendStringInfo(&json, ", \"score\": %d, \"cached\": ", score->score);
	if (engine->cached_column != NULL ? score->cached_null : !score->has_row)
		appendStringInfoString(&json, "null, ");
	else
		appendStringInfo(&json, "%d, ",
						 engine->cached_column != NULL ? score->cached : score->row_score);
	next = score->next_due_at == DT_NOEND ? NULL :
		engine_foresee(engine, key, score->next_due_at);
	engine->descriptor->class->explain(&json, engine->weights, engine->now, score, next);
	appendStringInfo(&json, ", \"algorithm_version\": %d", engine->version);
	explain_state(&json, engine, key, &look);
	pending_end();
	appendStringInfoChar(&json, '}');
	text = MemoryContextStrdup(caller, json.data);
	spi_end();
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
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
 * Folds, unless told not to, and claims once for each of the engines; returns how
 * many keys that took out, at most so many. False when there was nothing to do.
 */
static bool
process_step(List *all, List *engines, bool fold, bool first, int64 limit, int64 *done)
{
	DrainScope	scope = {.workers = 1, .wait = true};
	bool		worked;
	ListCell   *cell;

	/* What it leaves in memory goes with its connection. */
	spi_begin();
	worked = fold && fold_inbox(&scope, all) > 0;
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		int			count;

		CHECK_FOR_INTERRUPTS();
		scope.limit = (int) Min(SESSION_KEYS, limit - *done);
		if (scope.limit <= 0)
			break;
		/* At first, too: the events may be as many as it may do. */
		if (first)
			(void) due_feed(engine, Max(scope.limit, guc_batch_size), true);
		count = drain_claim(engine, &scope);
		*done += count;
		worked |= count > 0;
		if (count == 0)
			worked |= due_feed(engine, Max(scope.limit, guc_batch_size), true) > 0;
	}
	if (*done < limit)
		worked |= sweep_feed(engines, (int) Min(SESSION_KEYS, limit - *done), true);
	spi_end();
	return worked;
}

/*
 * reputation_process(engine, max_users) -- drains what is due in the calling
 * transaction; nothing of an engine that is being restored.
 */
Datum
reputation_process(PG_FUNCTION_ARGS)
{
	char	   *name = args_text(fcinfo, 0);
	int64		limit = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	int64		done = 0;
	int			settings;
	List	   *all;
	List	   *present;
	List	   *engines;
	ListCell   *cell;
	bool		skipped;
	bool		first = true;

	args_require_read_committed("reputation_process");
	spi_begin();
	settings = queue_settings();
	all = engine_list(true, &skipped);
	engines = engine_chosen(name);
	if (!skipped)
		sweep_where_lost(all);
	present = home_move(all);
	/* All, even if they have just come home. */
	if (present != all)
		engines = home_engines(engines);
	(void) sources_look(present, true);
	foreach(cell, engines)
	{
		queue_rebase(lfirst(cell));
		sweep_where_set_back(lfirst(cell));
	}
	while (process_step(all, engines, !skipped, first, limit, &done) && done < limit)
		first = false;
	if (!skipped && shmem_workers_in_database(MyDatabaseId) == 0)
	{
		queue_remove_windows();
		/* What is changed here counts as changed when it is committed. */
		board_refresh_caches(engines, done > 0 || !shmem_available());
	}
	spi_settings_end(settings);
	notify_send();
	spi_end();
	PG_RETURN_INT64(done);
}

static bool
have_same_users(const Engine *a, const Engine *b)
{
	return a->users == b->users && strcmp(a->key_name, b->key_name) == 0;
}

/*
 * The attached engines that have the users of the one named. Without a name there must be
 * one users table only: 55000, for the same id would be another user's in the next one.
 */
static List *
engines_of_users(const char *name)
{
	List	   *all = engine_chosen(NULL);
	Engine	   *chosen = name == NULL ? linitial(all) : engine_get(name);
	List	   *engines = NIL;
	ListCell   *cell;

	foreach(cell, all)
	{
		Engine	   *engine = lfirst(cell);

		if (have_same_users(engine, chosen))
			engines = lappend(engines, engine);
		else if (name == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the engines \"%s\" and \"%s\" have different users",
							chosen->descriptor->name, engine->descriptor->name),
					 errhint("Say whose user is meant, with engine => '...'.")));
	}
	return engines;
}

/*
 * reputation_forget(uid, mode, engine) -- removes what is kept about a user, in every
 * engine that has the users of the one named; without a name in all, those that are
 * detached included. 22023 when the mode is neither erase nor anonymize; 55000.
 */
Datum
reputation_forget(PG_FUNCTION_ARGS)
{
	char	   *mode = args_required_text(fcinfo, 1, "mode");
	char	   *name = args_text(fcinfo, 2);
	int64		removed = 0;
	List	   *engines;
	ListCell   *cell;

	args_require(fcinfo, 0, "uid");
	if (strcmp(mode, "erase") != 0 && strcmp(mode, "anonymize") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode must be erase or anonymize, not \"%s\"", mode)));
	spi_begin();
	engines = engines_of_users(name);
	foreach(cell, engines)
	{
		Engine	   *engine = lfirst(cell);
		char	   *key = engine_key_from_argument(fcinfo, 0, engine);
		Oid			types[] = {TEXTOID, TEXTOID, INT4ARRAYOID};
		Datum		values[] = {CStringGetTextDatum(key), CStringGetTextDatum(mode), engine_ids(engines)};
		const char	nulls[] = {' ', ' ', name == NULL ? 'n' : ' ', '\0'};
		Oid			key_type = engine->key_type;
		Datum		id = engine_key_datum(engine, key);

		spi_exec("SELECT reputation.forget_user($1, $2, $3)", 3, types, values, nulls);
		removed += spi_int(0, 1, NULL);
		if (engine->cached_column != NULL)
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

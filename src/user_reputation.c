/*
 * user_reputation.c
 *		user_reputation(uid): a user's session reputation as of now, as JSON.
 *
 * It comes from the read cache (read_cache.c), or is computed from the source with
 * a snapshot taken during the call; never from the score table, which follows a
 * change only when its debounce window closes. Therefore the function is VOLATILE, not
 * STABLE: two calls in one statement may see what was committed between them.
 *
 * What goes into the cache is true for everybody. So a transaction with a snapshot
 * of its own (REPEATABLE READ), or one that may have changed something (it has an
 * id), is served what the cache has, which may be younger than its snapshot; but what
 * it computes it keeps to itself. Who has captured a change reads past the cache, and
 * sees its own change.
 *
 * It works as the engine's role, which it enters only to compute, and gives aggregates
 * of any user, never a row of the application's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api.h"
#include "capture.h"
#include "engines.h"
#include "funcapi.h"
#include "read_cache.h"
#include "reputation_json.h"
#include "session_engine.h"
#include "spi.h"
#include "storage/ipc.h"
#include "user_reputation.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(user_reputation);
PG_FUNCTION_INFO_V1(user_reputation_invalidate);
PG_FUNCTION_INFO_V1(user_reputation_cache_stats);

/*
 * session_reputation_compute -- a user's reputation, from the source and with a
 * new snapshot. Needs SPI and the extension owner's rights. P0002 when there is no
 * such user, and what the view raises.
 */
void
session_reputation_compute(Engine *engine, char *key, CachedReputation *value)
{
	SessionResult result;
	Score	   *score;

	if (engine_compute(engine, &key, 1, &score) == 0)
		api_unknown_user(engine, key);
	result = session_result(engine, score);
	value->score = result.score;
	value->badge = result.badge;
	value->completed = result.completed;
	value->no_shows = result.no_shows;
	value->computed_at = engine->now;
}

/* The engine, for its users' key; read once and remembered. */
static Engine *
known_engine(FunctionCallInfo fcinfo)
{
	Engine	   *engine = engine_remembered("session");
	EngineContext outside;

	if (engine != NULL)
		return engine;
	spi_begin();
	owner_enter(fcinfo, &outside);
	engine = engine_cached("session");
	owner_leave(&outside);
	spi_end();
	return engine;
}

static void
compute(FunctionCallInfo fcinfo, char *user, CachedReputation *value)
{
	EngineContext outside;

	spi_begin();
	owner_enter(fcinfo, &outside);
	session_reputation_compute(engine_get("session"), user, value);
	owner_leave(&outside);
	spi_end();
}

/*
 * Is what this transaction computes true for everybody? Not with a snapshot that is
 * older than the call, nor with what only this transaction sees.
 */
static bool
computes_for_all(void)
{
	return !IsolationUsesXactSnapshot() && !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

static void
abandon(int code, Datum ticket)
{
	read_cache_abandon((CacheTicket *) DatumGetPointer(ticket));
}

/* As the one who computes for all: others are served the old value, or wait. */
static void
refresh(FunctionCallInfo fcinfo, char *user, CacheTicket *ticket, CachedReputation *value)
{
	PG_ENSURE_ERROR_CLEANUP(abandon, PointerGetDatum(ticket));
	{
		compute(fcinfo, user, value);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon, PointerGetDatum(ticket));
	if (computes_for_all())
		(void) read_cache_put(ticket, value);
	else
		read_cache_abandon(ticket);
}

/*
 * user_reputation(uid) -- see sql/32-session.sql.
 */
Datum
user_reputation(PG_FUNCTION_ARGS)
{
	Engine	   *engine = known_engine(fcinfo);
	char	   *user = engine_key_from_argument(fcinfo, 0, engine);
	CacheAnswer answer = CACHE_COMPUTE;
	CachedReputation value;
	CacheTicket ticket;
	CacheKey	key;

	/* Who has changed something wants to see it. */
	if (!capture_is_pending() &&
		read_cache_key(&key, session_engine.id, user, (int) strlen(user)))
		answer = read_cache_get(&key, computes_for_all(), &value, &ticket);
	if (answer == CACHE_REFRESH)
		refresh(fcinfo, user, &ticket, &value);
	else if (answer == CACHE_COMPUTE)
		compute(fcinfo, user, &value);
	PG_RETURN_JSONB_P(reputation_json(&value));
}

/*
 * user_reputation_invalidate(uid) -- see sql/32-session.sql.
 */
Datum
user_reputation_invalidate(PG_FUNCTION_ARGS)
{
	char	   *user = engine_key_from_argument(fcinfo, 0, known_engine(fcinfo));
	CacheKey	key;

	PG_RETURN_BOOL(read_cache_key(&key, session_engine.id, user, (int) strlen(user)) &&
				   read_cache_invalidate(&key));
}

/*
 * user_reputation_cache_stats() -- see sql/32-session.sql.
 */
Datum
user_reputation_cache_stats(PG_FUNCTION_ARGS)
{
	CacheStats	stats;
	bool		on = read_cache_stats(&stats);
	int64		served = stats.hits + stats.stale_hits;
	int64		reads = served + stats.misses + stats.refreshes;
	int64		numbers[] = {stats.hits, stats.stale_hits, stats.misses, stats.refreshes,
	stats.evictions, stats.invalidations, stats.entries, stats.max_entries};
	Datum		values[lengthof(numbers) + 1];
	bool		nulls[lengthof(numbers) + 1] = {false};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "user_reputation_cache_stats() must return a row");
	for (int i = 0; i < lengthof(numbers); i++)
		values[i] = Int64GetDatum(numbers[i]);
	nulls[lengthof(numbers)] = !on || reads == 0;
	values[lengthof(numbers)] = Float8GetDatum(reads == 0 ? 0 : (double) served / reads);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * user_reputation.c
 *		user_reputation(uid): a user's session reputation as of now, as JSON.
 *
 * It comes from the read cache (read_cache.c), or is computed from the source with
 * a snapshot taken during the call. Therefore the function is VOLATILE, not STABLE:
 * two calls in one statement may see what was committed between them. The score
 * table follows a change only when its debounce window closes, so it is not asked;
 * but for a user with a long history, whom to count takes a second: then the score
 * row is taken if, as of one snapshot, it is of the active algorithm and nothing is
 * pending or was given up that could make it another (pending.c).
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
#include "api/api.h"
#include "api/pending.h"
#include "base/clock.h"
#include "base/spi.h"
#include "cache/invalidate.h"
#include "cache/read_cache.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "engines/session/reputation_json.h"
#include "engines/session/session_engine.h"
#include "engines/session/user_reputation.h"
#include "funcapi.h"
#include "storage/ipc.h"
#include "utils/builtins.h"

/* A history of so many sessions is long: more are not counted if they were already. */
#define LONG_HISTORY	100000

PG_FUNCTION_INFO_V1(user_reputation);
PG_FUNCTION_INFO_V1(user_reputation_invalidate);
PG_FUNCTION_INFO_V1(user_reputation_cache_stats);

static void
set_value(CachedReputation *value, SessionResult result, TimestampTz now)
{
	value->score = result.score;
	value->badge = result.badge;
	value->completed = result.completed;
	value->no_shows = result.no_shows;
	value->computed_at = now;
}

/* The counts of a long history in the score row, as of the active snapshot; false: there are none. */
static bool
read_counts(const Engine *engine, const char *key, int64 *completed, int64 *no_shows)
{
	Oid			types[] = {TEXTOID, INT4OID, INT8OID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(key), Int32GetDatum(engine->version),
	Int64GetDatum(LONG_HISTORY), CStringGetTextDatum(engine->descriptor->name)};

	if (spi_read(psprintf("SELECT s.completed_sessions, s.no_shows FROM reputation.%s s "
						  "WHERE s.user_id = $1 AND s.algorithm_version = $2 "
						  "AND s.completed_sessions + s.no_shows >= $3 AND NOT EXISTS "
						  "(SELECT FROM reputation.dead_letter d WHERE d.engine = $4)",
						  engine->descriptor->score_table), 4, types, values, NULL) == 0)
		return false;
	*completed = spi_int(0, 1, NULL);
	*no_shows = spi_int(0, 2, NULL);
	return true;
}

/* A long history as it was counted, if that is how it is now. */
static bool
counted_already(Engine *engine, const char *key, CachedReputation *value)
{
	PendingLook look = {0};
	int64		completed;
	int64		no_shows;
	TimestampTz now = clock_now();
	bool		right;

	if (!read_counts(engine, key, &completed, &no_shows) || !pending_begin(&look, false))
		return false;
	right = read_counts(engine, key, &completed, &no_shows) &&
		pending_work(&look, engine, key) == NULL;
	pending_end();
	if (right)
	{
		SessionSignals signals = {completed, completed, completed, no_shows};

		set_value(value, session_compute(engine->weights, &signals), now);
	}
	return right;
}

/*
 * session_reputation_compute -- a user's reputation as of a new snapshot. Needs SPI and
 * the extension owner's rights. P0002 when there is no such user, and what the view raises.
 */
void
session_reputation_compute(Engine *engine, char *key, CachedReputation *value)
{
	Score	   *score;

	if (counted_already(engine, key, value))
		return;
	if (engine_compute(engine, &key, 1, &score) == 0)
		engine_unknown_user(engine, key);
	set_value(value, session_result(engine, score), engine->now);
}

static void
compute_reputation(FunctionCallInfo fcinfo, char *user, CachedReputation *value)
{
	EngineContext outside;
	SpiReader	reader;

	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	session_reputation_compute(api_engine_get(fcinfo, &session_class, 1), user, value);
	owner_leave(&outside);
	spi_reader_end(&reader);
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
refresh_reputation(FunctionCallInfo fcinfo, char *user, CacheTicket *ticket, CachedReputation *value)
{
	PG_ENSURE_ERROR_CLEANUP(abandon, PointerGetDatum(ticket));
	{
		compute_reputation(fcinfo, user, value);
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
	Engine	   *engine = api_engine(fcinfo, &session_class, 1);
	char	   *user = engine_key_from_argument(fcinfo, 0, engine);
	CacheAnswer answer = CACHE_COMPUTE;
	CachedReputation value;
	CacheTicket ticket;
	CacheKey	key;

	/* Who has changed something wants to see it. */
	if (!capture_is_pending() && !invalidate_is_pending() &&
		read_cache_key(&key, engine->descriptor->id, user, (int) strlen(user)))
		answer = read_cache_get(&key, computes_for_all(), &value, &ticket);
	if (answer == CACHE_REFRESH)
		refresh_reputation(fcinfo, user, &ticket, &value);
	else if (answer == CACHE_COMPUTE)
		compute_reputation(fcinfo, user, &value);
	PG_RETURN_JSONB_P(reputation_json(&value));
}

/*
 * user_reputation_invalidate(uid) -- see sql/32-session.sql.
 */
Datum
user_reputation_invalidate(PG_FUNCTION_ARGS)
{
	Engine	   *engine = api_engine(fcinfo, &session_class, 1);
	char	   *user = engine_key_from_argument(fcinfo, 0, engine);
	CacheKey	key;

	PG_RETURN_BOOL(read_cache_key(&key, engine->descriptor->id, user, (int) strlen(user)) &&
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

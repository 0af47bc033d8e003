/*
 * user_reputation.c
 *		user_reputation(uid): a user's session reputation as of now, as JSON.
 *
 * It is computed from the source, with a snapshot taken during the call, not
 * read from the score table, which follows a change only when its debounce
 * window closes. Therefore the function is VOLATILE, not STABLE: two calls in
 * one statement may see what was committed between them. It works as the
 * engine's role and gives aggregates of any user, never a row of the
 * application's.
 */
#include "postgres.h"

#include "api.h"
#include "pgtime.h"
#include "session_engine.h"
#include "spi.h"
#include "user_reputation.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(user_reputation);

/* Room for a timestamp, whatever its year. */
#define TIMESTAMP_LENGTH 64

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

/* ISO 8601 in UTC, to the microsecond, whatever the session's settings are. */
static void
utc_text(TimestampTz time, char *text)
{
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	snprintf(text, TIMESTAMP_LENGTH, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year,
			 tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fraction);
}

static void
push_name(JsonbParseState **state, const char *name)
{
	JsonbValue	key = {.type = jbvString};

	key.val.string.val = (char *) name;
	key.val.string.len = (int) strlen(name);
	(void) pushJsonbValue(state, WJB_KEY, &key);
}

static void
push_number(JsonbParseState **state, const char *name, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	push_name(state, name);
	value.val.numeric = int64_to_numeric(number);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_text(JsonbParseState **state, const char *name, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	push_name(state, name);
	value.val.string.val = (char *) text;
	value.val.string.len = (int) strlen(text);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static Jsonb *
reputation_json(const CachedReputation *value)
{
	JsonbParseState *state = NULL;
	char		computed_at[TIMESTAMP_LENGTH];

	utc_text(value->computed_at, computed_at);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_number(&state, "score", value->score);
	push_text(&state, "badge_color", session_badge_name((SessionBadge) value->badge));
	push_number(&state, "completed_sessions", value->completed);
	push_number(&state, "no_shows", value->no_shows);
	push_text(&state, "cache_timestamp", computed_at);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * user_reputation(uid) -- see sql/32-session.sql.
 */
Datum
user_reputation(PG_FUNCTION_ARGS)
{
	CachedReputation value;
	EngineContext outside;
	Engine	   *engine;

	spi_begin();
	owner_enter(fcinfo, &outside);
	engine = engine_get("session");
	session_reputation_compute(engine, engine_key_from_argument(fcinfo, 0, engine), &value);
	owner_leave(&outside);
	spi_end();
	PG_RETURN_JSONB_P(reputation_json(&value));
}

/*
 * reputation_json.c
 *		What user_reputation() gives, as jsonb.
 *
 * The value is written down as it lies in the result: for the read of a cached value
 * the parse state that jsonb values are usually put together with would be most of
 * the work. The format is that of stored jsonb (utils/jsonb.h): a header, an entry for
 * each key and then for each value with its type and length, then the keys, the
 * shortest first, and the values in their order; numerics are aligned. The first entry
 * has the end of its bytes in place of their length, which is the same there.
 */
#include "postgres.h"

#include "base/compat.h"
#include "core/session.h"
#include "engines/session/reputation_json.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* The numbers that are as numerics once and for all: they cost as much as the rest. */
#define FIRST_KNOWN	(-20)
#define LAST_KNOWN	200

/* Room for a timestamp, whatever its year. */
#define TIMESTAMP_LENGTH 64

/* In the order of jsonb: by length. */
static const char *const names[] = {"score", "no_shows", "badge_color", "cache_timestamp",
"completed_sessions"};

#define PAIRS lengthof(names)

/*
 * Room for all of it: the names and the badge take less than 64 bytes each, an
 * int64 as a numeric takes at most 20 with its alignment.
 */
#define JSON_LENGTH (sizeof(Jsonb) + 2 * PAIRS * sizeof(JEntry) + 64 + 64 + \
					 TIMESTAMP_LENGTH + 3 * 32)

typedef struct JsonWriter
{
	char	   *start;
	char	   *end;			/* of what is written */
	JEntry	   *entry;			/* the next one */
} JsonWriter;

/* Appends two or more digits, filled up with zeros, and a character. */
static char *
append_digits(char *text, int number, int digits, char next)
{
	text = pg_ultostr_zeropad(text, (uint32) number, digits);
	*text++ = next;
	return text;
}

/* ISO 8601 in UTC, to the microsecond, whatever the session's settings are. */
static int
utc_text(TimestampTz time, char *text)
{
	struct pg_tm tm;
	fsec_t		fraction;
	char	   *end = text;

	if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) != 0 || tm.tm_year < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	end = append_digits(end, tm.tm_year, 4, '-');
	end = append_digits(end, tm.tm_mon, 2, '-');
	end = append_digits(end, tm.tm_mday, 2, 'T');
	end = append_digits(end, tm.tm_hour, 2, ':');
	end = append_digits(end, tm.tm_min, 2, ':');
	end = append_digits(end, tm.tm_sec, 2, '.');
	end = append_digits(end, (int) fraction, 6, 'Z');
	return (int) (end - text);
}

static void
append_text(JsonWriter *json, const char *text, int length)
{
	memcpy(json->end, text, length);
	json->end += length;
	*json->entry++ = JENTRY_ISSTRING | (JEntry) length;
}

/* A number as a numeric, in memory that stays for the small ones. */
static Numeric
to_numeric(int64 number)
{
	static Numeric known[LAST_KNOWN - FIRST_KNOWN + 1];
	MemoryContext before;
	Numeric    *place;

	if (number < FIRST_KNOWN || number > LAST_KNOWN)
		return int64_to_numeric(number);
	place = &known[number - FIRST_KNOWN];
	if (*place == NULL)
	{
		before = MemoryContextSwitchTo(TopMemoryContext);
		*place = int64_to_numeric(number);
		MemoryContextSwitchTo(before);
	}
	return *place;
}

static void
append_number(JsonWriter *json, int64 number)
{
	Numeric		numeric = to_numeric(number);
	char	   *before = json->end;

	while ((json->end - json->start) % sizeof(int32) != 0)
		*json->end++ = 0;
	memcpy(json->end, numeric, VARSIZE(numeric));
	json->end += VARSIZE(numeric);
	*json->entry++ = JENTRY_ISNUMERIC | (JEntry) (json->end - before);
}

/*
 * reputation_json -- {"score", "badge_color", "completed_sessions", "no_shows",
 * "cache_timestamp"}. 22008 when the time is before the year 1.
 */
Jsonb *
reputation_json(const CachedReputation *value)
{
	const char *badge = session_badge_name((SessionBadge) value->badge);
	char		computed_at[TIMESTAMP_LENGTH];
	int			length = utc_text(value->computed_at, computed_at);
	Jsonb	   *result = palloc(JSON_LENGTH);
	JsonWriter	json = {.start = (char *) result, .entry = result->root.children};

	json.end = (char *) &result->root.children[2 * PAIRS];
	for (int i = 0; i < PAIRS; i++)
		append_text(&json, names[i], (int) strlen(names[i]));
	append_number(&json, value->score);
	append_number(&json, value->no_shows);
	append_text(&json, badge, (int) strlen(badge));
	append_text(&json, computed_at, length);
	append_number(&json, value->completed);
	Assert(json.entry == &result->root.children[2 * PAIRS]);
	result->root.header = PAIRS | JB_FOBJECT;
	result->root.children[0] |= JENTRY_HAS_OFF;
	SET_VARSIZE(result, json.end - json.start);
	return result;
}

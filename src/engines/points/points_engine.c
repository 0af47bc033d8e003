/*
 * points_engine.c
 *		The points engine: sums of a ledger's rows, over all time and two windows.
 *
 * Its source is a ledger, reputation.point_ledger, which has a capture trigger like any
 * application table: whoever writes it is captured. The sums are recomputed from
 * the ledger, never incremented. A board over an application's table is the same
 * engine with another source and another score table (board_engine.c).
 *
 * A row counts from its created_at on: in "weekly" and "daily" for 7 days and 24
 * hours, or, when the parameter "zone" names a time zone, to the end of that
 * zone's week (from Monday on) or day. Each moment at which a row leaves a window is
 * a due time (due.c), so a window needs no sweep.
 */
#include "postgres.h"

#include "api/api.h"
#include "base/args.h"
#include "base/compat.h"
#include "base/spi.h"
#include "base/types.h"
#include "catalog/pg_type.h"
#include "core/points.h"
#include "engines/points/points_engine.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(points_attach);
PG_FUNCTION_INFO_V1(points_detach);
PG_FUNCTION_INFO_V1(points_recalc);
PG_FUNCTION_INFO_V1(points_recalc_all);
PG_FUNCTION_INFO_V1(points_explain);
PG_FUNCTION_INFO_V1(reputation_period_after);

/* Of the periods those that time moves. */
#define WINDOWS		(BOARD_PERIODS - 1)

/* What date_trunc() calls the calendar's periods, and half of one of them. */
static const char *const calendar_units[WINDOWS] = {"week", "day"};
static const int64 calendar_halves[WINDOWS] = {84 * USECS_PER_HOUR, 12 * USECS_PER_HOUR};

typedef struct PointsWeights
{
	int64		lengths[WINDOWS];	/* of rolling windows, in us */
	char	   *zone;			/* NULL: they roll */
} PointsWeights;

/*
 * Does PostgreSQL take the name of a zone that has summer time for an abbreviation,
 * like CET, of one without?
 */
static bool
is_abbreviation(const char *name, pg_tz *zone)
{
	char	   *token = asc_tolower(name, strlen(name));
	DateTimeErrorExtra extra;
	int			type = UNKNOWN_FIELD;
	int			offset;
	long		fixed;
	pg_tz	   *dynamic;

	return timezone_abbrev_type(token, type, &offset, &dynamic, &extra) != UNKNOWN_FIELD &&
		!pg_get_timezone_offset(zone, &fixed);
}

/*
 * Is the zone not one of a name, but a rule in POSIX notation, which counts hours the
 * other way round? Such a rule has a number, and is known by itself in capitals.
 */
static bool
is_rule(pg_tz *zone)
{
	static const char *const names[] = {"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0",
	"GMT+0", "GMT-0"};
	const char *name = pg_get_timezone_name(zone);

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return false;
	}
	return strpbrk(name, "0123456789") != NULL &&
		strpbrk(name, "abcdefghijklmnopqrstuvwxyz") == NULL;
}

/* The parameter "zone"; NULL when it is not given. 22023 when there is no such zone. */
static char *
parse_zone(Jsonb *parameters)
{
	JsonbValue	value;
	char	   *zone;
	pg_tz	   *tz;

	if (getKeyJsonValueFromContainer(&parameters->root, "zone", 4, &value) == NULL ||
		value.type == jbvNull)
		return NULL;
	zone = value.type == jbvString ? pnstrdup(value.val.string.val, value.val.string.len) : NULL;
	tz = zone == NULL || strlen(zone) > TZ_STRLEN_MAX ? NULL : pg_tzset(zone);
	if (tz != NULL && is_rule(tz))
		tz = NULL;
	if (tz == NULL || is_abbreviation(zone, tz))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"zone\" must name a time zone%s%s", zone ? ", not " : "",
						zone ? zone : ""),
				 errdetail(tz ? "It is an abbreviation, of a zone without summer time." : "There is no such zone."),
				 errhint("The zones are in pg_timezone_names; null is for rolling windows.")));
	return zone;
}

static void *
points_parse_weights(const char *engine, Jsonb *parameters)
{
	static const char *const names[WINDOWS] = {"weekly_days", "daily_days"};
	static const double defaults[WINDOWS] = {7, 1};
	PointsWeights *weights = palloc(sizeof(PointsWeights));

	for (int i = 0; i < WINDOWS; i++)
	{
		double		days = engine_number(engine, parameters, names[i], defaults[i]);

		if (!(days > 0 && days <= 100000))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" must be a number of days from 0 to 100000",
							names[i])));
		weights->lengths[i] = (int64) (days * USECS_PER_DAY);
	}
	weights->zone = parse_zone(parameters);
	return weights;
}

/* The zone's date of a time, and how far it is west of Greenwich. 22008. */
static int
local_date(const PointsWeights *weights, TimestampTz time, int *west)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, west, &tm, &fsec, NULL, pg_tzset(weights->zone)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/*
 * The beginning of the calendar's period that a time is in. Where a clock goes back
 * over midnight there are two of them, and date_trunc() takes the second one, though
 * the date began with the first.
 */
static TimestampTz
calendar_start(const PointsWeights *weights, int window, TimestampTz time)
{
	Datum		unit = CStringGetTextDatum(calendar_units[window]);
	TimestampTz start = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone, unit,
																TimestampTzGetDatum(time),
																CStringGetTextDatum(weights->zone)));
	int			west;
	int			west_before;

	if (local_date(weights, start - 1, &west_before) == local_date(weights, start, &west))
		start -= (west - west_before) * USECS_PER_SEC;
	return start;
}

/*
 * Its end: a period and a half after its beginning is the middle of the next one.
 * DT_NOEND when that is beyond the last timestamp.
 */
static TimestampTz
calendar_end(const PointsWeights *weights, int window, TimestampTz time)
{
	TimestampTz middle = calendar_start(weights, window, time) + 3 * calendar_halves[window];

	return IS_VALID_TIMESTAMP(middle) ? calendar_start(weights, window, middle) : DT_NOEND;
}

/*
 * reputation.period_after(engine, period) -- the moment after which a row counts
 * in the period. 22023 when there is no such period.
 */
Datum
reputation_period_after(PG_FUNCTION_ARGS)
{
	char	   *engine = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *period = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz now = engine_view_time();

	for (int i = 0; i < WINDOWS; i++)
	{
		const PointsWeights *weights;

		if (strcmp(period, board_periods[i + 1]) != 0)
			continue;
		weights = points_parse_weights(engine, engine_view_parameters(fcinfo, engine));
		PG_RETURN_TIMESTAMPTZ(weights->zone != NULL ? calendar_start(weights, i, now) - 1 :
							  now - weights->lengths[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no window \"%s\"", period),
			 errhint("The windows are weekly and daily.")));
}

/* The order of the signals in the description. */
enum
{
	SIGNAL_ALL_TIME, SIGNAL_WEEKLY, SIGNAL_DAILY, SIGNAL_LAST, SIGNAL_WEEKLY_FIRST,
	SIGNAL_DAILY_FIRST, SIGNAL_NEXT, SIGNALS
};

/* The columns of the score table, in the order in which points_score_signals() fills them in. */
static const ScoreColumn columns[] = {
	{.name = "all_time", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "weekly", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "daily", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "reached_at", .type = "timestamptz", .kind = COLUMN_TIME, .exact = true}
};

static TimestampTz
time_signal(const Datum *values, const bool *nulls, int signal)
{
	return nulls[signal] ? DT_NOEND : DatumGetTimestampTz(values[signal]);
}

/* When time alone changes a sum next. */
static TimestampTz
next_due(const PointsWeights *weights, TimestampTz now, const Datum *values, const bool *nulls)
{
	PointsWindow windows[WINDOWS] = {{0}};

	for (int i = 0; i < WINDOWS; i++)
	{
		windows[i].first = time_signal(values, nulls, SIGNAL_WEEKLY_FIRST + i);
		if (weights->zone == NULL)
			windows[i].length = weights->lengths[i];
		else if (windows[i].first != DT_NOEND)
			windows[i].end = calendar_end(weights, i, now);
	}
	return points_next_due(time_signal(values, nulls, SIGNAL_NEXT), windows, WINDOWS);
}

static void
points_score_signals(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
					 ScoreResult *result)
{
	result->score = points_score(DatumGetInt64(values[SIGNAL_ALL_TIME]));
	result->next_due_at = next_due(weights, now, values, nulls);
	for (int i = 0; i < BOARD_PERIODS; i++)
		result->columns[i].number = DatumGetInt64(values[SIGNAL_ALL_TIME + i]);
	result->columns[BOARD_PERIODS].number = nulls[SIGNAL_LAST] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[SIGNAL_LAST]);
}

static void
append_time(StringInfo json, const char *name, TimestampTz time)
{
	char		text[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(time))
		appendStringInfo(json, "\"%s\": null", name);
	else
		appendStringInfo(json, "\"%s\": \"%s\"", name,
						 JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID,
											NULL));
}

/* The sums, as members of an object. */
static void
append_sums(StringInfo json, const Score *score)
{
	for (int i = 0; i < BOARD_PERIODS; i++)
		appendStringInfo(json, "%s\"%s\": " INT64_FORMAT, i > 0 ? ", " : "", board_periods[i],
						 DatumGetInt64(score->signals[SIGNAL_ALL_TIME + i]));
}

static void
points_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					 const Score *next)
{
	static const char *const names[] = {"last_at", "weekly_first_at", "daily_first_at", "next_at"};

	appendStringInfoString(json, "\"signals\": {");
	for (int i = SIGNAL_LAST; i < SIGNALS; i++)
	{
		append_time(json, names[i - SIGNAL_LAST], time_signal(score->signals, score->nulls, i));
		appendStringInfoString(json, i + 1 < SIGNALS ? ", " : "}, \"terms\": {");
	}
	append_sums(json, score);
	appendStringInfoString(json, "}, \"next_change\": ");
	if (next == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	appendStringInfoString(json, "{");
	append_time(json, "at", score->next_due_at);
	appendStringInfoString(json, ", ");
	append_sums(json, next);
	appendStringInfoString(json, "}");
}

static const EngineOutput outputs[] = {
	{.table = "points_scores", .key = "user_id", .rows = ROWS_ONE, .origin = OUTPUT_COMPUTED,
	.shown = "min(s.score)"},
	{.table = "point_ledger", .key = "id", .rows = ROWS_MANY, .origin = OUTPUT_EARNED,
		.anonymous = "reason = NULL, source_key = NULL",
		/* A key is the user's once, and stays where it is. */
		.moved = "source_key = CASE WHEN NOT EXISTS (SELECT FROM reputation.%1$s o "
	"WHERE o.user_id = $2 AND o.source_key = l.source_key) THEN l.source_key END"}
};

const EngineClass points_class = {
	.name = "points",
	.signals_view = "points_signals",
	.outputs = outputs,
	.noutputs = lengthof(outputs),
	.attach_function = "points_attach",
	.signals = "v.all_time::bigint, v.weekly::bigint, v.daily::bigint, v.last_at::timestamptz, "
	"v.weekly_first_at::timestamptz, v.daily_first_at::timestamptz, v.next_at::timestamptz",
	.nsignals = SIGNALS,
	.default_parameters =
	"{\"debounce\": \"0 s\", \"weekly_days\": 7, \"daily_days\": 1, \"zone\": null}",
	.parse = points_parse_weights,
	.score = points_score_signals,
	.explain = points_explain_terms,
	.timed = true,
	.columns = columns,
	.ncolumns = lengthof(columns),
	.windows = true
};

/* 42804 unless the source's columns are of types that can be counted and dated. */
static void
check_types(AttachTable *source)
{
	AttachColumn *points = attach_column(source, "points");
	AttachColumn *time = attach_column(source, "created_at");

	if (points->actual != NULL && !type_is_integer(points->type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %s of %s is of type %s", points->actual, source->qualified,
						format_type_be(points->type)),
				 errdetail("Points are integers."),
				 errhint("Name another column in \"columns\", or null to count rows.")));
	if (time->type != TIMESTAMPTZOID && time->type != TIMESTAMPOID && time->type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %s of %s is of type %s", time->actual, source->qualified,
						format_type_be(time->type)),
				 errdetail("It must be a time."),
				 errhint("Name another column in \"columns\".")));
}

/* A sum as a bigint, or the nearest one; those of smaller integers are bigints already. */
static char *
sum_signal(const AttachColumn *points, const char *period)
{
	if (points->actual == NULL || points->type != INT8OID)
		return psprintf("s.%1$s AS %1$s", period);
	return psprintf("least(greatest(s.%1$s, -9223372036854775808), 9223372036854775807)::bigint "
					"AS %1$s", period);
}

/* A time of the source as a timestamptz; a date that is later than any never comes. */
static char *
time_signal_of(const AttachColumn *time, const char *table, const char *signal)
{
	char	   *value = psprintf("%s.%s", table, signal);

	if (time->type == TIMESTAMPOID)
		value = psprintf("%s AT TIME ZONE 'UTC'", value);
	if (time->type == DATEOID)
		value = psprintf("CASE WHEN %1$s > make_date(294276, 12, 31) THEN 'infinity'::timestamptz "
						 "ELSE %1$s::timestamp AT TIME ZONE 'UTC' END", value);
	return psprintf("%s AS %s", value, signal);
}

/* What the view gives of each user, but for the key. */
static char *
signal_list(const AttachColumn *points, const AttachColumn *time)
{
	return psprintf("%s, %s, %s, %s, %s, %s, %s", sum_signal(points, "all_time"),
					sum_signal(points, "weekly"), sum_signal(points, "daily"),
					time_signal_of(time, "s", "last_at"),
					time_signal_of(time, "s", "weekly_first_at"),
					time_signal_of(time, "s", "daily_first_at"),
					time_signal_of(time, "n", "next_at"));
}

/*
 * The signals view: of each user the sums at the computation's time, the last row
 * that counts, the oldest in each window, and the next one to come. One user's rows
 * must not fail a query over all of them, so no expression raises an error, whatever
 * is in a column: times are compared as they are, and what comes of it is converted.
 */
static char *
points_signals_query(const char *engine, AttachTable *users, AttachTable *source)
{
	AttachColumn *points = attach_column(source, "points");
	AttachColumn *time = attach_column(source, "created_at");
	char	   *key = psprintf("u.%s", attach_column(users, "id")->actual);
	char	   *of_user = psprintf("FROM %s l WHERE l.%s = %s", source->qualified,
								   attach_column(source, "user_id")->actual,
								   source->own ? psprintf("%s::text COLLATE \"C\"", key) : key);
	char	   *at = psprintf("l.%s", time->actual);
	char	   *sum = points->actual ? psprintf("sum(l.%s)", points->actual) : "count(*)";
	const char *utc = time->type == TIMESTAMPTZOID ? "" : " AT TIME ZONE 'UTC'";

	return psprintf("SELECT %1$s AS user_id, %2$s "
					"FROM %3$s u CROSS JOIN (SELECT reputation.computation_time()%4$s AS now, "
					"reputation.period_after(%5$s, 'weekly')%4$s AS week, "
					"reputation.period_after(%5$s, 'daily')%4$s AS day OFFSET 0) p "
					"CROSS JOIN LATERAL (SELECT coalesce(%6$s, 0) AS all_time, "
					"coalesce(%6$s FILTER (WHERE %7$s > p.week), 0) AS weekly, "
					"coalesce(%6$s FILTER (WHERE %7$s > p.day), 0) AS daily, "
					"max(%7$s) AS last_at, min(%7$s) FILTER (WHERE %7$s > p.week) AS weekly_first_at, "
					"min(%7$s) FILTER (WHERE %7$s > p.day) AS daily_first_at "
					"%8$s AND %7$s <= p.now) s "
					"CROSS JOIN LATERAL (SELECT min(%7$s) AS next_at %8$s AND %7$s > p.now) n",
					key, signal_list(points, time), users->qualified, utc,
					quote_literal_cstr(engine), sum, at, of_user);
}

/* Is it the ledger of a points engine, which a board may be over, too? */
static bool
is_ledger(FunctionCallInfo fcinfo, const char *source)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(source)};
	EngineContext caller;
	bool		ledger;

	spi_begin();
	owner_enter(fcinfo, &caller);
	ledger = spi_exec("SELECT 1 FROM reputation.outputs() o WHERE o.output = 'point_ledger' "
					  "AND $1 = concat('reputation.', o.table_name)", 1, types, values, NULL) > 0;
	owner_leave(&caller);
	spi_end();
	return ledger;
}

/*
 * points_attach_source -- attaches the engine to a users table and a source of
 * points; returns the id of the first run.
 */
int64
points_attach_source(FunctionCallInfo fcinfo, const EngineDescriptor *engine, bool replace,
					 const char *users, const char *source, Jsonb *given, const char *rank_column,
					 const char *fire)
{
	bool		own = is_ledger(fcinfo, source);
	AttachTable tables[2] = {
		{
			.argument = "users",
			.name = users,
			.columns = {{.name = "id"}},
			.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 3}}
		},
		{
			.argument = "source",
			.name = source,
			.columns = {{.name = "user_id"}, {.name = "points", .optional = !own},
			{.name = "created_at"}},
			.keys = {{"user_id", 'a', 0, 2}},
			.own = own
		}
	};
	AttachSpec	spec = {
		.engine = engine,
		.replace = replace,
		.tables = tables,
		.ntables = 2,
		.users_key = "id",
		.rank_column = rank_column,
		.fire = fire,
		.columns = given
	};
	int64		run;

	attach_resolve(fcinfo, &spec);
	check_types(&tables[1]);
	spec.view_query = points_signals_query(engine->name, &tables[0], &tables[1]);
	run = attach_install(fcinfo, &spec);
	attach_advise_index(&tables[0], "id");
	if (!own)
		attach_advise_index(&tables[1], "user_id");
	return run;
}

/*
 * points_attach(users, columns, rank_column, fire), points_detach(),
 * points_recalc(uid), _recalc_all(), _explain(uid) -- see sql/33-points.sql.
 */
Datum
points_attach(PG_FUNCTION_ARGS)
{
	const EngineDescriptor *engine = attach_engine(fcinfo, 4, &points_class);
	char	   *ledger = psprintf("reputation.%s", engine_object(engine, "point_ledger"));

	PG_RETURN_INT64(points_attach_source(fcinfo, engine, args_required_bool(fcinfo, 5, "replace"),
										 args_required_text(fcinfo, 0, "users"), ledger,
										 PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
										 args_text(fcinfo, 2), args_required_text(fcinfo, 3, "fire")));
}

Datum
points_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &points_class);
	PG_RETURN_VOID();
}

Datum
points_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &points_class);
}

Datum
points_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &points_class);
}

Datum
points_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &points_class);
}

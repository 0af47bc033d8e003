/*
 * badges_engine.c
 *		The badges engine: metrics of the users, and which badges they come to.
 *
 * A badge is a row of reputation.badge: so much of a metric. What a user shall have is
 * told by one function, reputation.badges_due(), which is one of the engine's signals:
 * events, the hourly check, the backfill, preview, verify and repair all compute, and
 * so go by it. The score row has the metrics and the slugs of what is due, the score is
 * their number. Who has what is another output, reputation.user_badge, with the bonus in
 * the ledger of a points engine: badges_settle.c.
 */
#include "postgres.h"

#include "api/api.h"
#include "attach/attach.h"
#include "base/types.h"
#include "engines/badges/badges.h"
#include "base/args.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(badges_attach);
PG_FUNCTION_INFO_V1(badges_detach);
PG_FUNCTION_INFO_V1(badges_recalc);
PG_FUNCTION_INFO_V1(badges_recalc_all);
PG_FUNCTION_INFO_V1(badges_explain);

/* So many of the metrics are numbers; the others are booleans. */
#define COUNTS	4

static const char *const metric_names[BADGE_METRICS] = {
	"wins", "top_arguments", "participations", "votes", "beta", "wallet"
};

#define METRIC_LIST \
	"v.wins::bigint, v.top_arguments::bigint, v.participations::bigint, v.votes::bigint, " \
	"v.beta::boolean, v.wallet::boolean"

/* The badges have no weights but reputation.badge. */
static void *
badges_parse_weights(const char *engine, Jsonb *parameters)
{
	return palloc(1);
}

/* The columns of reputation.badges_scores, in the order in which badges_score_signals() fills them in. */
static const ScoreColumn columns[] = {
	{.name = "wins", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "top_arguments", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "participations", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "votes", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "beta", .type = "boolean", .exact = true},
	{.name = "wallet", .type = "boolean", .exact = true},
	{.name = "badges", .type = "text[]", .exact = true}
};

/* A metric as a text; a null is none. */
static char *
metric_text(int metric, const Datum *values, const bool *nulls)
{
	if (metric < COUNTS)
		return psprintf(INT64_FORMAT, nulls[metric] ? 0 : DatumGetInt64(values[metric]));
	return pstrdup(!nulls[metric] && DatumGetBool(values[metric]) ? "true" : "false");
}

static void
badges_score_signals(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
					 ScoreResult *result)
{
	ArrayType  *due = DatumGetArrayTypeP(values[BADGE_SIGNAL_DUE]);

	result->score = ArrayGetNItems(ARR_NDIM(due), ARR_DIMS(due));
	for (int i = 0; i < COUNTS; i++)
		result->columns[i].number = nulls[i] ? 0 : DatumGetInt64(values[i]);
	for (int i = COUNTS; i < BADGE_METRICS; i++)
		result->columns[i].text = metric_text(i, values, nulls);
	result->columns[BADGE_METRICS].text = OidOutputFunctionCall(F_ARRAY_OUT, values[BADGE_SIGNAL_DUE]);
	result->outputs[BADGE_OUTPUT_USER_BADGE].due = result->columns[BADGE_METRICS].text;
	result->outputs[BADGE_OUTPUT_USER_BADGE].held =
		OidOutputFunctionCall(F_ARRAY_OUT, values[BADGE_SIGNAL_HELD]);
}

static void
badges_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					 const Score *next)
{
	char	  **slugs;
	int			count;

	for (int i = 0; i < BADGE_METRICS; i++)
		appendStringInfo(json, "%s\"%s\": %s", i > 0 ? ", " : "\"signals\": {", metric_names[i],
						 metric_text(i, score->signals, score->nulls));
	appendStringInfoString(json, "}, \"terms\": {");
	count = badges_slugs(score->signals[BADGE_SIGNAL_DUE], &slugs);
	for (int i = 0; i < count; i++)
		appendStringInfo(json, "%s\"%s\": 1", i > 0 ? ", " : "", slugs[i]);
	appendStringInfoString(json, "}, \"held\": [");
	count = badges_slugs(score->signals[BADGE_SIGNAL_HELD], &slugs);
	for (int i = 0; i < count; i++)
	{
		appendStringInfoString(json, i > 0 ? ", " : "");
		escape_json(json, slugs[i]);
	}
	appendStringInfoChar(json, ']');
}

static const EngineOutput outputs[BADGE_OUTPUTS] = {
	[BADGE_OUTPUT_SCORES] = {.table = "badges_scores", .key = "user_id", .rows = ROWS_ONE,
	.origin = OUTPUT_COMPUTED, .shown = "min(s.score)"},
	[BADGE_OUTPUT_BADGE] = {.table = "badge", .key = "slug", .rows = ROWS_NONE,
	.origin = OUTPUT_GIVEN},
	[BADGE_OUTPUT_USER_BADGE] = {.table = "user_badge", .key = "user_id, slug", .rows = ROWS_MANY,
		.origin = OUTPUT_EARNED, .shown = "array_agg(s.slug ORDER BY s.slug)",
	.settle = badges_settle},
	[BADGE_OUTPUT_BONUS] = {.table = "point_ledger", .key = "id", .rows = ROWS_MANY,
	.origin = OUTPUT_EARNED, .part = badges_bonuses}
};

const EngineClass badges_class = {
	.name = "badges",
	.signals_view = "badges_signals",
	.outputs = outputs,
	.noutputs = lengthof(outputs),
	.pays = "points",
	.attach_function = "badges_attach",
	.signals = METRIC_LIST ", reputation.badges_held(v.user_id::text), "
	"reputation.badges_due(v.user_id::text, " METRIC_LIST ")",
	.nsignals = BADGE_SIGNALS,
	.default_parameters = "{\"debounce\": \"0 s\"}",
	.parse = badges_parse_weights,
	.score = badges_score_signals,
	.explain = badges_explain_terms,
	.columns = columns,
	.ncolumns = lengthof(columns)
};

/* A column of the users table as a number. */
static char *
number_expression(AttachTable *users, AttachColumn *column)
{
	if (!type_is_integer(column->type))
		attach_wrong_type(users, column, "an integer");
	return psprintf("coalesce(u.%s, 0)::bigint", column->actual);
}

/*
 * The same as a boolean: beta may be a time that is set, wallet anything that is not empty.
 */
static char *
flag_expression(AttachTable *users, AttachColumn *column)
{
	if (column->type == BOOLOID || strcmp(column->name, "wallet") == 0)
		return attach_presence(column);
	if (TypeCategory(column->type) != TYPCATEGORY_DATETIME)
		attach_wrong_type(users, column, "a boolean or a time");
	return psprintf("u.%s IS NOT NULL", column->actual);
}

/* The table that is a metric's, NULL when it is a column of the users. */
static AttachTable *
counted_table(AttachSpec *spec, const char *metric)
{
	for (int i = 1; i < spec->ntables; i++)
	{
		if (strcmp(spec->tables[i].argument, metric) == 0)
			return &spec->tables[i];
	}
	return NULL;
}

/*
 * The signals view. Tables are counted by lookups of each user's rows, each a
 * subquery of its own, which is computed once however often its result is used.
 */
static char *
badges_signals_query(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];
	char	   *key = psprintf("u.%s", attach_column(users, "id")->actual);
	StringInfoData from;
	StringInfoData sql;

	initStringInfo(&from);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s AS user_id", key);
	for (int i = 0; i < BADGE_METRICS; i++)
	{
		const char *name = metric_names[i];
		AttachTable *table = counted_table(spec, name);
		AttachColumn *column = table == NULL ? attach_column(users, name) : attach_column(table, "counts");
		char	   *value;

		if (table != NULL)
		{
			if (column->actual != NULL && column->type != BOOLOID)
				attach_wrong_type(table, column, "a boolean");
			value = psprintf("of_%s.n", name);
			appendStringInfo(&from, " CROSS JOIN LATERAL (SELECT count(*) AS n FROM %s t "
							 "WHERE t.%s = %s%s) of_%s", table->qualified,
							 attach_column(table, "user_id")->actual, key,
							 column->actual ? psprintf(" AND t.%s", column->actual) : "", name);
		}
		else if (column->actual == NULL)
			value = i < COUNTS ? "0::bigint" : "false";
		else
			value = i < COUNTS ? number_expression(users, column) :
				flag_expression(users, column);
		appendStringInfo(&sql, ", %s AS %s", value, name);
	}
	appendStringInfo(&sql, " FROM %s u%s", users->qualified, from.data);
	return sql.data;
}

/* Describes the tables: the users, those that are counted, and the extension's own. */
static int
describe_tables(FunctionCallInfo fcinfo, const EngineDescriptor *engine, AttachTable *tables)
{
	static const AttachTable users = {
		.argument = "users",
		.columns = {{.name = "id"}},
		.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 2}}
	};
	static const AttachTable counted = {
		.columns = {{.name = "user_id"}, {.name = "counts", .optional = true, .on_request = true}},
		.keys = {{"user_id", 'a', 0, 2}}
	};
	static const AttachTable badges = {
		.argument = "badge",
		.columns = {{.name = "slug"}, {.name = "metric"}, {.name = "threshold"}, {.name = "revocable"}},
		.keys = {{"slug", 'e', 0, 3}},
		.own = true
	};
	static const AttachColumn metric = {.optional = true, .may_lack = true};
	AttachColumn *column = tables[0].columns + 1;
	int			count = 1;

	tables[0] = users;
	tables[0].name = args_required_text(fcinfo, 0, "users");
	for (int i = 0; i < BADGE_METRICS; i++)
	{
		char	   *table = i < COUNTS ? args_text(fcinfo, 2 + i) : NULL;

		if (table != NULL)
		{
			tables[count] = counted;
			tables[count].argument = metric_names[i];
			tables[count++].name = table;
		}
		else
		{
			*column = metric;
			column++->name = metric_names[i];
		}
	}
	tables[count] = badges;
	tables[count++].name = psprintf("reputation.%s", engine->tables[BADGE_OUTPUT_BADGE]);
	return count;
}

/* The nine badges and the hourly check, with the extension owner's rights. */
static void
prepare(FunctionCallInfo fcinfo, const EngineDescriptor *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->tables[BADGE_OUTPUT_BADGE])};
	EngineContext caller;

	spi_begin();
	owner_enter(fcinfo, &caller);
	spi_exec("SELECT reputation.badges_prepare($1)", 1, types, values, NULL);
	owner_leave(&caller);
	spi_end();
}

/*
 * badges_attach(users, columns, wins, top_arguments, participations, votes, fire, name,
 * replace, points) -- see sql/35-badges.sql.
 */
Datum
badges_attach(PG_FUNCTION_ARGS)
{
	static const char *const flag[] = {"counts", NULL};
	const EngineDescriptor *engine = attach_engine(fcinfo, 7, &badges_class);
	AttachTable tables[2 + COUNTS] = {0};
	AttachSpec	spec = {
		.engine = engine,
		.tables = tables,
		.ntables = describe_tables(fcinfo, engine, tables),
		.pays_into = args_required_text(fcinfo, 9, "points"),
		.replace = args_required_bool(fcinfo, 8, "replace"),
		.users_key = "id",
		.fire = args_required_text(fcinfo, 6, "fire"),
		.columns = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1)
	};
	int64		run;

	attach_resolve(fcinfo, &spec);
	spec.view_query = badges_signals_query(&spec);
	prepare(fcinfo, engine);
	run = attach_install(fcinfo, &spec);
	for (int i = 1; i < spec.ntables; i++)
	{
		if (!tables[i].own)
			attach_advise_covering_index(&tables[i], "user_id", flag);
	}
	PG_RETURN_INT64(run);
}

/*
 * badges_detach(), _recalc(uid), _recalc_all(), _explain(uid) -- see sql/35-badges.sql.
 */
Datum
badges_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &badges_class);
	PG_RETURN_VOID();
}

Datum
badges_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &badges_class);
}

Datum
badges_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &badges_class);
}

Datum
badges_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &badges_class);
}

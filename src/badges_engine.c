/*
 * badges_engine.c
 *		The badges engine: metrics of the users, and which badges they come to.
 *
 * A badge is a row of reputation.badge: so much of a metric. What a user shall have is
 * told by one function, reputation.badges_due(), which is one of the engine's signals:
 * events, the hourly check, the backfill, preview, verify and repair all compute, and
 * so go by it. The score row has the metrics and the slugs of what is due, the score is
 * their number. Who has what is kept apart, in reputation.user_badge, with the bonus in
 * reputation.point_ledger.
 *
 * Why nobody gets a badge or its bonus twice, nor keeps one that is lost. Rows of
 * user_badge are written where a unit stores its scores (settle()), and nowhere else: in
 * the unit's transaction, with the ledger's rows, by who holds the user's lane and
 * has computed after getting it. So units that want to give a user the same badge, or
 * one to give and another to take it, come one after the other, and the later one
 * sees what the earlier one did: what is due and what is held are read in one
 * snapshot, and what they come to is written before anybody else reads. A session's recalc
 * or repair may have an older snapshot; it only stores the score row, and leaves a job
 * (queue.c) to whoever settles. If somebody removes what a unit is just adding (forget,
 * TRUNCATE by hand), the primary key of user_badge and the ledger's unique
 * (user_id, source_key) still hold, and the job that the removal left, or the hourly
 * check, brings the user again.
 *
 * A changed row of reputation.badge concerns everybody: its capture trigger leaves a
 * mark, which the fold turns into a run. A unit that computed with the row as it was
 * before holds its lanes until it commits; the run's jobs are claimed after that.
 *
 * A bonus is paid under the key "badge:SLUG". When a revocable badge is lost the
 * row is taken back by one that revokes it, and the next time it is earned the key
 * is "badge:SLUG:2", then 3. As long as a row is not taken back none is paid for the same
 * slug, also if the badge was deleted and made again.
 */
#include "postgres.h"

#include "api.h"
#include "attach.h"
#include "catalog/pg_type.h"
#include "engines.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "spi.h"
#include "srf.h"
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
PG_FUNCTION_INFO_V1(badge_preview);

/* The order of the metrics in the view, and of all signals in the description. */
enum
{
	COUNTS = 4,					/* of the metrics are numbers, the others booleans */
	METRICS = 6,
	SIGNAL_HELD = METRICS, SIGNAL_DUE, SIGNALS
};

static const char *const metric_names[METRICS] = {
	"wins", "top_arguments", "participations", "votes", "beta", "wallet"
};

#define METRIC_LIST \
	"v.wins::bigint, v.top_arguments::bigint, v.participations::bigint, v.votes::bigint, " \
	"v.beta::boolean, v.wallet::boolean"

/* The badges have no weights but reputation.badge. */
static void *
parse(Jsonb *parameters)
{
	return palloc(1);
}

/* The columns of reputation.badges_scores, in the order in which score() fills them in. */
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

/* The slugs of a signal, in their order as bytes. */
static int
slugs_of(Datum array, char ***slugs)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &count);
	*slugs = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
		(*slugs)[i] = TextDatumGetCString(elements[i]);
	return count;
}

static void
score(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
	  ScoreResult *result)
{
	ArrayType  *due = DatumGetArrayTypeP(values[SIGNAL_DUE]);

	result->score = ArrayGetNItems(ARR_NDIM(due), ARR_DIMS(due));
	for (int i = 0; i < COUNTS; i++)
		result->columns[i].number = nulls[i] ? 0 : DatumGetInt64(values[i]);
	for (int i = COUNTS; i < METRICS; i++)
		result->columns[i].text = metric_text(i, values, nulls);
	result->columns[METRICS].text = OidOutputFunctionCall(F_ARRAY_OUT, values[SIGNAL_DUE]);
	result->apart = result->columns[METRICS].text;
	result->row_apart = OidOutputFunctionCall(F_ARRAY_OUT, values[SIGNAL_HELD]);
}

static void
explain(StringInfo json, const void *weights, TimestampTz now, const Score *score,
		const Score *next)
{
	char	  **slugs;
	int			count;

	for (int i = 0; i < METRICS; i++)
		appendStringInfo(json, "%s\"%s\": %s", i > 0 ? ", " : "\"signals\": {", metric_names[i],
						 metric_text(i, score->signals, score->nulls));
	appendStringInfoString(json, "}, \"terms\": {");
	count = slugs_of(score->signals[SIGNAL_DUE], &slugs);
	for (int i = 0; i < count; i++)
		appendStringInfo(json, "%s\"%s\": 1", i > 0 ? ", " : "", slugs[i]);
	appendStringInfoString(json, "}, \"held\": [");
	count = slugs_of(score->signals[SIGNAL_HELD], &slugs);
	for (int i = 0; i < count; i++)
	{
		appendStringInfoString(json, i > 0 ? ", " : "");
		escape_json(json, slugs[i]);
	}
	appendStringInfoChar(json, ']');
}

/* Users with a badge each. */
typedef struct Changes
{
	char	  **users;
	char	  **slugs;
	int			count;
	int			size;
} Changes;

static void
add_change(Changes *to, char *user, char *slug)
{
	if (to->count == to->size)
	{
		to->size = Max(to->size * 2, 64);
		to->users = to->users ? repalloc(to->users, sizeof(char *) * to->size) :
			palloc(sizeof(char *) * to->size);
		to->slugs = to->slugs ? repalloc(to->slugs, sizeof(char *) * to->size) :
			palloc(sizeof(char *) * to->size);
	}
	to->users[to->count] = user;
	to->slugs[to->count++] = slug;
}

/* Takes the mark of a badge without its bonus from its slug; was there one? */
static bool
take_mark(char *slug)
{
	size_t		length = strlen(slug);

	if (length == 0 || slug[length - 1] != '!')
		return false;
	slug[length - 1] = '\0';
	return true;
}

/*
 * What a user gains and loses: both lists of slugs are in order. Whose bonus is
 * missing is gained once more.
 */
static void
add_changes(const Score *score, Changes *gained, Changes *lost)
{
	char	  **due;
	char	  **held;
	int			ndue = slugs_of(score->signals[SIGNAL_DUE], &due);
	int			nheld = slugs_of(score->signals[SIGNAL_HELD], &held);
	bool	   *unpaid = palloc(sizeof(bool) * Max(nheld, 1));
	int			i = 0;
	int			j = 0;

	for (int k = 0; k < nheld; k++)
		unpaid[k] = take_mark(held[k]);
	while (i < ndue || j < nheld)
	{
		int			order = i == ndue ? 1 : j == nheld ? -1 : strcmp(due[i], held[j]);

		if (order < 0 || (order == 0 && unpaid[j]))
			add_change(gained, score->user, due[i]);
		if (order > 0)
			add_change(lost, score->user, held[j]);
		i += order <= 0;
		j += order >= 0;
	}
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * Keeps users from being deleted until the transaction ends, as award_points() does, and
 * drops what those would have gained who are gone.
 */
static void
hold_users(Engine *engine, Changes *gained)
{
	Oid			types[] = {get_array_type(engine->key_type)};
	Datum		values[] = {typed_array(engine->key_type, gained->users, gained->count)};
	uint64		count = engine_exec(engine, false,
									psprintf("SELECT t.%1$s::text FROM %2$s t WHERE t.%1$s = ANY ($1) "
											 "FOR KEY SHARE", engine->users_key, engine->users_name),
									1, types, values);
	char	  **there = palloc(sizeof(char *) * Max(count, 1));
	int			kept = 0;

	for (uint64 row = 0; row < count; row++)
		there[row] = spi_text(row, 1);
	qsort(there, count, sizeof(char *), compare_texts);
	for (int i = 0; i < gained->count; i++)
	{
		if (bsearch(&gained->users[i], there, count, sizeof(char *), compare_texts) == NULL)
			continue;
		gained->users[kept] = gained->users[i];
		gained->slugs[kept++] = gained->slugs[i];
	}
	gained->count = kept;
}

/*
 * Awards and takes what the users gain and lose, whose lanes are held. A worker does
 * not wait for somebody who writes the same key into the ledger, or deletes the user: it
 * comes again.
 */
static void
settle(Engine *engine, Score *scores, int count)
{
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[4];
	Changes		gained = {0};
	Changes		lost = {0};
	int			settings;

	for (int i = 0; i < count; i++)
	{
		if (!scores[i].stored || !score_apart_differs(&scores[i]))
			continue;
		add_changes(&scores[i], &gained, &lost);
		scores[i].changed = true;
	}
	if (gained.count == 0 && lost.count == 0)
		return;

	settings = spi_settings_begin();
	spi_prefer_indexes();
	if (IsBackgroundWorker)
		spi_set("lock_timeout", "1ms");
	if (gained.count > 0)
		hold_users(engine, &gained);
	values[0] = text_array(gained.users, gained.count);
	values[1] = text_array(gained.slugs, gained.count);
	values[2] = text_array(lost.users, lost.count);
	values[3] = text_array(lost.slugs, lost.count);
	spi_exec("SELECT reputation.badges_settle($1, $2, $3, $4)", 4, types, values, NULL);
	spi_settings_end(settings);
}

static const EngineApart user_badge = {
	.name = "user_badge",
	.settle = settle
};

const EngineDescriptor badges_engine = {
	.id = 5,
	.name = "badges",
	.signals_view = "badges_signals",
	.score_table = "badges_scores",
	.attach_function = "badges_attach",
	.signals = METRIC_LIST ", reputation.badges_held(v.user_id::text), "
	"reputation.badges_due(v.user_id::text, " METRIC_LIST ")",
	.nsignals = SIGNALS,
	.default_parameters = "{\"debounce\": \"0 s\"}",
	.parse = parse,
	.score = score,
	.explain = explain,
	.columns = columns,
	.ncolumns = lengthof(columns),
	.reached = "computed_at",
	.apart = &user_badge
};

/* 42804: a column is of a type that it cannot be. */
static void
wrong_type(AttachTable *table, AttachColumn *column, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column %s of %s is of type %s", column->actual, table->qualified,
					format_type_be(column->type)),
			 errdetail("As \"%s\" it must be %s.", column->name, wanted),
			 errhint("Name another column in \"columns\", or null for none.")));
}

/* A column of the users table as a number. */
static char *
number_expression(AttachTable *users, AttachColumn *column)
{
	if (column->type != INT2OID && column->type != INT4OID && column->type != INT8OID)
		wrong_type(users, column, "an integer");
	return psprintf("coalesce(u.%s, 0)::bigint", column->actual);
}

/* The same as a boolean: beta may be a time that is set, wallet anything that is not empty. */
static char *
flag_expression(AttachTable *users, AttachColumn *column)
{
	if (column->type == BOOLOID)
		return psprintf("coalesce(u.%s, false)", column->actual);
	if (strcmp(column->name, "wallet") == 0)
		return psprintf("coalesce(btrim(u.%s::text) <> '', false)", column->actual);
	if (TypeCategory(column->type) != TYPCATEGORY_DATETIME)
		wrong_type(users, column, "a boolean or a time");
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
signals_query(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];
	char	   *key = psprintf("u.%s", attach_column(users, "id")->actual);
	StringInfoData from;
	StringInfoData sql;

	initStringInfo(&from);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s AS user_id", key);
	for (int i = 0; i < METRICS; i++)
	{
		const char *name = metric_names[i];
		AttachTable *table = counted_table(spec, name);
		AttachColumn *column = table == NULL ? attach_column(users, name) : attach_column(table, "counts");
		char	   *value;

		if (table != NULL)
		{
			if (column->actual != NULL && column->type != BOOLOID)
				wrong_type(table, column, "a boolean");
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
describe_tables(FunctionCallInfo fcinfo, AttachTable *tables)
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
		.name = "reputation.badge",
		.columns = {{.name = "slug"}, {.name = "metric"}, {.name = "threshold"}, {.name = "revocable"}},
		.keys = {{"slug", 'e', 0, 3}},
		.own = true
	};
	static const AttachColumn metric = {.optional = true, .may_lack = true};
	AttachColumn *column = tables[0].columns + 1;
	int			count = 1;

	tables[0] = users;
	tables[0].name = attach_argument(fcinfo, 0, "users");
	for (int i = 0; i < METRICS; i++)
	{
		char	   *table = i < COUNTS ? api_text(fcinfo, 2 + i) : NULL;

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
	tables[count++] = badges;
	return count;
}

/* The nine badges and the hourly check, with the extension owner's rights. */
static void
prepare(FunctionCallInfo fcinfo)
{
	EngineContext caller;

	spi_begin();
	owner_enter(fcinfo, &caller);
	spi_exec("SELECT reputation.badges_prepare()", 0, NULL, NULL, NULL);
	owner_leave(&caller);
	spi_end();
}

/*
 * badges_attach(users, columns, wins, top_arguments, participations, votes, fire) --
 * see sql/35-badges.sql.
 */
Datum
badges_attach(PG_FUNCTION_ARGS)
{
	static const char *const flag[] = {"counts", NULL};
	AttachTable tables[2 + COUNTS] = {0};
	AttachSpec	spec = {
		.engine = &badges_engine,
		.tables = tables,
		.ntables = describe_tables(fcinfo, tables),
		.users_key = "id",
		.fire = attach_argument(fcinfo, 6, "fire"),
		.columns = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1)
	};
	int64		run;

	attach_resolve(fcinfo, &spec);
	spec.view_query = signals_query(&spec);
	prepare(fcinfo);
	run = attach_install(fcinfo, &spec);
	for (int i = 1; i < spec.ntables; i++)
	{
		if (!tables[i].own)
			attach_advise_covering_index(&tables[i], "user_id", flag);
	}
	PG_RETURN_INT64(run);
}

/* Who asks, and for what. */
typedef struct Preview
{
	Tuplestorestate *rows;
	TupleDesc	desc;
	const char *slug;
} Preview;

static void
preview_changes(const Preview *to, const Changes *changes, const char *change)
{
	for (int i = 0; i < changes->count; i++)
	{
		Datum		values[] = {CStringGetTextDatum(changes->users[i]), CStringGetTextDatum(change)};
		bool		nulls[] = {false, false};

		if (strcmp(changes->slugs[i], to->slug) == 0)
			tuplestore_putvalues(to->rows, to->desc, values, nulls);
	}
}

static void
preview_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	Changes		gained = {0};
	Changes		lost = {0};

	for (int i = 0; i < count; i++)
	{
		if (score_apart_differs(&scores[i]))
			add_changes(&scores[i], &gained, &lost);
	}
	preview_changes(arg, &gained, "gain");
	preview_changes(arg, &lost, "lose");
}

/* 22023 unless there is such a badge. */
static void
require_badge(const char *slug)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(slug)};

	if (spi_read("SELECT 1 FROM reputation.badge WHERE slug = $1", 1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no badge \"%s\"", slug),
				 errhint("The badges are in reputation.badge.")));
}

/*
 * badge_preview(slug) -- who would gain the badge or lose it if everybody was computed
 * now; stores nothing. 22023 when there is no such badge, 55000 when the engine is not
 * attached.
 */
Datum
badge_preview(PG_FUNCTION_ARGS)
{
	Preview		to = {.slug = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	Engine	   *engine;

	to.rows = srf_begin(fcinfo, &to.desc);
	spi_begin();
	engine = engine_get("badges");
	require_badge(to.slug);
	engine_scan(engine, preview_scanned, &to);
	spi_end();
	return (Datum) 0;
}

/*
 * badges_detach(), _recalc(uid), _recalc_all(), _explain(uid) -- see sql/35-badges.sql.
 */
Datum
badges_detach(PG_FUNCTION_ARGS)
{
	attach_remove(fcinfo, &badges_engine);
	PG_RETURN_VOID();
}

Datum
badges_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, "badges");
}

Datum
badges_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, "badges");
}

Datum
badges_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, "badges");
}

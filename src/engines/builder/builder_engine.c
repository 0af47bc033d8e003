/*
 * builder_engine.c
 *		The builder engine: its description, parameters, views and functions.
 *
 * The formula is core/builder.c's. The signals view takes all users' rows and
 * everything that counts for them as one union and groups it: a condition on
 * user_id goes down into each branch (an index scan each), and without one
 * every table is read once. The same definition serves both.
 */
#include "postgres.h"

#include <math.h>

#include "api/api.h"
#include "attach/attach.h"
#include "base/args.h"
#include "core/builder.h"
#include "engines/builder/builder_engine.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(builder_score_attach);
PG_FUNCTION_INFO_V1(builder_score_detach);
PG_FUNCTION_INFO_V1(builder_score);
PG_FUNCTION_INFO_V1(builder_score_recalc);
PG_FUNCTION_INFO_V1(builder_score_recalc_all);
PG_FUNCTION_INFO_V1(builder_score_explain);

/* What a project's key leads to: everybody it counts for, or its owner alone. */
#define LOOKUP_PROJECT_USERS	1
#define LOOKUP_PROJECT_OWNER	2

static void *
builder_parse_weights(const char *engine, Jsonb *parameters)
{
	BuilderWeights *weights = palloc(sizeof(BuilderWeights));

	engine_check_list(engine, parameters, "shipped");
	engine_check_list(engine, parameters, "confirmed");
	*weights = builder_default_weights();
	weights->own = engine_number(engine, parameters, "own", weights->own);
	weights->collab = engine_number(engine, parameters, "collab", weights->collab);
	weights->vouch = engine_number(engine, parameters, "vouch", weights->vouch);
	weights->vouch_full = engine_number(engine, parameters, "vouch_full", weights->vouch_full);
	weights->vouch_more = engine_number(engine, parameters, "vouch_more", weights->vouch_more);
	weights->impact = engine_number(engine, parameters, "impact", weights->impact);
	weights->impact_max = engine_number(engine, parameters, "impact_max", weights->impact_max);
	return weights;
}

static BuilderSignals
builder_to_signals(const Datum *values, const bool *nulls)
{
	BuilderSignals signals = {
		.own_shipped = nulls[0] ? 0 : DatumGetInt64(values[0]),
		.collab_shipped = nulls[1] ? 0 : DatumGetInt64(values[1]),
		.vouches = nulls[2] ? 0 : DatumGetInt64(values[2]),
		.impact = nulls[3] ? 0 : DatumGetFloat8(values[3])
	};

	return signals;
}

static void
builder_score_signals(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
					  ScoreResult *result)
{
	BuilderSignals signals = builder_to_signals(values, nulls);
	BuilderTerms terms = builder_terms(weights, &signals);

	result->score = builder_total(&terms);
}

static char *
json_number(double number)
{
	return DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(number)));
}

static void
builder_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					  const Score *next)
{
	BuilderSignals signals = builder_to_signals(score->signals, score->nulls);
	BuilderTerms terms = builder_terms(weights, &signals);

	appendStringInfo(json, "\"signals\": {\"own_shipped\": " INT64_FORMAT
					 ", \"collab_shipped\": " INT64_FORMAT ", \"vouches\": " INT64_FORMAT
					 ", \"impact\": %s}, ",
					 signals.own_shipped, signals.collab_shipped, signals.vouches,
					 isfinite(signals.impact) ? json_number(signals.impact) : "null");
	appendStringInfo(json, "\"terms\": {\"own_shipped\": %s, \"collab_shipped\": %s, "
					 "\"vouches\": %s, \"impact\": %s}",
					 json_number(terms.own), json_number(terms.collab),
					 json_number(terms.vouches), json_number(terms.impact));
}

static const EngineOutput outputs[] = {
	{.table = "builder_scores", .key = "user_id", .rows = ROWS_ONE, .origin = OUTPUT_COMPUTED,
	.shown = "min(s.score)"}
};

const EngineClass builder_class = {
	.name = "builder",
	.signals_view = "builder_signals",
	.outputs = outputs,
	.noutputs = lengthof(outputs),
	.attach_function = "builder_score_attach",
	.signals = "v.own_shipped::bigint, v.collab_shipped::bigint, v.vouches::bigint, "
	"v.impact::float8",
	.nsignals = 4,
	.default_parameters =
	"{\"own\": 10, \"collab\": 6, \"vouch\": 5, \"vouch_full\": 10, \"vouch_more\": 1, "
	"\"impact\": 10, \"impact_max\": 50, \"shipped\": [\"shipped\"], "
	"\"confirmed\": [\"confirmed\"]}",
	.parse = builder_parse_weights,
	.score = builder_score_signals,
	.explain = builder_explain_terms
};

/* Is a status in a list of the engine's parameters? */
static char *
status_is(const char *engine, const char *alias, const AttachColumn *status, const char *list)
{
	return psprintf("%s.%s::text = ANY ((SELECT reputation.status_list(%s, '%s'))::text[])", alias,
					status->actual, quote_literal_cstr(engine), list);
}

/*
 * The signals view over the three tables: a union of the users themselves, what
 * they own and shipped, what they collaborate on (with its owner), and who
 * collaborates on what they own.
 */
static char *
builder_signals_query(const char *engine, AttachTable *users, AttachTable *projects,
					  AttachTable *collaborators)
{
	AttachColumn *id = attach_column(users, "id");
	AttachColumn *project = attach_column(projects, "id");
	AttachColumn *impact = attach_column(projects, "impact");
	UserColumn	owner = attach_user_column(users, projects, "owner_id", "p");
	UserColumn	collaborator = attach_user_column(users, collaborators, "user_id", "c");
	char	   *shipped = status_is(engine, "p", attach_column(projects, "status"), "shipped");
	char	   *confirmed = status_is(engine, "c", attach_column(collaborators, "status"), "confirmed");
	char	   *edges = psprintf("%s c JOIN %s p ON p.%s = c.%s", collaborators->qualified,
								 projects->qualified, project->actual,
								 attach_column(collaborators, "project_id")->actual);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT e.user_id, sum(e.own)::bigint AS own_shipped, "
					 "count(DISTINCT e.project) AS collab_shipped, "
					 "count(DISTINCT e.other) AS vouches, "
					 "coalesce(sum(e.impact), 0)::float8 AS impact FROM ("
					 "SELECT u.%s AS user_id, 0 AS own, NULL::%s AS project, NULL::%s AS other, "
					 "NULL::float8 AS impact, true AS is_user FROM %s u",
					 id->actual, format_type_be_qualified(project->type),
					 format_type_be_qualified(id->type), users->qualified);
	appendStringInfo(&sql, " UNION ALL SELECT %s, 1, NULL, NULL, %s, false FROM %s p%s WHERE %s",
					 owner.user_id,
					 impact->actual ? psprintf("p.%s::float8", impact->actual) : "NULL",
					 projects->qualified, owner.join, shipped);
	appendStringInfo(&sql, " UNION ALL SELECT %s, 0, CASE WHEN %s THEN p.%s END, %s, NULL, false "
					 "FROM %s%s WHERE %s AND %s IS DISTINCT FROM %s",
					 collaborator.user_id, shipped, project->actual, owner.plain, edges,
					 collaborator.join, confirmed, owner.plain, collaborator.plain);
	appendStringInfo(&sql, " UNION ALL SELECT %s, 0, NULL, %s, NULL, false FROM %s%s "
					 "WHERE %s AND %s <> %s) e GROUP BY e.user_id HAVING bool_or(e.is_user)",
					 owner.user_id, collaborator.plain, edges, owner.join, confirmed,
					 owner.plain, collaborator.plain);
	return sql.data;
}

/* A lookup view: a project's key -> its owner. */
static char *
project_owner_query(AttachTable *projects, Oid key_type)
{
	return psprintf("SELECT %s AS key, p.%s AS user_id FROM %s p",
					attach_as(attach_column(projects, "id"), "p", key_type),
					attach_column(projects, "owner_id")->actual, projects->qualified);
}

/* The other one: a project's key -> its owner and its confirmed collaborators. */
static char *
project_users_query(const char *engine, AttachTable *projects, AttachTable *collaborators,
					Oid key_type)
{
	return psprintf("%s UNION ALL SELECT %s, c.%s FROM %s c WHERE %s",
					project_owner_query(projects, key_type),
					attach_as(attach_column(collaborators, "project_id"), "c", key_type),
					attach_column(collaborators, "user_id")->actual, collaborators->qualified,
					status_is(engine, "c", attach_column(collaborators, "status"), "confirmed"));
}

/*
 * builder_score_attach(users, projects, collaborators, columns, rank_column,
 * fire, name, replace, score_column) -- see sql/30-builder.sql.
 *
 * A deleted user is a priority of its own: what is kept of it goes at once. A
 * project's owner is captured as a user only when it lost the project; the
 * present one is found through the project's key. A collaboration concerns its
 * user and the project's owner, a project everybody it counts for.
 */
Datum
builder_score_attach(PG_FUNCTION_ARGS)
{
	AttachTable tables[3] = {
		{
			.argument = "users",
			.name = args_required_text(fcinfo, 0, "users"),
			.columns = {{.name = "id"}},
			.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 3}}
		},
		{
			.argument = "projects",
			.name = args_required_text(fcinfo, 1, "projects"),
			.columns = {{.name = "id"}, {.name = "owner_id"}, {.name = "status"},
			{.name = "impact", .optional = true}},
			.keys = {{"id", 'a', LOOKUP_PROJECT_USERS, 2}, {"owner_id", 'o', 0, 2}}
		},
		{
			.argument = "collaborators",
			.name = args_required_text(fcinfo, 2, "collaborators"),
			.columns = {{.name = "project_id"}, {.name = "user_id"}, {.name = "status"}},
			.keys = {{"user_id", 'a', 0, 2}, {"project_id", 'a', LOOKUP_PROJECT_OWNER, 2}}
		}
	};
	AttachSpec	spec = {
		.engine = attach_engine(fcinfo, 6, &builder_class),
		.tables = tables,
		.ntables = 3,
		.replace = args_required_bool(fcinfo, 7, "replace"),
		.users_key = "id",
		.cached_column = args_required_text(fcinfo, 8, "score_column"),
		.rank_column = PG_ARGISNULL(4) ? NULL : args_required_text(fcinfo, 4, "rank_column"),
		.fire = args_required_text(fcinfo, 5, "fire"),
		.columns = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3)
	};
	AttachLookup lookups[] = {
		{.kind = LOOKUP_PROJECT_USERS, .view = "builder_project_users"},
		{.kind = LOOKUP_PROJECT_OWNER, .view = "builder_project_owner"}
	};
	Oid			key_type;
	int64		run;

	attach_resolve(fcinfo, &spec);
	attach_require_comparable(&tables[1], "owner_id", &tables[2], "user_id");
	attach_require_comparable(&tables[2], "project_id", &tables[1], "id");
	spec.view_query = builder_signals_query(spec.engine->name, &tables[0], &tables[1], &tables[2]);
	key_type = attach_wider_type(attach_column(&tables[1], "id"),
								 attach_column(&tables[2], "project_id"));
	lookups[0].query = project_users_query(spec.engine->name, &tables[1], &tables[2], key_type);
	lookups[1].query = project_owner_query(&tables[1], key_type);
	lookups[0].key_type = lookups[1].key_type = key_type;
	spec.lookups = lookups;
	spec.nlookups = lengthof(lookups);
	run = attach_install(fcinfo, &spec);

	attach_advise_index(&tables[1], "id");
	attach_advise_index(&tables[1], "owner_id");
	attach_advise_index(&tables[2], "project_id");
	attach_advise_index(&tables[2], "user_id");
	attach_advise_index_as(&tables[1], "id", key_type);
	attach_advise_index_as(&tables[2], "project_id", key_type);
	PG_RETURN_INT64(run);
}

/*
 * builder_score_detach(engine) -- see sql/30-builder.sql.
 */
Datum
builder_score_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &builder_class);
	PG_RETURN_VOID();
}

/*
 * builder_score(uid, engine), _recalc(uid, engine), _recalc_all(engine), _explain(uid, engine) -- see
 * sql/30-builder.sql.
 */
Datum
builder_score(PG_FUNCTION_ARGS)
{
	return api_score(fcinfo, &builder_class);
}

Datum
builder_score_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &builder_class);
}

Datum
builder_score_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &builder_class);
}

Datum
builder_score_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &builder_class);
}

/*
 * session_engine.c
 *		The session reputation's engine: its description, parameters, views and
 *		functions. user_reputation.c has the function that applications ask.
 *
 * The formula is core/session.c's. A session concerns the two users of its
 * match: the view takes the two sides of each match as a union, so that a
 * condition on user_id goes down into both and finds the matches by their indexes,
 * and joins the sessions to that; without a condition the table of sessions is
 * read once, that of the matches once for each side. The view tells all that a policy may ask for, so that
 * the policy is a parameter that algorithm_preview() can try; how a no-show's
 * cause is told depends on the columns there are, and is part of the view.
 */
#include "postgres.h"

#include "api/api.h"
#include "attach/attach.h"
#include "base/args.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "engines/session/session_engine.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(session_reputation_attach);
PG_FUNCTION_INFO_V1(session_reputation_detach);
PG_FUNCTION_INFO_V1(session_reputation_recalc);
PG_FUNCTION_INFO_V1(session_reputation_recalc_all);
PG_FUNCTION_INFO_V1(session_reputation_explain);

/* What a session's key of its match leads to: the match's users. */
#define LOOKUP_MATCH_USERS	1

/* How it is told who caused a no-show. */
typedef enum Cause
{
	BY_ANY,						/* by the columns that are there, else by the flags */
	BY_COLUMNS,					/* by the columns alone */
	BY_FLAGS,					/* by the flags alone */
	BY_NOTHING					/* nobody causes one */
} Cause;

static const char *const cause_names[] = {"auto", "columns", "flags", "none"};

/* 22023, naming what an argument or a parameter may be. */
static void
bad_choice(const char *what, const char *value, const char *choices)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be %s, not \"%s\"", what, choices, value)));
}

static SessionPolicy
policy_named(const char *what, const char *name)
{
	SessionPolicy policy = SESSION_ANY;

	if (!session_policy_named(name, &policy))
		bad_choice(what, name, "any, own or both");
	return policy;
}

static void *
session_parse_weights(const char *engine, Jsonb *parameters)
{
	SessionWeights *weights = palloc(sizeof(SessionWeights));
	char	   *policy = engine_string(engine, parameters, "policy");

	engine_check_list(engine, parameters, "completed");
	engine_check_list(engine, parameters, "no_show");
	engine_check_list(engine, parameters, "cancelled");
	*weights = session_default_weights();
	if (policy != NULL)
		weights->policy = policy_named(psprintf("parameter \"policy\" of the engine \"%s\"", engine),
									   policy);
	weights->min = engine_signed_number(engine, parameters, "min", weights->min);
	weights->max = engine_signed_number(engine, parameters, "max", weights->max);
	weights->gold = engine_signed_number(engine, parameters, "gold", weights->gold);
	weights->green = engine_signed_number(engine, parameters, "green", weights->green);
	if (weights->min > weights->max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"min\" of the engine \"%s\" must not be greater than \"max\"",
						engine)));
	return weights;
}

static SessionSignals
session_to_signals(const Datum *values, const bool *nulls)
{
	SessionSignals signals = {
		.confirmed_any = nulls[0] ? 0 : DatumGetInt64(values[0]),
		.confirmed_own = nulls[1] ? 0 : DatumGetInt64(values[1]),
		.confirmed_both = nulls[2] ? 0 : DatumGetInt64(values[2]),
		.no_shows = nulls[3] ? 0 : DatumGetInt64(values[3])
	};

	return signals;
}

/*
 * session_result -- what a computed user's signals come to.
 */
SessionResult
session_result(const Engine *engine, const Score *score)
{
	SessionSignals signals = session_to_signals(score->signals, score->nulls);

	return session_compute(engine->weights, &signals);
}

/* The columns of reputation.session_scores, in the order in which session_score_signals() fills them in. */
static const ScoreColumn columns[] = {
	{.name = "completed_sessions", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "no_shows", .type = "bigint", .kind = COLUMN_NUMBER, .exact = true},
	{.name = "badge_color", .type = "text", .exact = true}
};

static void
session_score_signals(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
					  ScoreResult *result)
{
	SessionSignals signals = session_to_signals(values, nulls);
	SessionResult session = session_compute(weights, &signals);

	result->score = session.score;
	result->columns[0].number = session.completed;
	result->columns[1].number = session.no_shows;
	result->columns[2].text = pstrdup(session_badge_name(session.badge));
}

static void
session_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					  const Score *next)
{
	const SessionWeights *w = weights;
	SessionSignals signals = session_to_signals(score->signals, score->nulls);
	SessionResult session = session_compute(w, &signals);

	appendStringInfo(json, "\"signals\": {\"confirmed_any\": " INT64_FORMAT
					 ", \"confirmed_own\": " INT64_FORMAT ", \"confirmed_both\": " INT64_FORMAT
					 ", \"no_shows\": " INT64_FORMAT "}, ", signals.confirmed_any,
					 signals.confirmed_own, signals.confirmed_both, signals.no_shows);
	appendStringInfo(json, "\"terms\": {\"completed_sessions\": " INT64_FORMAT
					 ", \"no_shows\": " INT64_FORMAT "}, \"policy\": \"%s\", "
					 "\"badge_color\": \"%s\"", session.completed, -session.no_shows,
					 session_policy_name(w->policy), session_badge_name(session.badge));
}

static const EngineOutput outputs[] = {
	{.table = "session_scores", .key = "user_id", .rows = ROWS_ONE, .origin = OUTPUT_COMPUTED,
	.shown = "min(s.score)"}
};

const EngineClass session_class = {
	.name = "session",
	.signals_view = "session_signals",
	.outputs = outputs,
	.noutputs = lengthof(outputs),
	.attach_function = "session_reputation_attach",
	.signals = "v.confirmed_any::bigint, v.confirmed_own::bigint, v.confirmed_both::bigint, "
	"v.no_shows::bigint",
	.nsignals = 4,
	.default_parameters =
	"{\"policy\": \"any\", \"min\": -5, \"max\": 20, \"gold\": 10, \"green\": 0, "
	"\"completed\": [\"completed\"], \"no_show\": [\"no_show\"], "
	"\"cancelled\": [\"cancelled\"]}",
	.parse = session_parse_weights,
	.score = session_score_signals,
	.explain = session_explain_terms,
	.read_cached = true,
	.columns = columns,
	.ncolumns = lengthof(columns)
};

/* The tables' columns, as the view's query over "m" and "s" has them. */
typedef struct SessionTables
{
	const char *engine;			/* its name */
	AttachTable *users;
	AttachTable *matches;
	AttachTable *sessions;
	Cause		cause;
} SessionTables;

static char *
session_column(const SessionTables *tables, const char *name)
{
	return psprintf("s.%s", attach_column(tables->sessions, name)->actual);
}

/* The name the table has for a column that tells a cause; NULL: it has none. */
static char *
cause_column(const SessionTables *tables, const char *name)
{
	if (tables->cause == BY_FLAGS || tables->cause == BY_NOTHING ||
		attach_column(tables->sessions, name)->actual == NULL)
		return NULL;
	return session_column(tables, name);
}

/* Is the session's status in a list of the parameters? */
static char *
status_in(const SessionTables *tables, const char *list)
{
	return psprintf("%s::text = ANY ((SELECT reputation.status_list(%s, '%s'))::text[])",
					session_column(tables, "status"), quote_literal_cstr(tables->engine), list);
}

/*
 * Did the user of this side cause the session to fail? Where there is a column
 * for it that decides, and a null is nobody. CASE, since AND goes on after a null,
 * and to look for the status in the list is the dearer part.
 */
static char *
missed(const SessionTables *tables, const char *own, const char *partner)
{
	char	   *absent = cause_column(tables, "no_show_user_id");
	char	   *canceller = cause_column(tables, "cancelled_by");
	StringInfoData sql;

	initStringInfo(&sql);
	if (absent != NULL)
		appendStringInfo(&sql, "CASE WHEN %s = m.user_id THEN %s END", absent,
						 status_in(tables, "no_show"));
	else if (tables->cause == BY_ANY || tables->cause == BY_FLAGS)
		appendStringInfo(&sql, "CASE WHEN %s IS NOT TRUE AND %s THEN %s END", own, partner,
						 status_in(tables, "no_show"));
	if (canceller != NULL)
		appendStringInfo(&sql, "%sCASE WHEN %s = m.user_id THEN %s END", sql.len > 0 ? " OR " : "",
						 canceller, status_in(tables, "cancelled"));
	return sql.len > 0 ? sql.data : "false";
}

/* One side of each match: its user, and who must not be the same one. */
static char *
match_side(const SessionTables *tables, bool first)
{
	UserColumn	user = attach_user_column(tables->users, tables->matches,
										  first ? "user1_id" : "user2_id", "m");
	AttachColumn *other = attach_column(tables->matches, "user1_id");

	return psprintf("SELECT m.%s AS id, %s AS user_id, %s AS other, %s AS first FROM %s m%s",
					attach_column(tables->matches, "id")->actual, user.user_id,
					first ? psprintf("NULL::%s", format_type_be_qualified(other->type)) :
					psprintf("m.%s", other->actual), first ? "true" : "false",
					tables->matches->qualified, user.join);
}

/*
 * The signals view: the users themselves, and the sessions of the matches of which
 * they are either side. Who is both counts once.
 */
static char *
session_signals_query(const SessionTables *tables)
{
	char	   *flag1 = session_column(tables, "user1_completed_confirmed_by_user2");
	char	   *flag2 = session_column(tables, "user2_completed_confirmed_by_user1");
	char	   *own = psprintf("CASE WHEN m.first THEN %s ELSE %s END", flag1, flag2);
	char	   *partner = psprintf("CASE WHEN m.first THEN %s ELSE %s END", flag2, flag1);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT e.user_id, "
					 "count(*) FILTER (WHERE e.completed AND (e.own OR e.partner)) AS confirmed_any, "
					 "count(*) FILTER (WHERE e.completed AND e.own) AS confirmed_own, "
					 "count(*) FILTER (WHERE e.completed AND e.own AND e.partner) AS confirmed_both, "
					 "count(*) FILTER (WHERE e.missed) AS no_shows FROM ("
					 "SELECT u.%s AS user_id, false AS completed, false AS own, "
					 "false AS partner, false AS missed, true AS is_user FROM %s u",
					 attach_column(tables->users, "id")->actual, tables->users->qualified);
	appendStringInfo(&sql, " UNION ALL SELECT m.user_id, %s, %s, %s, %s, false "
					 "FROM (%s UNION ALL %s) m JOIN %s s ON s.%s = m.id "
					 "WHERE m.user_id IS DISTINCT FROM m.other) e "
					 "GROUP BY e.user_id HAVING bool_or(e.is_user)",
					 status_in(tables, "completed"), own, partner, missed(tables, own, partner),
					 match_side(tables, true), match_side(tables, false),
					 tables->sessions->qualified,
					 attach_column(tables->sessions, "match_id")->actual);
	return sql.data;
}

/* The lookup view: a match's key -> its users. */
static char *
match_users_query(AttachTable *matches, Oid key_type)
{
	char	   *key = attach_as(attach_column(matches, "id"), "m", key_type);

	return psprintf("SELECT %1$s AS key, m.%2$s AS user_id FROM %4$s m "
					"UNION ALL SELECT %1$s, m.%3$s FROM %4$s m", key,
					attach_column(matches, "user1_id")->actual,
					attach_column(matches, "user2_id")->actual, matches->qualified);
}

static Cause
cause_named(const char *name)
{
	for (int i = BY_ANY; i <= BY_NOTHING; i++)
	{
		if (strcmp(cause_names[i], name) == 0)
			return (Cause) i;
	}
	bad_choice("argument \"cause\"", name, "auto, columns, flags or none");
	return BY_ANY;
}

/* 42804 unless a flag is a boolean. */
static void
check_flag(AttachTable *sessions, const char *name)
{
	AttachColumn *column = attach_column(sessions, name);

	if (column->type != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %s of %s is of type %s", column->actual, sessions->qualified,
						format_type_be(column->type)),
				 errdetail("As the column \"%s\" it must be a boolean.", name)));
}

/* 42804 and 42P21 unless a column that tells a cause can be compared with the users' ids. */
static void
check_cause_column(const SessionTables *tables, const char *name)
{
	if (cause_column(tables, name) == NULL)
		return;
	attach_require_comparable(tables->sessions, name, tables->users, "id");
	attach_require_comparable(tables->sessions, name, tables->matches, "user1_id");
	attach_require_comparable(tables->sessions, name, tables->matches, "user2_id");
}

/* Whether the columns fit each other, after they were found. */
static void
check_columns(const SessionTables *tables)
{
	check_flag(tables->sessions, "user1_completed_confirmed_by_user2");
	check_flag(tables->sessions, "user2_completed_confirmed_by_user1");
	attach_require_comparable(tables->matches, "user1_id", tables->matches, "user2_id");
	attach_require_comparable(tables->sessions, "match_id", tables->matches, "id");
	check_cause_column(tables, "no_show_user_id");
	check_cause_column(tables, "cancelled_by");
	if (tables->cause == BY_COLUMNS && cause_column(tables, "no_show_user_id") == NULL &&
		cause_column(tables, "cancelled_by") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("no column of %s tells who caused a no-show",
						tables->sessions->qualified),
				 errhint("Name one in the argument \"columns\", as sessions.no_show_user_id or "
						 "sessions.cancelled_by, or give another \"cause\".")));
}

/* Which indexes would be missed; those of the joined columns have all that is read. */
static void
advise_indexes(const SessionTables *tables, Oid key_type)
{
	static const char *const side1[] = {"id", NULL};
	static const char *const side2[] = {"id", "user1_id", NULL};
	const char *of_session[] = {"status", "user1_completed_confirmed_by_user2",
	"user2_completed_confirmed_by_user1", NULL, NULL, NULL};
	int			next = 3;

	if (cause_column(tables, "no_show_user_id") != NULL)
		of_session[next++] = "no_show_user_id";
	if (cause_column(tables, "cancelled_by") != NULL)
		of_session[next] = "cancelled_by";
	attach_advise_index(tables->matches, "id");
	attach_advise_covering_index(tables->matches, "user1_id", side1);
	attach_advise_covering_index(tables->matches, "user2_id", side2);
	attach_advise_covering_index(tables->sessions, "match_id", of_session);
	attach_advise_index_as(tables->matches, "id", key_type);
}

/* Warns of a table of matches in which no writer can find a session's users (links.c). */
static void
advise_cache(const AttachTable *matches)
{
	if (get_rel_relkind(matches->oid) != RELKIND_RELATION)
		ereport(WARNING,
				(errmsg("%s is not an ordinary table: every change of a session empties the read cache",
						matches->qualified),
				 errdetail("A session's users are not looked up in a partitioned or foreign table when it changes.")));
}

/* The argument for the policy as parameters, NULL when it is null. 22023 when there is none. */
static char *
policy_argument(FunctionCallInfo fcinfo, int argno)
{
	char	   *policy;

	if (PG_ARGISNULL(argno))
		return NULL;
	policy = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	(void) policy_named("argument \"policy\"", policy);
	return psprintf("{\"policy\": \"%s\"}", policy);
}

/* The columns that say who caused a no-show, which the sessions may lack. */
static void
add_cause_columns(AttachTable *sessions)
{
	sessions->columns[4] = (AttachColumn)
	{
		.name = "no_show_user_id", .optional = true, .may_lack = true
	};
	sessions->columns[5] = (AttachColumn)
	{
		.name = "cancelled_by", .optional = true, .may_lack = true
	};
}

/*
 * session_reputation_attach(sessions, matches, users, columns, policy, cause,
 * fire) -- see sql/32-session.sql.
 *
 * A session concerns the users of its match, who are found through the match's
 * key: the present ones. Who was one of them and is not any more is captured as
 * a user by the change of the match.
 */
Datum
session_reputation_attach(PG_FUNCTION_ARGS)
{
	AttachTable tables[3] = {
		{
			.argument = "users",
			.name = args_required_text(fcinfo, 2, "users"),
			.columns = {{.name = "id"}},
			.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 3}}
		},
		{
			.argument = "matches",
			.name = args_required_text(fcinfo, 1, "matches"),
			.columns = {{.name = "id"}, {.name = "user1_id"}, {.name = "user2_id"}},
			.keys = {{"user1_id", 'a', 0, 2}, {"user2_id", 'a', 0, 2}}
		},
		{
			.argument = "sessions",
			.name = args_required_text(fcinfo, 0, "sessions"),
			.columns = {{.name = "match_id"}, {.name = "status"},
				{.name = "user1_completed_confirmed_by_user2"},
			{.name = "user2_completed_confirmed_by_user1"}},
			.keys = {{"match_id", 'a', LOOKUP_MATCH_USERS, 2}}
		}
	};
	SessionTables session = {NULL, &tables[0], &tables[1], &tables[2],
	cause_named(args_required_text(fcinfo, 5, "cause"))};
	AttachSpec	spec = {
		.engine = attach_engine(fcinfo, 7, &session_class),
		.tables = tables,
		.ntables = 3,
		.replace = args_required_bool(fcinfo, 8, "replace"),
		.users_key = "id",
		.fire = args_required_text(fcinfo, 6, "fire"),
		.columns = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3)
	};
	AttachLookup lookup = {.kind = LOOKUP_MATCH_USERS, .view = "session_match_users"};
	int64		run;

	session.engine = spec.engine->name;
	spec.parameters = policy_argument(fcinfo, 4);
	if (session.cause == BY_ANY || session.cause == BY_COLUMNS)
		add_cause_columns(&tables[2]);
	attach_resolve(fcinfo, &spec);
	check_columns(&session);
	spec.view_query = session_signals_query(&session);
	lookup.key_type = attach_wider_type(attach_column(&tables[1], "id"),
										attach_column(&tables[2], "match_id"));
	lookup.query = match_users_query(&tables[1], lookup.key_type);
	spec.lookups = &lookup;
	spec.nlookups = 1;
	run = attach_install(fcinfo, &spec);

	advise_indexes(&session, lookup.key_type);
	advise_cache(&tables[1]);
	PG_RETURN_INT64(run);
}

/*
 * session_reputation_detach(), _recalc(uid), _recalc_all(), _explain(uid) -- see
 * sql/32-session.sql.
 */
Datum
session_reputation_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &session_class);
	PG_RETURN_VOID();
}

Datum
session_reputation_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &session_class);
}

Datum
session_reputation_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &session_class);
}

Datum
session_reputation_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &session_class);
}

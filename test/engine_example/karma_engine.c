/*
 * karma_engine.c
 *		An engine: what it looks at, and its SQL functions.
 */
#include "postgres.h"

#include "api/api.h"
#include "attach/attach.h"
#include "base/args.h"
#include "fmgr.h"
#include "karma.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(karma_attach);
PG_FUNCTION_INFO_V1(karma_detach);
PG_FUNCTION_INFO_V1(karma_score);
PG_FUNCTION_INFO_V1(karma_recalc);
PG_FUNCTION_INFO_V1(karma_recalc_all);
PG_FUNCTION_INFO_V1(karma_explain);

static void *
karma_parse_weights(const char *engine, Jsonb *parameters)
{
	KarmaWeights *weights = palloc(sizeof(KarmaWeights));

	weights->helpful = engine_number(engine, parameters, "helpful", 2);
	weights->flagged = engine_number(engine, parameters, "flagged", 5);
	return weights;
}

static void
karma_score_signals(const void *weights, TimestampTz now, const Datum *signals, const bool *nulls,
					ScoreResult *result)
{
	result->score = karma_score_of(weights, DatumGetInt64(signals[0]), DatumGetInt64(signals[1]));
}

static void
karma_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					const Score *next)
{
	const KarmaWeights *w = weights;
	int64		helpful = DatumGetInt64(score->signals[0]);
	int64		flagged = DatumGetInt64(score->signals[1]);

	appendStringInfo(json, "\"signals\": {\"helpful\": " INT64_FORMAT ", \"flagged\": " INT64_FORMAT
					 "}, \"terms\": {\"helpful\": %g, \"flagged\": %g}", helpful, flagged,
					 w->helpful * helpful, -w->flagged * flagged);
}

static const EngineOutput karma_outputs[] = {
	{.table = "karma_scores", .key = "user_id", .rows = ROWS_ONE, .origin = OUTPUT_COMPUTED,
	.shown = "min(s.score)"}
};

static const EngineClass karma_class = {
	.name = "karma",
	.signals_view = "karma_signals",
	.outputs = karma_outputs,
	.noutputs = lengthof(karma_outputs),
	.attach_function = "karma_attach",
	.signals = "v.helpful::bigint, v.flagged::bigint",
	.nsignals = 2,
	.default_parameters = "{\"helpful\": 2, \"flagged\": 5}",
	.parse = karma_parse_weights,
	.score = karma_score_signals,
	.explain = karma_explain_terms
};

/*
 * _PG_init -- called when the library is loaded, after reputation.
 */
void
_PG_init(void)
{
	engine_register(&karma_class);
}

/* The signals view: each user, with the answers counted. */
static char *
karma_signals_query(AttachTable *users, AttachTable *answers)
{
	char	   *key = psprintf("u.%s", attach_column(users, "id")->actual);

	return psprintf("SELECT %1$s AS user_id, a.helpful, a.flagged FROM %2$s u CROSS JOIN LATERAL "
					"(SELECT count(*) FILTER (WHERE t.%4$s) AS helpful, "
					"count(*) FILTER (WHERE t.%5$s) AS flagged FROM %3$s t WHERE t.%6$s = %1$s) a",
					key, users->qualified, answers->qualified,
					attach_column(answers, "helpful")->actual,
					attach_column(answers, "flagged")->actual,
					attach_column(answers, "user_id")->actual);
}

/*
 * karma_attach(users, answers, columns, fire, name, replace) -- attaches an engine.
 */
Datum
karma_attach(PG_FUNCTION_ARGS)
{
	AttachTable tables[2] = {
		{
			.argument = "users",
			.name = args_required_text(fcinfo, 0, "users"),
			.columns = {{.name = "id"}},
			.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 3}}
		},
		{
			.argument = "answers",
			.name = args_required_text(fcinfo, 1, "answers"),
			.columns = {{.name = "user_id"}, {.name = "helpful"}, {.name = "flagged"}},
			.keys = {{"user_id", 'a', 0, 2}}
		}
	};
	AttachSpec	spec = {
		.engine = attach_engine(fcinfo, 4, &karma_class),
		.replace = args_required_bool(fcinfo, 5, "replace"),
		.tables = tables,
		.ntables = 2,
		.users_key = "id",
		.fire = args_required_text(fcinfo, 3, "fire"),
		.columns = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2)
	};
	int64		run;

	attach_resolve(fcinfo, &spec);
	spec.view_query = karma_signals_query(&tables[0], &tables[1]);
	run = attach_install(fcinfo, &spec);
	attach_advise_index(&tables[1], "user_id");
	PG_RETURN_INT64(run);
}

/*
 * karma_detach(engine), karma_score(uid, engine), _recalc(uid, engine),
 * _recalc_all(engine), _explain(uid, engine).
 */
Datum
karma_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &karma_class);
	PG_RETURN_VOID();
}

Datum
karma_score(PG_FUNCTION_ARGS)
{
	return api_score(fcinfo, &karma_class);
}

Datum
karma_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &karma_class);
}

Datum
karma_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &karma_class);
}

Datum
karma_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &karma_class);
}

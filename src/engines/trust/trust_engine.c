/*
 * trust_engine.c
 *		The trust engine: its description, parameters, view and functions.
 *
 * The formula is core/trust.c's, the signals view's query trust_view.c's.
 */
#include "postgres.h"

#include "api/api.h"
#include "attach/attach.h"
#include "base/args.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "core/trust.h"
#include "engines/trust/trust_engine.h"
#include "engines/trust/trust_view.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(trust_score_attach);
PG_FUNCTION_INFO_V1(trust_score_detach);
PG_FUNCTION_INFO_V1(trust_score);
PG_FUNCTION_INFO_V1(trust_score_recalc);
PG_FUNCTION_INFO_V1(trust_score_recalc_all);
PG_FUNCTION_INFO_V1(trust_score_explain);

/* The parameters that are numbers, and where they go. */
static const struct
{
	const char *name;
	size_t		offset;
}			parameters_of[] = {

	{"profile", offsetof(TrustWeights, profile)},
	{"verification", offsetof(TrustWeights, verification)},
	{"activity", offsetof(TrustWeights, activity)},
	{"photo", offsetof(TrustWeights, photo)},
	{"bio", offsetof(TrustWeights, bio)},
	{"bio_full", offsetof(TrustWeights, bio_full)},
	{"interests", offsetof(TrustWeights, interests)},
	{"interests_full", offsetof(TrustWeights, interests_full)},
	{"name", offsetof(TrustWeights, name)},
	{"birthdate", offsetof(TrustWeights, birthdate)},
	{"location", offsetof(TrustWeights, location)},
	{"job", offsetof(TrustWeights, job)},
	{"email_verified", offsetof(TrustWeights, email_verified)},
	{"phone_verified", offsetof(TrustWeights, phone_verified)},
	{"photo_verified", offsetof(TrustWeights, photo_verified)},
	{"id_verified", offsetof(TrustWeights, id_verified)},
	{"activity_full", offsetof(TrustWeights, activity_full)},
	{"activity_days", offsetof(TrustWeights, activity_days)},
	{"grace_days", offsetof(TrustWeights, grace_days)},
	{"half_life_days", offsetof(TrustWeights, half_life_days)},
	{"decay_min", offsetof(TrustWeights, decay_min)},
	{"complete_profile", offsetof(TrustWeights, complete_profile)},
	{"active_activity", offsetof(TrustWeights, active_activity)},
	{"active_days", offsetof(TrustWeights, active_days)},
	{"trusted_score", offsetof(TrustWeights, trusted_score)},
	{"new_days", offsetof(TrustWeights, new_days)}
};

static void *
trust_parse_weights(const char *engine, Jsonb *parameters)
{
	TrustWeights *weights = palloc(sizeof(TrustWeights));

	*weights = trust_default_weights();
	for (int i = 0; i < lengthof(parameters_of); i++)
	{
		double	   *weight = (double *) (void *) ((char *) weights + parameters_of[i].offset);

		*weight = engine_number(engine, parameters, parameters_of[i].name, *weight);
	}
	if (weights->decay_min > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"decay_min\" of the engine \"trust\" must be from 0 to 1")));
	return weights;
}

/* The order of the signals in the description. */
enum
{
	SIGNAL_PHOTO, SIGNAL_BIO, SIGNAL_INTERESTS, SIGNAL_NAME, SIGNAL_BIRTHDATE, SIGNAL_LOCATION,
	SIGNAL_JOB, SIGNAL_EMAIL, SIGNAL_PHONE, SIGNAL_PHOTO_VERIFIED, SIGNAL_ID, SIGNAL_ACTIVITY,
	SIGNAL_OLDEST, SIGNAL_NEXT, SIGNAL_LAST_ACTIVE, SIGNAL_CREATED, SIGNAL_LAST_ACTIVE_TRACKED, SIGNALS
};

static const char *const signal_names[SIGNALS] = {
	"photo", "bio", "interests", "name", "birthdate", "location", "job",
	"email_verified", "phone_verified", "photo_verified", "id_verified",
	"activity", "activity_oldest", "activity_next", "last_active_at", "created_at",
	"last_active_tracked"
};

static bool
flag(const Datum *values, const bool *nulls, int signal)
{
	return !nulls[signal] && DatumGetBool(values[signal]);
}

static int64
number(const Datum *values, const bool *nulls, int signal, int64 otherwise)
{
	return nulls[signal] ? otherwise : DatumGetInt64(values[signal]);
}

static TrustSignals
trust_to_signals(const Datum *values, const bool *nulls)
{
	TrustSignals signals = {
		.photo = flag(values, nulls, SIGNAL_PHOTO),
		.name = flag(values, nulls, SIGNAL_NAME),
		.birthdate = flag(values, nulls, SIGNAL_BIRTHDATE),
		.location = flag(values, nulls, SIGNAL_LOCATION),
		.job = flag(values, nulls, SIGNAL_JOB),
		.bio = number(values, nulls, SIGNAL_BIO, 0),
		.interests = number(values, nulls, SIGNAL_INTERESTS, 0),
		.email_verified = flag(values, nulls, SIGNAL_EMAIL),
		.phone_verified = flag(values, nulls, SIGNAL_PHONE),
		.photo_verified = flag(values, nulls, SIGNAL_PHOTO_VERIFIED),
		.id_verified = flag(values, nulls, SIGNAL_ID),
		.has_source = !nulls[SIGNAL_ACTIVITY],
		.events = number(values, nulls, SIGNAL_ACTIVITY, 0),
		.oldest_event = number(values, nulls, SIGNAL_OLDEST, TRUST_NEVER),
		.next_event = number(values, nulls, SIGNAL_NEXT, TRUST_NEVER),
		.has_last_active = !nulls[SIGNAL_LAST_ACTIVE],
		.last_active = number(values, nulls, SIGNAL_LAST_ACTIVE, 0),
		.has_created = !nulls[SIGNAL_CREATED],
		.created = number(values, nulls, SIGNAL_CREATED, 0)
	};

	return signals;
}

/* The shortest text that is the number, whatever the settings; also JSON. */
static char *
decimal(double number)
{
	char	   *text = palloc(DOUBLE_SHORTEST_DECIMAL_LEN);

	double_to_shortest_decimal_buf(number, text);
	return text;
}

/* The names of badges, between brackets of some kind. */
static char *
badge_list(unsigned badges, const char *open, const char *quote, const char *close)
{
	StringInfoData list;
	const char *separator = "";

	initStringInfo(&list);
	appendStringInfoString(&list, open);
	for (int i = 0; i < TRUST_BADGES; i++)
	{
		if (!(badges & 1U << i))
			continue;
		appendStringInfo(&list, "%s%s%s%s", separator, quote, trust_badge_name(i), quote);
		separator = ",";
	}
	appendStringInfoString(&list, close);
	return list.data;
}

/* What the score is made of, as JSON: each input's points, the sub-scores, the decay. */
static char *
breakdown(const TrustWeights *weights, const TrustSignals *signals, const TrustResult *result,
		  TimestampTz now)
{
	static const TrustSignals nothing = {0};
	StringInfoData json;
	TrustSignals one = nothing;

	initStringInfo(&json);
#define POINTS(field, part, name, format) \
	(one = nothing, one.field = signals->field, \
	 appendStringInfo(&json, format, name, decimal(trust_compute(weights, &one, 0).part)))
	appendStringInfo(&json, "{\"profile\": {\"score\": %s", decimal(result->profile));
	POINTS(photo, profile, "photo", ", \"%s\": %s");
	POINTS(bio, profile, "bio", ", \"%s\": %s");
	POINTS(interests, profile, "interests", ", \"%s\": %s");
	POINTS(name, profile, "name", ", \"%s\": %s");
	POINTS(birthdate, profile, "birthdate", ", \"%s\": %s");
	POINTS(location, profile, "location", ", \"%s\": %s");
	POINTS(job, profile, "job", ", \"%s\": %s");
	appendStringInfo(&json, "}, \"verification\": {\"score\": %s", decimal(result->verification));
	POINTS(email_verified, verification, "email", ", \"%s\": %s");
	POINTS(phone_verified, verification, "phone", ", \"%s\": %s");
	POINTS(photo_verified, verification, "photo", ", \"%s\": %s");
	POINTS(id_verified, verification, "id", ", \"%s\": %s");
#undef POINTS
	appendStringInfo(&json, "}, \"activity\": {\"score\": %s, \"events\": %s}",
					 decimal(result->activity),
					 signals->has_source ? psprintf(INT64_FORMAT, signals->events) : "null");
	appendStringInfo(&json, ", \"decay\": {\"factor\": %s, \"idle_days\": %s}, \"points\": %s}",
					 decimal(result->decay),
					 signals->has_last_active ? decimal(trust_idle_days(signals, now)) : "null",
					 decimal(result->points));
	return json.data;
}

/* The columns of reputation.trust_scores, in the order in which trust_score_signals() fills them in. */
static const ScoreColumn columns[] = {
	{.name = "profile", .type = "float8", .exact = true},
	{.name = "verification", .type = "float8", .exact = true},
	{.name = "activity", .type = "float8", .exact = true},
	{.name = "decay", .type = "float8"},
	{.name = "breakdown", .type = "jsonb", .audited = true},
	{.name = "badges", .type = "text[]", .exact = true, .audited = true}
};

static void
trust_score_signals(const void *weights, TimestampTz now, const Datum *values, const bool *nulls,
					ScoreResult *result)
{
	TrustSignals signals = trust_to_signals(values, nulls);
	TrustResult trust = trust_compute(weights, &signals, now);

	result->score = trust.score;
	result->next_due_at = trust_next_due(weights, &signals, now);
	result->columns[0].text = decimal(trust.profile);
	result->columns[1].text = decimal(trust.verification);
	result->columns[2].text = decimal(trust.activity);
	result->columns[3].text = decimal(trust.decay);
	result->columns[4].text = breakdown(weights, &signals, &trust, now);
	result->columns[5].text = badge_list(trust.badges, "{", "", "}");
}

/* Appends each signal as it is: null where the application has none. */
static void
explain_signals(StringInfo json, const Datum *values, const bool *nulls)
{
	appendStringInfoString(json, "\"signals\": {");
	for (int i = 0; i < SIGNALS; i++)
	{
		char		time[MAXDATELEN + 1];

		appendStringInfo(json, "%s\"%s\": ", i > 0 ? ", " : "", signal_names[i]);
		if (nulls[i])
			appendStringInfoString(json, "null");
		else if (i == SIGNAL_BIO || i == SIGNAL_INTERESTS || i == SIGNAL_ACTIVITY)
			appendStringInfo(json, INT64_FORMAT, DatumGetInt64(values[i]));
		else if (i > SIGNAL_ACTIVITY && i < SIGNAL_LAST_ACTIVE_TRACKED)
			appendStringInfo(json, "\"%s\"",
							 JsonEncodeDateTime(time, values[i], TIMESTAMPTZOID, NULL));
		else
			appendStringInfoString(json, DatumGetBool(values[i]) ? "true" : "false");
	}
	appendStringInfoChar(json, '}');
}

/* What time changes at the moment that next is of. */
static const char *
why_it_changes(const TrustSignals *signals, const TrustResult *present, const TrustSignals *later,
			   const TrustResult *result, TimestampTz due)
{
	if (signals->has_source && signals->next_event == due)
		return "activity events begin to count";
	if (signals->has_source && signals->oldest_event != later->oldest_event)
		return "activity events no longer count";
	if ((present->badges & ~result->badges) == TRUST_NEW && result->score == present->score)
		return "account age";
	return "inactivity";
}

/* Appends when time alone changes something next, why, and to what. */
static void
explain_next_change(StringInfo json, const TrustWeights *weights, const TrustSignals *signals,
					const TrustResult *present, TimestampTz due, const Score *next)
{
	char		time[MAXDATELEN + 1];
	TrustSignals later;
	TrustResult result;

	if (next == NULL)
	{
		appendStringInfoString(json, ", \"next_change\": null");
		return;
	}
	later = trust_to_signals(next->signals, next->nulls);
	result = trust_compute(weights, &later, due);
	appendStringInfo(json, ", \"next_change\": {\"at\": \"%s\", \"why\": \"%s\", \"score\": %d, "
					 "\"badges\": %s}",
					 JsonEncodeDateTime(time, TimestampTzGetDatum(due), TIMESTAMPTZOID, NULL),
					 why_it_changes(signals, present, &later, &result, due), result.score,
					 badge_list(result.badges, "[", "\"", "]"));
}

/* What a user can still do, and what it would bring. */
typedef struct Raise
{
	const char *input;
	TrustResult result;
} Raise;

/* Gives a signal all it can have; false when it has that, or the application no such input. */
static bool
raise_signal(const TrustWeights *weights, TrustSignals *signals, int signal, const bool *nulls,
			 bool tracked, TimestampTz now)
{
	bool	   *flags[] = {&signals->photo, NULL, NULL, &signals->name, &signals->birthdate,
		&signals->location, &signals->job, &signals->email_verified, &signals->phone_verified,
	&signals->photo_verified, &signals->id_verified};
	bool		had;

	if (signal == SIGNAL_LAST_ACTIVE)
	{
		signals->has_last_active = true;
		signals->last_active = now;
		return tracked;
	}
	if (signal > SIGNAL_ACTIVITY || nulls[signal])
		return false;
	switch (signal)
	{
		case SIGNAL_BIO:
			had = signals->bio >= weights->bio_full;
			signals->bio = (int64) Min(weights->bio_full, 1e9) + 1;
			return !had;
		case SIGNAL_INTERESTS:
			had = signals->interests >= weights->interests_full;
			signals->interests = (int64) Min(weights->interests_full, 1e9) + 1;
			return !had;
		case SIGNAL_ACTIVITY:
			/* Even who has events enough comes back by one. */
			signals->events = Max(signals->events, (int64) Min(weights->activity_full, 1e9) + 1);
			signals->has_last_active = true;
			signals->last_active = now;
			return true;
		default:
			Assert(signal < lengthof(flags));
			had = *flags[signal];
			*flags[signal] = true;
			return !had;
	}
}

static int
compare_raises(const void *a, const void *b)
{
	double		x = ((const Raise *) a)->result.points;
	double		y = ((const Raise *) b)->result.points;

	return x != y ? (x < y ? 1 : -1) : strcmp(((const Raise *) a)->input, ((const Raise *) b)->input);
}

/* Appends what would raise the score, the most effective first. */
static void
explain_raises(StringInfo json, const TrustWeights *weights, const TrustSignals *signals,
			   const bool *nulls, bool tracked, const TrustResult *present,
			   TimestampTz now)
{
	Raise		raises[SIGNALS];
	int			count = 0;

	for (int i = 0; i < SIGNALS; i++)
	{
		TrustSignals raised = *signals;
		TrustResult result;

		if (!raise_signal(weights, &raised, i, nulls, tracked, now))
			continue;
		result = trust_compute(weights, &raised, now);
		if (result.points > present->points)
			raises[count++] = (Raise) {signal_names[i], result};
	}
	qsort(raises, count, sizeof(Raise), compare_raises);
	appendStringInfoString(json, ", \"raise\": [");
	for (int i = 0; i < count; i++)
		appendStringInfo(json, "%s{\"input\": \"%s\", \"points\": %s, \"score\": %d}",
						 i > 0 ? ", " : "", raises[i].input,
						 decimal(raises[i].result.points - present->points),
						 raises[i].result.score);
	appendStringInfoChar(json, ']');
}

static void
trust_explain_terms(StringInfo json, const void *weights, TimestampTz now, const Score *score,
					const Score *next)
{
	TrustSignals signals = trust_to_signals(score->signals, score->nulls);
	TrustResult present = trust_compute(weights, &signals, now);

	explain_signals(json, score->signals, score->nulls);
	appendStringInfo(json, ", \"terms\": %s, \"badges\": %s",
					 breakdown(weights, &signals, &present, now),
					 badge_list(present.badges, "[", "\"", "]"));
	explain_next_change(json, weights, &signals, &present, score->next_due_at, next);
	explain_raises(json, weights, &signals, score->nulls,
				   flag(score->signals, score->nulls, SIGNAL_LAST_ACTIVE_TRACKED), &present, now);
}

static const EngineOutput outputs[] = {
	{.table = "trust_scores", .key = "user_id", .rows = ROWS_ONE, .origin = OUTPUT_COMPUTED,
	.shown = "min(s.score)"},
	{.table = "trust_score_audit", .key = "id", .rows = ROWS_MANY, .origin = OUTPUT_AUDIT,
	.anonymous = ""}
};

const EngineClass trust_class = {
	.name = "trust",
	.signals_view = "trust_signals",
	.outputs = outputs,
	.noutputs = lengthof(outputs),
	.attach_function = "trust_score_attach",
	.signals = "v.photo::boolean, v.bio::bigint, v.interests::bigint, v.name::boolean, "
	"v.birthdate::boolean, v.location::boolean, v.job::boolean, v.email_verified::boolean, "
	"v.phone_verified::boolean, v.photo_verified::boolean, v.id_verified::boolean, "
	"v.activity::bigint, v.activity_oldest::timestamptz, v.activity_next::timestamptz, "
	"v.last_active_at::timestamptz, v.created_at::timestamptz, v.last_active_tracked::boolean",
	.nsignals = SIGNALS,
	.default_parameters =
	"{\"profile\": 0.40, \"verification\": 0.35, \"activity\": 0.25, "
	"\"photo\": 25, \"bio\": 20, \"bio_full\": 50, \"interests\": 15, \"interests_full\": 3, "
	"\"name\": 10, \"birthdate\": 10, \"location\": 10, \"job\": 10, "
	"\"email_verified\": 25, \"phone_verified\": 25, \"photo_verified\": 25, "
	"\"id_verified\": 25, \"activity_full\": 50, \"activity_days\": 30, "
	"\"grace_days\": 7, \"half_life_days\": 30, \"decay_min\": 0.5, "
	"\"complete_profile\": 90, \"active_activity\": 50, \"active_days\": 7, "
	"\"trusted_score\": 80, \"new_days\": 7}",
	.parse = trust_parse_weights,
	.score = trust_score_signals,
	.explain = trust_explain_terms,
	.timed = true,
	.columns = columns,
	.ncolumns = lengthof(columns)
};

/*
 * trust_score_attach(users, columns, activity, fire) -- see sql/31-trust.sql.
 */
Datum
trust_score_attach(PG_FUNCTION_ARGS)
{
	AttachTable tables[2] = {
		{
			.argument = "users",
			.name = args_required_text(fcinfo, 0, "users"),
			.columns = {{.name = "id"}},
			.keys = {{"id", 'o', 0, 1}, {"id", 'a', 0, 2}}
		},
		{
			.argument = "activity",
			.name = PG_ARGISNULL(2) ? NULL : args_required_text(fcinfo, 2, "activity"),
			.columns = {{.name = "user_id"}, {.name = "created_at"}},
			.keys = {{"user_id", 'a', 0, 2}}
		}
	};
	AttachTable *activity = PG_ARGISNULL(2) ? NULL : &tables[1];
	AttachSpec	spec = {
		.engine = attach_engine(fcinfo, 4, &trust_class),
		.tables = tables,
		.ntables = activity ? 2 : 1,
		.replace = args_required_bool(fcinfo, 5, "replace"),
		.users_key = "id",
		.fire = args_required_text(fcinfo, 3, "fire"),
		.columns = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1)
	};
	AttachColumn *column = &tables[0].columns[1];
	int64		run;

	for (int i = 0; i < SIGNALS; i++)
	{
		if (i < SIGNAL_ACTIVITY || i == SIGNAL_LAST_ACTIVE || i == SIGNAL_CREATED)
			*column++ = (AttachColumn)
		{
			.name = signal_names[i], .optional = true,
				.may_lack = true
		};
	}
	attach_resolve(fcinfo, &spec);
	spec.view_query = trust_signals_query(spec.engine->name, &tables[0], activity);
	run = attach_install(fcinfo, &spec);
	if (activity != NULL)
		attach_advise_ordered_index(activity, "user_id", "created_at");
	PG_RETURN_INT64(run);
}

/*
 * trust_score_detach(), trust_score(uid), _recalc(uid), _recalc_all(),
 * _explain(uid) -- see sql/31-trust.sql.
 */
Datum
trust_score_detach(PG_FUNCTION_ARGS)
{
	attach_detach(fcinfo, &trust_class);
	PG_RETURN_VOID();
}

Datum
trust_score(PG_FUNCTION_ARGS)
{
	return api_score(fcinfo, &trust_class);
}

Datum
trust_score_recalc(PG_FUNCTION_ARGS)
{
	return api_recalc(fcinfo, &trust_class);
}

Datum
trust_score_recalc_all(PG_FUNCTION_ARGS)
{
	return api_recalc_all(fcinfo, &trust_class);
}

Datum
trust_score_explain(PG_FUNCTION_ARGS)
{
	return api_explain(fcinfo, &trust_class);
}

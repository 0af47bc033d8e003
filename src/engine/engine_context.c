/*
 * engine_context.c
 *		As whom, and with which settings and parameters, an engine works.
 *
 * The application's objects (its tables, the views over them, its triggers on
 * the users table) are only touched between engine_enter() and engine_leave():
 * as the engine's role, in a security-restricted operation, with a pinned
 * search_path, and with row_security off, so that a policy that would hide rows
 * raises an error instead of falsifying a score.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/clock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "engine/engine.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(reputation_status_list);
PG_FUNCTION_INFO_V1(reputation_computation_time);
PG_FUNCTION_INFO_V1(reputation_window_start);

/* In which the extension's own functions are not looked up, nor anybody else's. */
#define PINNED_PATH	"pg_catalog, pg_temp"

/* The parameters, the engine and the time of the computation that is on, for its views. */
static Jsonb *current_parameters = NULL;
static const Engine *current_engine = NULL;
static TimestampTz current_time = 0;

/* How many rows a table has, by the last VACUUM or ANALYZE; 0 when that is not known. */
static double
rows_estimate(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	double		rows;

	if (!HeapTupleIsValid(tuple))
		return 0;
	rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	ReleaseSysCache(tuple);
	return Max(rows, 0);
}

/*
 * engine_users_estimate -- how many users there are, about. A partitioned table knows it
 * only if somebody has analyzed it; its score rows do, too.
 */
double
engine_users_estimate(const Engine *engine)
{
	Oid			schema = get_namespace_oid("reputation", true);

	return Max(rows_estimate(engine->users),
			   rows_estimate(get_relname_relid(engine->descriptor->score_table, schema)));
}

/*
 * engine_enter -- from here on as the engine's role, restricted, with pinned
 * settings, and in a worker with a bound (bound.c), which is longer for a statement over
 * everybody. An error undoes it with the (sub)transaction.
 */
void
engine_enter(const Engine *engine, bool everybody, EngineContext *context)
{
	double		rows = everybody ? engine_users_estimate(engine) : 0;

	GetUserIdAndSecContext(&context->user, &context->security);
	SetUserIdAndSecContext(engine->role,
						   context->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	context->settings = spi_settings_begin();
	spi_set("search_path", PINNED_PATH);
	spi_set("row_security", "off");
	spi_set("jit", "off");
	spi_set("enable_seqscan", "on");
	spi_set("enable_hashjoin", "on");
	spi_set("enable_mergejoin", "on");
	/* Floats of the score table are compared as texts. */
	if (engine->descriptor->class->ncolumns > 0)
		spi_set("extra_float_digits", "1");
	context->parameters = current_parameters;
	context->engine = current_engine;
	context->now = current_time;
	current_parameters = engine->parameters;
	current_engine = engine;
	current_time = engine->now;
	context->bounded = bound_begin(engine->descriptor->id, rows);
}

/*
 * engine_leave -- back to what was before engine_enter().
 */
void
engine_leave(const EngineContext *context)
{
	bound_end(context->bounded);
	current_parameters = context->parameters;
	current_engine = context->engine;
	current_time = context->now;
	spi_settings_end(context->settings);
	SetUserIdAndSecContext(context->user, context->security);
}

/* Whose the called function is: whoever owns the extension's tables. */
static Oid
function_owner(FunctionCallInfo fcinfo)
{
	HeapTuple	function = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid			owner;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	owner = ((Form_pg_proc) GETSTRUCT(function))->proowner;
	ReleaseSysCache(function);
	return owner;
}

/*
 * owner_enter -- from here on with the rights of the called function's owner,
 * who owns the extension's tables, and with a pinned search_path: with the
 * caller's own, an operator of the caller's would run with those rights. For
 * functions that are not SECURITY DEFINER because parts of them act for the
 * caller.
 */
void
owner_enter(FunctionCallInfo fcinfo, EngineContext *context)
{
	GetUserIdAndSecContext(&context->user, &context->security);
	SetUserIdAndSecContext(function_owner(fcinfo),
						   context->security | SECURITY_LOCAL_USERID_CHANGE);
	context->settings = spi_settings_begin();
	spi_set("search_path", PINNED_PATH);
}

/*
 * owner_enter_computation -- the same for what a computation calls for each user: its
 * search_path is pinned, unless it is the application's code that calls, with one of its own.
 */
void
owner_enter_computation(FunctionCallInfo fcinfo, EngineContext *context)
{
	if (strcmp(namespace_search_path, PINNED_PATH) != 0)
	{
		owner_enter(fcinfo, context);
		return;
	}
	GetUserIdAndSecContext(&context->user, &context->security);
	SetUserIdAndSecContext(function_owner(fcinfo),
						   context->security | SECURITY_LOCAL_USERID_CHANGE);
	context->settings = 0;
}

/*
 * owner_leave -- back to what was before owner_enter().
 */
void
owner_leave(const EngineContext *context)
{
	if (context->settings != 0)
		spi_settings_end(context->settings);
	SetUserIdAndSecContext(context->user, context->security);
}

/*
 * engine_view_parameters -- the parameters that the engine's views go by: of the
 * computation that is on, else of the active algorithm. 55000 when there is none.
 */
Jsonb *
engine_view_parameters(FunctionCallInfo fcinfo, const char *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine)};
	MemoryContext caller = CurrentMemoryContext;
	EngineContext context;
	Jsonb	   *parameters;
	bool		isnull;

	if (current_parameters != NULL)
		return current_parameters;
	owner_enter(fcinfo, &context);
	spi_begin();
	if (spi_read("SELECT parameters FROM reputation.algorithm WHERE engine = $1 AND active",
				 1, types, values, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the engine \"%s\" has no active algorithm", engine)));
	MemoryContextSwitchTo(caller);
	parameters = DatumGetJsonbPCopy(spi_datum(0, 1, &isnull));
	spi_end();
	owner_leave(&context);
	return parameters;
}

/* The class of the engine whose computation is on, else of the engine of that name. */
static const EngineClass *
view_class(FunctionCallInfo fcinfo, const char *engine)
{
	EngineContext context;
	const EngineClass *class;

	if (current_engine != NULL)
		return current_engine->descriptor->class;
	owner_enter(fcinfo, &context);
	class = engine_descriptor(engine)->class;
	owner_leave(&context);
	return class;
}

/* A parameter for the engine's views, or its default; NULL when there is none. */
static JsonbValue *
view_parameter(FunctionCallInfo fcinfo, const char *engine, const char *name, JsonbValue *value)
{
	Jsonb	   *parameters = engine_view_parameters(fcinfo, engine);
	const char *text;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), value) != NULL)
		return value;
	text = view_class(fcinfo, engine)->default_parameters;
	parameters = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	return getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), value);
}

/*
 * reputation.status_list(engine, name) -- a list parameter, for the engine's
 * views: of the computation that is on, else of the active algorithm; the
 * engine's default when it is not given.
 */
Datum
reputation_status_list(PG_FUNCTION_ARGS)
{
	JsonbValue	value;
	JsonbValue *found = view_parameter(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)),
									   text_to_cstring(PG_GETARG_TEXT_PP(1)), &value);
	ArrayBuildState *list = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	if (found != NULL && found->type == jbvBinary)
	{
		JsonbIterator *iterator = JsonbIteratorInit(value.val.binary.data);
		JsonbIteratorToken token;
		JsonbValue	element;

		while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
		{
			if (token == WJB_ELEM && element.type == jbvString)
				accumArrayResult(list,
								 PointerGetDatum(cstring_to_text_with_len(element.val.string.val,
																		  element.val.string.len)),
								 false, TEXTOID, CurrentMemoryContext);
		}
	}
	PG_RETURN_DATUM(makeArrayResult(list, CurrentMemoryContext));
}

/*
 * engine_view_time -- the time of the computation that is on, else the time now.
 */
TimestampTz
engine_view_time(void)
{
	return current_time != 0 ? current_time : clock_now();
}

/*
 * engine_computing -- the engine whose computation is on; NULL outside of any.
 */
const Engine *
engine_computing(void)
{
	return current_engine;
}

/*
 * reputation.computation_time() -- the time of the computation that is on, for the
 * engines' views; otherwise the time now.
 */
Datum
reputation_computation_time(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(engine_view_time());
}

/*
 * reputation.window_start(engine, name) -- computation_time() less as many days,
 * of 24 hours, as the parameter says. 22023 when that is no number of days.
 */
Datum
reputation_window_start(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	JsonbValue	value;
	JsonbValue *found = view_parameter(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(0)), name, &value);
	TimestampTz now = engine_view_time();
	double		days;

	if (found == NULL || found->type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" must be a number of days", name)));
	days = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
											  NumericGetDatum(found->val.numeric)));
	if (!(days >= 0 && days * USECS_PER_DAY < (double) (now - MIN_TIMESTAMP)))
		PG_RETURN_TIMESTAMPTZ(DT_NOBEGIN);
	PG_RETURN_TIMESTAMPTZ(now - (int64) (days * USECS_PER_DAY));
}

/* Can it be that a name was not found because of the pinned search_path? */
static bool
is_unknown_name(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_UNDEFINED_TABLE || sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
		sqlerrcode == ERRCODE_UNDEFINED_COLUMN || sqlerrcode == ERRCODE_UNDEFINED_OBJECT ||
		sqlerrcode == ERRCODE_UNDEFINED_SCHEMA;
}

/* The schema in front of a function's signature, as it is quoted there; NULL: none is. */
static char *
schema_of_signature(const char *signature)
{
	bool		quoted = false;

	for (const char *c = signature; *c != '\0' && (quoted || *c != '('); c++)
	{
		if (*c == '"')
			quoted = !quoted;
		else if (*c == '.' && !quoted)
			return pnstrdup(signature, c - signature);
	}
	return NULL;
}

/*
 * The hint for an error of the schema that came up in a function: it relies on the
 * search_path of the application. PL/pgSQL names its functions so that they can be
 * altered. NULL when the error came up in none.
 */
static char *
search_path_hint(const ErrorData *error)
{
	static const char plpgsql[] = "PL/pgSQL function ";
	char	   *where = context_function(error->context, GetErrorContextStack());
	char	   *schema;
	char	   *end;

	if (where == NULL)
		return NULL;
	if (strncmp(where, plpgsql, strlen(plpgsql)) == 0)
	{
		where += strlen(plpgsql);
		schema = schema_of_signature(where);
		if (schema != NULL && (end = strstr(where, ") line ")) != NULL)
			return psprintf("Engines work with search_path = pg_catalog, pg_temp: ALTER FUNCTION "
							"%s SET search_path = %s, pg_temp, or qualify the names in it.",
							pnstrdup(where, end + 1 - where), schema);
	}
	return "Engines work with search_path = pg_catalog, pg_temp: ALTER FUNCTION ... SET "
		"search_path for this one, or qualify the names in it.";
}

/*
 * engine_failed -- what to do with an error of the application's objects: forget the parameters
 * (the rest is undone with the (sub)transaction), say so when it took too long, and add a
 * hint to errors of the schema, which come from a function that relies on a search_path, or
 * from a view or table that changed under the engine.
 */
void
engine_failed(const Engine *engine, const EngineContext *context, MemoryContext memory)
{
	ErrorData  *error;
	char	   *hint;

	current_parameters = context->parameters;
	current_engine = context->engine;
	current_time = context->now;

	MemoryContextSwitchTo(memory);
	error = CopyErrorData();
	bound_explain(error);
	hint = is_unknown_name(error->sqlerrcode) ? search_path_hint(error) : NULL;
	if (hint == NULL && error->hint == NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_UNDEFINED_TABLE))
		hint = psprintf("The engine \"%s\" computes from the view reputation.%s. "
						"Check it, or attach the engine again with %s.",
						engine->descriptor->name, engine->descriptor->signals_view,
						engine->descriptor->attach_call);
	if (hint != NULL)
		error->hint = hint;
	if (hint != NULL || bound_exceeded(error))
	{
		FlushErrorState();
		ReThrowError(error);
	}
	PG_RE_THROW();
}

/* How a statement over the application's objects runs. */
typedef enum RunMode
{
	MODE_READ,					/* with the calling statement's snapshot */
	MODE_CAPTURED,
	MODE_EVERYBODY,				/* the same, over all users */
	MODE_UNCAPTURED,			/* what it writes is not captured */
	MODE_STORE,					/* not captured, and planned by the key's index */
	MODE_STORE_HASTY			/* the same, and waits for no lock */
} RunMode;

static uint64
run_as_engine(const Engine *engine, RunMode mode, const char *sql, int nargs, const Oid *types,
			  const Datum *values)
{
	MemoryContext memory = CurrentMemoryContext;
	EngineContext context;
	volatile uint64 count = 0;
	CaptureState suspended;

	engine_require_objects(engine);
	engine_enter(engine, mode == MODE_EVERYBODY, &context);
	if (mode >= MODE_STORE)
		spi_prefer_indexes();
	if (mode == MODE_STORE_HASTY)
		spi_set("lock_timeout", "1ms");
	suspended = capture_suspend(mode >= MODE_UNCAPTURED);
	PG_TRY();
	{
		count = mode == MODE_READ ? spi_read(sql, nargs, types, values, NULL) :
			spi_exec(sql, nargs, types, values, NULL);
	}
	PG_CATCH();
	{
		capture_restore(suspended);
		engine_failed(engine, &context, memory);
	}
	PG_END_TRY();
	capture_restore(suspended);
	engine_leave(&context);
	return count;
}

/*
 * engine_exec -- runs a statement over the application's objects, as the
 * engine's role, with a new snapshot; uncaptured: what it writes is not
 * captured. The rows are in SPI_tuptable; returns their number.
 */
uint64
engine_exec(const Engine *engine, bool uncaptured, const char *sql, int nargs,
			const Oid *types, const Datum *values)
{
	return run_as_engine(engine, uncaptured ? MODE_UNCAPTURED : MODE_CAPTURED, sql, nargs, types, values);
}

/*
 * engine_exec_all -- engine_exec() of a query over all users.
 */
uint64
engine_exec_all(const Engine *engine, const char *sql)
{
	return run_as_engine(engine, MODE_EVERYBODY, sql, 0, NULL, NULL);
}

/*
 * engine_read -- runs a query over the application's objects, as the engine's
 * role, with the calling statement's snapshot.
 */
uint64
engine_read(const Engine *engine, const char *sql, int nargs, const Oid *types,
			const Datum *values)
{
	return run_as_engine(engine, MODE_READ, sql, nargs, types, values);
}

/*
 * engine_update -- engine_exec() of an update of rows that are given by their
 * keys; what it writes is not captured. Hasty: raises 55P03 rather than wait
 * for a lock.
 */
uint64
engine_update(const Engine *engine, bool hasty, const char *sql, int nargs, const Oid *types,
			  const Datum *values)
{
	return run_as_engine(engine, hasty ? MODE_STORE_HASTY : MODE_STORE, sql, nargs, types, values);
}

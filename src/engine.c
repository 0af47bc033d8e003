/*
 * engine.c
 *		Engines: from user ids to stored scores.
 *
 * ids -> signals view -> pure score function -> store what changed. Workers,
 * recalc, the nightly run, repair and verify all come through here, with
 * other sets of ids, or without the store step.
 *
 * The application's objects (its tables, the views over them, its triggers on
 * the users table) are only touched between engine_enter() and engine_leave():
 * as the engine's role, in a security-restricted operation, with a pinned
 * search_path, and with row_security off, so that a policy that would hide rows
 * raises an error instead of falsifying a score.
 *
 * Nothing is written that did not change: a row of the users table only when
 * its cached value differs, a score row only when the score or the version
 * does. Rows that others hold locked are skipped and reported as not stored.
 * Why a stale value cannot stay is told in queue.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "capture.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "commands/trigger.h"
#include "engine.h"
#include "guc.h"
#include "keyset.h"
#include "locks.h"
#include "miscadmin.h"
#include "queue.h"
#include "spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(reputation_status_list);
PG_FUNCTION_INFO_V1(reputation_home);
PG_FUNCTION_INFO_V1(reputation_check_algorithm);

/* Rows of one step of a scan over all users. */
#define SCAN_ROWS	5000

static const EngineDescriptor *const descriptors[] = {&builder_engine};

/* The parameters that status_list() answers from while an engine computes. */
static Jsonb *current_parameters = NULL;

/* engine_cached(): engines kept until reputation.engine or a users table changes. */
static MemoryContext cached_context = NULL;
static List *cached_engines = NIL;
static Oid	engine_table = InvalidOid;
static bool cache_registered = false;

/*
 * engine_descriptor -- the engine of that name. 22023 when there is none.
 */
const EngineDescriptor *
engine_descriptor(const char *name)
{
	for (int i = 0; i < lengthof(descriptors); i++)
	{
		if (strcmp(descriptors[i]->name, name) == 0)
			return descriptors[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no engine \"%s\"", name),
			 errhint("The engines are: builder.")));
}

/*
 * reputation.home() -- where this database is: another one after a restore.
 */
Datum
reputation_home(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(),
											  MyDatabaseId)));
}

/* The debounce window of an engine: its parameter, else the setting. */
static int
debounce_of(Jsonb *parameters)
{
	JsonbValue	value;
	Interval   *interval;
	char	   *text;

	if (getKeyJsonValueFromContainer(&parameters->root, "debounce", 8, &value) == NULL ||
		value.type == jbvNull)
		return guc_debounce;
	if (value.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"debounce\" must be a string with an interval")));
	text = pnstrdup(value.val.string.val, value.val.string.len);
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	if (interval->month != 0 || interval->day < 0 || interval->time < 0 ||
		interval->time + interval->day * USECS_PER_DAY > USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"debounce\" must be an interval from 0 to 1 day, not \"%s\"",
						text)));
	return (int) ((interval->time + interval->day * USECS_PER_DAY) / 1000);
}

static void
set_key_type(Engine *engine, Oid type)
{
	Oid			function;
	bool		varlena;

	engine->key_type = type;
	engine->key_type_name = format_type_be_qualified(type);
	getTypeInputInfo(type, &function, &engine->key_ioparam);
	fmgr_info_cxt(function, &engine->key_input, CurrentMemoryContext);
	getTypeOutputInfo(type, &function, &varlena);
	fmgr_info_cxt(function, &engine->key_output, CurrentMemoryContext);
}

static Engine *
engine_from_row(uint64 row)
{
	Engine	   *engine = palloc0(sizeof(Engine));
	char	   *schema;
	bool		isnull;
	Datum		datum;

	engine->descriptor = engine_descriptor(spi_text(row, 1));
	engine->role = (Oid) spi_int(row, 2, NULL);
	engine->users = (Oid) spi_int(row, 3, NULL);
	engine->users_key = pstrdup(quote_identifier(spi_text(row, 4)));
	set_key_type(engine, (Oid) spi_int(row, 5, NULL));
	engine->cached_name = spi_text(row, 6);
	engine->cached_column = pstrdup(quote_identifier(engine->cached_name));
	engine->rank_column = spi_text(row, 7);
	if (engine->rank_column != NULL)
		engine->rank_column = pstrdup(quote_identifier(engine->rank_column));
	engine->suspended_error = spi_text(row, 8);
	datum = spi_datum(row, 9, &isnull);
	engine->retry_at = isnull ? 0 : DatumGetTimestampTz(datum);
	engine->home = spi_text(row, 10);
	engine->version = (int32) spi_int(row, 11, NULL);
	datum = spi_datum(row, 12, &isnull);
	if (!isnull)
	{
		engine->parameters = DatumGetJsonbPCopy(datum);
		engine->weights = engine->descriptor->parse(engine->parameters);
		engine->debounce = debounce_of(engine->parameters);
	}

	schema = get_namespace_name(get_rel_namespace(engine->users));
	if (schema != NULL)
		engine->users_name = quote_qualified_identifier(schema, get_rel_name(engine->users));
	return engine;
}

/* The rows of reputation.engine with that name, or all. */
static List *
load_engines(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {name ? CStringGetTextDatum(name) : (Datum) 0};
	List	   *engines = NIL;
	uint64		count = spi_exec("SELECT e.name, e.role::oid, e.users::oid, e.users_key, "
								 "e.key_type::oid, e.cached_column, e.rank_column, "
								 "e.suspended_error, e.retry_at, e.home, a.version, a.parameters "
								 "FROM reputation.engine e "
								 "LEFT JOIN reputation.algorithm a ON a.engine = e.name AND a.active "
								 "WHERE e.name = $1 OR $1 IS NULL ORDER BY e.id",
								 1, types, values, name ? NULL : "n");

	for (uint64 row = 0; row < count; row++)
		engines = lappend(engines, engine_from_row(row));
	SPI_freetuptable(SPI_tuptable);
	return engines;
}

/*
 * engine_list -- the attached engines that can compute, in palloc'd memory: not
 * those without an active algorithm, nor those that are being attached or
 * detached (unless it shall wait). They stay as they are until the transaction
 * ends. Skipped: one is not in the list, so the inbox must not be folded now, or
 * its keys would be lost. Needs SPI and the extension owner's rights.
 */
List *
engine_list(bool wait, bool *skipped)
{
	List	   *engines = NIL;
	ListCell   *cell;
	bool		locked[MAX_ENGINE_ID + 1] = {false};

	*skipped = false;
	for (int i = 0; i < lengthof(descriptors); i++)
	{
		locked[descriptors[i]->id] = lock_engine(descriptors[i]->id, false, wait);
		*skipped |= !locked[descriptors[i]->id];
	}
	foreach(cell, load_engines(NULL))
	{
		Engine	   *engine = lfirst(cell);

		if (engine->weights != NULL && locked[engine->descriptor->id])
			engines = lappend(engines, engine);
		else
			*skipped = true;
	}
	return engines;
}

/* 42P01 when the users table is gone. */
static void
require_users_table(const Engine *engine)
{
	if (engine->users_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the users table of the engine \"%s\" no longer exists",
						engine->descriptor->name),
				 errhint("Attach it again with %s().", engine->descriptor->attach_function)));
}

/*
 * engine_not_attached -- raises 55000 with a hint naming the attach function.
 */
void
engine_not_attached(const EngineDescriptor *descriptor)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the engine \"%s\" is not attached", descriptor->name),
			 errhint("Attach it to the application's tables with %s().",
					 descriptor->attach_function)));
}

/* The attached engine of that name, with or without an active algorithm. */
static Engine *
engine_row(const char *name)
{
	const EngineDescriptor *descriptor = engine_descriptor(name);
	List	   *engines = load_engines(name);

	if (engines == NIL)
		engine_not_attached(descriptor);
	require_users_table(linitial(engines));
	return linitial(engines);
}

/*
 * engine_get -- the attached engine of that name, able to compute. 55000 when it
 * is not attached or has no active algorithm, 42P01 when its users table is
 * gone.
 */
Engine *
engine_get(const char *name)
{
	Engine	   *engine = engine_row(name);

	if (engine->weights == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the engine \"%s\" has no active algorithm", name),
				 errhint("Activate a version in reputation.algorithm.")));
	return engine;
}

/*
 * engine_get_all -- engine_get() of every attached engine. 55000 when there is
 * none.
 */
List *
engine_get_all(void)
{
	List	   *engines = NIL;
	ListCell   *cell;

	foreach(cell, load_engines(NULL))
		engines = lappend(engines, engine_get(((Engine *) lfirst(cell))->descriptor->name));
	if (engines == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no engine is attached"),
				 errhint("Attach one, for instance with builder_score_attach().")));
	return engines;
}

static void
invalidate_cached(Datum arg, Oid relation)
{
	ListCell   *cell;
	bool		stale = !OidIsValid(relation) || relation == engine_table;

	foreach(cell, cached_engines)
		stale |= ((Engine *) lfirst(cell))->users == relation;
	if (stale)
		cached_engines = NIL;	/* freed when it is loaded the next time */
}

/*
 * engine_cached -- engine_get() that remembers, for reads: what depends on the
 * engine's row only (table, key, column), not on its parameters.
 */
Engine *
engine_cached(const char *name)
{
	ListCell   *cell;
	MemoryContext before;
	Engine	   *engine;

	foreach(cell, cached_engines)
	{
		engine = lfirst(cell);
		if (strcmp(engine->descriptor->name, name) == 0)
			return engine;
	}

	if (!cache_registered)
	{
		CacheRegisterRelcacheCallback(invalidate_cached, (Datum) 0);
		cache_registered = true;
	}
	if (cached_context == NULL)
		cached_context = AllocSetContextCreate(CacheMemoryContext, "reputation engines",
											   ALLOCSET_SMALL_SIZES);
	else if (cached_engines == NIL)
		MemoryContextReset(cached_context);

	engine_table = get_relname_relid("engine", get_namespace_oid("reputation", true));
	before = MemoryContextSwitchTo(cached_context);
	engine = engine_row(name);
	cached_engines = lappend(cached_engines, engine);
	MemoryContextSwitchTo(before);
	return engine;
}

/*
 * engine_forget_cached -- has every backend forget its cached engines, when
 * the transaction commits; for whoever changed a row of reputation.engine.
 */
void
engine_forget_cached(void)
{
	Oid			table = get_relname_relid("engine", get_namespace_oid("reputation", true));

	if (OidIsValid(table))
		CacheInvalidateRelcacheByRelid(table);
}

/*
 * engine_key_datum -- a key in the engine's type. 22P02 when it is malformed.
 */
Datum
engine_key_datum(const Engine *engine, const char *key)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Datum datum = (Datum) 0;

	PG_TRY();
	{
		datum = InputFunctionCall((FmgrInfo *) &engine->key_input, (char *) key,
								  engine->key_ioparam, -1);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("malformed user id \"%s\"", key),
				 errdetail("The ids of %s are of type %s.", engine->users_name,
						   format_type_be(engine->key_type))));
	}
	PG_END_TRY();
	return datum;
}

/*
 * engine_key_from_argument -- the user id of an anycompatible argument, as the
 * canonical text of the engine's key type. 22P02 when it is malformed.
 */
char *
engine_key_from_argument(FunctionCallInfo fcinfo, int argno, const Engine *engine)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, argno);
	Oid			output;
	bool		varlena;
	char	   *text;

	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the user id");
	getTypeOutputInfo(type, &output, &varlena);
	text = OidOutputFunctionCall(output, PG_GETARG_DATUM(argno));
	if (strlen(text) > MAX_KEY_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("the user id is longer than %d bytes", MAX_KEY_LENGTH)));
	return OutputFunctionCall((FmgrInfo *) &engine->key_output, engine_key_datum(engine, text));
}

/*
 * engine_append_json_key -- appends a user id in its natural JSON type.
 */
void
engine_append_json_key(StringInfo json, const Engine *engine, const char *key)
{
	if (engine->key_type == INT2OID || engine->key_type == INT4OID ||
		engine->key_type == INT8OID)
		appendStringInfoString(json, key);
	else
		escape_json(json, key);
}

/*
 * engine_enter -- from here on as the engine's role, restricted, with pinned
 * settings. An error undoes it with the (sub)transaction.
 */
void
engine_enter(const Engine *engine, EngineContext *context)
{
	GetUserIdAndSecContext(&context->user, &context->security);
	SetUserIdAndSecContext(engine->role,
						   context->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	context->settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	spi_set("row_security", "off");
	spi_set("jit", "off");
	spi_set("enable_seqscan", "on");
	spi_set("enable_hashjoin", "on");
	spi_set("enable_mergejoin", "on");
	context->parameters = current_parameters;
	current_parameters = engine->parameters;
}

/*
 * engine_leave -- back to what was before engine_enter().
 */
void
engine_leave(const EngineContext *context)
{
	current_parameters = context->parameters;
	spi_settings_end(context->settings);
	SetUserIdAndSecContext(context->user, context->security);
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
	HeapTuple	function = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid			owner;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	owner = ((Form_pg_proc) GETSTRUCT(function))->proowner;
	ReleaseSysCache(function);

	GetUserIdAndSecContext(&context->user, &context->security);
	SetUserIdAndSecContext(owner, context->security | SECURITY_LOCAL_USERID_CHANGE);
	context->settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
}

/*
 * owner_leave -- back to what was before owner_enter().
 */
void
owner_leave(const EngineContext *context)
{
	spi_settings_end(context->settings);
	SetUserIdAndSecContext(context->user, context->security);
}

/*
 * reputation.check_algorithm() -- row trigger on reputation.algorithm: parameters
 * that the engine cannot read are refused when they are written. 22023.
 */
Datum
reputation_check_algorithm(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	row;
	Datum		name;
	Datum		parameters;
	bool		name_null;
	bool		parameters_null;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "reputation.check_algorithm() must be a trigger");
	desc = RelationGetDescr(data->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	name = heap_getattr(row, 1, desc, &name_null);
	parameters = heap_getattr(row, 3, desc, &parameters_null);
	/* A null is refused by its constraint. */
	if (!name_null && !parameters_null)
	{
		(void) engine_descriptor(TextDatumGetCString(name))->parse(DatumGetJsonbP(parameters));
		(void) debounce_of(DatumGetJsonbP(parameters));
	}
	return PointerGetDatum(row);
}

/*
 * reputation.status_list(engine, name) -- a list parameter, for the engine's
 * views: of the computation that is on, else of the active algorithm; the
 * engine's default when it is not given.
 */
Datum
reputation_status_list(PG_FUNCTION_ARGS)
{
	char	   *engine = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text	   *name = PG_GETARG_TEXT_PP(1);
	Jsonb	   *parameters = current_parameters;
	JsonbValue	value;
	JsonbValue *found;
	ArrayBuildState *list = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	EngineContext context;

	if (parameters == NULL)
	{
		Oid			types[] = {TEXTOID};
		Datum		values[] = {CStringGetTextDatum(engine)};
		MemoryContext caller = CurrentMemoryContext;
		bool		isnull;

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
	}

	found = getKeyJsonValueFromContainer(&parameters->root, VARDATA_ANY(name),
										 VARSIZE_ANY_EXHDR(name), &value);
	if (found == NULL)
	{
		const char *text = engine_descriptor(engine)->default_parameters;

		parameters = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
		found = getKeyJsonValueFromContainer(&parameters->root, VARDATA_ANY(name),
											 VARSIZE_ANY_EXHDR(name), &value);
	}
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
 * engine_short_keys -- a condition on a key column that leaves out ids longer
 * than MAX_KEY_LENGTH, which are not supported; for queries over all users.
 */
const char *
engine_short_keys(const Engine *engine, const char *column)
{
	if (engine->key_type != TEXTOID && engine->key_type != VARCHAROID)
		return "true";
	return psprintf("octet_length(%s) <= %d", column, MAX_KEY_LENGTH);
}

/* The query of the signals and of what is stored, for some keys or for all. */
static char *
compute_query(const Engine *engine, bool all)
{
	const EngineDescriptor *d = engine->descriptor;

	require_users_table(engine);
	return psprintf("SELECT v.user_id::text, t.%s, s.score, s.algorithm_version, %s "
					"FROM reputation.%s v JOIN %s t ON t.%s = v.user_id "
					"LEFT JOIN reputation.%s s ON s.user_id = v.user_id::text WHERE %s",
					engine->cached_column, d->signals, d->signals_view, engine->users_name,
					engine->users_key, d->score_table,
					all ? engine_short_keys(engine, "v.user_id") : "v.user_id = ANY ($1)");
}

/*
 * What to do with an error of the application's objects: forget the parameters
 * (the rest is undone with the (sub)transaction), and add a hint to errors of
 * the schema, which come from a view or table that changed under the engine.
 */
static void
engine_failed(const Engine *engine, const EngineContext *context, MemoryContext memory)
{
	ErrorData  *error;

	current_parameters = context->parameters;

	MemoryContextSwitchTo(memory);
	error = CopyErrorData();
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_UNDEFINED_TABLE) && error->hint == NULL)
	{
		FlushErrorState();
		error->hint = psprintf("The engine \"%s\" computes from the view reputation.%s. "
							   "Check it, or attach the engine again with %s().",
							   engine->descriptor->name, engine->descriptor->signals_view,
							   engine->descriptor->attach_function);
		ReThrowError(error);
	}
	PG_RE_THROW();
}

static uint64
run(const Engine *engine, bool uncaptured, bool read_only, const char *sql, int nargs,
	const Oid *types, const Datum *values)
{
	MemoryContext memory = CurrentMemoryContext;
	EngineContext context;
	volatile uint64 count = 0;
	CaptureState suspended;

	require_users_table(engine);
	engine_enter(engine, &context);
	suspended = capture_suspend(uncaptured);
	PG_TRY();
	{
		count = read_only ? spi_read(sql, nargs, types, values, NULL) :
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
	return run(engine, uncaptured, false, sql, nargs, types, values);
}

/*
 * engine_read -- runs a query over the application's objects, as the engine's
 * role, with the calling statement's snapshot.
 */
uint64
engine_read(const Engine *engine, const char *sql, int nargs, const Oid *types,
			const Datum *values)
{
	return run(engine, false, true, sql, nargs, types, values);
}

/* Opens the portal unless it is open, and fetches the next portion. */
static uint64
engine_fetch(const Engine *engine, const char *sql, Portal *portal)
{
	MemoryContext memory = CurrentMemoryContext;
	EngineContext context;

	engine_enter(engine, &context);
	PG_TRY();
	{
		if (*portal == NULL)
			*portal = SPI_cursor_open(NULL, spi_plan(sql, 0, NULL), NULL, NULL, true);
		SPI_cursor_fetch(*portal, true, SCAN_ROWS);
	}
	PG_CATCH();
	{
		engine_failed(engine, &context, memory);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	engine_leave(&context);
	return SPI_processed;
}

static void
score_row(Engine *engine, SPITupleTable *table, uint64 row, Score *score)
{
	HeapTuple	tuple = table->vals[row];
	TupleDesc	desc = table->tupdesc;
	bool		isnull;

	score->user = SPI_getvalue(tuple, desc, 1);
	score->cached = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &score->cached_null));
	score->row_score = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	score->has_row = !isnull;
	score->row_version = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
	for (int i = 0; i < engine->descriptor->nsignals; i++)
		score->signals[i] = SPI_getbinval(tuple, desc, 5 + i, &score->nulls[i]);
	score->score = engine->descriptor->score(engine->weights, score->signals, score->nulls);
	score->stored = false;
	score->changed = false;
}

/*
 * typed_array -- texts as an array Datum of some type. What the type's input
 * function raises.
 */
Datum
typed_array(Oid type, char **texts, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));
	FmgrInfo	input;
	Oid			function;
	Oid			ioparam;
	int16		length;
	bool		byval;
	char		align;

	getTypeInputInfo(type, &function, &ioparam);
	fmgr_info(function, &input);
	get_typlenbyvalalign(type, &length, &byval, &align);
	for (int i = 0; i < count; i++)
		values[i] = InputFunctionCall(&input, texts[i], ioparam, -1);
	return PointerGetDatum(construct_array(values, count, type, length, byval, align));
}

/*
 * engine_compute -- computes some users with one statement and a new snapshot;
 * returns how many of them exist. Keys that give no row are of users that are
 * gone. Errors of the view and of the data are raised.
 */
int
engine_compute(Engine *engine, char **keys, int count, Score **scores)
{
	Oid			types[] = {get_array_type(engine->key_type)};
	Datum		values[] = {typed_array(engine->key_type, keys, count)};
	uint64		found;
	int			level = spi_settings_begin();

	/* A thousand keys look like half the table; they never are worth reading it. */
	spi_set("plan_cache_mode", "force_generic_plan");
	found = engine_exec(engine, false, compute_query(engine, false), 1, types, values);
	spi_settings_end(level);

	*scores = palloc(sizeof(Score) * Max(found, 1));
	for (uint64 row = 0; row < found; row++)
		score_row(engine, SPI_tuptable, row, &(*scores)[row]);
	return (int) found;
}

/*
 * engine_scan -- computes all users in one snapshot, the calling statement's,
 * and hands them to the consumer in portions.
 */
void
engine_scan(Engine *engine, ScoreConsumer consumer, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext portion = AllocSetContextCreate(context, "reputation scan",
												  ALLOCSET_DEFAULT_SIZES);
	Portal		portal = NULL;
	char	   *sql = compute_query(engine, true);
	uint64		count;

	while ((count = engine_fetch(engine, sql, &portal)) > 0)
	{
		SPITupleTable *table = SPI_tuptable;
		Score	   *scores;

		MemoryContextSwitchTo(portion);
		scores = palloc(sizeof(Score) * count);
		for (uint64 row = 0; row < count; row++)
			score_row(engine, table, row, &scores[row]);
		consumer(engine, scores, (int) count, arg);
		MemoryContextSwitchTo(context);
		MemoryContextReset(portion);
		SPI_freetuptable(table);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(portion);
}

/*
 * score_differs -- is anything stored for the user that is not the score?
 */
bool
score_differs(const Engine *engine, const Score *score)
{
	return score->cached_null || score->cached != score->score ||
		!score->has_row || score->row_score != score->score ||
		score->row_version != engine->version;
}

static int
compare_users(const void *a, const void *b)
{
	return strcmp((*(Score *const *) a)->user, (*(Score *const *) b)->user);
}

static int
compare_user(const void *key, const void *element)
{
	return strcmp(key, (*(Score *const *) element)->user);
}

/* Marks the scores of the users in the statement's result, which are sorted. */
static void
mark_returned(Score **scores, int count, uint64 returned, bool changed)
{
	for (uint64 row = 0; row < returned; row++)
	{
		Score	  **score = bsearch(spi_text(row, 1), scores, count, sizeof(Score *),
									compare_user);

		if (score == NULL)
			continue;
		(*score)->stored = true;
		(*score)->changed |= changed;
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Writes the cached column of the rows that nobody holds locked, and marks
 * those scores as stored. Not captured: the claim covers it, or the recheck.
 */
static void
store_cached(Engine *engine, Score **scores, int count)
{
	Oid			types[] = {get_array_type(engine->key_type), INT4ARRAYOID};
	char	  **keys = palloc(sizeof(char *) * Max(count, 1));
	int32	   *numbers = palloc(sizeof(int32) * Max(count, 1));
	Datum		values[2];
	uint64		written;
	char	   *sql;

	qsort(scores, count, sizeof(Score *), compare_users);
	for (int i = 0; i < count; i++)
	{
		keys[i] = scores[i]->user;
		numbers[i] = scores[i]->score;
	}
	values[0] = typed_array(engine->key_type, keys, count);
	values[1] = int_array(numbers, count);
	sql = psprintf("WITH free AS ("
				   "SELECT t.%2$s AS id, n.score FROM %1$s t "
				   "JOIN unnest($1, $2) AS n(id, score) ON t.%2$s = n.id "
				   "FOR NO KEY UPDATE OF t SKIP LOCKED) "
				   "UPDATE %1$s t SET %3$s = free.score FROM free WHERE t.%2$s = free.id "
				   "RETURNING t.%2$s::text",
				   engine->users_name, engine->users_key, engine->cached_column);

	written = engine_exec(engine, true, sql, 2, types, values);
	mark_returned(scores, count, written, true);
}

/*
 * Writes score rows: updates those that are there and not locked, or inserts
 * those that are missing. Marks what it wrote as stored.
 */
static void
store_rows(Engine *engine, Score **scores, int count, bool missing)
{
	Oid			types[] = {TEXTARRAYOID, INT4ARRAYOID, INT4OID, TIMESTAMPTZOID};
	char	  **keys = palloc(sizeof(char *) * count);
	int32	   *numbers = palloc(sizeof(int32) * count);
	Datum		values[4];
	const char *sql;

	qsort(scores, count, sizeof(Score *), compare_users);
	for (int i = 0; i < count; i++)
	{
		keys[i] = scores[i]->user;
		numbers[i] = scores[i]->score;
		scores[i]->stored = false;
	}
	values[0] = text_array(keys, count);
	values[1] = int_array(numbers, count);
	values[2] = Int32GetDatum(engine->version);
	values[3] = TimestampTzGetDatum(clock_now());
	sql = missing ?
		"INSERT INTO reputation.%1$s AS s SELECT n.id, n.score, $3, $4 "
		"FROM unnest($1, $2) AS n(id, score) ON CONFLICT (user_id) DO UPDATE "
		"SET score = excluded.score, algorithm_version = $3, computed_at = $4 "
		"RETURNING user_id" :
		"WITH free AS (SELECT s.user_id, n.score FROM reputation.%1$s s "
		"JOIN unnest($1, $2) AS n(id, score) ON s.user_id = n.id "
		"FOR NO KEY UPDATE OF s SKIP LOCKED) "
		"UPDATE reputation.%1$s s SET score = free.score, algorithm_version = $3, "
		"computed_at = $4 FROM free WHERE s.user_id = free.user_id RETURNING s.user_id";
	mark_returned(scores, count,
				  spi_exec(psprintf(sql, engine->descriptor->score_table), 4, types, values, NULL),
				  false);
}

/* Has a worker look again at what differed. */
static void
queue_rechecks(Engine *engine, Score *scores, int count)
{
	char	  **users = palloc(sizeof(char *) * Max(count, 1));
	int			nusers = 0;

	for (int i = 0; i < count; i++)
	{
		if (score_differs(engine, &scores[i]))
			users[nusers++] = scores[i].user;
	}
	if (nusers > 0)
	{
		queue_enqueue_run(engine, users, nusers, RUN_RECHECK);
		capture_wake_at_commit();
	}
	pfree(users);
}

/*
 * engine_store -- stores what differs and sets stored and changed. Claimed: the
 * caller holds the users' lanes (queue.c). Otherwise what differed is queued to
 * be looked at by somebody with a claim, who also inserts the score rows that
 * are missing: an insert of a session's could hold up a worker's.
 */
void
engine_store(Engine *engine, Score *scores, int count, bool claimed)
{
	Score	  **picked = palloc(sizeof(Score *) * Max(count, 1));
	int			npicked = 0;

	for (int i = 0; i < count; i++)
	{
		scores[i].stored = !scores[i].cached_null && scores[i].cached == scores[i].score;
		if (!scores[i].stored)
			picked[npicked++] = &scores[i];
	}
	if (npicked > 0)
		store_cached(engine, picked, npicked);

	for (int missing = 0; missing < (claimed ? 2 : 1); missing++)
	{
		npicked = 0;
		for (int i = 0; i < count; i++)
		{
			Score	   *score = &scores[i];

			if (score->stored && score->has_row == !missing &&
				(missing || score->row_score != score->score ||
				 score->row_version != engine->version))
				picked[npicked++] = score;
		}
		if (npicked > 0)
			store_rows(engine, picked, npicked, missing);
	}
	if (!claimed)
		queue_rechecks(engine, scores, count);
	pfree(picked);
}

/*
 * engine_probe -- does for no users what computing and storing does: raises
 * what is wrong with the engine as such.
 */
void
engine_probe(Engine *engine)
{
	Score	   *none;

	engine_compute(engine, NULL, 0, &none);
	store_cached(engine, &none, 0);
}

/*
 * engine_row_is_free -- can the user's row be locked now? Tells a row that
 * somebody holds from one that a trigger refuses to update.
 */
bool
engine_row_is_free(Engine *engine, const char *key)
{
	Oid			types[] = {engine->key_type};
	Datum		values[] = {engine_key_datum(engine, key)};
	char	   *sql = psprintf("SELECT 1 FROM %s t WHERE t.%s = $1 FOR NO KEY UPDATE SKIP LOCKED",
							   engine->users_name, engine->users_key);

	return engine_exec(engine, false, sql, 1, types, values) > 0;
}

/*
 * engine_remove_users -- removes what is kept about users that are gone.
 */
void
engine_remove_users(Engine *engine, char **keys, int count)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), text_array(keys, count),
	CStringGetTextDatum(engine->descriptor->name)};

	spi_exec(psprintf("DELETE FROM reputation.%s WHERE user_id = ANY ($1)",
					  engine->descriptor->score_table), 1, &types[1], &values[1], NULL);
	spi_exec("DELETE FROM reputation.recent_run WHERE engine = $1 AND key = ANY ($2)", 2, types,
			 values, NULL);
	spi_exec("DELETE FROM reputation.dead_letter WHERE engine = $2 AND kind = 0 AND key = ANY ($1)",
			 2, &types[1], &values[1], NULL);
}

/*
 * engine_queue_orphans -- queues the score rows of users that do not exist:
 * whoever claims them removes them, or finds the user there again. Returns how
 * many.
 */
int64
engine_queue_orphans(Engine *engine)
{
	char	   *sql = psprintf("SELECT s.user_id FROM reputation.%s s WHERE NOT EXISTS "
							   "(SELECT FROM %s t WHERE t.%s::text = s.user_id)",
							   engine->descriptor->score_table, engine->users_name,
							   engine->users_key);
	uint64		count = engine_exec(engine, false, sql, 0, NULL, NULL);
	char	  **keys;

	if (count == 0)
		return 0;

	keys = palloc(sizeof(char *) * count);
	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	queue_enqueue_run(engine, keys, (int) count, RUN_RECHECK);
	capture_wake_at_commit();
	return (int64) count;
}

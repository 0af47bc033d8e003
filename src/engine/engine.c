/*
 * engine.c
 *		Engines: which there are, and which are attached.
 *
 * A class is registered while the library is loaded; an engine of it is a row of
 * reputation.instance; a row of reputation.engine says to what that is attached, a row of
 * reputation.algorithm with which parameters it computes.
 * The rest of an engine's path is in engine_context.c (as whom it works),
 * engine_compute.c (ids -> signals -> scores) and engine_store.c.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "base/guc.h"
#include "base/keyset.h"
#include "base/locks.h"
#include "base/relations.h"
#include "base/spi.h"
#include "base/types.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "engine/engine.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(reputation_home);
PG_FUNCTION_INFO_V1(reputation_check_algorithm);

const char *const board_periods[BOARD_PERIODS] = {"all_time", "weekly", "daily"};

/* The classes, in the order in which they were registered. */
static const EngineClass *classes[MAX_ENGINE_CLASSES];
static int	nclasses = 0;

/* The engines that were looked up. */
static List *descriptors = NIL;
static OwnRelation instance_table = {.name = "instance"};

/* Is told of what changes every score that is kept elsewhere. */
static void (*on_change) (void) = NULL;

/* engine_cached(): engines kept until reputation.engine, a users table or a schema changes. */
static MemoryContext cached_context = NULL;
static List *cached_engines = NIL;
static uint64 cached_changes = 0;	/* how often they were forgotten */
static Oid	engine_table = InvalidOid;
static bool cache_registered = false;

/*
 * engine_register -- takes in a class; while the library, or one that adds a class, is
 * loaded.
 */
void
engine_register(const EngineClass *class)
{
	if (nclasses == MAX_ENGINE_CLASSES || class->nsignals > MAX_SIGNALS ||
		class->ncolumns > MAX_SCORE_COLUMNS || class->noutputs == 0 ||
		class->noutputs > MAX_ENGINE_OUTPUTS || engine_class(class->name) != NULL)
		elog(ERROR, "the class of engines \"%s\" cannot be registered", class->name);
	classes[nclasses++] = class;
}

/*
 * engine_class -- the class of that name; NULL when there is none.
 */
const EngineClass *
engine_class(const char *name)
{
	for (int i = 0; i < nclasses; i++)
	{
		if (strcmp(classes[i]->name, name) == 0)
			return classes[i];
	}
	return NULL;
}

/*
 * engine_class_number -- the classes one after the other, from 0; NULL after the last.
 */
const EngineClass *
engine_class_number(int number)
{
	return number < nclasses ? classes[number] : NULL;
}

/*
 * engine_on_change -- has somebody told when engines, or their parameters, change: what
 * is kept of scores elsewhere is stale once the transaction commits.
 */
void
engine_on_change(void (*changed) (void))
{
	on_change = changed;
}

/*
 * engine_bears_class -- is it the engine that is called like its class, whose objects are
 * those that the class names?
 */
bool
engine_bears_class(const EngineDescriptor *engine)
{
	return strcmp(engine->name, engine->class->name) == 0;
}

/* What an engine of that name calls its own of an object of its class. */
static char *
object_of(const char *name, const char *class, const char *of_class)
{
	return strcmp(name, class) == 0 ? pstrdup(of_class) : psprintf("%s_%s", name, of_class);
}

/*
 * engine_object -- what an engine calls its own of an object of its class.
 */
char *
engine_object(const EngineDescriptor *engine, const char *of_class)
{
	return object_of(engine->name, engine->class->name, of_class);
}

/*
 * engine_paid_table -- what an engine of that name, into which one of the class pays, calls
 * its own of a table of its class.
 */
char *
engine_paid_table(const EngineClass *class, const char *name, const char *of_class)
{
	return object_of(name, class->pays, of_class);
}

/*
 * engine_earned -- the first output of a class that cannot be computed again; -1: there is
 * none.
 */
int
engine_earned(const EngineClass *class)
{
	for (int i = 0; i < class->noutputs; i++)
	{
		if (class->outputs[i].origin == OUTPUT_EARNED)
			return i;
	}
	return -1;
}

static EngineDescriptor *
make_descriptor(int id, const char *name, const EngineClass *class)
{
	EngineDescriptor *descriptor = palloc0(sizeof(EngineDescriptor));

	descriptor->id = id;
	descriptor->name = pstrdup(name);
	descriptor->class = class;
	descriptor->signals_view = engine_object(descriptor, class->signals_view);
	for (int i = 0; i < class->noutputs; i++)
	{
		if (class->outputs[i].part == NULL)
			descriptor->tables[i] = engine_object(descriptor, class->outputs[i].table);
		if (class->outputs[i].origin == OUTPUT_AUDIT)
			descriptor->audit_table = descriptor->tables[i];
	}
	descriptor->score_table = descriptor->tables[0];
	descriptor->attach_call = psprintf(engine_bears_class(descriptor) ||
									   class->outputs[0].pattern != NULL ?
									   "%s()" : "%s(name => '%s')", class->attach_function, name);
	return descriptor;
}

/*
 * engine_descriptor_of -- the engine of a row of reputation.instance or
 * reputation.engine; NULL when there is no such class: the library that has it is not
 * loaded.
 */
const EngineDescriptor *
engine_descriptor_of(int id, const char *name, const char *class_name)
{
	const EngineClass *class = engine_class(class_name);
	MemoryContext before;
	ListCell   *cell;

	if (class == NULL)
		return NULL;
	foreach(cell, descriptors)
	{
		const EngineDescriptor *known = lfirst(cell);

		if (known->id == id && known->class == class && strcmp(known->name, name) == 0)
			return known;
	}
	before = MemoryContextSwitchTo(TopMemoryContext);
	descriptors = lappend(descriptors, make_descriptor(id, name, class));
	MemoryContextSwitchTo(before);
	return llast(descriptors);
}

/* Columns of reputation.instance. */
enum
{
	INSTANCE_ID = 1,
	INSTANCE_NAME,
	INSTANCE_CLASS
};

/*
 * engine_registered -- the engine of that id or, if that is 0, of that name, as the latest
 * snapshot has it; NULL when there is none, its class is not loaded, or the registry is
 * locked. For trigger functions and what is done at a commit: without a query, a wait, or
 * a privilege.
 */
const EngineDescriptor *
engine_registered(int id, const char *name)
{
	Relation	registry = lock_try_open(relation_own(&instance_table), AccessShareLock);
	const EngineDescriptor *found = NULL;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	row;

	if (registry == NULL)
		return NULL;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(registry, snapshot, 0, NULL);
	while (found == NULL && (row = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		TupleDesc	desc = RelationGetDescr(registry);
		bool		isnull;
		int			row_id = DatumGetInt32(heap_getattr(row, INSTANCE_ID, desc, &isnull));
		char	   *row_name = TextDatumGetCString(heap_getattr(row, INSTANCE_NAME, desc, &isnull));
		char	   *class = TextDatumGetCString(heap_getattr(row, INSTANCE_CLASS, desc, &isnull));

		if (id != 0 ? row_id == id : strcmp(row_name, name) == 0)
			found = engine_descriptor_of(row_id, row_name, class);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return found;
}

/* The names of all engines, or of a class's. */
static char *
engine_names(const EngineClass *class)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {class == NULL ? (Datum) 0 : CStringGetTextDatum(class->name)};

	spi_exec("SELECT string_agg(name, ', ' ORDER BY id) FROM reputation.instance "
			 "WHERE class = $1 OR $1 IS NULL", 1, types, values, class == NULL ? "n" : NULL);
	return spi_text(0, 1);
}

/* The engine of that name, of a class or of any. 22023, and 55000 without its library. */
static const EngineDescriptor *
find_engine(const char *name, const EngineClass *class)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	const EngineDescriptor *descriptor;
	const char *of_class;

	if (spi_exec("SELECT id, class FROM reputation.instance WHERE name = $1", 1, types, values,
				 NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no engine \"%s\"", name),
				 errhint("The engines are: %s.", engine_names(class))));
	of_class = spi_text(0, 2);
	descriptor = engine_descriptor_of((int) spi_int(0, 1, NULL), name, of_class);
	if (descriptor == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the class \"%s\" of the engine \"%s\" is not loaded", of_class, name),
				 errhint("Load the library that has it, with shared_preload_libraries.")));
	if (class != NULL && descriptor->class != class)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the engine \"%s\" is of the class %s, not %s", name, of_class,
						class->name),
				 errhint("The engines of that class are: %s.", engine_names(class))));
	return descriptor;
}

/*
 * engine_of_class -- the engine of that name, which must be of the class. 22023 when it is
 * not, or there is none.
 */
const EngineDescriptor *
engine_of_class(const char *name, const EngineClass *class)
{
	const EngineDescriptor *descriptor;

	spi_begin();
	descriptor = find_engine(name, class);
	spi_end();
	return descriptor;
}

/*
 * engine_descriptor -- the engine of that name. 22023 when there is none.
 */
const EngineDescriptor *
engine_descriptor(const char *name)
{
	return engine_of_class(name, NULL);
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

/* OIDs with a space between them. */
static List *
oids_of_text(char *text)
{
	List	   *oids = NIL;

	for (char *next = text; next != NULL && *next != '\0';)
	{
		oids = lappend_oid(oids, (Oid) strtoul(next, &next, 10));
		next += strspn(next, " ");
	}
	return oids;
}

/* NULL when its class is not loaded. */
static Engine *
engine_from_row(uint64 row)
{
	Engine	   *engine = palloc0(sizeof(Engine));
	bool		isnull;
	Datum		datum;

	engine->descriptor = engine_descriptor_of((int) spi_int(row, 14, NULL), spi_text(row, 1),
											  spi_text(row, 17));
	if (engine->descriptor == NULL)
		return NULL;
	engine->role = (Oid) spi_int(row, 2, NULL);
	engine->users = (Oid) spi_int(row, 3, NULL);
	engine->key_name = spi_text(row, 4);
	engine->users_key = pstrdup(quote_identifier(engine->key_name));
	set_key_type(engine, (Oid) spi_int(row, 5, NULL));
	engine->cached_name = spi_text(row, 6);
	if (engine->cached_name != NULL)
		engine->cached_column = pstrdup(quote_identifier(engine->cached_name));
	engine->rank_column = spi_text(row, 7);
	if (engine->rank_column != NULL)
		engine->rank_column = pstrdup(quote_identifier(engine->rank_column));
	engine->suspended_error = spi_text(row, 8);
	datum = spi_datum(row, 9, &isnull);
	engine->retry_at = isnull ? 0 : DatumGetTimestampTz(datum);
	engine->home = spi_text(row, 10);
	engine->pays_into = spi_text(row, 18);
	engine->version = (int32) spi_int(row, 11, NULL);
	datum = spi_datum(row, 12, &isnull);
	if (!isnull)
	{
		engine->parameters = DatumGetJsonbPCopy(datum);
		engine->weights = engine->descriptor->class->parse(engine->descriptor->name, engine->parameters);
		engine->debounce = engine_debounce(engine->parameters);
	}
	else
		engine->debounce = guc_debounce;

	datum = spi_datum(row, 13, &isnull);
	engine->computed_until = isnull ? 0 : DatumGetTimestampTz(datum);

	engine->users_name = relation_name(engine->users);
	engine->sources = oids_of_text(spi_text(row, 15));
	engine->given_away = spi_text(row, 16);
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
								 "e.suspended_error, e.retry_at, e.home, a.version, a.parameters, "
								 "e.computed_until, e.id, s.oids, s.given_away, e.class, e.pays_into "
								 "FROM reputation.engine e CROSS JOIN LATERAL "
								 "(SELECT string_agg(k.oid::text, ' ') AS oids, "
								 "string_agg(k.oid::regclass::text, ', ') FILTER "
								 "(WHERE k.relowner <> c.owner AND "
								 "NOT pg_catalog.pg_has_role(k.relowner, e.role::oid, 'USAGE')) "
								 "AS given_away FROM reputation.capture c "
								 "JOIN reputation.source n ON n.id = c.source "
								 "JOIN pg_catalog.pg_class k ON k.oid = n.relation "
								 "WHERE c.engine = e.id) s "
								 "LEFT JOIN reputation.algorithm a ON a.engine = e.name AND a.active "
								 "WHERE e.name = $1 OR $1 IS NULL ORDER BY e.id",
								 1, types, values, name ? NULL : "n");

	for (uint64 row = 0; row < count; row++)
	{
		Engine	   *engine = engine_from_row(row);

		if (engine != NULL)
			engines = lappend(engines, engine);
	}
	SPI_freetuptable(SPI_tuptable);
	return engines;
}

/*
 * Of engines whose class is not loaded the keys in the inbox will be dropped. So they are
 * taken for those of another database, as those of a dump are: once their class is there
 * again everybody is computed (home.c).
 */
static void
leave_home(void)
{
	char	   *names[MAX_ENGINE_CLASSES];
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];

	for (int i = 0; i < nclasses; i++)
		names[i] = (char *) classes[i]->name;
	values[0] = text_array(names, nclasses);
	spi_exec("UPDATE reputation.engine SET home = '' WHERE class <> ALL ($1) AND home <> ''",
			 1, types, values, NULL);
}

/*
 * engine_list -- the attached engines, in palloc'd memory, but for those that are
 * being attached or detached (unless it shall wait). They stay as they are until
 * the transaction ends. Skipped: one is not in the list, so the inbox must not be
 * folded now, or its keys would be lost. One without an active algorithm takes its
 * keys, and is suspended when its jobs come to be computed. Needs SPI and the
 * extension owner's rights.
 */
List *
engine_list(bool wait, bool *skipped)
{
	List	   *engines = NIL;
	List	   *loaded;
	ListCell   *cell;
	bool		locked[MAX_ENGINE_ID + 1] = {false};
	uint64		count;

	/* No engine comes from here on, so none is missed of which there are keys. */
	*skipped = !lock_registry(false, wait);
	count = spi_exec("SELECT id FROM reputation.engine ORDER BY id", 0, NULL, NULL, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		int			id = (int) spi_int(row, 1, NULL);

		locked[id] = lock_engine(id, false, wait);
		*skipped |= !locked[id];
	}
	loaded = load_engines(NULL);
	if ((uint64) list_length(loaded) < count)
		leave_home();
	foreach(cell, loaded)
	{
		Engine	   *engine = lfirst(cell);

		if (locked[engine->descriptor->id])
			engines = lappend(engines, engine);
		else
			*skipped = true;
	}
	return engines;
}

/*
 * engine_require_users -- 42P01 when the users table is gone.
 */
void
engine_require_users(const Engine *engine)
{
	if (engine->users_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the users table of the engine \"%s\" no longer exists",
						engine->descriptor->name),
				 errhint("Attach it again with %s.", engine->descriptor->attach_call)));
}

/*
 * engine_require_objects -- the same before the application's objects are touched as the
 * engine's role; 42704 when that is gone; and 42501 when a source was given to an owner who
 * has not the rights of that role, and would get them by what is in the table.
 */
void
engine_require_objects(const Engine *engine)
{
	engine_require_users(engine);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(engine->role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role that the engine \"%s\" works as no longer exists",
						engine->descriptor->name),
				 errhint("Attach it again with %s.", engine->descriptor->attach_call)));
	if (engine->given_away != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of %s has changed since the engine \"%s\" was attached",
						engine->given_away, engine->descriptor->name),
				 errdetail("What an owner has put into a table would run as the engine's role."),
				 errhint("Attach it again with %s.", engine->descriptor->attach_call)));
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
			 errhint("Attach it to the application's tables with %s.",
					 descriptor->attach_call)));
}

/*
 * engine_unknown_user -- raises P0002.
 */
void
engine_unknown_user(const Engine *engine, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("there is no user \"%s\" in %s", key, engine->users_name)));
}

/*
 * engine_require_algorithm -- 55000 when no version of its algorithm is active.
 */
void
engine_require_algorithm(const Engine *engine)
{
	if (engine->weights == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the engine \"%s\" has no active algorithm", engine->descriptor->name),
				 errhint("Activate a version with algorithm_activate().")));
}

/*
 * engine_attached -- the attached engine of that name, with or without an active
 * algorithm. 55000 when it is not attached, 42P01 when its users table is gone.
 */
Engine *
engine_attached(const char *name)
{
	const EngineDescriptor *descriptor = engine_descriptor(name);
	List	   *engines = load_engines(name);

	if (engines == NIL)
		engine_not_attached(descriptor);
	engine_require_users(linitial(engines));
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
	Engine	   *engine = engine_attached(name);

	engine_require_algorithm(engine);
	return engine;
}

/* engine_get() of every attached engine. 55000 when there is none. */
static List *
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

/*
 * engine_chosen -- the engine named, or all that are attached. 55000 when there is
 * none.
 */
List *
engine_chosen(const char *name)
{
	return name != NULL ? list_make1(engine_get(name)) : engine_get_all();
}

/*
 * engine_ids -- the ids of engines, as an array.
 */
Datum
engine_ids(const List *engines)
{
	int32	   *ids = palloc(sizeof(int32) * Max(list_length(engines), 1));
	ListCell   *cell;
	int			count = 0;

	foreach(cell, engines)
		ids[count++] = ((Engine *) lfirst(cell))->descriptor->id;
	return int_array(ids, count);
}

/* They are freed when one is loaded the next time. */
static void
forget_cached(void)
{
	cached_engines = NIL;
	cached_changes++;
}

/* With none in the list, one may just be being loaded. */
static void
relation_changed(Datum arg, Oid relation)
{
	ListCell   *cell;
	bool		stale = !OidIsValid(relation) || relation == engine_table ||
	cached_engines == NIL;

	foreach(cell, cached_engines)
		stale |= ((Engine *) lfirst(cell))->users == relation ||
		list_member_oid(((Engine *) lfirst(cell))->sources, relation);
	if (stale)
		forget_cached();
}

/* ALTER SCHEMA ... RENAME changes no relation, but users_name. */
static void
schema_changed(Datum arg, int cache, uint32 hash)
{
	forget_cached();
}

/*
 * engine_cache_generation -- how often the cached engines were forgotten: what was
 * made of them is stale when it has changed.
 */
uint64
engine_cache_generation(void)
{
	return cached_changes;
}

/*
 * engine_remembered -- what engine_cached() would give, if it need not be read; else
 * NULL.
 */
Engine *
engine_remembered(const char *name)
{
	ListCell   *cell;

	foreach(cell, cached_engines)
	{
		Engine	   *engine = lfirst(cell);

		if (strcmp(engine->descriptor->name, name) == 0)
			return engine;
	}
	return NULL;
}

/*
 * engine_cached -- engine_get() that remembers, for reads: what depends on the
 * engine's row only (table, key, column), not on its parameters.
 */
Engine *
engine_cached(const char *name)
{
	Engine	   *engine = engine_remembered(name);
	MemoryContext before;
	uint64		changes;

	if (engine != NULL)
		return engine;

	if (!cache_registered)
	{
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
		cache_registered = true;
	}
	if (cached_context == NULL)
		cached_context = AllocSetContextCreate(CacheMemoryContext, "reputation engines",
											   ALLOCSET_SMALL_SIZES);
	else if (cached_engines == NIL)
		MemoryContextReset(cached_context);

	engine_table = get_relname_relid("engine", get_namespace_oid("reputation", true));
	before = MemoryContextSwitchTo(cached_context);
	changes = cached_changes;
	engine = engine_attached(name);
	/* Not kept if it may have changed after it was read. */
	if (changes == cached_changes)
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
	on_change();
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

/* A value's text; of the usual types without a look at the catalog. */
static char *
text_of(Oid type, Datum value)
{
	char	   *result;
	Oid			output;
	bool		varlena;

	switch (type)
	{
		case TEXTOID:
			return TextDatumGetCString(value);
		case INT4OID:
			result = palloc(MAXINT8LEN + 1);
			pg_ltoa(DatumGetInt32(value), result);
			return result;
		case INT8OID:
			result = palloc(MAXINT8LEN + 1);
			pg_lltoa(DatumGetInt64(value), result);
			return result;
		default:
			getTypeOutputInfo(type, &output, &varlena);
			return OidOutputFunctionCall(output, value);
	}
}

/*
 * engine_key_from_argument -- the user id of an anycompatible argument, as the
 * canonical text of the engine's key type. 22P02 when it is malformed.
 */
char *
engine_key_from_argument(FunctionCallInfo fcinfo, int argno, const Engine *engine)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, argno);
	char	   *text;

	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the user id");
	text = text_of(type, PG_GETARG_DATUM(argno));
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
	if (type_is_integer(engine->key_type))
		appendStringInfoString(json, key);
	else
		escape_json(json, key);
}

/* 39P01 unless it is the row trigger of its table that it is made for. */
static void
require_algorithm_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		(!TRIGGER_FIRED_BY_INSERT(data->tg_event) && !TRIGGER_FIRED_BY_UPDATE(data->tg_event)) ||
		!relation_is_own(data->tg_relation, "algorithm"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.check_algorithm() must be the row trigger check_algorithm of reputation.algorithm")));
}

/* A column of the row, by its name; 39P01 when it is not of that type. */
static Datum
algorithm_column(TriggerData *data, HeapTuple row, const char *name, Oid type, bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	int			column = SPI_fnumber(desc, name);

	if (column <= 0 || SPI_gettypeid(desc, column) != type)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.algorithm has no column \"%s\" of type %s", name,
						format_type_be(type))));
	return heap_getattr(row, column, desc, isnull);
}

/*
 * reputation.check_algorithm() -- row trigger on reputation.algorithm: parameters
 * that the engine cannot read are refused when they are written. 22023; 39P01 when
 * it is called otherwise.
 */
Datum
reputation_check_algorithm(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	HeapTuple	row;
	Datum		name;
	Datum		parameters;
	bool		name_null;
	bool		parameters_null;

	require_algorithm_trigger(fcinfo);
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	name = algorithm_column(data, row, "engine", TEXTOID, &name_null);
	parameters = algorithm_column(data, row, "parameters", JSONBOID, &parameters_null);
	on_change();
	/* A null is refused by its constraint. */
	if (!name_null && !parameters_null)
	{
		Jsonb	   *object = DatumGetJsonbP(parameters);
		const EngineDescriptor *descriptor = engine_registered(0, TextDatumGetCString(name));

		/*
		 * Otherwise a restore may bring it later; an attach reads them. Anything but an object is
		 * refused by its constraint.
		 */
		if (descriptor != NULL && JB_ROOT_IS_OBJECT(object))
			(void) engine_parse_parameters(descriptor, object);
	}
	return PointerGetDatum(row);
}

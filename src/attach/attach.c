/*
 * attach.c
 *		Attaching an engine to an application's tables.
 *
 * An attach is one transaction: it checks everything first and names all that
 * is missing at once, then changes the application's tables, each as its owner (the
 * cached column, its index, the triggers; source_act.c), and writes the registry and the
 * views with the rights of the extension's owner.
 *
 * The engine works as the caller; if that is a superuser, as the owner of the
 * users table. The views belong to that role, so their queries see what it may
 * see.
 *
 * No change is lost between the attach and the first computation: creating a
 * trigger waits for every transaction that has written the table and keeps
 * others out until the attach commits. What was committed before is seen by the
 * sweep that the attach starts, what comes after is captured.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "attach/attach_steps.h"
#include "attach/source_act.h"
#include "base/args.h"
#include "base/locks.h"
#include "base/relations.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "work/drain.h"

/* How often an attach locks its tables before it gives up over deadlocks. */
#define LOCK_ATTEMPTS	100

/* What the signals views may call. */
#define VIEW_FUNCTIONS \
	"reputation.status_list(text, text), reputation.computation_time(), " \
	"reputation.window_start(text, text), reputation.period_after(text, text), " \
	"reputation.badges_held(text), " \
	"reputation.badges_due(text, bigint, bigint, bigint, bigint, boolean, boolean)"

static bool
is_missing(AttachSpec *spec, const char *column)
{
	return column != NULL &&
		get_attnum(spec->tables[0].oid, column) == InvalidAttrNumber;
}

static bool
adds_columns(AttachSpec *spec)
{
	return is_missing(spec, spec->cached_column) || is_missing(spec, spec->rank_column);
}

/* 55000: somebody renamed or dropped it meanwhile. */
static void
table_was_changed(const AttachTable *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s was renamed or dropped while it was being attached", table->qualified),
			 errhint("Attach again.")));
}

static void
lock_in_order(void *arg)
{
	AttachSpec *spec = arg;

	spi_set("deadlock_timeout", "10ms");
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];

		if (!source_lock(table->oid, i == 0 && adds_columns(spec) ? AccessExclusiveLock :
						 ShareRowExclusiveLock, true) ||
			strcmp(relation_name(table->oid), table->qualified) != 0)
			table_was_changed(table);
	}
}

/*
 * Locks the tables against writes. A writer may have them in another order: the
 * attach is the one to give up, and to try again.
 */
static void
lock_tables(AttachSpec *spec)
{
	ErrorData  *error;

	for (int attempt = 0; (error = subxact_try(lock_in_order, spec)) != NULL; attempt++)
	{
		if (error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED || attempt == LOCK_ATTEMPTS)
			ReThrowError(error);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The columns the engine writes, as the users table's owner. */
static void
add_columns(void *arg)
{
	AttachSpec *spec = arg;
	AttachTable *users = &spec->tables[0];

	if (is_missing(spec, spec->cached_column))
		spi_utility(psprintf("ALTER TABLE %s ADD COLUMN %s integer NOT NULL DEFAULT 0",
							 users->qualified, quote_identifier(spec->cached_column)));
	if (is_missing(spec, spec->rank_column))
		spi_utility(psprintf("ALTER TABLE %s ADD COLUMN %s integer", users->qualified,
							 quote_identifier(spec->rank_column)));
}

typedef struct IndexTask
{
	Oid			table;
	const char *sql;
} IndexTask;

static void
execute(void *sql)
{
	spi_utility(sql);
}

static void
execute_as_owner(void *arg)
{
	IndexTask  *task = arg;

	source_act(task->table, execute, (void *) task->sql);
}

/* An index on the cached column; a warning if the table's owner may make none. */
static void
index_cached_column(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];
	IndexTask	task = {users->oid, psprintf("CREATE INDEX ON %s (%s DESC)", users->qualified,
											 quote_identifier(spec->cached_column))};
	ErrorData  *error = subxact_try(execute_as_owner, &task);

	if (error != NULL && error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
		ReThrowError(error);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("no index on %s (%s): %s", users->qualified,
						quote_identifier(spec->cached_column), error->message),
				 errdetail("The owner of the table may not make it."),
				 errhint("%s;", task.sql)));
}

/* Locks all tables; makes the columns the engine writes, and the index. */
static void
prepare_users_table(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];

	lock_tables(spec);
	/* Their owners can be others no more. */
	attach_check_privileges(spec);
	if (adds_columns(spec))
		source_act(users->oid, add_columns, spec);
	if (spec->cached_column != NULL && !attach_has_index(users->oid, spec->cached_column))
		index_cached_column(spec);
}

static ViewState
view_state(const char *view)
{
	Oid			oid = get_relname_relid(view, get_namespace_oid("reputation", false));
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(oid)};
	ViewState	state = {0};

	if (!OidIsValid(oid) || get_rel_relkind(oid) != RELKIND_VIEW)
		return state;
	spi_exec("SELECT pg_catalog.pg_get_viewdef($1), pg_catalog.md5(r.ev_action::text) "
			 "FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1", 1, types, values, NULL);
	state.definition = spi_text(0, 1);
	state.rule = spi_text(0, 2);
	return state;
}

/*
 * Makes a view of the extension's schema and gives it to the engine's role. One
 * that is there is replaced, so that views over it stay, unless its columns
 * have other types.
 */
static void
make_view(const char *view, const char *query, const char *role)
{
	const char *name = quote_identifier(view);
	bool		new = !OidIsValid(get_relname_relid(view, get_namespace_oid("reputation", false)));
	ErrorData  *error = subxact_try(execute, psprintf("CREATE OR REPLACE VIEW reputation.%s AS %s",
													  name, query));

	if (error != NULL && error->sqlerrcode != ERRCODE_INVALID_TABLE_DEFINITION)
		ReThrowError(error);
	if (error != NULL)
	{
		spi_utility(psprintf("DROP VIEW reputation.%s", name));
		spi_utility(psprintf("CREATE VIEW reputation.%s AS %s", name, query));
		new = true;
	}
	/* Whatever ALTER DEFAULT PRIVILEGES would have others do with it. */
	if (new)
		spi_once(psprintf("SELECT reputation.privileges_clear('pg_catalog.pg_class', %s::regclass)",
						  quote_literal_cstr(psprintf("reputation.%s", name))), 0, NULL, NULL, NULL);
	spi_utility(psprintf("ALTER VIEW reputation.%s OWNER TO %s", name, role));
}

/* Is the signals view there, and not as the attach generated it? */
static bool
signals_view_replaced(const EngineDescriptor *engine)
{
	ViewState	present = view_state(engine->signals_view);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];

	if (present.definition == NULL)
		return false;
	values[0] = CStringGetTextDatum(engine->name);
	values[1] = CStringGetTextDatum(present.definition);
	values[2] = CStringGetTextDatum(present.rule);
	return spi_exec("SELECT 1 FROM reputation.engine "
					"WHERE name = $1 AND (view_definition = $2 OR view_rule = $3)",
					3, types, values, NULL) == 0;
}

/*
 * The signals view: made, or kept when its user replaced it; what was generated
 * is then empty, so that the next attach keeps it too.
 */
static ViewState
make_signals_view(AttachSpec *spec, const char *role)
{
	ViewState	kept = {"", ""};

	if (!signals_view_replaced(spec->engine))
	{
		make_view(spec->engine->signals_view, spec->view_query, role);
		return view_state(spec->engine->signals_view);
	}
	ereport(NOTICE,
			(errmsg("the view reputation.%s was replaced; it is kept",
					spec->engine->signals_view),
			 errhint("Drop it before you attach to have it made anew.")));
	spi_utility(psprintf("ALTER VIEW reputation.%s OWNER TO %s", spec->engine->signals_view,
						 role));
	return kept;
}

static void
register_lookups(AttachSpec *spec, const char *role)
{
	for (int i = 0; i < spec->nlookups; i++)
	{
		AttachLookup *lookup = &spec->lookups[i];
		const char *view = engine_object(spec->engine, lookup->view);
		Oid			types[] = {INT4OID, INT2OID, TEXTOID, OIDOID};
		Datum		values[] = {Int32GetDatum(spec->engine->id), Int16GetDatum(lookup->kind),
			CStringGetTextDatum(psprintf("reputation.%s", view)),
		ObjectIdGetDatum(lookup->key_type)};

		make_view(view, lookup->query, role);
		spi_exec("INSERT INTO reputation.lookup (engine, kind, view_name, key_type) "
				 "VALUES ($1, $2, $3::regclass, $4)", 4, types, values, NULL);
	}
}

/* What the engine's role needs of the extension, and a source's owner. */
static void
grant_to_roles(AttachSpec *spec, const char *role)
{
	const EngineDescriptor *engine = spec->engine;

	for (int i = 0; i < spec->ntables; i++)
	{
		if (spec->tables[i].own)
			spi_utility(psprintf("GRANT SELECT ON %s TO %s", spec->tables[i].qualified, role));
		else
			source_grant(spec->tables[i].oid);
	}
	spi_utility(psprintf("GRANT USAGE ON SCHEMA reputation TO %s", role));
	for (int i = 0; i < engine->class->noutputs; i++)
	{
		if (engine->class->outputs[i].shown != NULL)
			spi_utility(psprintf("GRANT SELECT ON reputation.%s TO %s", engine->tables[i], role));
	}
	spi_utility(psprintf("GRANT EXECUTE ON FUNCTION %s TO %s", VIEW_FUNCTIONS, role));
}

/*
 * Takes back from whoever owns no source any more what source_grant() gave; the schema
 * only if no engine works as that role.
 */
static void
revoke_from_owners(void)
{
	uint64		count = spi_exec("SELECT DISTINCT r.rolname, "
								 "EXISTS (SELECT FROM reputation.engine e WHERE e.role = r.oid)::int "
								 "FROM pg_catalog.pg_proc p "
								 "CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) a "
								 "JOIN pg_catalog.pg_roles r ON r.oid = a.grantee "
								 "WHERE p.oid = 'reputation.capture()'::regprocedure "
								 "AND a.grantee <> p.proowner AND r.rolname <> 'reputation_admin' "
								 "AND NOT EXISTS (SELECT FROM reputation.source s "
								 "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
								 "WHERE c.relowner = a.grantee)", 0, NULL, NULL, NULL);
	SPITupleTable *owners = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		const char *owner = quote_identifier(SPI_getvalue(owners->vals[row], owners->tupdesc, 1));

		spi_utility(psprintf("REVOKE EXECUTE ON FUNCTION reputation.capture() FROM %s", owner));
		if (strcmp(SPI_getvalue(owners->vals[row], owners->tupdesc, 2), "0") == 0)
			spi_utility(psprintf("REVOKE USAGE ON SCHEMA reputation FROM %s", owner));
	}
}

/*
 * Takes back what a detached engine's role might see of those of its sources that are the
 * extension's own, unless another engine computes from them as that role.
 */
static void
revoke_sources(Oid role, List *sources)
{
	Oid			types[] = {OIDOID, OIDOID};
	ListCell   *cell;

	foreach(cell, sources)
	{
		Oid			table = lfirst_oid(cell);
		Datum		values[] = {ObjectIdGetDatum(role), ObjectIdGetDatum(table)};

		if (get_rel_namespace(table) == get_namespace_oid("reputation", false) &&
			spi_exec("SELECT 1 FROM reputation.engine e JOIN reputation.capture c ON c.engine = e.id "
					 "JOIN reputation.source s ON s.id = c.source "
					 "WHERE e.role = $1 AND s.relation = $2", 2, types, values, NULL) == 0)
			spi_utility(psprintf("REVOKE SELECT ON %s FROM %s", relation_name(table),
								 quote_identifier(GetUserNameFromId(role, false))));
	}
}

/* Takes back from a role what no attached engine gives it any more. */
static void
revoke_from_role(const EngineDescriptor *engine, Oid oid, const char *role, List *sources)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(oid)};

	for (int i = 0; i < engine->class->noutputs; i++)
	{
		if (engine->class->outputs[i].shown != NULL)
			spi_utility(psprintf("REVOKE SELECT ON reputation.%s FROM %s", engine->tables[i], role));
	}
	revoke_sources(oid, sources);
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE role = $1", 1, types, values, NULL) > 0)
		return;
	spi_utility(psprintf("REVOKE EXECUTE ON FUNCTION %s FROM %s", VIEW_FUNCTIONS, role));
	if (spi_exec("SELECT 1 FROM reputation.source s JOIN pg_catalog.pg_class c "
				 "ON c.oid = s.relation WHERE c.relowner = $1", 1, types, values, NULL) == 0)
		spi_utility(psprintf("REVOKE USAGE ON SCHEMA reputation FROM %s", role));
}

/*
 * Takes back what no attached engine gives any more: from the role of a detached
 * engine, if it is still there, and from whoever owned a source.
 */
static void
revoke_unused(const EngineDescriptor *engine, Oid role, List *sources)
{
	const char *name = GetUserNameFromId(role, true);

	if (name != NULL)
		revoke_from_role(engine, role, quote_identifier(name), sources);
	revoke_from_owners();
}

/*
 * attach_install -- makes everything an attached engine needs; returns the id
 * of its first run. After attach_engine(), which has locked it, attach_resolve() and with
 * the queries filled in.
 */
int64
attach_install(FunctionCallInfo fcinfo, AttachSpec *spec)
{
	Oid			role_oid = attach_role(spec);
	const char *role = quote_identifier(GetUserNameFromId(role_oid, false));
	EngineContext caller;
	List	   *tables;
	ListCell   *cell;
	Engine	   *engine;
	int			settings;
	int64		run;

	spi_begin();
	settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	prepare_users_table(spec);

	owner_enter(fcinfo, &caller);
	/* Before the names of this attach are among those that are followed. */
	triggers_number_columns();
	for (int i = 0; i < spec->ntables; i++)
		(void) triggers_follow(spec->tables[i].oid);
	registry_require_same_users(spec);
	if (!spec->replace)
		registry_require_same_tables(spec);
	registry_require_free_columns(spec);
	tables = registry_captured_tables(spec->engine);
	registry_add_engine(spec, role_oid, make_signals_view(spec, role));
	register_lookups(spec, role);
	for (int i = 0; i < spec->ntables; i++)
	{
		registry_add_capture(spec, &spec->tables[i], registry_add_source(spec->tables[i].oid));
		tables = list_append_unique_oid(tables, spec->tables[i].oid);
	}
	registry_remove_unused();
	grant_to_roles(spec, role);
	engine_forget_cached();
	owner_leave(&caller);

	foreach(cell, tables)
		triggers_refresh(fcinfo, lfirst_oid(cell));
	attach_advise_triggers(spec);

	owner_enter(fcinfo, &caller);
	engine = engine_get(spec->engine->name);
	engine_probe(engine);
	run = sweep_start(engine, "backfill", "attach");
	registry_computed(spec->engine);
	owner_leave(&caller);
	capture_wake_at_commit();
	spi_settings_end(settings);
	spi_end();
	return run;
}

/*
 * attach_remove -- detaches an engine: removes its triggers, views and pending
 * work, keeps its scores. A signals view that its user replaced is kept, too.
 */
void
attach_remove(FunctionCallInfo fcinfo, const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->id), CStringGetTextDatum(engine->name)};
	EngineContext caller;
	List	   *tables;
	ListCell   *cell;
	Oid			role;
	uint64		nviews;
	int			settings;

	spi_begin();
	settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	(void) lock_engine(engine->id, true, true);
	owner_enter(fcinfo, &caller);
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE id = $1", 1, types, values, NULL) == 0)
		engine_not_attached(engine);
	if (signals_view_replaced(engine))
		ereport(NOTICE, (errmsg("the view reputation.%s was replaced; it is kept",
								engine->signals_view)));
	else if (view_state(engine->signals_view).definition != NULL)
		spi_utility(psprintf("DROP VIEW reputation.%s", engine->signals_view));

	nviews = spi_exec("SELECT v.oid::regclass::text FROM reputation.lookup l "
					  "JOIN pg_catalog.pg_class v ON v.oid = l.view_name WHERE l.engine = $1",
					  1, types, values, NULL);
	for (uint64 row = 0; row < nviews; row++)
	{
		SPITupleTable *views = SPI_tuptable;

		spi_utility(psprintf("DROP VIEW %s", spi_text(row, 1)));
		SPI_tuptable = views;
	}

	tables = registry_captured_tables(engine);
	spi_exec("SELECT role::oid FROM reputation.engine WHERE id = $1", 1, types, values, NULL);
	role = (Oid) spi_int(0, 1, NULL);
	registry_remove_engine(engine);
	registry_cancel_work(engine, "the engine was detached");
	registry_remove_unused();
	revoke_unused(engine, role, tables);
	engine_forget_cached();
	owner_leave(&caller);

	foreach(cell, tables)
		triggers_refresh(fcinfo, lfirst_oid(cell));
	spi_settings_end(settings);
	spi_end();
}

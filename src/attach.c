/*
 * attach.c
 *		Attaching an engine to an application's tables.
 *
 * An attach is one transaction: it checks everything first and names all that
 * is missing at once, then changes the application's tables with the caller's
 * rights (the cached column, its index, the triggers), and writes the
 * registry and the views with the extension owner's.
 *
 * The engine works as the caller; if that is a superuser, as the owner of the
 * users table. The views belong to that role, so their queries see what it may
 * see.
 *
 * No change is lost between the attach and the first computation: creating a
 * trigger waits for every transaction that has written the table and keeps
 * others out until the attach commits. What was committed before is seen by the
 * sweep that the attach starts, what comes after is captured.
 *
 * Capture triggers belong to a table, not to an engine: they are made from what
 * all attached engines want of it (reputation.capture, reputation.source_key).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "attach.h"
#include "capture.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "compat.h"
#include "drain.h"
#include "locks.h"
#include "miscadmin.h"
#include "spi.h"
#include "subxact.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* How often an attach locks its tables before it gives up over deadlocks. */
#define LOCK_ATTEMPTS	100

/* Appends a name to a comma list. */
static void
add_name(StringInfo list, const char *name)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

/*
 * attach_column -- a table's column by the engine's name for it.
 */
AttachColumn *
attach_column(AttachTable *table, const char *name)
{
	for (AttachColumn *column = table->columns; column->name != NULL; column++)
	{
		if (strcmp(column->name, name) == 0)
			return column;
	}
	elog(ERROR, "table %s has no column %s in its description", table->argument, name);
}

/*
 * attach_as -- a column as an expression of the type given.
 */
char *
attach_as(const AttachColumn *column, const char *alias, Oid type)
{
	if (column->type == type)
		return psprintf("%s.%s", alias, column->actual);
	return psprintf("%s.%s::%s", alias, column->actual, format_type_be_qualified(type));
}

static AttachTable *
find_table(AttachSpec *spec, const char *argument)
{
	for (int i = 0; i < spec->ntables; i++)
	{
		if (strcmp(spec->tables[i].argument, argument) == 0)
			return &spec->tables[i];
	}
	return NULL;
}

/* The accepted keys of the argument "columns", for a hint. */
static char *
accepted_columns(AttachSpec *spec)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < spec->ntables; i++)
	{
		for (AttachColumn *c = spec->tables[i].columns; c->name != NULL; c++)
			add_name(&list, psprintf("%s.%s", spec->tables[i].argument, c->name));
	}
	return list.data;
}

static void
bad_columns(AttachSpec *spec, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"columns\": %s", what),
			 errhint("It maps, for each table, the engine's column names to yours, like "
					 "{\"users\": {\"id\": \"uid\"}}. The names are: %s.",
					 accepted_columns(spec))));
}

/* Takes over one entry of "columns". */
static void
rename_column(AttachSpec *spec, AttachTable *table, const char *name, const JsonbValue *value)
{
	for (AttachColumn *column = table->columns; column->name != NULL; column++)
	{
		if (strcmp(column->name, name) != 0)
			continue;
		if (value->type == jbvString)
			column->raw = pnstrdup(value->val.string.val, value->val.string.len);
		else if (value->type == jbvNull && column->optional)
			column->raw = NULL;
		else
			bad_columns(spec, psprintf("%s.%s must be a column name%s", table->argument, name,
									   column->optional ? " or null" : ""));
		return;
	}
	bad_columns(spec, psprintf("there is no column %s.%s", table->argument, name));
}

/* Walks {"table": {"column": "name", ...}, ...}. */
static void
read_columns(AttachSpec *spec)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	AttachTable *table = NULL;
	char	   *name = NULL;
	int			depth = 0;

	for (int i = 0; i < spec->ntables; i++)
	{
		for (AttachColumn *c = spec->tables[i].columns; c->name != NULL; c++)
			c->raw = pstrdup(c->name);
	}
	if (spec->columns == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(spec->columns))
		bad_columns(spec, "it must be an object");

	iterator = JsonbIteratorInit(&spec->columns->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT)
			depth++;
		else if (token == WJB_END_OBJECT)
			depth--;
		else if (token == WJB_KEY)
		{
			name = pnstrdup(value.val.string.val, value.val.string.len);
			if (depth == 1 && (table = find_table(spec, name)) == NULL)
				bad_columns(spec, psprintf("there is no table \"%s\"", name));
		}
		else if (token == WJB_VALUE && depth == 2 && table != NULL)
			rename_column(spec, table, name, &value);
		else
			bad_columns(spec, psprintf("the value of \"%s\" is not of that shape", name));
	}
}

/* Finds the tables; 42P01 naming all that are missing, 42809 for no table. */
static void
resolve_tables(AttachSpec *spec)
{
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];
		RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(table->name)));

		table->oid = RangeVarGetRelid(name, NoLock, true);
		if (!OidIsValid(table->oid))
			add_name(&missing, table->name);
	}
	if (missing.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("missing tables: %s", missing.data),
				 errhint("Name your tables in the arguments of %s(), qualified if they are not "
						 "in the search_path.", spec->engine->attach_function)));

	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];
		char		kind = get_rel_relkind(table->oid);

		if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" is not a table", table->name),
					 errhint("An engine captures the changes of tables.")));
		if (get_rel_persistence(table->oid) == RELPERSISTENCE_TEMP)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" is a temporary table", table->name)));
		table->qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table->oid)),
													  get_rel_name(table->oid));
	}
}

/* Finds the columns; 42703 naming all that are missing. */
static void
resolve_columns(AttachSpec *spec)
{
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];

		for (AttachColumn *column = table->columns; column->name != NULL; column++)
		{
			AttrNumber	attnum;

			if (column->raw == NULL)
				continue;
			attnum = get_attnum(table->oid, column->raw);
			if (attnum <= 0)
				add_name(&missing, psprintf("%s.%s", table->name, column->raw));
			else
			{
				column->actual = pstrdup(quote_identifier(column->raw));
				column->type = getBaseType(get_atttype(table->oid, attnum));
			}
		}
	}
	if (missing.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("missing columns: %s", missing.data),
				 errhint("Columns under other names are given in the argument \"columns\": %s.",
						 accepted_columns(spec))));
}

static bool
is_integer(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

static bool
is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID;
}

/* 42804 unless the users' key has a type an engine can work with. */
static void
check_key_type(AttachSpec *spec)
{
	AttachColumn *key = attach_column(&spec->tables[0], spec->users_key);

	if (!is_integer(key->type) && !is_text(key->type) && key->type != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("user ids of type %s are not supported", format_type_be(key->type)),
				 errdetail("Column %s of %s.", key->actual, spec->tables[0].qualified),
				 errhint("Supported are smallint, integer, bigint, uuid, text and varchar.")));
}

/*
 * attach_require_comparable -- 42804 unless two columns, of which one refers to
 * the other, have types that can be compared and cast.
 */
void
attach_require_comparable(AttachTable *table, const char *name, AttachTable *other_table,
						  const char *other_name)
{
	AttachColumn *column = attach_column(table, name);
	AttachColumn *other = attach_column(other_table, other_name);

	if (column->type == other->type || (is_integer(column->type) && is_integer(other->type)) ||
		(is_text(column->type) && is_text(other->type)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("%s.%s is of type %s, but %s.%s is of type %s", table->qualified,
					column->actual, format_type_be(column->type), other_table->qualified,
					other->actual, format_type_be(other->type))));
}

/* Every column that is captured as a user must be comparable with the users' key. */
static void
check_user_columns(AttachSpec *spec)
{
	for (int i = 1; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];

		for (AttachKey *key = table->keys; key->column != NULL; key++)
		{
			if (key->kind == 0)
				attach_require_comparable(table, key->column, &spec->tables[0],
										  spec->users_key);
		}
	}
}

static Oid
table_owner(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The role the engine will work as. */
static Oid
engine_role(AttachSpec *spec)
{
	return superuser() ? table_owner(spec->tables[0].oid) : GetUserId();
}

/* 42501 unless the caller may attach and the role may compute. */
static void
check_privileges(AttachSpec *spec)
{
	Oid			role = engine_role(spec);
	StringInfoData foreign;
	StringInfoData closed;

	initStringInfo(&foreign);
	initStringInfo(&closed);
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];
		AclMode		needed = i == 0 ? ACL_SELECT | ACL_UPDATE : ACL_SELECT;

		if (!object_ownercheck_class(table->oid, GetUserId()))
			add_name(&foreign, table->qualified);
		if (pg_class_aclmask(table->oid, role, needed, ACLMASK_ALL) != needed ||
			check_enable_rls(table->oid, role, true) == RLS_ENABLED)
			add_name(&closed, table->qualified);
	}
	if (foreign.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of %s", foreign.data),
				 errhint("The attach creates triggers. Let their owner (a member of "
						 "reputation_admin) or a superuser attach.")));
	if (closed.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot see all of %s", GetUserNameFromId(role, false),
						closed.data),
				 errdetail("The engine would compute as this role; it needs SELECT on every "
						   "table, UPDATE on %s, and no row security in the way.",
						   spec->tables[0].qualified),
				 errhint("Grant the privileges, or BYPASSRLS.")));
}

/* 22023 when a table has two roles, or the rank column another one. */
static void
check_distinct(AttachSpec *spec)
{
	for (int i = 0; i < spec->ntables; i++)
	{
		for (int j = 0; j < i; j++)
		{
			if (spec->tables[i].oid == spec->tables[j].oid)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("arguments \"%s\" and \"%s\" are the same table",
								spec->tables[j].argument, spec->tables[i].argument)));
		}
	}
	if (spec->rank_column == NULL)
		return;
	for (AttachColumn *column = spec->tables[0].columns; column->name != NULL; column++)
	{
		if (strcmp(spec->rank_column, spec->cached_column) == 0 ||
			(column->raw != NULL && strcmp(spec->rank_column, column->raw) == 0))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"rank_column\": the column %s has another purpose",
							quote_identifier(spec->rank_column)),
					 errhint("Name a column of its own; it is added when it is missing.")));
	}
}

/* 42804 when a column the engine writes is there, but is no integer. */
static void
check_written_column(AttachSpec *spec, const char *name)
{
	AttrNumber	attnum = get_attnum(spec->tables[0].oid, name);

	if (attnum == InvalidAttrNumber)
		return;
	if (attnum < 0 || get_atttype(spec->tables[0].oid, attnum) != INT4OID ||
		get_attgenerated(spec->tables[0].oid, attnum) != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %s of %s is not a plain integer", quote_identifier(name),
						spec->tables[0].qualified),
				 errhint("The engine writes this column. Rename yours, or change its type.")));
}

/*
 * attach_resolve -- reads "columns", finds tables and columns, and checks
 * everything that can be checked before anything is changed.
 */
void
attach_resolve(FunctionCallInfo fcinfo, AttachSpec *spec)
{
	if (strcmp(spec->fire, "origin") != 0 && strcmp(spec->fire, "always") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"fire\" must be origin or always, not \"%s\"", spec->fire)));
	read_columns(spec);
	resolve_tables(spec);
	resolve_columns(spec);
	check_distinct(spec);
	check_key_type(spec);
	check_user_columns(spec);
	check_written_column(spec, spec->cached_column);
	if (spec->rank_column != NULL)
		check_written_column(spec, spec->rank_column);
	check_privileges(spec);
}

/* Has the table a usable index that begins with the column? */
static bool
has_index(Oid table, const char *column)
{
	Oid			types[] = {OIDOID, INT2OID};
	Datum		values[] = {ObjectIdGetDatum(table), Int16GetDatum(get_attnum(table, column))};

	return spi_exec("SELECT 1 FROM pg_catalog.pg_index i "
					"WHERE i.indrelid = $1 AND i.indkey[0] = $2 AND i.indisvalid "
					"AND i.indpred IS NULL", 2, types, values, NULL) > 0;
}

/*
 * attach_advise_index -- warns when recomputing a user would read the whole
 * table. After attach_install().
 */
void
attach_advise_index(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);
	int			settings;
	bool		found;

	spi_begin();
	settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	found = has_index(table->oid, column->raw);
	spi_settings_end(settings);
	spi_end();
	if (!found)
		ereport(WARNING,
				(errmsg("no index on %s (%s): every computation reads the whole table",
						table->qualified, column->actual),
				 errhint("CREATE INDEX CONCURRENTLY ON %s (%s);", table->qualified,
						 column->actual)));
}

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

static void
lock_in_order(void *arg)
{
	AttachSpec *spec = arg;

	spi_set("deadlock_timeout", "10ms");
	for (int i = 0; i < spec->ntables; i++)
		spi_utility(psprintf("LOCK TABLE %s IN %s MODE", spec->tables[i].qualified,
							 i == 0 && adds_columns(spec) ? "ACCESS EXCLUSIVE" :
							 "SHARE ROW EXCLUSIVE"));
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

/* With the caller's rights: the columns the engine writes, and the index. */
static void
prepare_users_table(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];

	lock_tables(spec);
	if (is_missing(spec, spec->cached_column))
		spi_utility(psprintf("ALTER TABLE %s ADD COLUMN %s integer NOT NULL DEFAULT 0",
							 users->qualified, quote_identifier(spec->cached_column)));
	if (is_missing(spec, spec->rank_column))
		spi_utility(psprintf("ALTER TABLE %s ADD COLUMN %s integer", users->qualified,
							 quote_identifier(spec->rank_column)));
	if (!has_index(users->oid, spec->cached_column))
		spi_utility(psprintf("CREATE INDEX ON %s (%s DESC)", users->qualified,
							 quote_identifier(spec->cached_column)));
}

/*
 * A view as it is: the text of its definition, which survives a dump, and a
 * digest of its rule, which survives a renamed column.
 */
typedef struct ViewState
{
	char	   *definition;		/* NULL: there is none */
	char	   *rule;
} ViewState;

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

static void
execute(void *sql)
{
	spi_utility(sql);
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
	ErrorData  *error = subxact_try(execute, psprintf("CREATE OR REPLACE VIEW reputation.%s AS %s",
													  name, query));

	if (error != NULL && error->sqlerrcode != ERRCODE_INVALID_TABLE_DEFINITION)
		ReThrowError(error);
	if (error != NULL)
	{
		spi_utility(psprintf("DROP VIEW reputation.%s", name));
		spi_utility(psprintf("CREATE VIEW reputation.%s AS %s", name, query));
	}
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

/* Forgets what waits for the engine: its keys are of other users from now on. */
static void
cancel_work(const EngineDescriptor *engine, const char *why)
{
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->id), CStringGetTextDatum(engine->name),
	CStringGetTextDatum(why)};

	spi_exec("DELETE FROM reputation.job WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.recent_run WHERE engine = $1", 1, types, values, NULL);
	spi_exec("UPDATE reputation.job_runs SET status = 'cancelled', "
			 "finished_at = reputation.clock(), error = $2 "
			 "WHERE scope = $1 AND status = 'running'", 2, &types[1], &values[1], NULL);
}

/* Everything in the registry that is the engine's own. */
static void
unregister_engine(const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->id)};

	spi_exec("DELETE FROM reputation.capture_key WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.capture WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.lookup WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.engine WHERE id = $1", 1, types, values, NULL);
}

/* The engine's row and its first algorithm. */
static void
register_engine(AttachSpec *spec, Oid role, ViewState view)
{
	const EngineDescriptor *engine = spec->engine;
	AttachColumn *key = attach_column(&spec->tables[0], spec->users_key);
	Oid			types[] = {INT4OID, TEXTOID, OIDOID, OIDOID, TEXTOID, OIDOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->id), CStringGetTextDatum(engine->name),
		ObjectIdGetDatum(role), ObjectIdGetDatum(spec->tables[0].oid),
		CStringGetTextDatum(key->raw), ObjectIdGetDatum(key->type),
		CStringGetTextDatum(spec->cached_column),
		spec->rank_column ? CStringGetTextDatum(spec->rank_column) : (Datum) 0,
		CStringGetTextDatum(view.definition), CStringGetTextDatum(spec->fire),
	TimestampTzGetDatum(clock_now()), CStringGetTextDatum(view.rule)};
	char		nulls[] = "            ";
	Oid			same_types[] = {INT4OID, OIDOID, OIDOID};
	Datum		same[] = {values[0], values[3], values[5]};
	Oid			algorithm_types[] = {TEXTOID, TEXTOID};
	Datum		algorithm[] = {CStringGetTextDatum(engine->name),
	CStringGetTextDatum(engine->default_parameters)};

	if (spec->rank_column == NULL)
		nulls[7] = 'n';
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE id = $1 AND users = $2 AND key_type = $3",
				 3, same_types, same, NULL) == 0)
		cancel_work(engine, "the engine was attached to other tables");
	unregister_engine(engine);
	spi_exec("INSERT INTO reputation.engine (id, name, role, users, users_key, key_type, "
			 "cached_column, rank_column, view_definition, fire, attached_at, view_rule, home) "
			 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, reputation.home())",
			 12, types, values, nulls);
	spi_exec("INSERT INTO reputation.algorithm (engine, version, parameters, active) "
			 "SELECT $1, 1, $2::jsonb, true WHERE NOT EXISTS "
			 "(SELECT FROM reputation.algorithm WHERE engine = $1)",
			 2, algorithm_types, algorithm, NULL);
	if (spec->rank_column != NULL)
		spi_exec("INSERT INTO reputation.schedule (job_name, every, next_run_at, started_by) "
				 "VALUES ('leaderboards', '15 min', reputation.clock(), 'worker') "
				 "ON CONFLICT DO NOTHING", 0, NULL, NULL, NULL);
}

static void
register_lookups(AttachSpec *spec, const char *role)
{
	for (int i = 0; i < spec->nlookups; i++)
	{
		AttachLookup *lookup = &spec->lookups[i];
		Oid			types[] = {INT4OID, INT2OID, TEXTOID, OIDOID};
		Datum		values[] = {Int32GetDatum(spec->engine->id), Int16GetDatum(lookup->kind),
			CStringGetTextDatum(psprintf("reputation.%s", lookup->view)),
		ObjectIdGetDatum(lookup->key_type)};

		make_view(lookup->view, lookup->query, role);
		spi_exec("INSERT INTO reputation.lookup (engine, kind, view_name, key_type) "
				 "VALUES ($1, $2, $3::regclass, $4)", 4, types, values, NULL);
	}
}

/* The id of a table's row in reputation.source, made when it is missing; never reused. */
static int32
register_source(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	spi_exec("INSERT INTO reputation.source AS s (relation, shape) "
			 "VALUES ($1, reputation.partition_shape($1::regclass)) "
			 "ON CONFLICT (relation) DO UPDATE SET shape = excluded.shape RETURNING id",
			 1, types, values, NULL);
	return (int32) spi_int(0, 1, NULL);
}

/* What the engine wants captured of a table. */
static void
register_capture(AttachSpec *spec, AttachTable *table, int32 source)
{
	Oid			types[] = {INT4OID, INT4OID, TEXTARRAYOID};
	char	   *watched[MAX_ATTACH_COLUMNS + 1];
	int			nwatched = 0;
	Datum		values[3];

	for (AttachColumn *column = table->columns; column->name != NULL; column++)
	{
		if (column->raw != NULL)
			watched[nwatched++] = column->raw;
	}
	if (table->watch_cached)
		watched[nwatched++] = (char *) spec->cached_column;
	values[0] = Int32GetDatum(spec->engine->id);
	values[1] = Int32GetDatum(source);
	values[2] = text_array(watched, nwatched);
	spi_exec("INSERT INTO reputation.capture (engine, source, watched) VALUES ($1, $2, $3)",
			 3, types, values, NULL);

	for (AttachKey *key = table->keys; key->column != NULL; key++)
	{
		Oid			key_types[] = {INT4OID, INT4OID, TEXTOID, CHAROID, INT2OID, INT2OID};
		Datum		k[] = {Int32GetDatum(spec->engine->id), Int32GetDatum(source),
			CStringGetTextDatum(attach_column(table, key->column)->raw),
		CharGetDatum(key->mode), Int16GetDatum(key->kind), Int16GetDatum(key->priority)};

		spi_exec("INSERT INTO reputation.source_key (source, key_no, column_name, mode) "
				 "SELECT $1, coalesce(max(key_no), 0) + 1, $2, $3 "
				 "FROM reputation.source_key WHERE source = $1 "
				 "ON CONFLICT (source, column_name, mode) DO NOTHING",
				 3, &key_types[1], &k[1], NULL);
		spi_exec("INSERT INTO reputation.capture_key (engine, source, key_no, kind, priority) "
				 "SELECT $1, $2, key_no, $5, $6 FROM reputation.source_key "
				 "WHERE source = $2 AND column_name = $3 AND mode = $4",
				 6, key_types, k, NULL);
	}
}

/* What no engine wants any more. */
static void
unregister_unused(void)
{
	spi_exec("DELETE FROM reputation.source_key k WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture_key c WHERE c.source = k.source AND c.key_no = k.key_no)",
			 0, NULL, NULL, NULL);
	spi_exec("DELETE FROM reputation.source s WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture c WHERE c.source = s.id)", 0, NULL, NULL, NULL);
}

/* The triggers' arguments; NULL when no engine wants anything of the source. */
static char *
trigger_arguments(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	StringInfoData list;
	uint64		count = spi_exec("SELECT mode, key_no, column_name FROM reputation.source_key "
								 "WHERE source = $1 ORDER BY key_no", 1, types, values, NULL);

	if (count == 0)
		return NULL;
	initStringInfo(&list);
	appendStringInfo(&list, "'%d'", source);
	for (uint64 row = 0; row < count; row++)
		appendStringInfo(&list, ", %s",
						 quote_literal_cstr(psprintf("%s:%s:%s", spi_text(row, 1),
													 spi_text(row, 2), spi_text(row, 3))));
	return list.data;
}

/*
 * Whether a watched column changed. A function, not its operator *<>: between
 * two ROW(...) a dump would have that compare column by column.
 */
static char *
trigger_condition(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	StringInfoData old_row;
	StringInfoData new_row;
	uint64		count = spi_exec("SELECT DISTINCT unnest(watched) COLLATE \"C\" "
								 "FROM reputation.capture WHERE source = $1 ORDER BY 1",
								 1, types, values, NULL);

	initStringInfo(&old_row);
	initStringInfo(&new_row);
	for (uint64 row = 0; row < count; row++)
	{
		const char *column = quote_identifier(spi_text(row, 1));

		add_name(&old_row, psprintf("OLD.%s", column));
		add_name(&new_row, psprintf("NEW.%s", column));
	}
	return psprintf("pg_catalog.record_image_ne(ROW(%s), ROW(%s))", old_row.data, new_row.data);
}

/* With the caller's rights: the capture triggers as the registry wants them. */
static void
make_triggers(const char *table, const char *arguments, const char *condition, bool always)
{
	static const char *const names[] = {"reputation_capture", "reputation_capture_update",
	"reputation_capture_truncate"};

	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT OR DELETE ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION reputation.capture(%s)",
						 table, arguments));
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture_update AFTER UPDATE ON %s "
						 "FOR EACH ROW WHEN (%s) EXECUTE FUNCTION reputation.capture(%s)",
						 table, condition, arguments));
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture_truncate AFTER TRUNCATE "
						 "ON %s FOR EACH STATEMENT EXECUTE FUNCTION reputation.capture(%s)",
						 table, arguments));
	for (int i = 0; i < lengthof(names); i++)
		spi_utility(psprintf("ALTER TABLE %s ENABLE %s TRIGGER %s", table,
							 always ? "ALWAYS" : "", names[i]));
}

static void
drop_triggers(const char *table, Oid oid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(oid)};
	uint64		count = spi_exec("SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = $1 "
								 "AND tgname IN ('reputation_capture', "
								 "'reputation_capture_update', 'reputation_capture_truncate')",
								 1, types, values, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
		spi_utility(psprintf("DROP TRIGGER %s ON %s",
							 SPI_getvalue(rows->vals[row], rows->tupdesc, 1), table));
}

/*
 * What the engine's role needs of the extension, and a source's owner: making a
 * partition clones the triggers, for which it must be allowed their function.
 */
static void
grant_to_roles(AttachSpec *spec, const char *role)
{
	const EngineDescriptor *engine = spec->engine;

	for (int i = 0; i < spec->ntables; i++)
		spi_utility(psprintf("GRANT EXECUTE ON FUNCTION reputation.capture() TO %s",
							 quote_identifier(GetUserNameFromId(table_owner(spec->tables[i].oid),
																false))));
	spi_utility(psprintf("GRANT USAGE ON SCHEMA reputation TO %s", role));
	spi_utility(psprintf("GRANT SELECT ON reputation.%s TO %s", engine->score_table, role));
	spi_utility(psprintf("GRANT EXECUTE ON FUNCTION reputation.status_list(text, text) TO %s",
						 role));
}

/*
 * Takes back what no attached engine gives any more: from the role of a detached
 * engine, and from whoever owned a source.
 */
static void
revoke_unused(const EngineDescriptor *engine, Oid role_oid)
{
	const char *role = quote_identifier(GetUserNameFromId(role_oid, false));
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(role_oid)};
	uint64		nowners;
	SPITupleTable *owners;

	if (spi_exec("SELECT 1 FROM reputation.engine WHERE role = $1", 1, types, values, NULL) == 0)
	{
		spi_utility(psprintf("REVOKE EXECUTE ON FUNCTION reputation.status_list(text, text) "
							 "FROM %s", role));
		spi_utility(psprintf("REVOKE SELECT ON reputation.%s FROM %s", engine->score_table,
							 role));
		spi_utility(psprintf("REVOKE USAGE ON SCHEMA reputation FROM %s", role));
	}

	nowners = spi_exec("SELECT DISTINCT r.rolname FROM pg_catalog.pg_proc p "
					   "CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) a "
					   "JOIN pg_catalog.pg_roles r ON r.oid = a.grantee "
					   "WHERE p.oid = 'reputation.capture()'::regprocedure "
					   "AND a.grantee <> p.proowner AND r.rolname <> 'reputation_admin' "
					   "AND NOT EXISTS (SELECT FROM reputation.source s "
					   "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
					   "WHERE c.relowner = a.grantee)", 0, NULL, NULL, NULL);
	owners = SPI_tuptable;
	for (uint64 row = 0; row < nowners; row++)
		spi_utility(psprintf("REVOKE EXECUTE ON FUNCTION reputation.capture() FROM %s",
							 quote_identifier(SPI_getvalue(owners->vals[row], owners->tupdesc,
														   1))));
}

/* The sources an engine captures from. */
static List *
captured_tables(const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->id)};
	List	   *tables = NIL;
	uint64		count = spi_exec("SELECT s.relation::oid FROM reputation.source s "
								 "JOIN reputation.capture c ON c.source = s.id "
								 "WHERE c.engine = $1", 1, types, values, NULL);

	for (uint64 row = 0; row < count; row++)
		tables = lappend_oid(tables, (Oid) spi_int(row, 1, NULL));
	return tables;
}

/* Makes or drops the triggers of a table as the registry says. */
static void
refresh_triggers(FunctionCallInfo fcinfo, Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};
	EngineContext caller;
	char	   *arguments = NULL;
	char	   *condition = NULL;
	bool		always = false;
	char	   *name = get_rel_name(table);

	if (name == NULL)
		return;					/* the table is gone, and its triggers with it */
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name);

	owner_enter(fcinfo, &caller);
	if (spi_exec("SELECT s.id, coalesce(bool_or(e.fire = 'always'), false) "
				 "FROM reputation.source s JOIN reputation.capture c ON c.source = s.id "
				 "JOIN reputation.engine e ON e.id = c.engine WHERE s.relation = $1 "
				 "GROUP BY s.id", 1, types, values, NULL) > 0)
	{
		int32		source = (int32) spi_int(0, 1, NULL);
		bool		isnull;

		always = DatumGetBool(spi_datum(0, 2, &isnull));
		arguments = trigger_arguments(source);
		condition = trigger_condition(source);
	}
	owner_leave(&caller);

	if (arguments == NULL)
		drop_triggers(name, table);
	else
		make_triggers(name, arguments, condition, always);
}

/*
 * attach_install -- makes everything an attached engine needs; returns the id
 * of its first run. After attach_resolve() and with the queries filled in.
 */
int64
attach_install(FunctionCallInfo fcinfo, AttachSpec *spec)
{
	Oid			role_oid = engine_role(spec);
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
	(void) lock_engine(spec->engine->id, true, true);
	prepare_users_table(spec);

	owner_enter(fcinfo, &caller);
	tables = captured_tables(spec->engine);
	register_engine(spec, role_oid, make_signals_view(spec, role));
	register_lookups(spec, role);
	for (int i = 0; i < spec->ntables; i++)
	{
		register_capture(spec, &spec->tables[i], register_source(spec->tables[i].oid));
		tables = list_append_unique_oid(tables, spec->tables[i].oid);
	}
	unregister_unused();
	grant_to_roles(spec, role);
	engine_forget_cached();
	owner_leave(&caller);

	foreach(cell, tables)
		refresh_triggers(fcinfo, lfirst_oid(cell));

	owner_enter(fcinfo, &caller);
	engine = engine_get(spec->engine->name);
	engine_probe(engine);
	run = sweep_start(engine, "backfill", "attach");
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

	tables = captured_tables(engine);
	spi_exec("SELECT role::oid FROM reputation.engine WHERE id = $1", 1, types, values, NULL);
	role = (Oid) spi_int(0, 1, NULL);
	unregister_engine(engine);
	cancel_work(engine, "the engine was detached");
	unregister_unused();
	revoke_unused(engine, role);
	engine_forget_cached();
	owner_leave(&caller);

	foreach(cell, tables)
		refresh_triggers(fcinfo, lfirst_oid(cell));
	spi_settings_end(settings);
	spi_end();
}

/*
 * attach_resolve.c
 *		What an attach checks before it changes anything.
 *
 * Reads the argument "columns", finds the tables and their columns, and names
 * everything that is missing or unfit at once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "attach/attach_steps.h"
#include "attach/source_act.h"
#include "base/compat.h"
#include "base/relations.h"
#include "capture/source.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

static AttachTable *
find_table(AttachSpec *spec, const char *argument)
{
	for (int i = 0; i < spec->ntables; i++)
	{
		if (!spec->tables[i].own && strcmp(spec->tables[i].argument, argument) == 0)
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
		for (AttachColumn *c = spec->tables[i].columns; c->name != NULL && !spec->tables[i].own; c++)
			attach_add_name(&list, psprintf("%s.%s", spec->tables[i].argument, c->name));
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
		column->given = true;
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
			c->raw = c->on_request ? NULL : pstrdup(c->name);
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
			attach_add_name(&missing, table->name);
	}
	if (missing.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("missing tables: %s", missing.data),
				 errhint("Name your tables in the arguments of %s(), qualified if they are not "
						 "in the search_path.", spec->engine->class->attach_function)));

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
		table->qualified = relation_name(table->oid);
	}
}

/*
 * Finds the columns; 42703 naming all that are missing, 0A000 naming those that
 * have no value in the rows that a trigger sees.
 */
static void
resolve_columns(AttachSpec *spec)
{
	StringInfoData missing;
	StringInfoData virtual;
	StringInfoData lacking;
	char	   *example = NULL;

	initStringInfo(&lacking);
	initStringInfo(&missing);
	initStringInfo(&virtual);
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];

		for (AttachColumn *column = table->columns; column->name != NULL; column++)
		{
			AttrNumber	attnum;

			if (column->raw == NULL)
				continue;
			attnum = get_attnum(table->oid, column->raw);
			if (attnum <= 0 && column->may_lack && !column->given)
			{
				column->raw = NULL;
				attach_add_name(&lacking, psprintf("%s.%s", table->argument, column->name));
				if (example == NULL)
					example = psprintf("{\"%s\": {\"%s\": \"your_column\"}}", table->argument,
									   column->name);
			}
			else if (attnum <= 0)
				attach_add_name(&missing, psprintf("%s.%s", table->name, column->raw));
			else
			{
				column->actual = pstrdup(quote_identifier(column->raw));
				column->type = getBaseType(get_atttype(table->oid, attnum));
				if (get_attgenerated(table->oid, attnum) == ATTRIBUTE_GENERATED_VIRTUAL)
					attach_add_name(&virtual, psprintf("%s.%s", table->name, column->raw));
			}
		}
	}
	if (missing.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("missing columns: %s", missing.data),
				 errhint("Columns under other names are given in the argument \"columns\": %s.",
						 accepted_columns(spec))));
	if (virtual.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("virtual generated columns are not supported: %s", virtual.data),
				 errdetail("Triggers do not see their values."),
				 errhint("Make them STORED.")));
	if (lacking.len > 0)
		ereport(NOTICE,
				(errmsg("inputs that were not found: %s", lacking.data),
				 errhint("The engine does without them. If your columns have other names, give "
						 "them in the argument \"columns\", like %s.", example)));
}

/* The role the engine will work as. */
Oid
attach_role(AttachSpec *spec)
{
	return superuser() ? source_owner(spec->tables[0].oid) : GetUserId();
}

/* Names an owner of the table, or of a partition, who has not the rights of the role. */
static void
add_strangers(StringInfo list, const AttachTable *table, Oid role)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(table->oid, NoLock, NULL))
	{
		Oid			owner = source_owner(lfirst_oid(cell));

		if (owner != role && !has_privs_of_role(owner, role))
			attach_add_name(list, psprintf("%s (of %s)", relation_name(lfirst_oid(cell)),
										   quote_identifier(GetUserNameFromId(owner, false))));
	}
}

/*
 * 42501 when a superuser attaches a source of somebody who has not the rights of the
 * engine's role: that one's code in the table (a cast, a policy, a trigger) runs as
 * the role. Another caller has the rights of all owners, and consents for himself.
 */
static void
check_owners(AttachSpec *spec)
{
	Oid			role = attach_role(spec);
	const char *name = GetUserNameFromId(role, false);
	StringInfoData strangers;

	if (!superuser())
		return;
	initStringInfo(&strangers);
	for (int i = 0; i < spec->ntables; i++)
	{
		if (!spec->tables[i].own)
			add_strangers(&strangers, &spec->tables[i], role);
	}
	if (strangers.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("tables of owners without the rights of role \"%s\": %s", name,
						strangers.data),
				 errdetail("The engine computes as \"%s\", who owns %s, and what the owners of the "
						   "other tables put into them runs with its rights.", name,
						   spec->tables[0].qualified),
				 errhint("If they are trusted with that: GRANT %s TO them; or attach as an ordinary "
						 "role that owns all tables, or is a member of their owners.",
						 quote_identifier(name))));
}

/*
 * attach_check_privileges -- 42501 unless the caller may attach and the role may
 * compute. To be asked again once the tables are locked.
 */
void
attach_check_privileges(AttachSpec *spec)
{
	Oid			role = attach_role(spec);
	bool		writes = spec->cached_column != NULL || spec->rank_column != NULL;

	/* Who is given points or a badge is held (FOR KEY SHARE). */
	bool		holds = engine_earned(spec->engine->class) >= 0;
	StringInfoData foreign;
	StringInfoData closed;

	initStringInfo(&foreign);
	initStringInfo(&closed);
	for (int i = 0; i < spec->ntables; i++)
	{
		AttachTable *table = &spec->tables[i];
		AclMode		needed = ACL_SELECT | (i == 0 && (writes || holds) ? ACL_UPDATE : 0);

		if (table->own)
			continue;
		if (!object_ownercheck_class(table->oid, GetUserId()))
			attach_add_name(&foreign, table->qualified);
		if (pg_class_aclmask(table->oid, role, needed, ACLMASK_ALL) != needed ||
			check_enable_rls(table->oid, role, true) == RLS_ENABLED)
			attach_add_name(&closed, table->qualified);
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
						   "table%s, and no row security in the way.",
						   writes || holds ?
						   psprintf(", UPDATE on %s", spec->tables[0].qualified) : ""),
				 errhint("Grant the privileges, or BYPASSRLS.")));
	check_owners(spec);
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
		if ((spec->cached_column != NULL && strcmp(spec->rank_column, spec->cached_column) == 0) ||
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
	attach_check_ids(spec);
	if (spec->cached_column != NULL)
		check_written_column(spec, spec->cached_column);
	if (spec->rank_column != NULL)
		check_written_column(spec, spec->rank_column);
	attach_check_privileges(spec);
}

/*
 * attach_spec.c
 *		Tables and columns as an attach describes them.
 */
#include "postgres.h"

#include "attach/attach_steps.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * attach_is_text -- text or varchar?
 */
bool
attach_is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID;
}

/*
 * attach_detach_call -- how an engine of a class that earns something is detached, for
 * hints.
 */
char *
attach_detach_call(const char *name, const char *class)
{
	return psprintf("%s_detach(%s)", class, strcmp(name, class) == 0 ? "" : quote_literal_cstr(name));
}

/* Appends a name to a comma list. */
void
attach_add_name(StringInfo list, const char *name)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

/*
 * attach_wrong_type -- raises 42804: a column is of a type that it cannot be.
 */
void
attach_wrong_type(const AttachTable *table, const AttachColumn *column, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column %s of %s is of type %s", column->actual, table->qualified,
					format_type_be(column->type)),
			 errdetail("As \"%s\" it must be %s.", column->name, wanted),
			 errhint("Name another column in \"columns\", or null for none.")));
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

/*
 * attach_user_column -- a column that refers to a user, for a signals view that
 * has the column's table under the alias, and the users table as "u" if it is
 * joined.
 */
UserColumn
attach_user_column(AttachTable *users, AttachTable *table, const char *name, const char *alias)
{
	AttachColumn *id = attach_column(users, "id");
	AttachColumn *column = attach_column(table, name);
	UserColumn	result = {.join = ""};

	if (!attach_converts(column, id->type))
		result.plain = result.user_id = attach_as(column, alias, id->type);
	else
	{
		result.plain = psprintf("%s.%s", alias, column->actual);
		result.user_id = psprintf("u.%s", id->actual);
		result.join = psprintf(" JOIN %s u ON %s = %s", users->qualified, result.user_id,
							   result.plain);
	}
	return result;
}

/*
 * attach_converts -- does a column become another value in the type given, so
 * that a condition on that does not use the column's index? Not between text
 * and varchar.
 */
bool
attach_converts(const AttachColumn *column, Oid type)
{
	return column->type != type && !attach_is_text(column->type);
}

/*
 * attach_presence -- is a column of the users table neither null nor empty? Of JSON
 * spaces are left out, be it between tokens or in a text, where they may be escaped.
 */
char *
attach_presence(const AttachColumn *column)
{
	const char *test;

	if (column->type == BOOLOID)
		test = "u.%1$s";
	else if (column->type == BYTEAOID)
		test = "octet_length(u.%1$s) > 0";
	else if (TypeCategory(column->type) == TYPCATEGORY_STRING)
		test = "btrim(left(u.%1$s::text, " TEXT_PREFIX ")) <> ''";
	else if (OidIsValid(get_element_type(column->type)))
		test = "cardinality(u.%1$s) > 0";
	else if (column->type == JSONBOID)
		test = "CASE jsonb_typeof(u.%1$s) WHEN 'object' THEN u.%1$s <> '{}' "
			"WHEN 'array' THEN u.%1$s <> '[]' "
			"WHEN 'string' THEN btrim(left(u.%1$s #>> '{}', " TEXT_PREFIX ")) <> '' "
			"ELSE u.%1$s <> 'null' END";
	else if (column->type == JSONOID)
		test = "translate(replace(left(u.%1$s::text, " TEXT_PREFIX "), E'\\\\u0020', ''), "
			"E' \\t\\n\\r', '') NOT IN ('{}', '[]', '\"\"', 'null')";
	else
		test = "left(u.%1$s::text, 10) NOT IN ('', '{}')";
	return psprintf("coalesce(%s, false)", psprintf(test, column->actual));
}

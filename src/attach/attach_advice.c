/*
 * attach_advice.c
 *		Indexes that an attach would like to find.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "attach/attach_steps.h"
#include "base/spi.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* What the best of a table's indexes is good for. */
typedef enum IndexUse
{
	INDEX_NONE,					/* there is none that begins with the column */
	INDEX_BEGINS,				/* there is, but not with the others as wanted */
	INDEX_SERVES
} IndexUse;

/*
 * Looks for a usable index that begins with a column, and in which the others come
 * next, or are anywhere. In SPI.
 */
static IndexUse
find_useful_index(Oid table, const char *column, const int16 *others, int nothers, bool next)
{
	Oid			types[] = {OIDOID, INT2OID, INT2ARRAYOID, BOOLOID};
	Datum		values[] = {ObjectIdGetDatum(table), Int16GetDatum(get_attnum(table, column)),
	smallint_array(others, nothers), BoolGetDatum(next)};

	if (spi_exec("SELECT bool_or(CASE WHEN $4 THEN i.indnkeyatts > cardinality($3) AND "
				 "(i.indkey::int2[])[1:cardinality($3)] = $3 ELSE i.indkey::int2[] @> $3 END)::int "
				 "FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indkey[0] = $2 "
				 "AND i.indisvalid AND i.indpred IS NULL HAVING count(*) > 0",
				 4, types, values, NULL) == 0)
		return INDEX_NONE;
	return spi_int(0, 1, NULL) != 0 ? INDEX_SERVES : INDEX_BEGINS;
}

/*
 * attach_has_index -- has the table a usable index that begins with the column?
 */
bool
attach_has_index(Oid table, const char *column)
{
	return find_useful_index(table, column, NULL, 0, false) != INDEX_NONE;
}

/* find_useful_index() for advice, which is given outside of SPI. */
static IndexUse
look_for_index(const AttachTable *table, const AttachColumn *column, const int16 *others,
			   int nothers, bool next)
{
	int			settings;
	IndexUse	use;

	spi_begin();
	settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	use = find_useful_index(table->oid, column->raw, others, nothers, next);
	spi_settings_end(settings);
	spi_end();
	return use;
}

/* An index that would be missed; a partitioned table's cannot be built concurrently. */
static const char *
create_index(const AttachTable *table)
{
	return get_rel_relkind(table->oid) == RELKIND_PARTITIONED_TABLE ? "CREATE INDEX" :
		"CREATE INDEX CONCURRENTLY";
}

/*
 * attach_advise_covering_index -- warns when recomputing a user would read the
 * whole table, and says which index would spare looking at its rows at all; the
 * other columns end with a NULL, and those the table lacks do not count. After
 * attach_install().
 */
void
attach_advise_covering_index(AttachTable *table, const char *name, const char *const *others)
{
	AttachColumn *column = attach_column(table, name);
	int16		attnums[MAX_ATTACH_COLUMNS];
	int			nattnums = 0;
	StringInfoData include;
	IndexUse	use;

	initStringInfo(&include);
	for (; *others != NULL; others++)
	{
		AttachColumn *other = attach_column(table, *others);

		if (other->actual == NULL)
			continue;
		attnums[nattnums++] = get_attnum(table->oid, other->raw);
		attach_add_name(&include, other->actual);
	}
	use = look_for_index(table, column, attnums, nattnums, false);
	if (use == INDEX_SERVES)
		return;
	ereport(use == INDEX_BEGINS ? NOTICE : WARNING,
			(use == INDEX_BEGINS ? errmsg("no index on %s (%s) has all that the engine reads there: users with a "
										  "long history take longer", table->qualified, column->actual) :
			 errmsg("no index on %s (%s): every computation reads the whole table",
					table->qualified, column->actual),
			 include.len > 0 ?
			 errhint("%s ON %s (%s) INCLUDE (%s);", create_index(table), table->qualified,
					 column->actual, include.data) :
			 errhint("%s ON %s (%s);", create_index(table), table->qualified, column->actual)));
}

/*
 * attach_advise_index -- warns when recomputing a user would read the whole
 * table. After attach_install().
 */
void
attach_advise_index(AttachTable *table, const char *name)
{
	static const char *const others[] = {NULL};

	attach_advise_covering_index(table, name, others);
}

/*
 * attach_advise_ordered_index -- warns, too, when it would read all of the user's
 * rows where a few in the order of a second column are wanted.
 */
void
attach_advise_ordered_index(AttachTable *table, const char *name, const char *next_name)
{
	AttachColumn *column = attach_column(table, name);
	AttachColumn *next = attach_column(table, next_name);
	char	   *list = psprintf("%s, %s", column->actual, next->actual);
	int16		attnum = get_attnum(table->oid, next->raw);
	IndexUse	use = look_for_index(table, column, &attnum, 1, true);

	if (use == INDEX_SERVES)
		return;
	ereport(WARNING,
			(use == INDEX_BEGINS ? errmsg("no index on %s (%s): every computation reads all rows of the user",
										  table->qualified, list) :
			 errmsg("no index on %s (%s): every computation reads the whole table",
					table->qualified, column->actual),
			 errhint("%s ON %s (%s);", create_index(table), table->qualified, list)));
}

/* Is the expression the column, converted to the type? */
static bool
is_conversion(Node *expression, AttrNumber attnum, Oid type)
{
	FuncExpr   *call = (FuncExpr *) expression;
	Var		   *argument;
	Oid			function;

	if (expression == NULL || !IsA(expression, FuncExpr) || list_length(call->args) != 1)
		return false;
	argument = linitial(call->args);
	return IsA(argument, Var) && argument->varattno == attnum &&
		find_coercion_pathway(type, argument->vartype, COERCION_EXPLICIT, &function) ==
		COERCION_PATH_FUNC && function == call->funcid;
}

/* The first of an index's expressions, as it was written; NULL when it has none. */
static Node *
first_expression(HeapTuple index)
{
	bool		isnull;
	Datum		expressions = SysCacheGetAttr(INDEXRELID, index, Anum_pg_index_indexprs, &isnull);

	return isnull ? NULL : linitial(castNode(List, stringToNode(TextDatumGetCString(expressions))));
}

/*
 * Has the table a usable index that begins with the column converted to the type? Of
 * the expressions nothing is evaluated, as RelationGetIndexExpressions() would do.
 */
static bool
has_index_as(Oid table, const char *column, Oid type)
{
	Relation	relation = table_open(table, AccessShareLock);
	AttrNumber	attnum = get_attnum(table, column);
	bool		found = false;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(relation))
	{
		HeapTuple	index = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index form;

		if (!HeapTupleIsValid(index))
			continue;
		form = (Form_pg_index) GETSTRUCT(index);
		if (form->indisvalid && form->indkey.values[0] == 0 &&
			heap_attisnull(index, Anum_pg_index_indpred, NULL))
			found |= is_conversion(first_expression(index), attnum, type);
		ReleaseSysCache(index);
	}
	table_close(relation, AccessShareLock);
	return found;
}

/*
 * attach_advise_index_as -- warns when looking for a value of the type in the
 * column would read the whole table, since they are of two types. After
 * attach_install().
 */
void
attach_advise_index_as(AttachTable *table, const char *name, Oid type)
{
	AttachColumn *column = attach_column(table, name);
	const char *type_name = format_type_be_qualified(type);

	if (!attach_converts(column, type) || has_index_as(table->oid, column->raw, type))
		return;
	ereport(WARNING,
			(errmsg("no index on %s ((%s::%s)): every change that leads there reads the whole table",
					table->qualified, column->actual, type_name),
			 errdetail("The column is of type %s and compared with one of type %s.",
					   format_type_be(column->type), type_name),
			 errhint("Let both columns have one type, or %s ON %s ((%s::%s));",
					 create_index(table), table->qualified, column->actual, type_name)));
}

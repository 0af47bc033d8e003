/*
 * attach_ids.c
 *		What an attach demands of the columns that hold ids.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "attach/attach_steps.h"
#include "base/types.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

/*
 * attach_wider_type -- the type of two comparable columns that has the values
 * of both.
 */
Oid
attach_wider_type(const AttachColumn *a, const AttachColumn *b)
{
	return type_is_integer(a->type) && get_typlen(b->type) > get_typlen(a->type) ? b->type : a->type;
}

/* 42804 unless the users' key has a type an engine can work with. */
static void
check_key_type(AttachSpec *spec)
{
	AttachColumn *key = attach_column(&spec->tables[0], spec->users_key);

	if (!type_is_integer(key->type) && !attach_is_text(key->type) && key->type != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("user ids of type %s are not supported", format_type_be(key->type)),
				 errdetail("Column %s of %s.", key->actual, spec->tables[0].qualified),
				 errhint("Supported are smallint, integer, bigint, uuid, text and varchar.")));
}

/* Do two rows of the table never have the same value in the column, at any moment? */
static bool
is_unique(Relation table, AttrNumber attnum)
{
	bool		unique = false;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		unique |= form->indisunique && form->indisvalid && form->indimmediate &&
			form->indnkeyatts == 1 && form->indkey.values[0] == attnum &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
		index_close(index, AccessShareLock);
	}
	return unique;
}

/*
 * 55000 unless the users' key tells them apart: a user with two rows would have
 * two scores, one without an id can have none.
 */
static void
check_key_is_unique(AttachSpec *spec)
{
	AttachTable *users = &spec->tables[0];
	AttachColumn *key = attach_column(users, spec->users_key);
	AttrNumber	attnum = get_attnum(users->oid, key->raw);
	Relation	table = table_open(users->oid, AccessShareLock);
	bool		unique = is_unique(table, attnum);
	bool		not_null = TupleDescAttr(RelationGetDescr(table), attnum - 1)->attnotnull;

	table_close(table, AccessShareLock);
	if (unique && not_null)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column %s of %s is not a key", key->actual, users->qualified),
			 unique ? errdetail("It may be null.") :
			 errdetail("There is no unique index on it alone, neither deferrable nor "
					   "partial%s.", not_null ? "" : ", and it may be null"),
			 errhint("Make it the primary key, or give it a unique index and NOT NULL.")));
}

static Oid
column_collation(const AttachTable *table, const AttachColumn *column)
{
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(table->oid, get_attnum(table->oid, column->raw), &type, &typmod,
						  &collation);
	return collation;
}

/*
 * 0A000 when the database takes ids that differ for the same: they are compared as
 * texts, byte for byte, wherever they are not in the application's tables.
 */
static void
require_deterministic(AttachTable *table, const AttachColumn *column)
{
	Oid			collation = column_collation(table, column);

	if (!OidIsValid(collation) || get_collation_isdeterministic(collation))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("ids of the nondeterministic collation %s are not supported",
					quote_identifier(get_collation_name(collation))),
			 errdetail("Column %s of %s.", column->actual, table->qualified),
			 errhint("Give it another, with ALTER TABLE ... ALTER COLUMN ... TYPE ... COLLATE.")));
}

/*
 * 42P21 when two columns have collations of which neither is the database's: a
 * comparison or a union of theirs has none, and fails.
 */
static void
require_one_collation(AttachTable *table, AttachColumn *column, AttachTable *other_table,
					  AttachColumn *other)
{
	Oid			collation = column_collation(table, column);
	Oid			other_collation = column_collation(other_table, other);

	if (collation == other_collation || !OidIsValid(collation) || !OidIsValid(other_collation) ||
		collation == DEFAULT_COLLATION_OID || other_collation == DEFAULT_COLLATION_OID)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_COLLATION_MISMATCH),
			 errmsg("%s.%s has the collation %s, but %s.%s has %s", table->qualified,
					column->actual, quote_identifier(get_collation_name(collation)),
					other_table->qualified, other->actual,
					quote_identifier(get_collation_name(other_collation))),
			 errdetail("The engine compares their values, and neither collation is the default."),
			 errhint("Give columns that hold the same ids one collation, with ALTER TABLE ... "
					 "ALTER COLUMN ... TYPE ... COLLATE.")));
}

/*
 * attach_require_comparable -- 42804 unless two columns, of which one refers to
 * the other or both to a third, have types that can be compared and cast; 42P21
 * unless there is a collation to do it in, 0A000 when that is nondeterministic.
 */
void
attach_require_comparable(AttachTable *table, const char *name, AttachTable *other_table,
						  const char *other_name)
{
	AttachColumn *column = attach_column(table, name);
	AttachColumn *other = attach_column(other_table, other_name);

	require_deterministic(table, column);
	require_deterministic(other_table, other);
	if (column->type == other->type || (type_is_integer(column->type) && type_is_integer(other->type)) ||
		(attach_is_text(column->type) && attach_is_text(other->type)))
	{
		require_one_collation(table, column, other_table, other);
		return;
	}
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
			if (key->kind == 0 && !table->own)
				attach_require_comparable(table, key->column, &spec->tables[0],
										  spec->users_key);
		}
	}
}

/*
 * attach_check_ids -- whether the users' ids, and those that refer to them, are what
 * an engine can work with.
 */
void
attach_check_ids(AttachSpec *spec)
{
	check_key_type(spec);
	require_deterministic(&spec->tables[0], attach_column(&spec->tables[0], spec->users_key));
	check_key_is_unique(spec);
	check_user_columns(spec);
}

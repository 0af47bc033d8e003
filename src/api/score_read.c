/*
 * score_read.c
 *		A user's stored score, read through the index of the users' key.
 *
 * builder_score() and trust_score() are called for every row of a page. What they read is
 * a row of the users table and, where that has no cached column, one of the score table;
 * both are found by a unique index, without the executor, with the calling statement's
 * snapshot, and the tables are closed with their locks. So nothing is held when they
 * return, and it takes less than a query.
 *
 * It reads no more than the query would: the engine's role must have SELECT on the table,
 * and row security be off. A comparison of ids runs as the caller, so the key must be of a type
 * that comes with PostgreSQL. Whatever else is not as usual (a partitioned table, an index
 * of another kind or younger than the snapshot's rows, something that changed right now)
 * is left to the query, and so is every error.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "api/score_read.h"
#include "base/compat.h"
#include "base/relations.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

/* How to find a row of a table. */
typedef struct ReadPath
{
	Oid			table;
	Oid			index;			/* invalid: not by an index */
	AttrNumber	column;			/* that is read; 0: none */
	RegProcedure equal;
	Oid			collation;
} ReadPath;

/* What is known of an engine's tables until a relation changes. */
typedef struct KnownPaths
{
	uint64		changes;		/* of relations; 0: nothing is known */
	uint64		generation;		/* of the cached engines */
	ReadPath	users;
	ReadPath	scores;			/* no table: the score is in the users table */
} KnownPaths;

static KnownPaths known_paths[MAX_ENGINE_ID + 1];

/* Is it an index that leads to one row by the value of that column? */
static bool
leads_to_row(Relation index, AttrNumber key, Oid type, ReadPath *path)
{
	Form_pg_index form = index->rd_index;
	Oid			equal;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisunique || !form->indimmediate ||
		!form->indisvalid || form->indcheckxmin || form->indnkeyatts != 1 ||
		form->indkey.values[0] != key ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	equal = get_opfamily_member(index->rd_opfamily[0], index->rd_opcintype[0],
								index->rd_opcintype[0], BTEqualStrategyNumber);
	if (!OidIsValid(equal) || equal != lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr)
		return false;
	path->index = RelationGetRelid(index);
	path->equal = get_opcode(equal);
	path->collation = index->rd_indcollation[0];
	return true;
}

/* Finds out how to read a column of the rows of a table. */
static void
find_path(ReadPath *path, Oid oid, const char *key, Oid type, const char *column)
{
	Relation	table = try_relation_open(oid, AccessShareLock);
	AttrNumber	attnum = get_attnum(oid, key);
	ListCell   *cell;

	*path = (ReadPath)
	{
		.table = oid
	};
	if (table == NULL)
		return;
	if (column != NULL)
		path->column = get_attnum(oid, column);
	if (table->rd_rel->relkind == RELKIND_RELATION && type < FirstNormalObjectId &&
		(column == NULL || path->column > 0))
	{
		foreach(cell, RelationGetIndexList(table))
		{
			Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
			bool		found = leads_to_row(index, attnum, type, path);

			index_close(index, AccessShareLock);
			if (found)
				break;
		}
	}
	relation_close(table, AccessShareLock);
}

/* The paths of an engine, looked up when a relation has changed. */
static KnownPaths *
paths_of(const Engine *engine)
{
	KnownPaths *known = &known_paths[engine->descriptor->id];
	uint64		changes = relation_changes();
	uint64		generation = engine_cache_generation();

	if (known->changes == changes && known->generation == generation)
		return known;
	known->changes = 0;
	find_path(&known->users, engine->users, engine->key_name, engine->key_type,
			  engine->cached_name);
	known->scores.table = InvalidOid;
	if (engine->cached_name == NULL)
		find_path(&known->scores,
				  get_relname_relid(engine->descriptor->score_table,
									get_namespace_oid("reputation", true)),
				  "user_id", TEXTOID, "score");
	known->changes = changes;
	known->generation = generation;
	return known;
}

/*
 * Reads a column of the row with the key; found says whether there is one. False when the
 * query has to.
 */
static bool
read_row(const KnownPaths *known, const ReadPath *path, Oid reader, Datum key, bool *found,
		 bool *isnull, Datum *value)
{
	Relation	table;
	Relation	index;
	bool		good;

	if (!OidIsValid(path->index) ||
		(table = try_relation_open(path->table, AccessShareLock)) == NULL)
		return false;
	/* Once it is locked nothing changes any more. */
	good = known->changes == relation_changes() &&
		known->generation == engine_cache_generation() && !table->rd_rel->relrowsecurity &&
		(!OidIsValid(reader) || pg_class_aclcheck(path->table, reader, ACL_SELECT) == ACLCHECK_OK);
	if (good)
	{
		TupleTableSlot *slot = table_slot_create(table, NULL);
		IndexScanDesc scan;
		ScanKeyData scan_key;

		index = index_open(path->index, AccessShareLock);
		ScanKeyEntryInitialize(&scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid,
							   path->collation, path->equal, key);
		scan = index_begin(table, index, GetActiveSnapshot(), 1);
		index_rescan(scan, &scan_key, 1, NULL, 0);
		*found = index_getnext_slot(scan, ForwardScanDirection, slot);
		*isnull = true;
		if (*found && path->column > 0)
			*value = slot_getattr(slot, path->column, isnull);
		index_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		index_close(index, AccessShareLock);
	}
	relation_close(table, AccessShareLock);
	return good;
}

/*
 * score_read -- the stored score of a user, 0 when there is none yet; and whether there is
 * such a user. False when the query has to be asked.
 */
bool
score_read(const Engine *engine, const char *key, bool *exists, int32 *score)
{
	KnownPaths *known = paths_of(engine);
	bool		isnull = true;
	bool		found;
	Datum		value = (Datum) 0;

	if (!read_row(known, &known->users, engine->role, engine_key_datum(engine, key), exists,
				  &isnull, &value))
		return false;
	/* The score table is the extension's, and so are its rights. */
	if (*exists && OidIsValid(known->scores.table) &&
		!read_row(known, &known->scores, InvalidOid, CStringGetTextDatum(key), &found, &isnull,
				  &value))
		return false;
	*score = isnull ? 0 : DatumGetInt32(value);
	return true;
}

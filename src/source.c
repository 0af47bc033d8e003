/*
 * source.c
 *		Sources: what the registry says of them, and the one way to act on one.
 *
 * Whose trigger is reputation's is told by the registry alone (reputation.source): it
 * is on the source's relation, or a partition of that; it calls reputation.capture();
 * and its arguments are those that the registry has. A trigger's name says nothing,
 * for anybody may give it to a trigger of his own. The arguments are written in the
 * transaction that makes the trigger, which has the table locked against writers from
 * before it reads the registry's other rows to its end. So whoever holds a lock of a
 * writer's finds the two as they belong together, if he reads the registry with the
 * latest snapshot, as is done here: however old his own snapshot is.
 *
 * Writers read the registry, so no lock on it is waited for, nor is any privilege
 * needed.
 *
 * Whatever is done to an application's table is done as its owner, in a
 * security-restricted operation, with settings of its own (source_act()): PostgreSQL
 * evaluates expressions of the table's, like those of a partition key, when the table
 * is merely altered, and functions in them are its owner's choice. What is only read
 * of such a table is read from the catalogs, without PostgreSQL's functions that
 * simplify expressions (RelationGetIndexExpressions(), RelationGetPartitionKey() and
 * what they are called by).
 *
 * A table is locked first, which evaluates nothing, and then its owner looked up: the
 * owner cannot change until the transaction ends.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "bound.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "compat.h"
#include "engine.h"
#include "locks.h"
#include "miscadmin.h"
#include "relations.h"
#include "source.h"
#include "spi.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* The columns of reputation.source. */
enum
{
	SOURCE_ID = 1,
	SOURCE_RELATION,
	SOURCE_SHAPE,
	SOURCE_ARGUMENTS
};

static OwnRelation source_table = {.name = "source"};

/* A row of reputation.source, if it is the one looked for: by its relation, or its id. */
static bool
read_source(HeapTuple row, TupleDesc desc, Oid table, const char *id, Source *source)
{
	bool		isnull;
	Datum		arguments;
	char		number[MAXINT8LEN + 1];

	source->id = DatumGetInt32(heap_getattr(row, SOURCE_ID, desc, &isnull));
	source->relation = DatumGetObjectId(heap_getattr(row, SOURCE_RELATION, desc, &isnull));
	pg_ltoa(source->id, number);
	if (id != NULL ? strcmp(number, id) != 0 : source->relation != table)
		return false;
	arguments = heap_getattr(row, SOURCE_ARGUMENTS, desc, &isnull);
	source->arguments = isnull ? NULL : TextDatumGetCString(arguments);
	return true;
}

static SourceAnswer
find_source(Oid table, const char *id, Source *source)
{
	Oid			oid = relation_own(&source_table);
	Relation	registry = lock_try_open(oid, AccessShareLock);
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	row;
	bool		found = false;

	if (registry == NULL)
		return OidIsValid(oid) ? SOURCE_LOCKED : SOURCE_NONE;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(registry, snapshot, 0, NULL);
	while (!found && (row = heap_getnext(scan, ForwardScanDirection)) != NULL)
		found = read_source(row, RelationGetDescr(registry), table, id, source);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return found ? SOURCE_FOUND : SOURCE_NONE;
}

/*
 * source_of_table, source_named -- the source that is a table, or has an id, as the
 * latest snapshot has it.
 */
SourceAnswer
source_of_table(Oid table, Source *source)
{
	return find_source(table, NULL, source);
}

SourceAnswer
source_named(const char *id, Source *source)
{
	return find_source(InvalidOid, id, source);
}

/*
 * source_has_relation -- is the relation the table, or a partition of it?
 */
bool
source_has_relation(Oid source, Relation relation)
{
	if (RelationGetRelid(relation) == source)
		return true;
	return relation->rd_rel->relispartition &&
		list_member_oid(get_partition_ancestors(RelationGetRelid(relation)), source);
}

/*
 * source_capture_function -- the OID of reputation.capture(); invalid when there is none.
 */
Oid
source_capture_function(void)
{
	Oid			schema = get_namespace_oid("reputation", true);

	return !OidIsValid(schema) ? InvalidOid :
		GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("capture"),
						PointerGetDatum(buildoidvector(NULL, 0)), ObjectIdGetDatum(schema));
}

/*
 * source_is_row_trigger -- is it the source's row trigger, or a partition's clone?
 */
bool
source_is_row_trigger(const Source *source, const Trigger *trigger)
{
	char		number[MAXINT8LEN + 1];

	pg_ltoa(source->id, number);
	return trigger->tgfoid == source_capture_function() && !trigger->tgisinternal &&
		TRIGGER_FOR_ROW(trigger->tgtype) && trigger->tgnargs == 2 &&
		strcmp(trigger->tgargs[0], number) == 0 && source->arguments != NULL &&
		strcmp(trigger->tgargs[1], source->arguments) == 0;
}

/*
 * source_table_name -- a table's name, qualified and quoted; NULL when it is gone.
 */
char *
source_table_name(Oid table)
{
	char	   *name = get_rel_name(table);

	return name == NULL ? NULL :
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name);
}

/*
 * source_is_own -- is it a table of the extension's?
 */
bool
source_is_own(Oid table)
{
	return get_rel_namespace(table) == get_namespace_oid("reputation", false);
}

/*
 * source_owner -- who owns a table that there is.
 */
Oid
source_owner(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * source_lock -- locks a table, and whatever inherits from it if it shall, to the end of
 * the transaction; false when it is gone. Resolves no name and evaluates nothing, so it
 * needs no source_act().
 */
bool
source_lock(Oid table, LOCKMODE mode, bool inheritors)
{
	LockRelationOid(table, mode);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
	{
		UnlockRelationOid(table, mode);
		return false;
	}
	if (inheritors)
		list_free(find_all_inheritors(table, mode, NULL));
	return true;
}

/*
 * source_require_owner -- 42501 unless the current user has the rights of the
 * table's owner, or it is the extension's own.
 */
void
source_require_owner(Oid table)
{
	if (!source_is_own(table) && !object_ownercheck_class(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(table));
}

/*
 * source_grant -- lets a table's owner make triggers that call reputation.capture(): who
 * makes a partition clones them. With the rights of the extension's owner.
 */
void
source_grant(Oid table)
{
	Oid			owner = source_owner(table);
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(owner)};
	const char *name = quote_identifier(GetUserNameFromId(owner, false));

	if (spi_exec("SELECT 1 WHERE pg_catalog.has_schema_privilege($1, 'reputation', 'USAGE') "
				 "AND pg_catalog.has_function_privilege($1, 'reputation.capture()', 'EXECUTE')",
				 1, types, values, NULL) > 0)
		return;
	spi_utility(psprintf("GRANT USAGE ON SCHEMA reputation TO %s", name));
	spi_utility(psprintf("GRANT EXECUTE ON FUNCTION reputation.capture() TO %s", name));
}

/*
 * source_act -- has the body act on a locked table as its owner, restricted, with a
 * pinned search_path, and in a worker for a bounded time (bound.c). An error undoes that
 * with the (sub)transaction.
 */
void
source_act(Oid table, SourceBody body, void *arg)
{
	EngineContext caller;
	bool		bounded = bound_begin(0, 0);

	GetUserIdAndSecContext(&caller.user, &caller.security);
	SetUserIdAndSecContext(source_owner(table),
						   caller.security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	caller.settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	body(arg);
	spi_settings_end(caller.settings);
	SetUserIdAndSecContext(caller.user, caller.security);
	bound_end(bounded);
}

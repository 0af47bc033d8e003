/*
 * source.c
 *		Sources: what the registry says of them.
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
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/locks.h"
#include "base/relations.h"
#include "capture/source.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
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

/*
 * rank_build.c
 *		Making a rank tree from the score table.
 *
 * The scores of the table are counted in one snapshot, and the nodes are made from that
 * with the function that also changes them (rank_apply). A tree has one form for a set of
 * scores.
 *
 * A rebuild has the tree's lock. It removes the deltas that the snapshot of its
 * count shows: who left them had changed the rows it counted. Those that come
 * after are of rows that it did not see.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "rank/rank_tree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * rank_value -- an int or a bigint.
 */
int64
rank_value(Datum value, Oid type)
{
	return type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/*
 * rank_source -- what the tree of a period of an engine is about.
 */
RankSource
rank_source(const EngineDescriptor *engine, int period)
{
	Oid			relation = get_relname_relid(engine->score_table,
											 get_namespace_oid("reputation", false));
	RankSource	source = {
		.tree = rank_tree_of(engine->id, period),
		.relation = relation,
		.column = get_attnum(relation, engine_period_column(engine, period)),
		.positive = period > 0
	};

	return source;
}

/*
 * rank_is_tracked -- has the score table the trigger that keeps its trees, also
 * where session_replication_role has others not fire?
 */
bool
rank_is_tracked(Oid relation)
{
	Relation	table = relation_open(relation, AccessShareLock);
	bool		found = false;

	for (int i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers && !found; i++)
		found = strcmp(table->trigdesc->triggers[i].tgname, "rank_track") == 0 &&
			table->trigdesc->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS;
	relation_close(table, AccessShareLock);
	return found;
}

static int
compare_scores(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* The scores of the table, sorted; returns how many. */
static size_t
read_scores(const RankSource *source, Snapshot snapshot, uint64 **keys)
{
	Relation	table = table_open(source->relation, AccessShareLock);
	Oid			type = TupleDescAttr(RelationGetDescr(table), source->column - 1)->atttypid;
	TupleTableSlot *slot = table_slot_create(table, NULL);
	TableScanDesc scan = table_beginscan(table, snapshot, 0, NULL);
	size_t		count = 0;
	size_t		room = 1024;

	*keys = palloc(room * sizeof(uint64));
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, source->column, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (isnull || (source->positive && rank_value(value, type) <= 0))
			continue;
		if (count == room)
			*keys = repalloc_huge(*keys, (room *= 2) * sizeof(uint64));
		(*keys)[count++] = rank_key(rank_value(value, type));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, AccessShareLock);
	qsort(*keys, count, sizeof(uint64), compare_scores);
	return count;
}

/*
 * rank_count_scores -- what an empty tree becomes with the table's scores, less some
 * changes, as changes to it; returns how many.
 */
size_t
rank_count_scores(const RankSource *source, Snapshot snapshot, const RankChange *less, size_t nless,
				  RankChange **changes)
{
	uint64	   *keys;
	size_t		nkeys = read_scores(source, snapshot, &keys);
	size_t		count = 0;
	size_t		next = 0;

	*changes = MemoryContextAllocHuge(CurrentMemoryContext,
									  Max(nkeys + nless, 1) * sizeof(RankChange));
	for (size_t i = 0; i < nkeys || next < nless;)
	{
		RankChange	change = {i < nkeys ? keys[i] : less[next].key, 0, 0};

		if (next < nless && less[next].key < change.key)
			change.key = less[next].key;
		for (; i < nkeys && keys[i] == change.key; i++)
			change.users++;
		for (; next < nless && less[next].key == change.key; next++)
			change.users -= less[next].users;
		if (change.users != 0)
			(*changes)[count++] = change;
	}
	pfree(keys);
	return count;
}

/*
 * rank_fetch_none, rank_top_none -- a tree without nodes, for rank_apply().
 */
const uint8 *
rank_fetch_none(void *arg, int level, uint64 prefix, size_t *length)
{
	return NULL;
}

int
rank_top_none(void *arg, uint64 *prefix)
{
	return -1;
}

static void
store_node(void *arg, int level, uint64 prefix, const uint8 *bytes, size_t length)
{
	const RankStorage *storage = rank_nodes_storage(arg);

	storage->store(storage->arg, level, prefix, bytes, length);
}

/*
 * rank_rebuild -- makes a tree anew from the table's rows, those of this transaction
 * included; under the tree's lock.
 */
void
rank_rebuild(const RankSource *source)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "reputation rank tree",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	RankNodes  *nodes = rank_nodes_open(source->tree, SnapshotSelf, true);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	RankChange *changes;
	RankChange *deltas;
	size_t		count;

	if (nodes != NULL && get_rel_name(source->relation) != NULL)
	{
		RankStorage fresh = {rank_fetch_none, store_node, rank_top_none, nodes};

		rank_nodes_remove(nodes);
		(void) rank_deltas_read(source->tree, snapshot, true, &deltas);
		count = rank_count_scores(source, snapshot, deltas, 0, &changes);
		if (!rank_apply(&fresh, changes, count))
			elog(ERROR, "a rank tree could not be made");
		rank_nodes_finish(nodes);
	}
	if (nodes != NULL)
		rank_nodes_close(nodes);
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/*
 * rank_remove -- removes a tree; under its lock.
 */
void
rank_remove(int tree)
{
	RankNodes  *nodes = rank_nodes_open(tree, SnapshotSelf, true);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	RankChange *deltas;

	if (nodes != NULL)
	{
		rank_nodes_remove(nodes);
		rank_nodes_close(nodes);
		(void) rank_deltas_read(tree, snapshot, true, &deltas);
	}
	UnregisterSnapshot(snapshot);
}

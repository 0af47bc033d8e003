/*
 * rank_node.c
 *		Where rank trees are stored: reputation.rank_node and rank_delta.
 *
 * A row of rank_node is a node (core/ranktree.c has its format), found by the
 * primary key (tree, level, prefix). One more row of each tree, above all levels, has
 * the top once more, with its level and prefix, so that a reader need not look for
 * it. A row of rank_delta is a change that is not in the nodes yet. All are reached
 * without the executor. Here they are changed, and read one after the other; a rank is
 * read by rank_fetch.c.
 *
 * Whose rows are read is said by the snapshot: a reader's is its statement's, a
 * writer's (who has the tree's lock) is SnapshotSelf for the nodes: all that was
 * committed, for who changed a node had the lock before, and what it wrote itself.
 *
 * Nearly always there are no deltas, and their table is empty: then its length says so,
 * and no index is looked at. What a snapshot shows was in the file before the snapshot
 * was taken, and only what nobody sees any more is cut off. (SERIALIZABLE has to note
 * what it did not find, so it asks the index.)
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/compat.h"
#include "base/relations.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "rank/rank_tree.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define NODE_COLUMNS	4

/* The columns of reputation.rank_delta. */
#define DELTA_TREE		1
#define DELTA_SCORE		2
#define DELTA_USERS		3
#define DELTA_COLUMNS	3

static OwnRelation rank_node = {"rank_node"};
static OwnRelation rank_node_pkey = {"rank_node_pkey"};
static OwnRelation rank_delta = {"rank_delta"};
static OwnRelation rank_delta_tree = {"rank_delta_tree"};

struct RankNodes
{
	int			tree;
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	LOCKMODE	mode;
	RankStorage storage;
	/* the node that was fetched last */
	bool		found;
	int			level;
	uint64		prefix;
	ItemPointerData tid;
};

/*
 * rank_node_table_open, rank_node_index_open -- the table of the nodes, NULL when there
 * is none any more, and its primary key.
 */
Relation
rank_node_table_open(LOCKMODE mode)
{
	Oid			table = relation_own(&rank_node);

	return OidIsValid(table) ? table_open(table, mode) : NULL;
}

Relation
rank_node_index_open(void)
{
	return index_open(relation_own(&rank_node_pkey), AccessShareLock);
}

/*
 * rank_node_keys -- the NODE_KEYS conditions that find a node by the primary key.
 */
void
rank_node_keys(ScanKeyData *keys, int tree, int level, uint64 prefix)
{
	ScanKeyInit(&keys[0], NODE_TREE, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tree));
	ScanKeyInit(&keys[1], NODE_LEVEL, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum((int16) level));
	ScanKeyInit(&keys[2], NODE_PREFIX, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) prefix));
}

/* Has the scan go over the tree's nodes, but for the row with the top unless all. */
static void
seek_all(RankNodes *nodes, bool all)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], NODE_TREE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(nodes->tree));
	ScanKeyInit(&keys[1], NODE_LEVEL, BTLessEqualStrategyNumber, F_INT2LE,
				Int16GetDatum((int16) (all ? TOP_ROW : TOP_ROW - 1)));
	ScanKeyInit(&keys[2], NODE_PREFIX, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(0));
	index_rescan(nodes->scan, keys, 3, NULL, 0);
}

/* The counts of the node in the slot. */
static const uint8 *
slot_counts(RankNodes *nodes, size_t *length)
{
	bool		isnull;
	struct varlena *counts;

	counts = (struct varlena *) DatumGetPointer(slot_getattr(nodes->slot, NODE_COUNTS, &isnull));
	*length = VARSIZE_ANY_EXHDR(counts);
	return (const uint8 *) VARDATA_ANY(counts);
}

static const uint8 *
read_stored_node(void *arg, int level, uint64 prefix, size_t *length)
{
	RankNodes  *nodes = arg;
	ScanKeyData keys[NODE_KEYS];

	rank_node_keys(keys, nodes->tree, level, prefix);
	index_rescan(nodes->scan, keys, NODE_KEYS, NULL, 0);
	nodes->level = level;
	nodes->prefix = prefix;
	nodes->found = index_getnext_slot(nodes->scan, ForwardScanDirection, nodes->slot);
	if (!nodes->found)
		return NULL;
	nodes->tid = nodes->slot->tts_tid;
	return slot_counts(nodes, length);
}

static int
read_stored_top(void *arg, uint64 *prefix)
{
	RankNodes  *nodes = arg;
	const uint8 *row;
	size_t		length;

	row = read_stored_node(nodes, TOP_ROW, 0, &length);
	return row == NULL ? -1 : rank_top_read(row, length, prefix);
}

static void
write_node(void *arg, int level, uint64 prefix, const uint8 *bytes, size_t length)
{
	RankNodes  *nodes = arg;
	Datum		values[NODE_COLUMNS];
	bool		nulls[NODE_COLUMNS] = {false};
	struct varlena *counts;
	HeapTuple	tuple;

	/* Nearly always it was fetched to be changed. */
	if (nodes->level != level || nodes->prefix != prefix)
	{
		size_t		ignored;

		(void) read_stored_node(nodes, level, prefix, &ignored);
	}
	nodes->level = -1;
	ExecClearTuple(nodes->slot);
	if (length == 0)
	{
		if (nodes->found)
			simple_heap_delete(nodes->heap, &nodes->tid);
		CommandCounterIncrement();
		return;
	}
	counts = palloc(VARHDRSZ + length);
	SET_VARSIZE(counts, VARHDRSZ + length);
	memcpy(VARDATA(counts), bytes, length);
	values[NODE_TREE - 1] = Int32GetDatum(nodes->tree);
	values[NODE_LEVEL - 1] = Int16GetDatum((int16) level);
	values[NODE_PREFIX - 1] = Int64GetDatum((int64) prefix);
	values[NODE_COUNTS - 1] = PointerGetDatum(counts);
	tuple = heap_form_tuple(RelationGetDescr(nodes->heap), values, nulls);
	if (nodes->found)
		CatalogTupleUpdate(nodes->heap, &nodes->tid, tuple);
	else
		CatalogTupleInsert(nodes->heap, tuple);
	/* A node may be written more than once. */
	CommandCounterIncrement();
	heap_freetuple(tuple);
	pfree(counts);
}

/*
 * rank_nodes_open -- a tree's nodes as the snapshot shows them, or, to be changed,
 * as they are; NULL when there is no such table any more.
 */
RankNodes *
rank_nodes_open(int tree, Snapshot snapshot, bool write)
{
	LOCKMODE	mode = write ? RowExclusiveLock : AccessShareLock;
	Relation	heap = rank_node_table_open(mode);
	RankNodes  *nodes;

	if (heap == NULL)
		return NULL;
	nodes = palloc0(sizeof(RankNodes));
	nodes->tree = tree;
	nodes->level = -1;
	nodes->mode = mode;
	nodes->heap = heap;
	nodes->index = rank_node_index_open();
	nodes->slot = table_slot_create(nodes->heap, NULL);
	nodes->scan = index_begin(nodes->heap, nodes->index, snapshot, NODE_KEYS);
	nodes->storage = (RankStorage)
	{
		read_stored_node, write_node, read_stored_top, nodes
	};
	return nodes;
}

/*
 * rank_nodes_storage -- the nodes for the functions of core/ranktree.c.
 */
const RankStorage *
rank_nodes_storage(RankNodes *nodes)
{
	return &nodes->storage;
}

/*
 * rank_top_row -- what the row with the top has, of a node that is the top; returns
 * its length.
 */
size_t
rank_top_row(uint8 *row, int level, uint64 prefix, const uint8 *bytes, size_t length)
{
	row[0] = (uint8) level;
	memcpy(row + 1, &prefix, sizeof(uint64));
	memcpy(row + TOP_HEADER, bytes, length);
	return TOP_HEADER + length;
}

/*
 * rank_top_read -- the level of the node that such a row has, and its prefix; -1 when
 * it is no such row.
 */
int
rank_top_read(const uint8 *row, size_t length, uint64 *prefix)
{
	if (length < TOP_HEADER || row[0] >= RANK_LEVELS)
		return -1;
	memcpy(prefix, row + 1, sizeof(uint64));
	return row[0];
}

/*
 * rank_nodes_finish -- writes the row with the top, after nodes were changed, if the
 * top is among them.
 */
void
rank_nodes_finish(RankNodes *nodes)
{
	uint8	   *row = palloc(RANK_TOP_BYTES);
	size_t		length = 0;
	size_t		stored_length;
	const uint8 *stored;

	seek_all(nodes, false);
	if (index_getnext_slot(nodes->scan, BackwardScanDirection, nodes->slot))
	{
		bool		isnull;
		const uint8 *bytes = slot_counts(nodes, &length);

		length = rank_top_row(row, DatumGetInt16(slot_getattr(nodes->slot, NODE_LEVEL, &isnull)),
							  (uint64) DatumGetInt64(slot_getattr(nodes->slot, NODE_PREFIX,
																  &isnull)),
							  bytes, length);
	}
	stored = read_stored_node(nodes, TOP_ROW, 0, &stored_length);
	if (stored == NULL || stored_length != length || memcmp(stored, row, length) != 0)
		write_node(nodes, TOP_ROW, 0, row, length);
	pfree(row);
}

/*
 * rank_nodes_next -- the nodes one after the other, in the order of level and
 * prefix; level -1 is for the first. False after the last.
 */
bool
rank_nodes_next(RankNodes *nodes, int *level, uint64 *prefix, const uint8 **bytes, size_t *length)
{
	bool		isnull;

	if (*level < 0)
		seek_all(nodes, true);
	if (!index_getnext_slot(nodes->scan, ForwardScanDirection, nodes->slot))
		return false;
	*level = DatumGetInt16(slot_getattr(nodes->slot, NODE_LEVEL, &isnull));
	*prefix = (uint64) DatumGetInt64(slot_getattr(nodes->slot, NODE_PREFIX, &isnull));
	*bytes = slot_counts(nodes, length);
	return true;
}

/*
 * rank_nodes_remove -- removes all nodes of the tree.
 */
void
rank_nodes_remove(RankNodes *nodes)
{
	int			level = -1;
	uint64		prefix;
	const uint8 *bytes;
	size_t		length;

	while (rank_nodes_next(nodes, &level, &prefix, &bytes, &length))
		simple_heap_delete(nodes->heap, &nodes->slot->tts_tid);
	nodes->level = -1;
}

/*
 * rank_nodes_close -- the end of it.
 */
void
rank_nodes_close(RankNodes *nodes)
{
	index_endscan(nodes->scan);
	ExecDropSingleTupleTableSlot(nodes->slot);
	index_close(nodes->index, AccessShareLock);
	/* What was written stays locked against a change of the table. */
	table_close(nodes->heap, nodes->mode == AccessShareLock ? AccessShareLock : NoLock);
	pfree(nodes);
}

/*
 * rank_deltas_insert -- leaves changes to whoever has the tree's lock next.
 */
void
rank_deltas_insert(int tree, const RankChange *changes, size_t count)
{
	Oid			oid = relation_own(&rank_delta);
	Relation	heap;

	if (!OidIsValid(oid))
		return;
	heap = table_open(oid, RowExclusiveLock);
	for (size_t i = 0; i < count; i++)
	{
		Datum		values[DELTA_COLUMNS] = {Int32GetDatum(tree),
		Int64GetDatum(rank_score(changes[i].key)), Int64GetDatum(changes[i].users)};
		bool		nulls[DELTA_COLUMNS] = {false};
		HeapTuple	tuple = heap_form_tuple(RelationGetDescr(heap), values, nulls);

		CatalogTupleInsert(heap, tuple);
		heap_freetuple(tuple);
	}
	table_close(heap, NoLock);
}

/*
 * rank_deltas_exist -- does the snapshot show a change that the nodes do not have? Looks
 * at one, however many there are.
 */
bool
rank_deltas_exist(int tree, Snapshot snapshot)
{
	Oid			oid = relation_own(&rank_delta);
	Relation	heap;
	SysScanDesc scan;
	ScanKeyData key;
	bool		found = false;

	if (!OidIsValid(oid))
		return false;
	heap = table_open(oid, AccessShareLock);
	if (RelationGetNumberOfBlocks(heap) > 0)
	{
		ScanKeyInit(&key, DELTA_TREE, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tree));
		scan = systable_beginscan(heap, relation_own(&rank_delta_tree), true, snapshot, 1, &key);
		found = HeapTupleIsValid(systable_getnext(scan));
		systable_endscan(scan);
	}
	table_close(heap, AccessShareLock);
	return found;
}

/*
 * rank_deltas_read -- the changes that the snapshot shows and the nodes do not have;
 * returns how many. Take: removes them, for whoever has the tree's lock.
 */
size_t
rank_deltas_read(int tree, Snapshot snapshot, bool take, RankChange **changes)
{
	Oid			oid = relation_own(&rank_delta);
	LOCKMODE	mode = take ? RowExclusiveLock : AccessShareLock;
	size_t		count = 0;
	size_t		room = 16;
	Relation	heap;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	*changes = NULL;
	if (!OidIsValid(oid))
		return 0;
	heap = table_open(oid, mode);
	if (!IsolationIsSerializable() && RelationGetNumberOfBlocks(heap) == 0)
	{
		table_close(heap, mode);
		return 0;
	}
	ScanKeyInit(&key, DELTA_TREE, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tree));
	scan = systable_beginscan(heap, relation_own(&rank_delta_tree), true, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(heap);
		bool		isnull;

		if (*changes == NULL)
			*changes = palloc(sizeof(RankChange) * room);
		else if (count == room)
			*changes = repalloc_huge(*changes, sizeof(RankChange) * (room *= 2));
		(*changes)[count].key = rank_key(DatumGetInt64(heap_getattr(tuple, DELTA_SCORE, desc,
																	&isnull)));
		(*changes)[count++].users = DatumGetInt64(heap_getattr(tuple, DELTA_USERS, desc, &isnull));
		if (take)
			simple_heap_delete(heap, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(heap, take ? NoLock : mode);
	return count;
}

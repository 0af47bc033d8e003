/*
 * rank_fetch.c
 *		Reading single rows in place: a user's score, a tree's nodes.
 *
 * Neither the executor nor a slot is needed to read a number out of a row: the row
 * is looked at where it is, in its buffer, which is pinned meanwhile. What the pin
 * keeps from being moved is not changed by anybody.
 *
 * A rank reads the same few nodes again and again, so each process remembers where a
 * node was: the row's place and the buffer; where users' score rows were is remembered
 * in shared memory (row_hint.c). That is a hint and nothing more. It is
 * followed with the reader's snapshot, as an index entry would be, and the row that is
 * found is taken only if it is the node's, or the user's, by its key; no snapshot shows
 * two rows with the same key, so it is the one that the index would have led to. Whatever became of
 * the place meanwhile - the row was updated or removed, the place given to another
 * row, the table truncated or rewritten, the buffer to another page - there is either
 * that row or none, and then the index is asked. A hint has no block read in, so one
 * beyond the table's end does no harm.
 *
 * For SERIALIZABLE the row itself is noted as read (heap_hot_search_buffer does it);
 * where there is none the index notes the gap.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/pg_collation.h"
#include "rank/rank_fetch.h"
#include "rank/rank_tree.h"
#include "rank/row_hint.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

/* Where a node was seen. */
typedef struct NodeHint
{
	int			tree;
	int			level;
	uint64		prefix;
	ItemPointerData tid;
	Buffer		buffer;			/* invalid: nothing is known */
} NodeHint;

#define HINT_BITS	10
static NodeHint hints[1 << HINT_BITS];

static NodeHint *
hint_of(int tree, int level, uint64 prefix)
{
	uint64		key = prefix ^ (uint64) (tree * (TOP_ROW + 1) + level) << 40;

	return &hints[(key * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - HINT_BITS)];
}

/*
 * Looks in a pinned buffer for the version of a row that the snapshot shows. True:
 * it is in the row, with the pin; false: nothing is pinned any more.
 */
static bool
search_buffer(Relation table, ItemPointerData tid, Buffer buffer, Snapshot snapshot,
			  FetchedRow *row, bool *all_dead)
{
	bool		found;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = heap_hot_search_buffer(&tid, table, buffer, snapshot, &row->tuple, all_dead, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	row->buffer = found ? buffer : InvalidBuffer;
	if (!found)
		ReleaseBuffer(buffer);
	return found;
}

/* The same by an index scan, of which no more than one row can come; where says which place it had. */
static bool
search_index(IndexScanDesc scan, FetchedRow *row, ItemPointer where)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		bool		all_dead;

		*where = *tid;
		if (search_buffer(scan->heapRelation, *tid,
						  ReadBuffer(scan->heapRelation, ItemPointerGetBlockNumber(tid)),
						  scan->xs_snapshot, row, &all_dead))
			return true;
		scan->kill_prior_tuple = all_dead && !scan->xactStartedInRecovery;
	}
	return false;
}

/*
 * Fetches the row that has a key of a unique index, and its place; false when there is
 * none.
 */
static bool
fetch_by_index(Relation table, Relation index, ScanKey keys, int nkeys, Snapshot snapshot,
			   FetchedRow *row, ItemPointer where)
{
	IndexScanDesc scan = index_begin(table, index, snapshot, nkeys);
	bool		found;

	index_rescan(scan, keys, nkeys, NULL, 0);
	found = search_index(scan, row, where);
	index_endscan(scan);
	return found;
}

/* Fetches a row from a place where it was seen; false when none is there now. */
static bool
fetch_by_place(Relation table, ItemPointerData tid, Buffer buffer, Snapshot snapshot,
			   FetchedRow *row)
{
	bool		all_dead;

	return ReadRecentBuffer(relation_file(table), MAIN_FORKNUM,
							ItemPointerGetBlockNumberNoCheck(&tid), buffer) &&
		search_buffer(table, tid, buffer, snapshot, row, &all_dead);
}

/* Is the fetched row that user's? */
static bool
is_users_row(const Board *board, FetchedRow *row, const char *key)
{
	bool		isnull;
	Datum		value = heap_getattr(&row->tuple, board->user, RelationGetDescr(board->table),
									 &isnull);
	struct varlena *user = (struct varlena *) DatumGetPointer(value);
	size_t		length = strlen(key);

	return !isnull && !VARATT_IS_EXTERNAL(user) && !VARATT_IS_COMPRESSED(user) &&
		VARSIZE_ANY_EXHDR(user) == length && memcmp(VARDATA_ANY(user), key, length) == 0;
}

/*
 * rank_fetch_score -- a user's score row, as the snapshot shows it; false when there is
 * none. It has to be released.
 */
bool
rank_fetch_score(const Board *board, const char *key, Snapshot snapshot, FetchedRow *row)
{
	uint64		hash = row_hint_hash(board->table, key);
	Relation	index;
	ScanKeyData scan_key;
	Buffer		buffer;
	ItemPointerData tid;
	bool		found;

	row->buffer = InvalidBuffer;
	if (row_hint_get(hash, &buffer, &tid) &&
		fetch_by_place(board->table, tid, buffer, snapshot, row))
	{
		if (is_users_row(board, row, key))
			return true;
		rank_fetch_release(row);
	}
	index = index_open(board->key_index, AccessShareLock);
	ScanKeyEntryInitialize(&scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(key));
	found = fetch_by_index(board->table, index, &scan_key, 1, snapshot, row, &tid);
	if (found)
		row_hint_set(hash, row->buffer, &tid);
	index_close(index, AccessShareLock);
	return found;
}

/*
 * rank_fetch_release -- lets a fetched row go, if there is one.
 */
void
rank_fetch_release(FetchedRow *row)
{
	if (BufferIsValid(row->buffer))
		ReleaseBuffer(row->buffer);
	row->buffer = InvalidBuffer;
}

static Datum
node_column(RankReader *reader, AttrNumber column)
{
	bool		isnull;

	return heap_getattr(&reader->row.tuple, column, RelationGetDescr(reader->table), &isnull);
}

/* Is the fetched row that node? */
static bool
is_node(RankReader *reader, int level, uint64 prefix)
{
	return DatumGetInt32(node_column(reader, NODE_TREE)) == reader->tree &&
		DatumGetInt16(node_column(reader, NODE_LEVEL)) == level &&
		(uint64) DatumGetInt64(node_column(reader, NODE_PREFIX)) == prefix;
}

/* Fetches a node where it was the last time; false when it is not there now. */
static bool
fetch_hinted(RankReader *reader, const NodeHint *hint, int level, uint64 prefix)
{
	if (!BufferIsValid(hint->buffer) || hint->tree != reader->tree || hint->level != level ||
		hint->prefix != prefix ||
		!fetch_by_place(reader->table, hint->tid, hint->buffer, reader->snapshot, &reader->row))
		return false;
	if (is_node(reader, level, prefix))
		return true;
	rank_fetch_release(&reader->row);
	return false;
}

/* Fetches a node by the index; false when there is none. */
static bool
fetch_indexed(RankReader *reader, NodeHint *hint, int level, uint64 prefix)
{
	ScanKeyData keys[NODE_KEYS];
	ItemPointerData where;

	if (reader->index == NULL)
		reader->index = rank_node_index_open();
	rank_node_keys(keys, reader->tree, level, prefix);
	if (!fetch_by_index(reader->table, reader->index, keys, NODE_KEYS, reader->snapshot,
						&reader->row, &where))
		return false;
	*hint = (NodeHint)
	{
		reader->tree, level, prefix, where, reader->row.buffer
	};
	return true;
}

/* For core/ranktree.c: a node's bytes. */
static const uint8 *
fetch_node(void *arg, int level, uint64 prefix, size_t *length)
{
	RankReader *reader = arg;
	bool		is_top = level == reader->top && prefix == reader->top_prefix;
	struct varlena *counts;

	if (!is_top)
	{
		NodeHint   *hint = hint_of(reader->tree, level, prefix);

		rank_fetch_release(&reader->row);
		reader->top = -1;
		if (!fetch_hinted(reader, hint, level, prefix) &&
			!fetch_indexed(reader, hint, level, prefix))
			return NULL;
	}
	counts = (struct varlena *) DatumGetPointer(node_column(reader, NODE_COUNTS));
	*length = VARSIZE_ANY_EXHDR(counts) - (is_top ? TOP_HEADER : 0);
	return (const uint8 *) VARDATA_ANY(counts) + (is_top ? TOP_HEADER : 0);
}

/* The same of the top's level and prefix. */
static int
fetch_top(void *arg, uint64 *prefix)
{
	RankReader *reader = arg;
	size_t		length;
	const uint8 *row = fetch_node(reader, TOP_ROW, 0, &length);

	if (row != NULL)
		reader->top = rank_top_read(row, length, &reader->top_prefix);
	*prefix = reader->top_prefix;
	return reader->top;
}

/*
 * rank_reader_open -- a tree's nodes as the snapshot shows them, for rank_find(); false
 * when there is no such table any more.
 */
bool
rank_reader_open(RankReader *reader, int tree, Snapshot snapshot)
{
	Relation	table = rank_node_table_open(AccessShareLock);

	if (table == NULL)
		return false;
	*reader = (RankReader)
	{
		.storage = {fetch_node, NULL, fetch_top, reader}, .tree = tree, .snapshot = snapshot,
			.table = table, .row = {.buffer = InvalidBuffer}, .top = -1
	};
	return true;
}

/*
 * rank_reader_close -- the end of it.
 */
void
rank_reader_close(RankReader *reader)
{
	rank_fetch_release(&reader->row);
	if (reader->index != NULL)
		index_close(reader->index, AccessShareLock);
	table_close(reader->table, AccessShareLock);
}

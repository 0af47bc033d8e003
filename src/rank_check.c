/*
 * rank_check.c
 *		Making a rank tree from the score table: rebuild, and verify.
 *
 * Both count the scores of the table in one snapshot and build the nodes from
 * that, with the function that also changes them (rank_apply); a rebuild stores
 * the nodes, verify compares them with those that are there. A tree has one form
 * for a set of scores, so they must be equal to the byte.
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
#include "points_engine.h"
#include "rank_tree.h"
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
compare_keys(const void *a, const void *b)
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
	qsort(*keys, count, sizeof(uint64), compare_keys);
	return count;
}

/* What an empty tree becomes with the table's scores, less some changes, as changes to it. */
static size_t
count_scores(const RankSource *source, Snapshot snapshot, const RankChange *less, size_t nless,
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

/* A tree without nodes. */
static const uint8 *
fetch_none(void *arg, int level, uint64 prefix, size_t *length)
{
	return NULL;
}

static int
top_none(void *arg, uint64 *prefix)
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
		RankStorage fresh = {fetch_none, store_node, top_none, nodes};

		rank_nodes_remove(nodes);
		(void) rank_deltas_read(source->tree, snapshot, true, &deltas);
		count = count_scores(source, snapshot, deltas, 0, &changes);
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

/* Verify: the stored nodes in the order in which the expected ones come. */
typedef struct Comparison
{
	RankNodes  *nodes;
	bool		more;
	int			level;
	uint64		prefix;
	const uint8 *bytes;
	size_t		length;
	const RankSource *source;
	const char *item;
	RankReport	report;
	void	   *arg;
	uint8	   *top;			/* what the row with the top must have, so far */
	size_t		top_length;
} Comparison;

static void
next_stored(Comparison *c)
{
	c->more = c->more && rank_nodes_next(c->nodes, &c->level, &c->prefix, &c->bytes, &c->length);
}

/* How many users a node has, as a text; NULL when there is no node. */
static char *
describe(const uint8 *bytes, size_t length, int level, uint64 prefix)
{
	RankNode   *node = palloc(sizeof(RankNode));
	int64		users = 0;

	if (bytes == NULL)
		return NULL;
	if (level >= RANK_LEVELS)
		return pstrdup("the top's row");
	if (!rank_unpack(bytes, length, node))
		return psprintf("level %d, node " UINT64_FORMAT ": not readable", level, prefix);
	for (int i = 0; i < RANK_CHILDREN; i++)
		users += node->users[i];
	pfree(node);
	return psprintf("level %d, node " UINT64_FORMAT ": " INT64_FORMAT " users", level, prefix,
					users);
}

/* A row that should be there comes by: those stored before it should not. */
static void
compare_row(Comparison *c, int level, uint64 prefix, const uint8 *bytes, size_t length)
{
	while (c->more && (c->level < level || (c->level == level && c->prefix < prefix)))
	{
		c->report(c->arg, c->source, c->item, describe(c->bytes, c->length, c->level, c->prefix), NULL);
		next_stored(c);
	}
	if (!c->more || c->level != level || c->prefix != prefix)
	{
		c->report(c->arg, c->source, c->item, NULL, describe(bytes, length, level, prefix));
		return;
	}
	if (c->length != length || memcmp(c->bytes, bytes, length) != 0)
		c->report(c->arg, c->source, c->item, describe(c->bytes, c->length, level, prefix),
				  describe(bytes, length, level, prefix));
	next_stored(c);
}

/* The same of a node; the last one is the top. */
static void
compare_node(void *arg, int level, uint64 prefix, const uint8 *bytes, size_t length)
{
	Comparison *c = arg;

	compare_row(c, level, prefix, bytes, length);
	c->top_length = rank_top_row(c->top, level, prefix, bytes, length);
}

/* Compares a tree with the score table, both as the active snapshot shows them. */
static void
verify_tree(const RankSource *source, const char *item, RankReport report, void *arg)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Comparison	c = {.more = true, .level = -1, .source = source, .item = item,
	.report = report, .arg = arg};
	RankStorage expected = {fetch_none, compare_node, top_none, &c};
	RankChange *pending;
	RankChange *changes;
	size_t		npending = rank_pending(source->tree, snapshot, &pending);
	size_t		count = count_scores(source, snapshot, pending, npending, &changes);

	c.top = palloc(RANK_TOP_BYTES);
	c.nodes = rank_nodes_open(source->tree, snapshot, false);
	next_stored(&c);
	if (!rank_apply(&expected, changes, count))
		report(arg, source, item, "deltas of users who are not there", NULL);
	if (c.top_length > 0)
		compare_row(&c, RANK_LEVELS, 0, c.top, c.top_length);
	for (; c.more; next_stored(&c))
		report(arg, source, item, describe(c.bytes, c.length, c.level, c.prefix), NULL);
	rank_nodes_close(c.nodes);
}

/*
 * rank_verify -- reports what differs in the trees of an engine, if it has any, as
 * the active snapshot shows them.
 */
void
rank_verify(const Engine *engine, RankReport report, void *arg)
{
	const EngineDescriptor *d = engine->descriptor;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "reputation rank tree",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	for (int i = 0; i < engine_periods(d); i++)
	{
		RankSource	source = rank_source(d, i);

		if (i == 0 && !rank_is_tracked(source.relation))
			break;
		verify_tree(&source, psprintf("rank %s", board_periods[i]), report, arg);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

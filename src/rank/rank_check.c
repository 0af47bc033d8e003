/*
 * rank_check.c
 *		Verifying a rank tree: what it should be, from the score table (rank_build.c),
 *		against the nodes that are there. They must be equal to the byte.
 */
#include "postgres.h"

#include "rank/rank_tree.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

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
	RankStorage expected = {rank_fetch_none, compare_node, rank_top_none, &c};
	RankChange *pending;
	RankChange *changes;
	size_t		npending = rank_pending(source->tree, snapshot, &pending);
	size_t		count = rank_count_scores(source, snapshot, pending, npending, &changes);

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

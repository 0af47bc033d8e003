/*
 * ranktree.c
 *		The order-statistic tree: how many users, and how many different
 *		scores, are above a score.
 *
 * A radix tree over the bytes of a score's key, an unsigned number in the order
 * of the scores. A node of level L stands for all keys that agree in the bytes
 * above L; it says for each value of byte L how many users, and how many different
 * scores, are below that child. So what is above a score is the sum over the
 * children to the right of its path: one node a level, whatever the number of
 * users.
 *
 * Only nodes with users are stored, and of a node only the children that have
 * some. The levels above the only node that has all users would have one child
 * each and are left out: the top is the lowest node that has everybody. It grows
 * with a score beyond its reach, and shrinks when a single child is left.
 *
 * A node is stored to be read in place: a reader looks for one child, and wants the
 * sum of those above it. So its children come first, the highest first, and the
 * counts of a kind follow each other, all as wide as the largest needs: what is to
 * be added up is the beginning of an array. Sums instead of counts would be read
 * faster still, but then each change would change half of the node, and its WAL.
 *
 *	byte 0	how wide the numbers are: of users, and (times 16) of scores; 0: each
 *			of the children has one score
 *	byte 1	how many children there are, less one
 *	then	the children, a byte each; how many users; how many scores
 */
#include "ranktree.h"

#include <stdlib.h>
#include <string.h>

/*
 * rank_key, rank_score -- a score as an unsigned number in the same order, and back.
 */
uint64_t
rank_key(int64_t score)
{
	return (uint64_t) score ^ UINT64_C(0x8000000000000000);
}

int64_t
rank_score(uint64_t key)
{
	return (int64_t) (key ^ UINT64_C(0x8000000000000000));
}

/*
 * rank_prefix -- which node of a level a key belongs to.
 */
uint64_t
rank_prefix(uint64_t key, int level)
{
	return level + 1 >= RANK_LEVELS ? 0 : key >> (8 * (level + 1));
}

/* Which child of its node of a level a key belongs to. */
static unsigned
child_of(uint64_t key, int level)
{
	return (unsigned) (key >> (8 * level)) & 255;
}

/* The width that has room for all of the numbers that were or-ed. */
static unsigned
width_of(uint64_t numbers)
{
	return numbers <= UINT8_MAX ? 1 : numbers <= UINT16_MAX ? 2 : numbers <= UINT32_MAX ? 4 : 8;
}

#define ADD_UP(type) \
	for (size_t i = 0; i < count; i++) \
	{ \
		type		number; \
		memcpy(&number, numbers + i * sizeof(type), sizeof(type)); \
		total += number; \
	}

/* The sum of the first of these numbers; of a width of 0 each is 1. */
static int64_t
sum_of(const uint8_t *numbers, unsigned width, size_t count)
{
	uint64_t	total = 0;

	switch (width)
	{
		case 0:
			return (int64_t) count;
		case 1:
			ADD_UP(uint8_t);
			break;
		case 2:
			ADD_UP(uint16_t);
			break;
		case 4:
			ADD_UP(uint32_t);
			break;
		default:
			ADD_UP(uint64_t);
			break;
	}
	return (int64_t) total;
}

static uint8_t *
put_number(uint8_t *to, uint64_t number, unsigned width)
{
	uint8_t		byte = (uint8_t) number;
	uint16_t	two = (uint16_t) number;
	uint32_t	four = (uint32_t) number;

	memcpy(to, width == 1 ? (void *) &byte : width == 2 ? (void *) &two :
		   width == 4 ? (void *) &four : (void *) &number, width);
	return to + width;
}

/* A stored node, where it is. */
typedef struct StoredNode
{
	size_t		count;
	const uint8_t *children;
	unsigned	users_width;
	const uint8_t *users;
	unsigned	scores_width;
	const uint8_t *scores;
} StoredNode;

static bool
is_width(unsigned width)
{
	return width == 1 || width == 2 || width == 4 || width == 8;
}

/* Finds the parts of a stored node; false when it is none. */
static bool
open_node(const uint8_t *bytes, size_t length, StoredNode *node)
{
	if (length < 2)
		return false;
	node->users_width = bytes[0] & 15;
	node->scores_width = bytes[0] >> 4;
	node->count = (size_t) bytes[1] + 1;
	node->children = bytes + 2;
	node->users = node->children + node->count;
	node->scores = node->users + node->count * node->users_width;
	return is_width(node->users_width) &&
		(node->scores_width == 0 || is_width(node->scores_width)) &&
		length == 2 + node->count * (1 + node->users_width + node->scores_width);
}

/* How many of a stored node's children are above this one. */
static size_t
children_above(const StoredNode *node, unsigned child)
{
	size_t		first = 0;
	size_t		end = node->count;

	while (first < end)
	{
		size_t		middle = (first + end) / 2;

		if (node->children[middle] > child)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

/*
 * rank_unpack -- a stored node in memory; false when it is none. Nothing at all is a
 * node without children.
 */
bool
rank_unpack(const uint8_t *bytes, size_t length, RankNode *node)
{
	StoredNode	stored;

	memset(node, 0, sizeof(RankNode));
	if (length == 0)
		return true;
	if (!open_node(bytes, length, &stored))
		return false;
	for (size_t i = 0; i < stored.count; i++)
	{
		unsigned	child = stored.children[i];

		if (i > 0 && child >= stored.children[i - 1])
			return false;
		node->users[child] = sum_of(stored.users + i * stored.users_width,
									stored.users_width, 1);
		node->scores[child] = sum_of(stored.scores + i * stored.scores_width,
									 stored.scores_width, 1);
		if (node->users[child] <= 0 || node->scores[child] <= 0)
			return false;
	}
	return true;
}

/*
 * rank_pack -- a node as it is stored, into RANK_NODE_BYTES; returns the length,
 * 0 when nobody is in it.
 */
size_t
rank_pack(const RankNode *node, uint8_t *bytes)
{
	unsigned	children[RANK_CHILDREN];
	unsigned	count = 0;
	uint64_t	users = 0;
	uint64_t	scores = 0;
	unsigned	scores_width;
	uint8_t    *to = bytes + 2;

	for (unsigned child = RANK_CHILDREN; child-- > 0;)
	{
		if (node->users[child] == 0)
			continue;
		children[count++] = child;
		users |= (uint64_t) node->users[child];
		scores |= (uint64_t) node->scores[child];
	}
	if (count == 0)
		return 0;
	scores_width = scores == 1 ? 0 : width_of(scores);
	bytes[0] = (uint8_t) (width_of(users) | scores_width << 4);
	bytes[1] = (uint8_t) (count - 1);
	for (unsigned i = 0; i < count; i++)
		*to++ = (uint8_t) children[i];
	for (unsigned i = 0; i < count; i++)
		to = put_number(to, (uint64_t) node->users[children[i]], width_of(users));
	for (unsigned i = 0; i < count && scores_width > 0; i++)
		to = put_number(to, (uint64_t) node->scores[children[i]], scores_width);
	return (size_t) (to - bytes);
}

static bool
load(const RankStorage *storage, int level, uint64_t prefix, RankNode *node)
{
	size_t		length = 0;
	const uint8_t *bytes = storage->fetch(storage->arg, level, prefix, &length);

	return rank_unpack(bytes, bytes == NULL ? 0 : length, node);
}

static void
save(const RankStorage *storage, int level, uint64_t prefix, const RankNode *node)
{
	uint8_t		bytes[RANK_NODE_BYTES];
	size_t		length = rank_pack(node, bytes);

	storage->store(storage->arg, level, prefix, bytes, length);
}

/* What a node has in all. */
static RankChange
node_total(const RankNode *node)
{
	RankChange	total = {0, 0, 0};

	for (unsigned child = 0; child < RANK_CHILDREN; child++)
	{
		total.users += node->users[child];
		total.scores += node->scores[child];
	}
	return total;
}

/* The lowest level whose node has both keys. */
static int
common_level(uint64_t a, uint64_t b, int level)
{
	while (rank_prefix(a, level) != rank_prefix(b, level))
		level++;
	return level;
}

/*
 * Adds levels until the top has all of the keys, which are sorted; returns the
 * top's level, -1 when a node is none.
 */
static int
grow(const RankStorage *storage, const RankChange *changes, size_t count)
{
	uint64_t	prefix;
	int			top = storage->top(storage->arg, &prefix);
	uint64_t	first = changes[0].key;
	uint64_t	last = changes[count - 1].key;
	int			level;
	RankNode	node;
	RankChange	total;

	if (top < 0)
		return common_level(first, last, 0);
	level = common_level(first, last, top);
	if (top + 1 < RANK_LEVELS)
		level = common_level(first, prefix << (8 * (top + 1)), level);
	if (level == top)
		return top;
	if (!load(storage, top, prefix, &node))
		return -1;
	total = node_total(&node);
	for (; top < level; top++)
	{
		memset(&node, 0, sizeof(node));
		node.users[prefix & 255] = total.users;
		node.scores[prefix & 255] = total.scores;
		prefix >>= 8;
		save(storage, top + 1, prefix, &node);
	}
	return level;
}

/* Adds one change to a node; what it does to the number of scores is known above level 0. */
static bool
node_add(RankNode *node, int level, uint64_t key, const RankChange *change, int64_t *scores)
{
	unsigned	child = child_of(key, level);
	int64_t		before = node->users[child];
	int64_t		added = change->scores;

	if (level == 0)
		added = (before + change->users > 0) - (before > 0);
	node->users[child] += change->users;
	node->scores[child] += added;
	*scores = added;
	return node->users[child] >= 0 && node->scores[child] >= 0;
}

/*
 * Applies the changes to a level's nodes, and leaves in their place one change
 * for each of the nodes that has more or less than before, to be applied to the level
 * above. False when there is
 * nobody to be taken away, or a node is none.
 */
static bool
apply_level(const RankStorage *storage, int level, RankChange *changes, size_t *count)
{
	size_t		next = 0;
	size_t		nodes = 0;

	while (next < *count)
	{
		uint64_t	prefix = rank_prefix(changes[next].key, level);
		RankChange	sum = {changes[next].key, 0, 0};
		bool		changed = false;
		RankNode	node;

		if (!load(storage, level, prefix, &node))
			return false;
		for (; next < *count && rank_prefix(changes[next].key, level) == prefix; next++)
		{
			int64_t		scores;

			if (!node_add(&node, level, changes[next].key, &changes[next], &scores))
				return false;
			sum.users += changes[next].users;
			sum.scores += scores;
			changed |= changes[next].users != 0 || scores != 0;
		}
		/* Who only moved within a node leaves those above it as they are. */
		if (changed)
			save(storage, level, prefix, &node);
		if (sum.users != 0 || sum.scores != 0)
			changes[nodes++] = sum;
	}
	*count = nodes;
	return true;
}

/* Removes the top while it has a single child; false when a node is none. */
static bool
shrink(const RankStorage *storage, int level, uint64_t prefix)
{
	for (; level > 0; level--)
	{
		RankNode	node;
		unsigned	children = 0;
		unsigned	only = 0;

		if (!load(storage, level, prefix, &node))
			return false;
		for (unsigned child = 0; child < RANK_CHILDREN; child++)
		{
			if (node.users[child] > 0)
			{
				children++;
				only = child;
			}
		}
		if (children != 1)
			return true;
		storage->store(storage->arg, level, prefix, NULL, 0);
		prefix = prefix << 8 | only;
	}
	return true;
}

static int
compare_changes(const void *a, const void *b)
{
	uint64_t	x = ((const RankChange *) a)->key;
	uint64_t	y = ((const RankChange *) b)->key;

	return x < y ? -1 : x > y;
}

/*
 * rank_combine -- sorts changes and adds up those of a score, as rank_apply() wants them;
 * returns how many are left.
 */
size_t
rank_combine(RankChange *changes, size_t count)
{
	size_t		kept = 0;
	size_t		next = 0;

	if (count > 1)
		qsort(changes, count, sizeof(RankChange), compare_changes);
	while (next < count)
	{
		RankChange	sum = changes[next++];

		for (; next < count && changes[next].key == sum.key; next++)
			sum.users += changes[next].users;
		if (sum.users != 0)
			changes[kept++] = sum;
	}
	return kept;
}

/*
 * rank_apply -- adds users to scores, or takes them away. The changes are sorted,
 * each key is there once, and they are overwritten. False when somebody is to be
 * taken away who is not there, or a node cannot be read: the tree is spoilt then.
 */
bool
rank_apply(const RankStorage *storage, RankChange *changes, size_t count)
{
	uint64_t	some_key;
	int			top;

	if (count == 0)
		return true;
	some_key = changes[0].key;
	top = grow(storage, changes, count);
	if (top < 0)
		return false;
	for (int level = 0; level <= top; level++)
	{
		if (!apply_level(storage, level, changes, &count))
			return false;
	}
	return shrink(storage, top, rank_prefix(some_key, top));
}

/* Adds what a stored node has above a child to the place; in a leaf, who is there. */
static void
add_node(const StoredNode *node, unsigned child, bool leaf, bool all, RankPlace *place)
{
	size_t		above = children_above(node, child);

	place->users_above += sum_of(node->users, node->users_width, above);
	if (all)
		place->scores_above += sum_of(node->scores, node->scores_width, above);
	if (leaf && above < node->count && node->children[above] == child)
		place->users_same = sum_of(node->users + above * node->users_width,
								   node->users_width, 1);
}

/*
 * rank_find -- where a score is, whether anybody has it or not; all: also among how
 * many, and below how many other scores. False when a node cannot be read.
 */
bool
rank_find(const RankStorage *storage, uint64_t key, bool all, RankPlace *place)
{
	uint64_t	prefix;
	int			top = storage->top(storage->arg, &prefix);

	memset(place, 0, sizeof(RankPlace));
	for (int level = top; level >= 0; level--)
	{
		size_t		length = 0;
		uint64_t	wanted = rank_prefix(key, level);
		const uint8_t *bytes = storage->fetch(storage->arg, level,
											  level == top ? prefix : wanted, &length);
		StoredNode	node;

		if (bytes == NULL)
			return level < top; /* nobody is near; the top is there */
		if (!open_node(bytes, length, &node))
			return false;
		if (level == top && all)
			place->users = sum_of(node.users, node.users_width, node.count);
		if (level < top || wanted == prefix)
			add_node(&node, child_of(key, level), level == 0, all, place);
		else
		{
			/* The key is beyond the top's reach: all of it is above, or nothing. */
			size_t		above = prefix > wanted ? node.count : 0;

			place->users_above = sum_of(node.users, node.users_width, above);
			place->scores_above = sum_of(node.scores, node.scores_width, above);
			return true;
		}
	}
	return true;
}

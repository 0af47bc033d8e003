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
 */
#include "ranktree.h"

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

/* A number in 7 bits a byte, the low ones first; returns where it ends. */
static uint8_t *
put_number(uint8_t *to, uint64_t number)
{
	while (number >= 128)
	{
		*to++ = (uint8_t) (number | 128);
		number >>= 7;
	}
	*to++ = (uint8_t) number;
	return to;
}

/* Reads one; NULL when it does not end in time. */
static const uint8_t *
get_number(const uint8_t *from, const uint8_t *end, int64_t *number)
{
	uint64_t	value = 0;

	for (int shift = 0; from < end && shift < 63; shift += 7)
	{
		value |= (uint64_t) (*from & 127) << shift;
		if (!(*from++ & 128))
		{
			*number = (int64_t) value;
			return from;
		}
	}
	return NULL;
}

/* Reads a child of a stored node; NULL when it is no node. */
static const uint8_t *
get_child(const uint8_t *from, const uint8_t *end, unsigned *child, int64_t *users,
		  int64_t *scores)
{
	*child = *from++;
	from = get_number(from, end, users);
	return from == NULL ? NULL : get_number(from, end, scores);
}

/*
 * rank_unpack -- a stored node in memory; false when it is none.
 */
bool
rank_unpack(const uint8_t *bytes, size_t length, RankNode *node)
{
	const uint8_t *end = bytes + length;

	memset(node, 0, sizeof(RankNode));
	while (bytes != NULL && bytes < end)
	{
		unsigned	child;
		int64_t		users;
		int64_t		scores;

		bytes = get_child(bytes, end, &child, &users, &scores);
		if (bytes == NULL)
			return false;
		node->users[child] = users;
		node->scores[child] = scores;
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
	uint8_t    *to = bytes;

	for (unsigned child = 0; child < RANK_CHILDREN; child++)
	{
		if (node->users[child] == 0)
			continue;
		*to++ = (uint8_t) child;
		to = put_number(to, (uint64_t) node->users[child]);
		to = put_number(to, (uint64_t) node->scores[child]);
	}
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
add_change(RankNode *node, int level, uint64_t key, const RankChange *change, int64_t *scores)
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
 * for each of the nodes, to be applied to the level above. False when there is
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
		RankNode	node;

		if (!load(storage, level, prefix, &node))
			return false;
		for (; next < *count && rank_prefix(changes[next].key, level) == prefix; next++)
		{
			int64_t		scores;

			if (!add_change(&node, level, changes[next].key, &changes[next], &scores))
				return false;
			sum.users += changes[next].users;
			sum.scores += scores;
		}
		save(storage, level, prefix, &node);
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

/* Adds what a stored node has to the right of a child, and what that has, to the place. */
static bool
add_node(const uint8_t *bytes, size_t length, unsigned child, bool leaf, bool top,
		 RankPlace *place)
{
	const uint8_t *end = bytes + length;

	while (bytes < end)
	{
		unsigned	present;
		int64_t		users;
		int64_t		scores;

		bytes = get_child(bytes, end, &present, &users, &scores);
		if (bytes == NULL)
			return false;
		if (top)
			place->users += users;
		if (present > child)
		{
			place->users_above += users;
			place->scores_above += scores;
		}
		else if (present == child && leaf)
			place->users_same = users;
	}
	return true;
}

/* The key is beyond the top's reach: all of it is above, or nothing. */
static bool
find_outside(const uint8_t *bytes, size_t length, bool above, RankPlace *place)
{
	RankNode	node;
	RankChange	total;

	if (!rank_unpack(bytes, length, &node))
		return false;
	total = node_total(&node);
	place->users = total.users;
	if (above)
	{
		place->users_above = total.users;
		place->scores_above = total.scores;
	}
	return true;
}

/*
 * rank_find -- where a score is, whether anybody has it or not. False when a node
 * cannot be read.
 */
bool
rank_find(const RankStorage *storage, uint64_t key, RankPlace *place)
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

		if (bytes == NULL)
			return level < top; /* nobody is near; the top is there */
		if (level == top && wanted != prefix)
			return find_outside(bytes, length, prefix > wanted, place);
		if (!add_node(bytes, length, child_of(key, level), level == 0, level == top, place))
			return false;
	}
	return true;
}

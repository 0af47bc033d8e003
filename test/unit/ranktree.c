/*
 * ranktree.c
 *		The order-statistic tree against a naive count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "ranktree.h"

/* Nodes in an array. */
#define MAX_NODES	4096

typedef struct Stored
{
	int			level;
	uint64_t	prefix;
	size_t		length;
	uint8_t		bytes[RANK_NODE_BYTES];
}			Stored;

static Stored * nodes;
static int	nnodes;
static int	fetched;
static int	stored;

static Stored *
find_node(int level, uint64_t prefix)
{
	for (int i = 0; i < nnodes; i++)
	{
		if (nodes[i].level == level && nodes[i].prefix == prefix)
			return &nodes[i];
	}
	return NULL;
}

static const uint8_t *
fetch(void *arg, int level, uint64_t prefix, size_t *length)
{
	Stored	   *node = find_node(level, prefix);

	fetched++;
	if (node == NULL)
		return NULL;
	*length = node->length;
	return node->bytes;
}

static void
store(void *arg, int level, uint64_t prefix, const uint8_t *bytes, size_t length)
{
	Stored	   *node = find_node(level, prefix);

	stored++;
	if (length == 0)
	{
		if (node != NULL)
			*node = nodes[--nnodes];
		return;
	}
	assert_true(length <= RANK_NODE_BYTES);
	if (node == NULL)
	{
		assert_true(nnodes < MAX_NODES);
		node = &nodes[nnodes++];
	}
	node->level = level;
	node->prefix = prefix;
	node->length = length;
	memcpy(node->bytes, bytes, length);
}

static int
top(void *arg, uint64_t *prefix)
{
	int			level = -1;

	for (int i = 0; i < nnodes; i++)
	{
		if (nodes[i].level > level)
		{
			level = nodes[i].level;
			*prefix = nodes[i].prefix;
		}
	}
	return level;
}

static const RankStorage storage = {fetch, store, top, NULL};

static int
set_up(void **state)
{
	nodes = malloc(sizeof(Stored) * MAX_NODES);
	nnodes = 0;
	return nodes == NULL;
}

static int
tear_down(void **state)
{
	free(nodes);
	return 0;
}

/* The naive count: the users' scores. */
#define USERS	300

static int64_t scores[USERS];
static bool listed[USERS];

static int
compare_keys(const void *a, const void *b)
{
	uint64_t	x = ((const RankChange *) a)->key;
	uint64_t	y = ((const RankChange *) b)->key;

	return x < y ? -1 : x > y;
}

static size_t
combine(RankChange *changes, size_t count)
{
	size_t		kept = 0;

	qsort(changes, count, sizeof(RankChange), compare_keys);
	for (size_t i = 0; i < count; i++)
	{
		if (kept > 0 && changes[kept - 1].key == changes[i].key)
			changes[kept - 1].users += changes[i].users;
		else
			changes[kept++] = changes[i];
	}
	return kept;
}

static void
expect_place(int64_t score)
{
	RankPlace	place;
	RankPlace	naive = {0, 0, 0, 0};

	for (int i = 0; i < USERS; i++)
	{
		bool		counted = false;

		if (!listed[i])
			continue;
		naive.users++;
		naive.users_above += scores[i] > score;
		naive.users_same += scores[i] == score;
		for (int j = 0; j < i && !counted; j++)
			counted = listed[j] && scores[j] == scores[i];
		naive.scores_above += scores[i] > score && !counted;
	}
	assert_true(rank_find(&storage, rank_key(score), true, &place));
	assert_int_equal(place.users, naive.users);
	assert_int_equal(place.users_above, naive.users_above);
	assert_int_equal(place.scores_above, naive.scores_above);
	assert_int_equal(place.users_same, naive.users_same);
}

static int64_t
random_score(int round)
{
	static const int64_t edges[] = {
		INT64_MIN, INT64_MIN + 1, -65536, -257, -256, -1, 0, 1, 255, 256, 65535, 65536,
		INT32_MAX, INT64_C(1) << 40, INT64_MAX - 1, INT64_MAX
	};

	if (round % 3 == 0)
		return rand() % 1000;
	if (round % 3 == 1)
		return rand() % 200000 - 100000;
	return edges[rand() % (sizeof(edges) / sizeof(edges[0]))];
}

/* Changes of all sizes, from an empty tree and back to one. */
static void
as_counted(void **state)
{
	nnodes = 0;
	srand(1);
	memset(listed, 0, sizeof(listed));
	for (int round = 0; round < 600; round++)
	{
		RankChange	changes[2 * USERS];
		size_t		count = 0;
		int			moved = round == 599 ? USERS : 1 + rand() % (round % 10 == 0 ? USERS : 5);

		for (int i = 0; i < moved; i++)
		{
			int			user = moved == USERS ? i : rand() % USERS;

			if (listed[user])
				changes[count++] = (RankChange) {rank_key(scores[user]), -1, 0};
			listed[user] = round != 599 && rand() % 4 > 0;
			scores[user] = random_score(round);
			if (listed[user])
				changes[count++] = (RankChange) {rank_key(scores[user]), 1, 0};
		}
		assert_true(rank_apply(&storage, changes, combine(changes, count)));
		for (int i = 0; i < 10; i++)
			expect_place(i < 5 ? scores[rand() % USERS] : random_score(rand() % 3));
	}
	assert_int_equal(nnodes, 0);
}

/* The top is the lowest node that has everybody. */
static void
top_grows_and_shrinks(void **state)
{
	RankChange	add[] = {{rank_key(5), 1, 0}, {rank_key(7), 2, 0}};
	RankChange	far = {rank_key(-1), 1, 0};
	RankPlace	place;

	nnodes = 0;
	assert_true(rank_apply(&storage, add, 2));
	assert_int_equal(nnodes, 1);
	assert_true(rank_apply(&storage, &far, 1));
	assert_int_equal(nnodes, 15);
	assert_true(rank_find(&storage, rank_key(-1), true, &place));
	assert_int_equal(place.users_above, 3);
	assert_int_equal(place.scores_above, 2);
	far = (RankChange) {rank_key(-1), -1, 0};
	assert_true(rank_apply(&storage, &far, 1));
	assert_int_equal(nnodes, 1);
}

/* One node a level is read. */
static void
reads_its_path(void **state)
{
	RankPlace	place;

	nnodes = 0;
	for (int i = 0; i < 2000; i++)
	{
		RankChange	change = {rank_key(i * 37), 1, 0};

		assert_true(rank_apply(&storage, &change, 1));
	}
	fetched = 0;
	assert_true(rank_find(&storage, rank_key(37 * 1000), true, &place));
	assert_int_equal(place.users_above, 999);
	assert_int_equal(fetched, 3);
}

/* Only the nodes that change are stored. */
static void
stores_what_changes(void **state)
{
	RankChange	add[] = {{rank_key(1), 1, 0}, {rank_key(2), 1, 0}, {rank_key(70000), 1, 0}};
	RankChange	within[] = {{rank_key(2), -1, 0}, {rank_key(3), 1, 0}};
	RankChange	merged[] = {{rank_key(1), 1, 0}, {rank_key(3), -1, 0}};
	RankChange	none[] = {{rank_key(1), 0, 0}, {rank_key(300), 0, 0}};

	nnodes = 0;
	assert_true(rank_apply(&storage, add, 3));
	assert_int_equal(nnodes, 5);
	stored = 0;
	assert_true(rank_apply(&storage, within, 2));
	assert_int_equal(stored, 1);
	/* As many users, but fewer different scores: to the top. */
	stored = 0;
	assert_true(rank_apply(&storage, merged, 2));
	assert_int_equal(stored, 3);
	stored = 0;
	assert_true(rank_apply(&storage, none, 2));
	assert_int_equal(stored, 0);
	assert_int_equal(nnodes, 5);
}

static void
refuses_who_is_not_there(void **state)
{
	RankChange	change = {rank_key(3), 1, 0};

	nnodes = 0;
	assert_true(rank_apply(&storage, &change, 1));
	change = (RankChange) {rank_key(4), -1, 0};
	assert_false(rank_apply(&storage, &change, 1));
}

/* What is no node is refused, not read beyond its end. */
static void
refuses_broken_nodes(void **state)
{
	/* two children, users of a byte, scores of two */
	static const uint8_t good[] = {1 | 2 << 4, 1, 9, 5, 3, 200, 3, 0, 1, 0};
	uint8_t		bytes[RANK_NODE_BYTES];
	RankNode	node;

	for (size_t length = 1; length <= sizeof(good); length++)
		assert_int_equal(rank_unpack(good, length, &node), length == sizeof(good));
	assert_int_equal(node.users[5], 200);
	assert_int_equal(node.scores[9], good[6] | good[7] << 8);
	assert_true(rank_unpack(NULL, 0, &node));
	for (unsigned header = 0; header < 256; header++)
	{
		memcpy(bytes, good, sizeof(good));
		bytes[0] = (uint8_t) header;
		assert_int_equal(rank_unpack(bytes, sizeof(good), &node), header == good[0]);
	}
	for (int byte = 2; byte < 6; byte++)
	{
		memcpy(bytes, good, sizeof(good));
		bytes[byte] = byte == 2 ? 5 : byte == 3 ? 9 : 0;
		assert_false(rank_unpack(bytes, sizeof(good), &node));
	}
}

/* A reader of a broken node says so. */
static void
finds_nothing_in_broken_nodes(void **state)
{
	RankChange	change = {rank_key(3), 1, 0};
	RankPlace	place;

	nnodes = 0;
	assert_true(rank_apply(&storage, &change, 1));
	nodes[0].length--;
	assert_false(rank_find(&storage, rank_key(3), false, &place));
	nodes[0].length = 0;
	assert_false(rank_find(&storage, rank_key(3), false, &place));
}

/* Numbers are as wide as they must be, and the same for the same counts. */
static void
numbers_of_all_widths(void **state)
{
	static const int64_t users[] = {1, 255, 256, 65535, 65536, UINT32_MAX, INT64_C(1) << 32, INT64_C(1) << 40};
	static const size_t widths[] = {1, 1, 2, 2, 4, 4, 8, 8};
	RankPlace	place;
	RankNode	node;
	uint8_t		bytes[RANK_NODE_BYTES];

	for (int i = 0; i < 8; i++)
	{
		RankChange	changes[] = {{rank_key(1), users[i], 0}, {rank_key(3), 1, 0}, {rank_key(250), users[i], 0}};

		nnodes = 0;
		assert_true(rank_apply(&storage, changes, 3));
		assert_int_equal(nodes[0].length, 2 + 3 * (1 + widths[i]));
		assert_true(rank_find(&storage, rank_key(2), true, &place));
		assert_int_equal(place.users_above, users[i] + 1);
		assert_int_equal(place.users, 2 * users[i] + 1);
		assert_int_equal(place.scores_above, 2);
		assert_true(rank_find(&storage, rank_key(1), false, &place));
		assert_int_equal(place.users_same, users[i]);
		assert_true(rank_unpack(nodes[0].bytes, nodes[0].length, &node));
		assert_int_equal(rank_pack(&node, bytes), nodes[0].length);
		assert_memory_equal(bytes, nodes[0].bytes, nodes[0].length);
	}
	for (unsigned child = 0; child < RANK_CHILDREN; child++)
		node.users[child] = node.scores[child] = INT64_MAX;
	assert_int_equal(rank_pack(&node, bytes), RANK_NODE_BYTES);
}

static void
keys_are_in_order(void **state)
{
	static const int64_t ascending[] = {INT64_MIN, -300, -1, 0, 1, 300, INT64_MAX};

	for (int i = 0; i + 1 < 7; i++)
		assert_true(rank_key(ascending[i]) < rank_key(ascending[i + 1]));
	for (int i = 0; i < 7; i++)
		assert_true(rank_score(rank_key(ascending[i])) == ascending[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_in_order),
		cmocka_unit_test(refuses_broken_nodes),
		cmocka_unit_test(finds_nothing_in_broken_nodes),
		cmocka_unit_test(numbers_of_all_widths),
		cmocka_unit_test(refuses_who_is_not_there),
		cmocka_unit_test(top_grows_and_shrinks),
		cmocka_unit_test(reads_its_path),
		cmocka_unit_test(stores_what_changes),
		cmocka_unit_test(as_counted)
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

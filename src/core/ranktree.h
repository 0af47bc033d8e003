/*
 * ranktree.h
 *		The order-statistic tree: how many are above a score. Pure C.
 */
#ifndef REPUTATION_CORE_RANKTREE_H
#define REPUTATION_CORE_RANKTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANK_LEVELS		8		/* of nodes; level 0 has the scores */
#define RANK_CHILDREN	256

/* A node as it is stored: two bytes, and for each child its number and two counts of up to 8 bytes. */
#define RANK_NODE_BYTES	(2 + RANK_CHILDREN * 17)

/* A node in memory: what is below each child. */
typedef struct RankNode
{
	int64_t		users[RANK_CHILDREN];
	int64_t		scores[RANK_CHILDREN];	/* how many different ones */
} RankNode;

/* What was added to a score, or to a child of a node. */
typedef struct RankChange
{
	uint64_t	key;
	int64_t		users;
	int64_t		scores;			/* filled in on the way up */
} RankChange;

/* Where a score is. */
typedef struct RankPlace
{
	int64_t		users_above;
	int64_t		users_same;		/* with this score */
	int64_t		scores_above;	/* different ones; these two when they are asked for */
	int64_t		users;			/* all */
} RankPlace;

/*
 * Where the nodes are. What fetch returns is good until the next call; a node that
 * is not there is NULL. top gives the level of the only node that has no parent,
 * or -1 when there is none.
 */
typedef struct RankStorage
{
	const uint8_t *(*fetch) (void *arg, int level, uint64_t prefix, size_t *length);
	void		(*store) (void *arg, int level, uint64_t prefix, const uint8_t *node,
						  size_t length);	/* length 0: remove */
	int			(*top) (void *arg, uint64_t *prefix);
	void	   *arg;
} RankStorage;

extern uint64_t rank_key(int64_t score);
extern int64_t rank_score(uint64_t key);
extern uint64_t rank_prefix(uint64_t key, int level);
extern bool rank_unpack(const uint8_t *bytes, size_t length, RankNode *node);
extern size_t rank_pack(const RankNode *node, uint8_t *bytes);
extern size_t rank_combine(RankChange *changes, size_t count);
extern bool rank_apply(const RankStorage *storage, RankChange *changes, size_t count);
extern bool rank_find(const RankStorage *storage, uint64_t key, bool all, RankPlace *place);

#endif							/* REPUTATION_CORE_RANKTREE_H */

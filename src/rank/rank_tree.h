/*
 * rank_tree.h
 *		Order-statistic trees over score tables.
 */
#ifndef REPUTATION_RANK_TREE_H
#define REPUTATION_RANK_TREE_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/skey.h"
#include "core/ranktree.h"
#include "engine/engine.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* An engine's periods have a tree each. */
#define RANK_TREES_OF_ENGINE	4
#define rank_tree_of(engine_id, period) ((engine_id) * RANK_TREES_OF_ENGINE + (period))
#define RANK_TREES		((MAX_ENGINE_ID + 1) * RANK_TREES_OF_ENGINE)

/* What a tree is about. */
typedef struct RankSource
{
	int			tree;
	Oid			relation;		/* the score table */
	AttrNumber	column;			/* int or bigint */
	bool		positive;		/* only scores above 0 are in it */
} RankSource;

/* rank_tree.c */
extern void rank_init(void);
extern void rank_request_rebuild(const RankSource *source);
extern void rank_make(const RankSource *source);
extern void rank_drop(int tree);
extern size_t rank_pending(int tree, Snapshot snapshot, RankChange **changes);
extern void rank_request_fold(const RankSource *source);

/* The columns of reputation.rank_node; the first ones are its key. */
#define NODE_TREE		1
#define NODE_LEVEL		2
#define NODE_PREFIX		3
#define NODE_KEYS		3
#define NODE_COUNTS		4

/* The row with the top: the level, the prefix, and the node. */
#define TOP_ROW			RANK_LEVELS
#define TOP_HEADER		(1 + sizeof(uint64))

/* rank_node.c */
typedef struct RankNodes RankNodes;

extern Relation rank_node_table_open(LOCKMODE mode);
extern Relation rank_node_index_open(void);
extern void rank_node_keys(ScanKeyData *keys, int tree, int level, uint64 prefix);

extern RankNodes *rank_nodes_open(int tree, Snapshot snapshot, bool write);
extern const RankStorage *rank_nodes_storage(RankNodes *nodes);

/* The row with the top is as long as this at most. */
#define RANK_TOP_BYTES	(RANK_NODE_BYTES + 16)

extern size_t rank_top_row(uint8 *row, int level, uint64 prefix, const uint8 *bytes,
						   size_t length);
extern int	rank_top_read(const uint8 *row, size_t length, uint64 *prefix);
extern void rank_nodes_finish(RankNodes *nodes);
extern void rank_nodes_remove(RankNodes *nodes);
extern bool rank_nodes_next(RankNodes *nodes, int *level, uint64 *prefix, const uint8 **bytes,
							size_t *length);
extern void rank_nodes_close(RankNodes *nodes);
extern void rank_deltas_insert(int tree, const RankChange *changes, size_t count);
extern bool rank_deltas_exist(int tree, Snapshot snapshot);
extern size_t rank_deltas_read(int tree, Snapshot snapshot, bool take, RankChange **changes);

/* rank_build.c */
extern bool rank_is_tracked(Oid relation);
extern int64 rank_value(Datum value, Oid type);
extern void rank_rebuild(const RankSource *source);
extern void rank_remove(int tree);
extern RankSource rank_source(const EngineDescriptor *engine, int period);
extern size_t rank_count_scores(const RankSource *source, Snapshot snapshot,
								const RankChange *less, size_t nless, RankChange **changes);
extern const uint8 *rank_fetch_none(void *arg, int level, uint64 prefix, size_t *length);
extern int	rank_top_none(void *arg, uint64 *prefix);

/* rank_check.c */
typedef void (*RankReport) (void *arg, const RankSource *source, const char *item,
							const char *cached, const char *expected);
extern void rank_verify(const Engine *engine, RankReport report, void *arg);

#endif							/* REPUTATION_RANK_TREE_H */

/*
 * rank_top.h
 *		Which tops of boards may have changed since they were cached.
 */
#ifndef REPUTATION_RANK_TOP_H
#define REPUTATION_RANK_TOP_H

#include "postgres.h"

#include "port/atomics.h"

/* Of a tree; all 0 at first. */
typedef struct RankTop
{
	pg_atomic_uint32 touches;
	pg_atomic_uint32 refreshed; /* one more than the touches of the last refresh's begin */
	pg_atomic_uint64 threshold; /* a score with a lower key is not cached; 0: unknown */
} RankTop;

/* shmem.c */
extern RankTop *shmem_rank_tops(void);

/* rank_top.c */
extern void rank_top_init(void);
extern void rank_top_clear(RankTop *tops, bool fresh);
extern void rank_top_note(int tree, uint64 key);
extern bool rank_top_is_stale(int tree);
extern void rank_top_refresh_begins(int tree);
extern void rank_top_refresh_ends(int tree, uint64 threshold);

/* The highest key: the top has changed, whatever it is. */
#define RANK_TOP_ANY	PG_UINT64_MAX

#endif							/* REPUTATION_RANK_TOP_H */

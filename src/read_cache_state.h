/*
 * read_cache_state.h
 *		What the read cache has in shared memory; for read_cache*.c only.
 */
#ifndef REPUTATION_READ_CACHE_STATE_H
#define REPUTATION_READ_CACHE_STATE_H

#include "postgres.h"

#include "access/xlog.h"
#include "port/atomics.h"
#include "read_cache.h"
#include "shmem.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#define WAYS			8		/* entries of a set */
#define LOCKS			128
#define MARKS			4096

#define ENTRY_USED		0x01
#define ENTRY_VALUE		0x02	/* has one */
#define ENTRY_RECOVERY	0x04	/* made in recovery */

typedef struct CacheEntry
{
	uint64		generation;
	TimestampTz computed_at;
	TimestampTz refresh_since;
	CacheKey	key;
	uint32		refresher;		/* 0: nobody; else whose ticket it is */
	int32		score;
	int32		completed;
	int32		no_shows;
	uint8		badge;
	uint8		flags;
	uint8		referenced;		/* read since the eviction last came by */
} CacheEntry;

typedef struct CacheSet
{
	CacheEntry	entries[WAYS];
} CacheSet;

typedef enum Counter
{
	COUNT_HITS,
	COUNT_STALE_HITS,
	COUNT_MISSES,
	COUNT_REFRESHES,
	COUNT_EVICTIONS,
	COUNT_INVALIDATIONS,
	COUNTERS
} Counter;

/* All read the epoch, all write the counters: not in one cache line. */
typedef struct CacheDatabase
{
	pg_atomic_uint64 epoch;
	char		pad[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64)];
	pg_atomic_uint64 counters[COUNTERS];
	char		pad2[PG_CACHE_LINE_SIZE - COUNTERS * sizeof(pg_atomic_uint64)];
} CacheDatabase;

typedef struct ReadCache
{
	pg_atomic_uint64 ticks;
	char		pad[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64)];
	LWLockPadded *locks;
	uint32		nsets;
	ConditionVariable refreshed[LOCKS];
	pg_atomic_uint64 marks[MARKS];
	CacheDatabase databases[MAX_DATABASES];
	CacheSet	sets[FLEXIBLE_ARRAY_MEMBER];
} ReadCache;

/* NULL: there is none. */
extern ReadCache *read_cache;

/* A new tick, later than all before. A full barrier. */
static inline uint64
cache_tick(void)
{
	return pg_atomic_add_fetch_u64(&read_cache->ticks, 1);
}

/* Sets an atomic tick forward, never back. */
static inline void
cache_advance(pg_atomic_uint64 *to, uint64 now)
{
	uint64		before = pg_atomic_read_u64(to);

	while (before < now && !pg_atomic_compare_exchange_u64(to, &before, now))
		;
}

static inline void
cache_lock(int lock, LWLockMode mode)
{
	LWLockAcquire(&read_cache->locks[lock].lock, mode);
}

static inline void
cache_unlock(int lock)
{
	LWLockRelease(&read_cache->locks[lock].lock);
}

/* Was it forgotten with its database, or by the promotion? */
static inline bool
cache_is_dead(const CacheEntry *entry)
{
	return entry->generation <=
		pg_atomic_read_u64(&read_cache->databases[entry->key.place].epoch) ||
		((entry->flags & ENTRY_RECOVERY) != 0 && !RecoveryInProgress());
}

#endif							/* REPUTATION_READ_CACHE_STATE_H */

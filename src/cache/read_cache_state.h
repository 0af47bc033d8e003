/*
 * read_cache_state.h
 *		What the read cache has in shared memory; for read_cache*.c only.
 */
#ifndef REPUTATION_READ_CACHE_STATE_H
#define REPUTATION_READ_CACHE_STATE_H

#include "postgres.h"

#include "access/xlog.h"
#include "cache/read_cache.h"
#include "lib/dshash.h"
#include "port/atomics.h"
#include "shmem/shmem.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#define SHARD_BITS		7		/* a hash's first bits; dshash.c has as many partitions */
#define SHARDS			(1 << SHARD_BITS)
#define WAITS			128
#define MARKS			4096

#define ENTRY_VALUE		0x01	/* has one */
#define ENTRY_RECOVERY	0x02	/* made in recovery */

typedef struct CacheEntry
{
	CacheKey	key;			/* first: dshash's key */
	uint32		refresher;		/* 0: nobody; else whose ticket it is */
	uint64		generation;
	TimestampTz computed_at;
	TimestampTz refresh_since;
	int32		score;
	int32		completed;
	int32		no_shows;
	uint8		badge;
	uint8		flags;
	uint8		referenced;		/* read since the eviction last came by */
} CacheEntry;

/* Whose entry counts for this place; every entry has one. */
typedef struct CacheSlot
{
	CacheKey	key;
	uint32		next;			/* of those whose entries nobody needs */
} CacheSlot;

#define SLOT_IN_USE		PG_UINT32_MAX
#define SLOT_LAST		(PG_UINT32_MAX - 1)

/* The places of a shard's entries. */
typedef struct CacheRing
{
	uint32		used;			/* so many have an entry, ... */
	uint32		hand;			/* ... this one is to be looked at next, ... */
	uint32		unneeded;		/* ... and this one before any other */
} CacheRing;

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
	LWLock	   *lock;			/* of the rings */
	uint32		ring_size;
	CacheSlot  *slots;			/* ring_size for each shard */
	void	   *area;			/* where the DSA area is */
	dshash_table_handle table;
	CacheRing	rings[SHARDS];
	ConditionVariable refreshed[WAITS];
	pg_atomic_uint64 marks[MARKS];
	CacheDatabase databases[MAX_DATABASES];
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
cache_count(int place, Counter counter)
{
	pg_atomic_fetch_add_u64(&read_cache->databases[place].counters[counter], 1);
}

static inline uint32
cache_hash(const CacheKey *key)
{
	return dshash_memhash(key, sizeof(CacheKey), NULL);
}

/* Was it forgotten with its database, or by the promotion? */
static inline bool
cache_is_dead(const CacheEntry *entry)
{
	return entry->generation <=
		pg_atomic_read_u64(&read_cache->databases[entry->key.place].epoch) ||
		((entry->flags & ENTRY_RECOVERY) != 0 && !RecoveryInProgress());
}

/* read_cache_store.c */
extern uint32 cache_ring_size(Size memory);
extern Size cache_area_size(uint32 ring_size);
extern void cache_create_table(Size area_size);
extern void cache_attach(void);
extern CacheEntry *cache_find(const CacheKey *key, bool exclusive);
extern CacheEntry *cache_find_or_make(const CacheKey *key);
extern void cache_release(CacheEntry *entry);

#endif							/* REPUTATION_READ_CACHE_STATE_H */

/*
 * read_cache_shmem.c
 *		The read cache's shared memory: made, emptied, counted. read_cache.c has
 *		its life, and says who may touch what.
 */
#include "postgres.h"

#include "base/guc.h"
#include "cache/read_cache_state.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

/* The server's memory for the cache, and how it is laid out. */
typedef struct Layout
{
	uint32		ring_size;
	Size		slots;
	Size		area;
	Size		area_size;
	Size		total;
} Layout;

/* False: it is off. */
static bool
lay_out(Layout *layout)
{
	if (guc_cache_size == 0)
		return false;
	layout->ring_size = cache_ring_size(guc_cache_size * (Size) 1024);
	layout->slots = CACHELINEALIGN(sizeof(ReadCache));
	layout->area = CACHELINEALIGN(layout->slots + layout->ring_size * SHARDS * sizeof(CacheSlot));
	layout->area_size = cache_area_size(layout->ring_size);
	layout->total = layout->area + layout->area_size;
	return true;
}

/*
 * Asks the server for the memory and the lock.
 */
static void
cache_request(void)
{
	Layout		layout;

	if (!lay_out(&layout))
		return;
	RequestAddinShmemSpace(layout.total);
	RequestNamedLWLockTranche("reputation_cache", 1);
}

static void
init_control(const Layout *layout)
{
	memset(read_cache, 0, layout->area);
	read_cache->lock = &GetNamedLWLockTranche("reputation_cache")->lock;
	read_cache->ring_size = layout->ring_size;
	read_cache->slots = (CacheSlot *) ((char *) read_cache + layout->slots);
	read_cache->area = (char *) read_cache + layout->area;
	pg_atomic_init_u64(&read_cache->ticks, 0);
	for (int i = 0; i < SHARDS; i++)
		read_cache->rings[i].unneeded = SLOT_LAST;
	for (int i = 0; i < WAITS; i++)
		ConditionVariableInit(&read_cache->refreshed[i]);
	for (int i = 0; i < MARKS; i++)
		pg_atomic_init_u64(&read_cache->marks[i], 0);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		pg_atomic_init_u64(&read_cache->databases[i].epoch, 0);
		for (int j = 0; j < COUNTERS; j++)
			pg_atomic_init_u64(&read_cache->databases[i].counters[j], 0);
	}
}

/*
 * Finds the memory, and fills it in the first process.
 * Called under AddinShmemInitLock.
 */
static void
cache_startup(void)
{
	Layout		layout;
	bool		found;

	read_cache = NULL;
	if (!lay_out(&layout))
		return;
	read_cache = ShmemInitStruct("reputation cache", layout.total, &found);
	if (found)
		return;
	init_control(&layout);
	cache_create_table(layout.area_size);
}

/*
 * A place in shared memory is another database's now.
 */
static void
cache_reset_database(int place)
{
	if (read_cache == NULL)
		return;
	cache_advance(&read_cache->databases[place].epoch, cache_tick());
	for (int i = 0; i < COUNTERS; i++)
		pg_atomic_write_u64(&read_cache->databases[place].counters[i], 0);
}

/* A ring's slots. */
static CacheSlot *
slots_of(int shard)
{
	return read_cache->slots + (Size) shard * read_cache->ring_size;
}

/*
 * Has the entries of a database that was dropped be
 * the first to give their places up. They stay until then (read_cache_store.c).
 */
static void
cache_forget_database(Oid database)
{
	if (read_cache == NULL)
		return;
	for (int shard = 0; shard < SHARDS; shard++)
	{
		CacheRing  *ring = &read_cache->rings[shard];
		CacheSlot  *slots = slots_of(shard);

		LWLockAcquire(read_cache->lock, LW_EXCLUSIVE);
		for (uint32 i = 0; i < ring->used; i++)
		{
			if (slots[i].key.database != database || slots[i].next != SLOT_IN_USE)
				continue;
			slots[i].next = ring->unneeded;
			ring->unneeded = i;
		}
		LWLockRelease(read_cache->lock);
	}
}

/*
 * read_cache_init -- called when the library is loaded.
 */
void
read_cache_init(void)
{
	static const ShmemPart part = {
		.request = cache_request,
		.startup = cache_startup,
		.reset_database = cache_reset_database,
		.forget_database = cache_forget_database
	};

	shmem_register(&part);
}

static bool
has_value(const CacheKey *key)
{
	CacheEntry *entry = cache_find(key, false);
	bool		has = entry != NULL && (entry->flags & ENTRY_VALUE) != 0 && !cache_is_dead(entry);

	if (entry != NULL)
		cache_release(entry);
	return has;
}

/* How many values of the database at this place there are. Raises an interrupt. */
static int64
count_values(int place)
{
	int64		values = 0;

	for (int shard = 0; shard < SHARDS; shard++)
	{
		CacheSlot  *slots = slots_of(shard);

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(read_cache->lock, LW_SHARED);
		for (uint32 i = 0; i < read_cache->rings[shard].used; i++)
		{
			if (slots[i].key.place == place && has_value(&slots[i].key))
				values++;
		}
		LWLockRelease(read_cache->lock);
	}
	return values;
}

/*
 * read_cache_stats -- what became of this database's reads since the server
 * started, and how full the cache is; false when there is none.
 */
bool
read_cache_stats(CacheStats *stats)
{
	int			place = read_cache == NULL ? -1 : shmem_my_place(true);
	pg_atomic_uint64 *counters;

	memset(stats, 0, sizeof(CacheStats));
	if (place < 0)
		return false;
	cache_attach();
	counters = read_cache->databases[place].counters;
	stats->hits = (int64) pg_atomic_read_u64(&counters[COUNT_HITS]);
	stats->stale_hits = (int64) pg_atomic_read_u64(&counters[COUNT_STALE_HITS]);
	stats->misses = (int64) pg_atomic_read_u64(&counters[COUNT_MISSES]);
	stats->refreshes = (int64) pg_atomic_read_u64(&counters[COUNT_REFRESHES]);
	stats->evictions = (int64) pg_atomic_read_u64(&counters[COUNT_EVICTIONS]);
	stats->invalidations = (int64) pg_atomic_read_u64(&counters[COUNT_INVALIDATIONS]);
	stats->entries = count_values(place);
	stats->max_entries = (int64) read_cache->ring_size * SHARDS;
	return true;
}

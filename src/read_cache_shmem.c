/*
 * read_cache_shmem.c
 *		The read cache's shared memory: made, emptied, counted. read_cache.c has
 *		its life, and says who may touch what.
 */
#include "postgres.h"

#include "guc.h"
#include "read_cache_state.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

ReadCache  *read_cache = NULL;

StaticAssertDecl(sizeof(CacheEntry) == 72, "an entry is of 72 bytes");

static uint32
sets_wanted(void)
{
	return (uint32) (guc_cache_size * (Size) 1024 / sizeof(CacheSet));
}

/*
 * read_cache_shmem_size -- how much memory to ask for; 0 when it is off.
 */
Size
read_cache_shmem_size(void)
{
	if (sets_wanted() == 0)
		return 0;
	return CACHELINEALIGN(add_size(offsetof(ReadCache, sets),
								   mul_size(sets_wanted(), sizeof(CacheSet))));
}

/*
 * read_cache_request -- asks the server for the memory and the locks.
 */
void
read_cache_request(void)
{
	if (read_cache_shmem_size() == 0)
		return;
	RequestAddinShmemSpace(read_cache_shmem_size());
	RequestNamedLWLockTranche("reputation_cache", LOCKS);
}

/*
 * read_cache_startup -- finds the memory, and fills it in the first process.
 * Called under AddinShmemInitLock.
 */
void
read_cache_startup(void)
{
	bool		found;

	read_cache = NULL;
	if (read_cache_shmem_size() == 0)
		return;
	read_cache = ShmemInitStruct("reputation cache", read_cache_shmem_size(), &found);
	if (found)
		return;
	memset(read_cache, 0, read_cache_shmem_size());
	read_cache->locks = GetNamedLWLockTranche("reputation_cache");
	read_cache->nsets = sets_wanted();
	pg_atomic_init_u64(&read_cache->ticks, 0);
	for (int i = 0; i < LOCKS; i++)
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
 * read_cache_reset_database -- a place in shared memory is another database's now.
 */
void
read_cache_reset_database(int place)
{
	if (read_cache == NULL)
		return;
	cache_advance(&read_cache->databases[place].epoch, cache_tick());
	for (int i = 0; i < COUNTERS; i++)
		pg_atomic_write_u64(&read_cache->databases[place].counters[i], 0);
}

/*
 * read_cache_forget_database -- gives the entries of a database that was dropped
 * free.
 */
void
read_cache_forget_database(Oid database)
{
	if (read_cache == NULL)
		return;
	for (uint32 number = 0; number < read_cache->nsets; number++)
	{
		cache_lock(number % LOCKS, LW_EXCLUSIVE);
		for (int i = 0; i < WAYS; i++)
		{
			CacheEntry *entry = &read_cache->sets[number].entries[i];

			if (entry->key.database == database)
				entry->flags = 0;
		}
		cache_unlock(number % LOCKS);
	}
}

static int64
entries_in_use(int place)
{
	int64		entries = 0;

	for (uint32 number = 0; number < read_cache->nsets; number++)
	{
		cache_lock(number % LOCKS, LW_SHARED);
		for (int i = 0; i < WAYS; i++)
		{
			const CacheEntry *entry = &read_cache->sets[number].entries[i];

			if ((entry->flags & ENTRY_USED) != 0 && (entry->flags & ENTRY_VALUE) != 0 &&
				entry->key.place == place && !cache_is_dead(entry))
				entries++;
		}
		cache_unlock(number % LOCKS);
	}
	return entries;
}

/*
 * read_cache_stats -- what became of this database's reads since the server
 * started, and how full the cache is; false when there is none.
 */
bool
read_cache_stats(CacheStats *stats)
{
	int			place = read_cache == NULL ? -1 : shmem_my_place();
	pg_atomic_uint64 *counters;

	memset(stats, 0, sizeof(CacheStats));
	if (place < 0)
		return false;
	counters = read_cache->databases[place].counters;
	stats->hits = (int64) pg_atomic_read_u64(&counters[COUNT_HITS]);
	stats->stale_hits = (int64) pg_atomic_read_u64(&counters[COUNT_STALE_HITS]);
	stats->misses = (int64) pg_atomic_read_u64(&counters[COUNT_MISSES]);
	stats->refreshes = (int64) pg_atomic_read_u64(&counters[COUNT_REFRESHES]);
	stats->evictions = (int64) pg_atomic_read_u64(&counters[COUNT_EVICTIONS]);
	stats->invalidations = (int64) pg_atomic_read_u64(&counters[COUNT_INVALIDATIONS]);
	stats->entries = entries_in_use(place);
	stats->max_entries = (int64) read_cache->nsets * WAYS;
	return true;
}

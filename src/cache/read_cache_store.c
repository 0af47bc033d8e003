/*
 * read_cache_store.c
 *		The read cache's entries: a dshash table that is never short of memory.
 *
 * The table lies in a DSA area that was created in place, in the main shared memory,
 * and may not grow beyond it. dshash raises an error where it cannot allocate; in the
 * middle of somebody's read, that would be ours. So whatever it will ever want is in
 * the area from the start:
 *
 * - Entries. The hash of a key says of which of SHARDS shards it is, by the same bits
 *   that dshash goes by for its partitions, and each shard has a ring of ring_size
 *   slots. An entry is made only with a slot for it. An item is dshash's header (16
 *   bytes) and an entry (72), in DSA's size class of 96 bytes: 682 in a superblock
 *   of 16 pages. DSA takes a new superblock only when all that it has of the class are
 *   full, so there are never more than entries / 682, rounded up.
 * - Buckets. dshash doubles them when a partition with b of them has more than 3/4 b
 *   entries. A partition is a shard (or several whole ones, should there ever be fewer),
 *   so with b the first power of two of which 3/4 are ring_size, that is over when
 *   one shard was full. The server's start fills one and empties it again. After that
 *   dshash never resizes, with all its locks held, nor needs the old array beside the new.
 *   During it the memory of the entries to come is free: more than the array.
 * - Five superblocks of small things: the table's head, and its first arrays of up to 8 kB.
 * - A descriptor (56 bytes) for each superblock and large array, 72 on a page.
 * - What is between those: SPARE_PAGES. A run of fewer than 16 free pages is of no use
 *   for a superblock; the start leaves a few runs, where arrays were. And one run of 16
 *   is to stay: before PostgreSQL 17 DSA does not find again what a segment
 *   gets back that was too full for a request.
 *
 * An entry gives its place only to the one that is made next, under the same lock. So
 * the number of entries never goes down by more than one, and superblocks do not come
 * and go with a layout that gets worse. In a build with assertions the start fills the
 * whole table once, and fails if that does not fit.
 *
 * Eviction. Each ring goes round by CLOCK: an entry that was read since the hand was last
 * here is passed over, for SECOND_CHANCES times, one that is being computed always. The
 * places of a database that was dropped go first, then those that were never used.
 *
 * Locks. One protects the rings and is taken only to make an entry (and to count
 * them, or to forget a database); then a partition's, by dshash; then DSA's. Nobody who has a
 * partition's lock takes that of the rings. Entries are made and deleted under the
 * rings' lock only; therefore every slot that is used has exactly one entry, with
 * its key. To find one, for a hit or an invalidation, takes its partition's lock and no other.
 */
#include "postgres.h"

#include "base/compat.h"
#include "cache/read_cache_state.h"
#include "storage/ipc.h"
#include "utils/dsa.h"
#include "utils/memutils.h"

#define SECOND_CHANCES	64		/* so long the lock of the rings may be held */

/* What dsa.c and dshash.c go by. */
#define PAGE			4096
#define SUPERBLOCK_PAGES 16
#define SUPERBLOCK		(SUPERBLOCK_PAGES * PAGE)
#define SPANS_ON_PAGE	72
#define ITEM_HEADER		16
#define ITEM_SIZE		TYPEALIGN(16, ITEM_HEADER + sizeof(CacheEntry))
#define SMALL_THINGS	5
#define SPARE_PAGES		(6 * SUPERBLOCK_PAGES)

StaticAssertDecl(sizeof(CacheEntry) == 72, "an entry is of 72 bytes");
StaticAssertDecl(ITEM_SIZE > 64 && ITEM_SIZE <= 128, "DSA's size classes are 16 bytes apart");
StaticAssertDecl(sizeof(CacheSlot) == 32, "a slot is of 32 bytes");

ReadCache  *read_cache = NULL;

/* This process's, once attached. */
static dsa_area *area = NULL;
static dshash_table *table = NULL;

static Size
divide_up(Size number, Size by)
{
	return (number + by - 1) / by;
}

/*
 * cache_area_size -- the size of the DSA area for so many entries in each shard.
 */
Size
cache_area_size(uint32 ring_size)
{
	Size		superblocks = divide_up((Size) ring_size * SHARDS, SUPERBLOCK / ITEM_SIZE) + SMALL_THINGS;
	Size		buckets = 4;
	Size		pages;

	while (buckets / 2 + buckets / 4 < ring_size)
		buckets *= 2;
	pages = superblocks * SUPERBLOCK_PAGES +
		divide_up(buckets * SHARDS * sizeof(dsa_pointer), PAGE) +
		divide_up(superblocks + 1, SPANS_ON_PAGE) +
		SPARE_PAGES;
	pages += divide_up(pages * sizeof(dsa_pointer), PAGE) + 1;	/* DSA's page map */
	return dsa_minimum_size() + pages * PAGE;
}

/*
 * cache_ring_size -- how many entries in each shard there is memory for, with their
 * slots; one at least.
 */
uint32
cache_ring_size(Size memory)
{
	uint32		fits = 1;
	uint32		too_many = (uint32) (memory / (SHARDS * ITEM_SIZE)) + 2;

	while (too_many - fits > 1)
	{
		uint32		middle = fits + (too_many - fits) / 2;

		if (cache_area_size(middle) + (Size) middle * SHARDS * sizeof(CacheSlot) <= memory)
			fits = middle;
		else
			too_many = middle;
	}
	return fits;
}

static dshash_parameters
table_parameters(dshash_hash_function hash)
{
	dshash_parameters parameters = {
		.key_size = sizeof(CacheKey),
		.entry_size = sizeof(CacheEntry),
		.compare_function = dshash_memcmp,
		DSHASH_COPY_BYTES
		.hash_function = hash,
		.tranche_id = read_cache->lock->tranche
	};

	return parameters;
}

/* The hash of a key that is to be in the shard that its place says. */
static dshash_hash
hash_into_place(const void *key, size_t size, void *arg)
{
	return (uint32) ((const CacheKey *) key)->place << (32 - SHARD_BITS) |
		dshash_memhash(key, size, arg) >> SHARD_BITS;
}

/* Fills the first shards, all slots of theirs, or empties them again. */
static void
exercise_table(dshash_table *new_table, int shards, bool fill)
{
	CacheKey	key;
	bool		found;

	memset(&key, 0, sizeof(CacheKey));
	for (uint32 i = 0; i < read_cache->ring_size; i++)
	{
		memcpy(key.id, &i, sizeof(i));
		for (key.place = 0; key.place < shards; key.place++)
		{
			if (fill)
				dshash_release_lock(new_table, dshash_find_or_insert(new_table, &key, &found));
			else
				(void) dshash_delete_key(new_table, &key);
		}
	}
}

/*
 * cache_create_table -- makes the table, once, with as many buckets as it will need.
 */
void
cache_create_table(Size area_size)
{
	dshash_parameters parameters = table_parameters(hash_into_place);
	dsa_area   *new_area = dsa_create_in_place(read_cache->area, area_size, parameters.tranche_id, NULL);
	dshash_table *new_table;

	dsa_pin(new_area);
	dsa_set_size_limit(new_area, area_size);
	new_table = dshash_create(new_area, &parameters, NULL);
	exercise_table(new_table, 1, true);
	exercise_table(new_table, 1, false);
#ifdef USE_ASSERT_CHECKING
	exercise_table(new_table, SHARDS, true);
	exercise_table(new_table, SHARDS, false);
#endif
	read_cache->table = dshash_get_hash_table_handle(new_table);
	dshash_detach(new_table);
	dsa_detach(new_area);
}

/*
 * cache_attach -- has this process use the table, until its end. Raises an error for
 * lack of the process's own memory; it can be called again then.
 */
void
cache_attach(void)
{
	MemoryContext outside;
	dshash_parameters parameters;

	if (table != NULL)
		return;
	outside = MemoryContextSwitchTo(TopMemoryContext);
	if (area == NULL)
	{
		area = dsa_attach_in_place(read_cache->area, NULL);
		dsa_pin_mapping(area);
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(read_cache->area));
	}
	parameters = table_parameters(dshash_memhash);
	table = dshash_attach(area, &parameters, read_cache->table, NULL);
	MemoryContextSwitchTo(outside);
}

/*
 * cache_find -- the key's entry, locked, or NULL. Raises no error.
 */
CacheEntry *
cache_find(const CacheKey *key, bool exclusive)
{
	return dshash_find(table, key, exclusive);
}

/*
 * cache_release -- gives an entry's lock back.
 */
void
cache_release(CacheEntry *entry)
{
	dshash_release_lock(table, entry);
}

/* May an entry go, and was it of use? It has no second chance when there was none. */
static bool
may_go(CacheEntry *entry, bool second_chance, bool *useful)
{
	*useful = false;
	if (cache_is_dead(entry))
		return true;
	if (entry->refresher != 0)
		return false;
	if ((entry->flags & ENTRY_VALUE) == 0)
		return true;
	*useful = true;
	if (entry->referenced == 0 || !second_chance)
		return true;
	entry->referenced = 0;
	return false;
}

/* Deletes an entry of the ring that may go; its slot, or NULL if all are busy. */
static CacheSlot *
evict(CacheRing *ring, CacheSlot *slots, int place)
{
	uint32		chances = SECOND_CHANCES + read_cache->ring_size;

	for (uint32 i = 0; i < chances; i++)
	{
		CacheSlot  *slot = &slots[ring->hand];
		CacheEntry *entry = cache_find(&slot->key, true);
		bool		useful;

		ring->hand = (ring->hand + 1) % read_cache->ring_size;
		Assert(entry != NULL);
		if (may_go(entry, i < SECOND_CHANCES, &useful))
		{
			dshash_delete_entry(table, entry);
			if (useful)
				cache_count(place, COUNT_EVICTIONS);
			return slot;
		}
		cache_release(entry);
	}
	return NULL;
}

/* A slot without an entry; NULL when all entries of the ring are being computed. */
static CacheSlot *
take_slot(CacheRing *ring, CacheSlot *slots, int place)
{
	if (ring->unneeded != SLOT_LAST)
	{
		CacheSlot  *slot = &slots[ring->unneeded];
		bool		deleted PG_USED_FOR_ASSERTS_ONLY;

		ring->unneeded = slot->next;
		deleted = dshash_delete_key(table, &slot->key);
		Assert(deleted);
		return slot;
	}
	if (ring->used < read_cache->ring_size)
		return &slots[ring->used++];
	return evict(ring, slots, place);
}

/*
 * cache_find_or_make -- the key's entry, locked exclusively, if need be a new one,
 * which is dead yet; NULL when there is no room. Raises no error.
 */
CacheEntry *
cache_find_or_make(const CacheKey *key)
{
	CacheEntry *entry = cache_find(key, true);
	uint32		shard = cache_hash(key) >> (32 - SHARD_BITS);
	CacheSlot  *slot;
	bool		found;

	if (entry != NULL)
		return entry;
	LWLockAcquire(read_cache->lock, LW_EXCLUSIVE);
	entry = cache_find(key, true);
	if (entry == NULL)
	{
		slot = take_slot(&read_cache->rings[shard],
						 read_cache->slots + (Size) shard * read_cache->ring_size, key->place);
		if (slot != NULL)
		{
			slot->key = *key;
			slot->next = SLOT_IN_USE;
			entry = dshash_find_or_insert(table, key, &found);
			Assert(!found);
			memset(entry, 0, sizeof(CacheEntry));
			entry->key = *key;
		}
	}
	LWLockRelease(read_cache->lock);
	return entry;
}

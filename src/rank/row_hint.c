/*
 * row_hint.c
 *		Where users' score rows were seen, in shared memory.
 *
 * A rank begins with the user's score row, and most of what that takes is the
 * primary key's: its pages, and in a leaf a dozen places that no processor has in its
 * caches. So whoever found a row by the key leaves a hint where it was, the buffer and
 * the place in the page, in an array of words by the hash of table and key. A hint says
 * nothing about what is there: rank_fetch.c follows it with the reader's snapshot,
 * looks whether it is the user's row, and else asks the key. So a hint may be of
 * another user, of another time, or nonsense.
 *
 * A word is read and written at once and nothing depends on another one, so there is
 * no lock. Two users with the same word take it from each other. Nobody takes hints
 * back: when a row moves, the next reader finds nothing there and leaves the new place.
 * The block is not kept, for the buffer's descriptor has it; it is looked at without
 * the buffer's lock, and ReadRecentBuffer() then finds out whether it still has it.
 */
#include "postgres.h"

#include "base/guc.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "rank/row_hint.h"
#include "shmem/shmem.h"
#include "storage/buf_internals.h"
#include "storage/shmem.h"
#include "utils/rel.h"

/* A word, from the lowest bit: buffer, place in the page, some of the hash; 0: no hint. */
#define BUFFER_BITS	31
#define PLACE_BITS	11
#define MARK_SHIFT	(BUFFER_BITS + PLACE_BITS)
#define PLACE_LIMIT	(1 << PLACE_BITS)

static pg_atomic_uint64 *hints = NULL;
static uint64 mask;				/* how many there are, less one */

/* How many hints the setting has room for: a power of two; 0: none. */
static Size
count_hints(void)
{
	Size		room = guc_row_hints * (Size) 1024 / sizeof(pg_atomic_uint64);

	return room == 0 ? 0 : (Size) 1 << pg_leftmost_one_pos64(room);
}

/* Asks the server for the memory. */
static void
request_hints(void)
{
	RequestAddinShmemSpace(count_hints() * sizeof(pg_atomic_uint64));
}

/*
 * Finds the memory, and empties it in the first process. Called under
 * AddinShmemInitLock.
 */
static void
start_hints(void)
{
	Size		count = count_hints();
	bool		found;

	hints = NULL;
	if (count == 0)
		return;
	hints = ShmemInitStruct("reputation row hints", count * sizeof(pg_atomic_uint64), &found);
	mask = count - 1;
	for (Size i = 0; !found && i < count; i++)
		pg_atomic_init_u64(&hints[i], 0);
}

/*
 * row_hint_init -- called when the library is loaded.
 */
void
row_hint_init(void)
{
	static const ShmemPart part = {.request = request_hints, .startup = start_hints};

	shmem_register(&part);
}

/*
 * row_hint_hash -- what row_hint_get() and row_hint_set() go by.
 */
uint64
row_hint_hash(Relation table, const char *key)
{
	return hash_bytes_extended((const unsigned char *) key, (int) strlen(key),
							   (uint64) MyDatabaseId << 32 | RelationGetRelid(table));
}

/*
 * row_hint_get -- where a row may be; false when there is no hint.
 */
bool
row_hint_get(uint64 hash, Buffer *buffer, ItemPointer tid)
{
	uint64		word = hints == NULL ? 0 : pg_atomic_read_u64(&hints[hash & mask]);

	if (word == 0 || word >> MARK_SHIFT != hash >> MARK_SHIFT)
		return false;
	*buffer = (Buffer) (word & ((UINT64CONST(1) << BUFFER_BITS) - 1));
	ItemPointerSet(tid, GetBufferDescriptor(*buffer - 1)->tag.blockNum,
				   (OffsetNumber) (word >> BUFFER_BITS & (PLACE_LIMIT - 1)));
	return true;
}

/*
 * row_hint_set -- a row was found there.
 */
void
row_hint_set(uint64 hash, Buffer buffer, const ItemPointerData *tid)
{
	uint64		place = ItemPointerGetOffsetNumber(tid);

	if (hints != NULL && !BufferIsLocal(buffer) && place < PLACE_LIMIT)
		pg_atomic_write_u64(&hints[hash & mask],
							hash >> MARK_SHIFT << MARK_SHIFT | place << BUFFER_BITS | (uint64) buffer);
}

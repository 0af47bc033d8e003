/*
 * read_cache.c
 *		The read cache: what users' scores were when they were last computed.
 *
 * A fixed table in the main shared memory, for all databases of the server: sets
 * of WAYS entries; the hash of a key says in which set its entry is, if it is
 * anywhere. Nothing is ever allocated, so nothing can fail for lack of memory in
 * the middle of somebody's read, and a full set gives up an entry of its own:
 * one that is dead, or has not been read since it was last passed over.
 *
 * Who may touch what. The sets are spread over LOCKS locks. An entry is read under
 * its set's lock, shared, and changed under it, exclusive; but "referenced" is
 * set under the shared one: a byte of its own, and only advice. The clock of
 * changes ("ticks"), the databases' epochs and counters and the marks of changes
 * are atomics. While one of the locks is held no other is taken, nothing can raise
 * an error and nothing is waited for; so it can be taken anywhere, in commit
 * callbacks too.
 *
 * Why no old value is ever put in after an invalidation. Every entry has a
 * generation, drawn from the ticks when it is made. Whoever is to compute a value
 * gets a ticket with the entry's generation, under the lock, before it takes the
 * snapshot to compute with. Who changes something makes it visible first and then
 * takes the entry out, under the same lock. If the ticket was given before that,
 * the entry is gone, or another one with another generation, when the value comes:
 * it is refused. If it was given after, the snapshot sees the change. To forget a
 * whole database its epoch is set to a new tick: an entry is dead unless its
 * generation is later. A generation drawn before that tick makes a dead entry,
 * whenever the epoch is written down; one drawn after it belongs to a reader whose
 * snapshot sees what was visible when the tick was drawn. Entries that were made
 * in recovery are dead after the promotion: replayed commits invalidate nothing.
 *
 * One refresher. The reader who finds no value, or an expired one, and nobody at
 * it, becomes the entry's refresher; until it is through the others are served the
 * expired value. Where there is none (nobody is served what is known to be wrong)
 * they wait, for a second at most, and then compute for themselves. A refresher
 * leaves by putting its value in or by abandoning, which its error cleanup does,
 * for a FATAL too (user_reputation.c); an exit that skips that makes the postmaster
 * start over with new shared memory. One that takes longer than LONGEST_REFRESH,
 * or a TTL, is joined by another: the entry is that one's then.
 *
 * The marks of changes are for invalidate.c, which explains them: a fixed array
 * by hash, the tick of the last committed change of whose links to other keys.
 */
#include "postgres.h"

#include "clock.h"
#include "common/hashfn.h"
#include "guc.h"
#include "pgstat.h"
#include "read_cache_state.h"
#include "utils/timestamp.h"

#define LONGEST_WAIT	1000	/* ms, for somebody else's computation */
#define LONGEST_REFRESH	60000	/* ms; more only if the TTL is more */

/* What a reader finds. */
typedef enum Finding
{
	FOUND_FRESH,
	FOUND_EXPIRED,				/* and somebody is at it */
	FOUND_BUSY,					/* no value yet, and somebody is at it */
	FOUND_NOTHING				/* that anybody is at */
} Finding;

static void
count(int place, Counter counter)
{
	pg_atomic_fetch_add_u64(&read_cache->databases[place].counters[counter], 1);
}

/*
 * read_cache_now -- the last tick: whatever is marked as changed later became
 * visible to snapshots that are taken later, at the latest.
 */
uint64
read_cache_now(void)
{
	uint64		now = read_cache == NULL ? 0 : pg_atomic_read_u64(&read_cache->ticks);

	pg_memory_barrier();
	return now;
}

/* The set that a key belongs to, and its lock. */
static CacheSet *
set_of(const CacheKey *key, int *lock)
{
	uint32		hash = hash_bytes((const unsigned char *) key, sizeof(CacheKey));
	uint32		number = (uint32) (((uint64) hash * read_cache->nsets) >> 32);

	*lock = number % LOCKS;
	return &read_cache->sets[number];
}

static CacheEntry *
find_entry(CacheSet *set, const CacheKey *key)
{
	for (int i = 0; i < WAYS; i++)
	{
		CacheEntry *entry = &set->entries[i];

		if ((entry->flags & ENTRY_USED) != 0 && memcmp(&entry->key, key, sizeof(CacheKey)) == 0)
			return entry;
	}
	return NULL;
}

/* Has it been so long, also by a clock that was set back? */
static bool
is_over(TimestampTz since, TimestampTz now, int64 ms)
{
	int64		passed = now > since ? now - since : since - now;

	return passed >= ms * 1000;
}

/* What an entry, if there is one, has for a reader now. Under the lock. */
static Finding
examine(const CacheEntry *entry, TimestampTz now)
{
	bool		busy;

	if (entry == NULL || cache_is_dead(entry))
		return FOUND_NOTHING;
	if ((entry->flags & ENTRY_VALUE) != 0 && !is_over(entry->computed_at, now, guc_cache_ttl))
		return FOUND_FRESH;
	busy = entry->refresher != 0 &&
		!is_over(entry->refresh_since, now, Max(guc_cache_ttl, LONGEST_REFRESH));
	if (!busy)
		return FOUND_NOTHING;
	return (entry->flags & ENTRY_VALUE) != 0 ? FOUND_EXPIRED : FOUND_BUSY;
}

static void
read_entry(CacheEntry *entry, CachedReputation *value)
{
	value->score = entry->score;
	value->badge = entry->badge;
	value->completed = entry->completed;
	value->no_shows = entry->no_shows;
	value->computed_at = entry->computed_at;
	if (entry->referenced == 0)
		entry->referenced = 1;
}

/*
 * An entry of the set for another key: one that is free or dead, else the next one
 * that was not read since the last time; NULL when all are being computed.
 */
static CacheEntry *
free_entry(CacheSet *set, uint64 start, int place)
{
	for (int i = 0; i < WAYS; i++)
	{
		CacheEntry *entry = &set->entries[i];

		if ((entry->flags & ENTRY_USED) == 0 || cache_is_dead(entry))
			return entry;
	}
	for (int i = 0; i < 2 * WAYS; i++)
	{
		CacheEntry *entry = &set->entries[(start + i) % WAYS];

		if (entry->refresher != 0)
			continue;
		if (entry->referenced == 0)
		{
			count(place, COUNT_EVICTIONS);
			return entry;
		}
		entry->referenced = 0;
	}
	return NULL;
}

/*
 * Makes the caller the refresher of the key's entry, a new one if need be; false
 * when there is no room. Under the lock, exclusive.
 */
static bool
claim(CacheSet *set, CacheEntry *entry, TimestampTz now, CacheTicket *ticket)
{
	uint64		generation = cache_tick();

	if (entry == NULL || cache_is_dead(entry))
	{
		if (entry == NULL)
			entry = free_entry(set, generation, ticket->key.place);
		if (entry == NULL)
			return false;
		memset(entry, 0, sizeof(CacheEntry));
		entry->key = ticket->key;
		entry->generation = generation;
		entry->flags = ENTRY_USED | (ticket->in_recovery ? ENTRY_RECOVERY : 0);
	}
	entry->refresher = Max((uint32) generation, 1);
	entry->refresh_since = now;
	ticket->generation = entry->generation;
	ticket->refresher = entry->refresher;
	return true;
}

/*
 * Looks without changing anything: the usual case. FOUND_FRESH and FOUND_EXPIRED
 * come with the value.
 */
static Finding
look(const CacheKey *key, TimestampTz now, CachedReputation *value)
{
	int			lock;
	CacheSet   *set = set_of(key, &lock);
	CacheEntry *entry;
	Finding		found;

	cache_lock(lock, LW_SHARED);
	entry = find_entry(set, key);
	found = examine(entry, now);
	if (found == FOUND_FRESH || found == FOUND_EXPIRED)
		read_entry(entry, value);
	cache_unlock(lock);
	return found;
}

/*
 * Looks again, and makes the caller the refresher where there is nothing and
 * nobody. True: it is; false: FOUND_NOTHING means that there is no room.
 */
static bool
look_and_claim(Finding *found, TimestampTz now, CachedReputation *value, CacheTicket *ticket)
{
	int			lock;
	CacheSet   *set = set_of(&ticket->key, &lock);
	CacheEntry *entry;
	bool		claimed = false;
	Counter		counter = COUNT_MISSES;

	cache_lock(lock, LW_EXCLUSIVE);
	entry = find_entry(set, &ticket->key);
	*found = examine(entry, now);
	if (*found == FOUND_FRESH || *found == FOUND_EXPIRED)
		read_entry(entry, value);
	else if (*found == FOUND_NOTHING)
	{
		if (entry != NULL && (entry->flags & ENTRY_VALUE) != 0 && !cache_is_dead(entry))
			counter = COUNT_REFRESHES;
		claimed = claim(set, entry, now, ticket);
	}
	cache_unlock(lock);
	if (claimed)
		count(ticket->key.place, counter);
	return claimed;
}

/*
 * Waits until somebody else's computation of the key is over, or it has been long
 * enough; what is found then. An interrupt is raised.
 */
static Finding
wait_for_refresher(const CacheKey *key, CachedReputation *value)
{
	int			lock;
	Finding		found;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LONGEST_WAIT);
	long		left = LONGEST_WAIT;

	(void) set_of(key, &lock);
	ConditionVariablePrepareToSleep(&read_cache->refreshed[lock]);
	while ((found = look(key, clock_now(), value)) == FOUND_BUSY && left > 0)
	{
		(void) ConditionVariableTimedSleep(&read_cache->refreshed[lock], left, PG_WAIT_EXTENSION);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	}
	ConditionVariableCancelSleep();
	return found;
}

/*
 * read_cache_get -- a user's value, or who is to compute it; see CacheAnswer. The
 * snapshot to compute with is to be taken after this. Only who may refresh, because
 * it can take a snapshot that sees what is committed and nothing else, is asked to.
 * Waits at most LONGEST_WAIT; raises an interrupt.
 */
CacheAnswer
read_cache_get(const CacheKey *key, bool may_refresh, CachedReputation *value,
			   CacheTicket *ticket)
{
	TimestampTz now = clock_now();
	Finding		found = look(key, now, value);

	if (found == FOUND_BUSY && may_refresh)
		found = wait_for_refresher(key, value);
	if (found == FOUND_NOTHING && may_refresh)
	{
		ticket->key = *key;
		ticket->in_recovery = RecoveryInProgress();
		if (look_and_claim(&found, now, value, ticket))
			return CACHE_REFRESH;
	}
	if (found == FOUND_FRESH || found == FOUND_EXPIRED)
	{
		count(key->place, found == FOUND_FRESH ? COUNT_HITS : COUNT_STALE_HITS);
		return CACHE_SERVED;
	}
	count(key->place, COUNT_MISSES);
	return CACHE_COMPUTE;
}

/* The ticket's entry, if it is still its holder's; else NULL. Under the lock. */
static CacheEntry *
entry_of(const CacheTicket *ticket, CacheSet *set)
{
	CacheEntry *entry = find_entry(set, &ticket->key);

	if (entry == NULL || entry->generation != ticket->generation ||
		entry->refresher != ticket->refresher)
		return NULL;
	return entry;
}

static bool
fits(const CachedReputation *value)
{
	return value->completed >= 0 && value->completed <= PG_INT32_MAX &&
		value->no_shows >= 0 && value->no_shows <= PG_INT32_MAX &&
		value->badge >= 0 && value->badge <= PG_UINT8_MAX;
}

/*
 * read_cache_put -- puts in what the refresher has computed, unless the entry was
 * invalidated since, or the numbers are too large for it; true when it did.
 */
bool
read_cache_put(const CacheTicket *ticket, const CachedReputation *value)
{
	int			lock;
	CacheSet   *set = set_of(&ticket->key, &lock);
	CacheEntry *entry;

	if (!fits(value))
	{
		read_cache_abandon(ticket);
		return false;
	}
	cache_lock(lock, LW_EXCLUSIVE);
	entry = entry_of(ticket, set);
	if (entry != NULL)
	{
		entry->score = value->score;
		entry->badge = (uint8) value->badge;
		entry->completed = (int32) value->completed;
		entry->no_shows = (int32) value->no_shows;
		entry->computed_at = value->computed_at;
		entry->flags = ENTRY_USED | ENTRY_VALUE | (ticket->in_recovery ? ENTRY_RECOVERY : 0);
		entry->refresher = 0;
	}
	cache_unlock(lock);
	ConditionVariableBroadcast(&read_cache->refreshed[lock]);
	return entry != NULL;
}

/*
 * read_cache_abandon -- the refresher has no value: the next reader is to compute.
 */
void
read_cache_abandon(const CacheTicket *ticket)
{
	int			lock;
	CacheSet   *set = set_of(&ticket->key, &lock);
	CacheEntry *entry;

	cache_lock(lock, LW_EXCLUSIVE);
	entry = entry_of(ticket, set);
	if (entry != NULL && (entry->flags & ENTRY_VALUE) != 0)
		entry->refresher = 0;
	else if (entry != NULL)
		entry->flags = 0;
	cache_unlock(lock);
	ConditionVariableBroadcast(&read_cache->refreshed[lock]);
}

/*
 * read_cache_invalidate -- takes a user's entry out; was there a value to serve?
 */
bool
read_cache_invalidate(const CacheKey *key)
{
	int			lock;
	CacheSet   *set = set_of(key, &lock);
	CacheEntry *entry;
	bool		had_value = false;

	cache_lock(lock, LW_EXCLUSIVE);
	entry = find_entry(set, key);
	if (entry != NULL)
	{
		had_value = (entry->flags & ENTRY_VALUE) != 0 && !cache_is_dead(entry);
		entry->flags = 0;
	}
	cache_unlock(lock);
	if (entry != NULL)
	{
		count(key->place, COUNT_INVALIDATIONS);
		ConditionVariableBroadcast(&read_cache->refreshed[lock]);
	}
	return had_value;
}

/*
 * read_cache_forget_all -- this database's values are all known to be wrong.
 */
void
read_cache_forget_all(void)
{
	int			place = read_cache == NULL ? -1 : shmem_my_place();

	if (place < 0)
		return;
	cache_advance(&read_cache->databases[place].epoch, cache_tick());
	count(place, COUNT_INVALIDATIONS);
}

static pg_atomic_uint64 *
mark_of(const CacheKey *key)
{
	uint32		hash = hash_bytes((const unsigned char *) key, sizeof(CacheKey));

	return &read_cache->marks[hash % MARKS];
}

/*
 * read_cache_mark_changed -- what a key is linked to has changed, visibly.
 */
void
read_cache_mark_changed(const CacheKey *key)
{
	cache_advance(mark_of(key), cache_tick());
}

/*
 * read_cache_changed_at -- when that was for the last time, or for another key of
 * the same hash.
 */
uint64
read_cache_changed_at(const CacheKey *key)
{
	pg_memory_barrier();
	return pg_atomic_read_u64(mark_of(key));
}

/*
 * read_cache.c
 *		The read cache: what users' scores were when they were last computed.
 *
 * A hash table in shared memory, for all databases of the server; read_cache_store.c
 * says how it never lacks memory, and what is evicted when it is full. Here is what
 * the entries mean.
 *
 * Who may touch what. An entry is read under its lock (the one of its partition),
 * shared, and changed under it, exclusive; but "referenced" is set under the
 * shared one: a byte of its own, and only advice. The clock of
 * changes ("ticks"), the databases' epochs and counters and the marks of changes
 * are atomics. While an entry is locked no other lock is taken, nothing can raise
 * an error and nothing is waited for; so who has a key can find its entry anywhere, in
 * commit callbacks too.
 *
 * Why no old value is ever put in after an invalidation. Every entry has a
 * generation, drawn from the ticks when it is made. Whoever is to compute a value
 * gets a ticket with the entry's generation, under the lock, before it takes the
 * snapshot to compute with. Who changes something makes it visible first and then
 * takes the value out and draws a new generation, under the same lock. If the ticket was
 * given before that, the entry has another generation (or is gone, or another one) when
 * the value comes: it is refused. If it was given after, the snapshot sees the change. To
 * forget a whole database its epoch is set to a new tick: an entry is dead unless its
 * generation is later, and is made anew by whoever wants it next. A generation drawn
 * before that tick makes a dead entry, whenever the epoch is written down; one drawn
 * after it belongs to a reader whose snapshot sees what was visible when the tick was
 * drawn, or to an entry without a value. Entries that were made in recovery are dead
 * after the promotion: replayed commits invalidate nothing.
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

#include "base/clock.h"
#include "base/guc.h"
#include "cache/read_cache_state.h"
#include "pgstat.h"
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

/* Where those wait who wait for a key's refresher, and some others. */
static ConditionVariable *
waiters_of(const CacheKey *key)
{
	return &read_cache->refreshed[cache_hash(key) % WAITS];
}

/* Has it been so long, also by a clock that was set back? */
static bool
is_over(TimestampTz since, TimestampTz now, int64 ms)
{
	int64		passed = now > since ? now - since : since - now;

	return passed >= ms * 1000;
}

/* What an entry has for a reader now. Under the lock. */
static Finding
examine(const CacheEntry *entry, TimestampTz now)
{
	bool		busy;

	if (cache_is_dead(entry))
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

/* Makes the caller the entry's refresher; one that is dead begins anew. */
static void
claim(CacheEntry *entry, TimestampTz now, CacheTicket *ticket)
{
	uint64		generation = cache_tick();

	if (cache_is_dead(entry))
	{
		memset(entry, 0, sizeof(CacheEntry));
		entry->key = ticket->key;
		entry->generation = generation;
		entry->flags = ticket->in_recovery ? ENTRY_RECOVERY : 0;
	}
	entry->refresher = Max((uint32) generation, 1);
	entry->refresh_since = now;
	ticket->generation = entry->generation;
	ticket->refresher = entry->refresher;
}

/*
 * Looks without changing anything: the usual case. FOUND_FRESH and FOUND_EXPIRED
 * come with the value.
 */
static Finding
look_at_entry(const CacheKey *key, TimestampTz now, CachedReputation *value)
{
	CacheEntry *entry = cache_find(key, false);
	Finding		found;

	if (entry == NULL)
		return FOUND_NOTHING;
	found = examine(entry, now);
	if (found == FOUND_FRESH || found == FOUND_EXPIRED)
		read_entry(entry, value);
	cache_release(entry);
	return found;
}

/*
 * Looks again, and makes the caller the refresher where there is nothing and
 * nobody. True: it is; false: FOUND_NOTHING means that there is no room.
 */
static bool
look_and_claim(Finding *found, TimestampTz now, CachedReputation *value, CacheTicket *ticket)
{
	CacheEntry *entry = cache_find_or_make(&ticket->key);
	Counter		counter = COUNT_MISSES;

	if (entry == NULL)
		return false;
	*found = examine(entry, now);
	if (*found == FOUND_FRESH || *found == FOUND_EXPIRED)
		read_entry(entry, value);
	else if (*found == FOUND_NOTHING)
	{
		if ((entry->flags & ENTRY_VALUE) != 0 && !cache_is_dead(entry))
			counter = COUNT_REFRESHES;
		claim(entry, now, ticket);
	}
	cache_release(entry);
	if (*found == FOUND_NOTHING)
		cache_count(ticket->key.place, counter);
	return *found == FOUND_NOTHING;
}

/*
 * Waits until somebody else's computation of the key is over, or it has been long
 * enough; what is found then. An interrupt is raised.
 */
static Finding
wait_for_refresher(const CacheKey *key, CachedReputation *value)
{
	ConditionVariable *waiters = waiters_of(key);
	Finding		found;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LONGEST_WAIT);
	long		left = LONGEST_WAIT;

	ConditionVariablePrepareToSleep(waiters);
	while ((found = look_at_entry(key, clock_now(), value)) == FOUND_BUSY && left > 0)
	{
		(void) ConditionVariableTimedSleep(waiters, left, PG_WAIT_EXTENSION);
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
	Finding		found = look_at_entry(key, now, value);

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
		cache_count(key->place, found == FOUND_FRESH ? COUNT_HITS : COUNT_STALE_HITS);
		return CACHE_SERVED;
	}
	cache_count(key->place, COUNT_MISSES);
	return CACHE_COMPUTE;
}

/* The ticket's entry, locked, if it is still its holder's; else NULL. */
static CacheEntry *
entry_of(const CacheTicket *ticket)
{
	CacheEntry *entry = cache_find(&ticket->key, true);

	if (entry != NULL && entry->generation == ticket->generation &&
		entry->refresher == ticket->refresher)
		return entry;
	if (entry != NULL)
		cache_release(entry);
	return NULL;
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
	CacheEntry *entry = fits(value) ? entry_of(ticket) : NULL;

	if (entry == NULL)
	{
		read_cache_abandon(ticket);
		return false;
	}
	entry->score = value->score;
	entry->badge = (uint8) value->badge;
	entry->completed = (int32) value->completed;
	entry->no_shows = (int32) value->no_shows;
	entry->computed_at = value->computed_at;
	entry->flags = ENTRY_VALUE | (ticket->in_recovery ? ENTRY_RECOVERY : 0);
	entry->refresher = 0;
	cache_release(entry);
	ConditionVariableBroadcast(waiters_of(&ticket->key));
	return true;
}

/*
 * read_cache_abandon -- the refresher has no value: the next reader is to compute.
 */
void
read_cache_abandon(const CacheTicket *ticket)
{
	CacheEntry *entry = entry_of(ticket);

	if (entry != NULL)
	{
		entry->refresher = 0;
		cache_release(entry);
	}
	ConditionVariableBroadcast(waiters_of(&ticket->key));
}

/*
 * read_cache_invalidate -- takes a user's value out; was there one to serve?
 */
bool
read_cache_invalidate(const CacheKey *key)
{
	CacheEntry *entry = cache_find(key, true);
	bool		had_value;
	bool		had_refresher;

	if (entry == NULL)
		return false;
	had_value = (entry->flags & ENTRY_VALUE) != 0 && !cache_is_dead(entry);
	had_refresher = entry->refresher != 0;
	entry->flags &= ~ENTRY_VALUE;
	entry->refresher = 0;
	entry->generation = cache_tick();
	cache_release(entry);
	if (had_value || had_refresher)
	{
		cache_count(key->place, COUNT_INVALIDATIONS);
		ConditionVariableBroadcast(waiters_of(key));
	}
	return had_value;
}

/*
 * read_cache_forget_all -- this database's values are all known to be wrong.
 */
void
read_cache_forget_all(void)
{
	int			place = read_cache == NULL ? -1 : shmem_my_place(true);

	if (place < 0)
		return;
	cache_advance(&read_cache->databases[place].epoch, cache_tick());
	cache_count(place, COUNT_INVALIDATIONS);
}

static pg_atomic_uint64 *
mark_of(const CacheKey *key)
{
	return &read_cache->marks[cache_hash(key) % MARKS];
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

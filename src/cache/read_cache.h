/*
 * read_cache.h
 *		The read cache: what users' scores were when they were last computed.
 *
 * Without the preload, or with reputation.cache_size = 0, there is none: a reader
 * then is told to compute, and the rest does nothing.
 */
#ifndef REPUTATION_READ_CACHE_H
#define REPUTATION_READ_CACHE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* A user's session reputation. */
typedef struct CachedReputation
{
	int32		score;
	int32		badge;			/* a SessionBadge */
	int64		completed;
	int64		no_shows;
	TimestampTz computed_at;
} CachedReputation;

#define CACHE_ID_LENGTH	20

/* Whose score: compared byte by byte, so there is no padding in it. */
typedef struct CacheKey
{
	Oid			database;
	uint8		engine;
	uint8		form;			/* how the id is written down */
	char		id[CACHE_ID_LENGTH];
	uint16		place;			/* of the database in shared memory */
} CacheKey;

/* What a refresher puts its value in with. */
typedef struct CacheTicket
{
	CacheKey	key;
	uint64		generation;
	uint32		refresher;
	bool		in_recovery;
} CacheTicket;

typedef enum CacheAnswer
{
	CACHE_SERVED,				/* here is the value */
	CACHE_REFRESH,				/* compute it, with a new snapshot, and put it in or abandon */
	CACHE_COMPUTE				/* compute it, and put nothing in */
} CacheAnswer;

/* Of this database. */
typedef struct CacheStats
{
	int64		hits;
	int64		stale_hits;
	int64		misses;
	int64		refreshes;
	int64		evictions;
	int64		invalidations;
	int64		entries;
	int64		max_entries;	/* of all databases together */
} CacheStats;

extern void read_cache_init(void);

/* For readers. */
extern bool read_cache_mark(CacheKey *key, const char *name);
extern bool read_cache_key(CacheKey *key, int engine, const char *user, int length);
extern bool read_cache_pack_uuid(const char *text, int length, char *bytes);
extern CacheAnswer read_cache_get(const CacheKey *key, bool may_refresh,
								  CachedReputation *value, CacheTicket *ticket);
extern bool read_cache_put(const CacheTicket *ticket, const CachedReputation *value);
extern void read_cache_abandon(const CacheTicket *ticket);
extern bool read_cache_stats(CacheStats *stats);

/* For those who changed something, once it is visible; they raise no error. */
extern uint64 read_cache_now(void);
extern uint64 read_cache_changed_at(const CacheKey *key);
extern void read_cache_mark_changed(const CacheKey *key);
extern bool read_cache_invalidate(const CacheKey *key);
extern void read_cache_forget_all(void);

#endif							/* REPUTATION_READ_CACHE_H */

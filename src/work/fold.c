/*
 * fold.c
 *		From captured keys to due work.
 *
 * One fold at a time (FOLD lock), as part of the current transaction: the keys
 * leave the inbox exactly when the jobs they lead to are there.
 *
 * A key of kind 0 is a user, one of a kind below that a user to restore (restore.c). Any
 * other is looked up in a view of the engine,
 * with a snapshot taken after the key was seen to be committed; why that finds
 * everybody a change concerns is told in docs/ARCHITECTURE.md, "Capture". If the
 * lookup fails the keys become jobs themselves and back off, so that one
 * engine's trouble holds up no other.
 */
#include "postgres.h"

#include "base/locks.h"
#include "base/spi.h"
#include "capture/inbox.h"
#include "work/drain.h"
#include "work/rank_run.h"

/* More ranks are restored by a run that writes them all, which is cheaper. */
#define MAX_RANKS	100

/* What a captured key means to an engine. */
typedef struct Mapping
{
	int			engine;
	int32		source;
	int16		key_no;
	int16		kind;
	int16		priority;
} Mapping;

static int
load_mappings(Mapping **mappings)
{
	uint64		count = spi_exec("SELECT engine, source, key_no, kind, priority "
								 "FROM reputation.capture_key ORDER BY engine, priority",
								 0, NULL, NULL, NULL);

	*mappings = palloc(sizeof(Mapping) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
	{
		Mapping    *mapping = &(*mappings)[row];

		mapping->engine = (int) spi_int(row, 1, NULL);
		mapping->source = (int32) spi_int(row, 2, NULL);
		mapping->key_no = (int16) spi_int(row, 3, NULL);
		mapping->kind = (int16) spi_int(row, 4, NULL);
		mapping->priority = (int16) spi_int(row, 5, NULL);
	}
	SPI_freetuptable(SPI_tuptable);
	return (int) count;
}

static int
compare_captured(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * The keys of one source and number, terminated, in the order of the job table's index:
 * so that it grows at its end, and the claim finds neighbours in it.
 */
static int
pick_keys(keyset_hash *keys, int32 source, int16 key_no, char **picked)
{
	keyset_iterator iterator;
	KeysetEntry *entry;
	int			count = 0;

	keyset_start_iterate(keys, &iterator);
	while ((entry = keyset_iterate(keys, &iterator)) != NULL)
	{
		if (entry->key.source == source && entry->key.key_no == key_no)
			picked[count++] = pnstrdup(entry->key.text, entry->key.length);
	}
	qsort(picked, count, sizeof(char *), compare_captured);
	return count;
}

static void
resolve(Engine *engine, const DrainScope *scope, const Mapping *mapping, char **keys, int count)
{
	Job		   *jobs = palloc0(sizeof(Job) * count);
	Tallies		tallies = {0};

	for (int i = 0; i < count; i++)
	{
		jobs[i].kind = mapping->kind;
		jobs[i].key = keys[i];
		jobs[i].priority = mapping->priority;
		jobs[i].event = true;
	}
	qsort(jobs, count, sizeof(Job), job_compare);
	drain_jobs(engine, scope, jobs, count, &tallies);
}

static void
fold_for_engine(Engine *engine, const DrainScope *scope, keyset_hash *keys,
				const Mapping *mappings, int nmappings)
{
	char	  **picked = palloc(sizeof(char *) * keys->members);
	bool		everyone = false;

	for (int i = 0; i < nmappings; i++)
	{
		const Mapping *mapping = &mappings[i];
		int			count;

		if (mapping->engine != engine->descriptor->id)
			continue;
		if (!everyone && pick_keys(keys, mapping->source, KEY_EVERYONE, picked) > 0)
			everyone = true;
		count = pick_keys(keys, mapping->source, mapping->key_no, picked);
		if (count == 0)
			continue;
		if (mapping->kind == KIND_RESTORE_RANK && count > MAX_RANKS)
			rank_run_start(engine);
		else if (mapping->kind < 0)
			queue_enqueue_restores(engine, mapping->kind, picked, count);
		else if (mapping->kind == 0)
			queue_enqueue(engine, picked, count, mapping->priority);
		else
			resolve(engine, scope, mapping, picked, count);
	}
	if (everyone)
		sweep_start(engine, "recompute", "truncate");
}

/*
 * fold_inbox -- turns what is in the inbox into jobs; returns how many keys it
 * took, -1 when somebody else is at it or has a segment locked. Keys of detached
 * sources are dropped.
 */
int
fold_inbox(const DrainScope *scope, List *engines)
{
	keyset_hash *keys;
	Mapping    *mappings;
	int			nmappings;
	ListCell   *cell;
	bool		skipped;

	if (!lock_fold(scope->wait))
		return -1;
	keys = inbox_take(scope->wait, &skipped);
	if (keys->members == 0)
		return skipped ? -1 : 0;

	nmappings = load_mappings(&mappings);
	foreach(cell, engines)
		fold_for_engine(lfirst(cell), scope, keys, mappings, nmappings);
	return (int) keys->members;
}

/*
 * compact.c
 *		Keeps the tables of the queue small: jobs, windows, tallies.
 *
 * Under a pinned xmin horizon deleted rows stay in the way of index scans.
 * queue_compact() copies the live rows out, truncates and copies them back in
 * one transaction, whenever the table has doubled: each copied row is paid for
 * by a removed one.
 */
#include "postgres.h"

#include "access/relation.h"
#include "base/clock.h"
#include "base/locks.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "work/queue.h"

/* A table of fewer pages is never compacted. */
#define COMPACT_PAGES	256
#define COMPACT_WAIT	20		/* ms */

static const char *const compacted[] = {"job", "recent_run", "run_tally"};

static Oid
table_oid(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("reputation", false));
}

/* A table's size; false when it is locked, as by a worker that compacts it. */
static bool
table_pages(Oid table, BlockNumber *pages)
{
	Relation	relation = lock_try_open(table, AccessShareLock);

	if (relation == NULL)
		return false;
	*pages = RelationGetNumberOfBlocks(relation);
	relation_close(relation, AccessShareLock);
	return true;
}

/* Truncates a table after copying its live rows out, and back in. */
static void
compact(const char *name, const char *condition, BlockNumber *pages_before)
{
	Oid			oid = table_oid(name);
	BlockNumber pages;

	if (!table_pages(oid, &pages))
		return;
	if (pages < COMPACT_PAGES || pages < 2 * *pages_before)
	{
		*pages_before = Min(*pages_before, pages);
		return;
	}
	if (!lock_relation_within(oid, AccessExclusiveLock, COMPACT_WAIT))
		return;

	spi_utility(psprintf("INSERT INTO reputation.%1$s_spare SELECT * FROM reputation.%1$s "
						 "WHERE %2$s", name, condition));
	spi_utility(psprintf("TRUNCATE reputation.%s", name));
	spi_utility(psprintf("INSERT INTO reputation.%1$s SELECT * FROM reputation.%1$s_spare", name));
	spi_utility(psprintf("TRUNCATE reputation.%s_spare", name));

	(void) table_pages(oid, pages_before);
}

/*
 * queue_try -- locks what a unit writes to, until the transaction ends; false
 * when it is being compacted (or somebody has locked it).
 */
bool
queue_try(void)
{
	for (int i = 0; i < lengthof(compacted); i++)
	{
		if (!ConditionalLockRelationOid(table_oid(compacted[i]), RowExclusiveLock))
			return false;
	}
	return true;
}

/*
 * queue_compact -- keeps the job, the window and the tally table small; in a
 * transaction of its own.
 */
void
queue_compact(void)
{
	static BlockNumber job_pages = 0;
	static BlockNumber window_pages = 0;
	static BlockNumber tally_pages = 0;

	compact("job", "true", &job_pages);
	compact("recent_run", "closes_at > reputation.clock()", &window_pages);
	compact("run_tally", "true", &tally_pages);
}

/*
 * queue_remove_windows -- removes the windows that are closed, once there are
 * many: for sessions where no worker compacts. It is a plain DELETE, since the
 * session may hold its locks for long; the space is left to autovacuum. Needs the
 * FOLD lock, so that no two of them wait for each other.
 */
void
queue_remove_windows(void)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(clock_now())};
	BlockNumber pages;

	if (table_pages(table_oid("recent_run"), &pages) && pages >= COMPACT_PAGES)
		spi_exec("DELETE FROM reputation.recent_run WHERE closes_at <= $1", 1, types, values,
				 NULL);
}

/*
 * inbox.c
 *		The inbox: segments of captured keys.
 *
 * Writers append before they commit; the fold, one at a time (FOLD lock),
 * empties. A segment has no index and its rows are never updated.
 *
 * Writers never wait. A writer takes RowExclusiveLock on the segment that
 * shared memory advises, only if it is to be had at once, else on the next
 * one. The fold's request for an ACCESS EXCLUSIVE lock makes all later
 * conditional requests on that segment fail while it waits for the writers
 * that are in their commit already.
 *
 * When all of those are locked (somebody did it by hand, or a session that
 * drains in one long transaction has truncated one after the other) a writer
 * takes the reserve, in the same way. Nothing of ours locks that against
 * writers: it is only deleted from. So a key is as durable there as anywhere,
 * and becomes visible with its change, also that of a prepared transaction.
 * Only who locks all tables of the extension, as DROP EXTENSION does, locks
 * the reserve too; what becomes of a change then is told in lost.c.
 *
 * Nothing is lost, and only what was seen is removed:
 * - DELETE ... RETURNING removes the rows that one snapshot shows, no others;
 * - TRUNCATE comes after a statement whose snapshot was taken when the ACCESS
 *	 EXCLUSIVE lock was already held. A writer holds its lock until it is out of
 *	 the proc array, so that snapshot shows every row there is. The truncation
 *	 is part of the same transaction: if that fails, the rows are back. Of a
 *	 segment with more rows than a fold can take some are deleted instead.
 *
 * The truncation keeps the inbox small while somebody pins the xmin horizon
 * and deleted rows cannot be pruned. A segment that cannot be locked because
 * a prepared transaction holds it is left by the writers and looked at once a
 * second, so its dead rows cost little.
 *
 * A worker's fold skips a segment that somebody has locked against it, and
 * comes back; a session's waits.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "base/locks.h"
#include "base/spi.h"
#include "capture/inbox.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* A segment of this many pages is truncated rather than deleted from. */
#define TRUNCATE_PAGES		128

/*
 * Rows that a fold takes of a segment at most: what it makes of them is held in
 * memory, and in arrays of less than 1 GB. The rest is for the next fold.
 */
#define TAKE_ROWS			250000

/* How long the fold waits for the writers that are in their commit (ms). */
#define TRUNCATE_WAIT		20

/* How often a segment that could not be truncated is scanned (ms). */
#define RETIRED_INTERVAL	1000

/* Rows of one multi-insert. */
#define APPEND_ROWS			500

/* When the fold last scanned a segment it could not truncate. */
static TimestampTz retired_scan[INBOX_SEGMENTS];

/* The segments' OIDs, invalid when not looked up since a relation or a schema changed. */
static Oid	segments[INBOX_RESERVE + 1];

static void
forget_segments(Datum arg, int cache, uint32 hash)
{
	memset(segments, 0, sizeof(segments));
}

static Oid
segment_oid(int segment)
{
	static bool registered = false;
	Oid			schema;
	char		name[NAMEDATALEN];

	if (OidIsValid(segments[segment]))
		return segments[segment];

	if (!registered)
	{
		CacheRegisterSyscacheCallback(RELOID, forget_segments, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_segments, (Datum) 0);
		registered = true;
	}
	schema = get_namespace_oid("reputation", true);
	if (!OidIsValid(schema))
		return InvalidOid;
	snprintf(name, sizeof(name), "inbox_%d", segment);
	segments[segment] = get_relname_relid(name, schema);
	return segments[segment];
}

/* Is this the table our rows fit? Somebody may have made another by that name. */
static bool
is_inbox(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);

	return relation->rd_rel->relkind == RELKIND_RELATION && desc->natts == 3 &&
		TupleDescAttr(desc, 0)->atttypid == INT4OID &&
		TupleDescAttr(desc, 1)->atttypid == INT2OID &&
		TupleDescAttr(desc, 2)->atttypid == TEXTOID;
}

static void
fill_slot(TupleTableSlot *slot, const CapturedKey *key)
{
	ExecClearTuple(slot);
	slot->tts_values[0] = Int32GetDatum(key->source);
	slot->tts_values[1] = Int16GetDatum(key->key_no);
	slot->tts_values[2] = PointerGetDatum(cstring_to_text_with_len(key->text, key->length));
	memset(slot->tts_isnull, 0, 3 * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

static void
insert_keys(Relation relation, keyset_hash *keys)
{
	CommandId	cid = GetCurrentCommandId(true);
	TupleTableSlot *slots[APPEND_ROWS];
	int			made = 0;
	int			filled = 0;
	keyset_iterator iterator;
	KeysetEntry *entry;

	keyset_start_iterate(keys, &iterator);
	while ((entry = keyset_iterate(keys, &iterator)) != NULL)
	{
		if (filled == made)
			slots[made++] = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
		fill_slot(slots[filled++], &entry->key);
		if (keys->members == 1)
		{
			/* The most frequent case, and cheaper so. */
			table_tuple_insert(relation, slots[0], cid, 0, NULL);
			filled = 0;
		}
		else if (filled == APPEND_ROWS)
		{
			table_multi_insert(relation, slots, filled, cid, 0, NULL);
			filled = 0;
		}
	}
	if (filled > 0)
		table_multi_insert(relation, slots, filled, cid, 0, NULL);
	for (int i = 0; i < made; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
}

/*
 * inbox_append -- appends a transaction's keys; runs right before it commits or
 * is prepared. False when not even the reserve is to be had: everybody has to be
 * recomputed once the change is visible. When there is no inbox the extension is
 * gone, and there is nobody to tell. Leaves garbage in the memory context given.
 */
bool
inbox_append(keyset_hash *keys, MemoryContext context)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	int			first = shmem_inbox_first_segment();
	Relation	relation = NULL;
	bool		lost = false;

	for (int i = 0; i < INBOX_SEGMENTS && relation == NULL; i++)
		relation = lock_try_open(segment_oid((first + i) % INBOX_SEGMENTS), RowExclusiveLock);
	if (relation == NULL)
		relation = lock_try_open(segment_oid(INBOX_RESERVE), RowExclusiveLock);

	if (relation != NULL)
	{
		if (is_inbox(relation))
			insert_keys(relation, keys);
		relation_close(relation, NoLock);	/* the lock stays: see above */
	}
	else
		lost = OidIsValid(segment_oid(INBOX_RESERVE));

	MemoryContextSwitchTo(before);
	return !lost;
}

static void
append_rows(keyset_hash *keys)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		isnull;
		text	   *key = DatumGetTextPP(spi_datum(row, 3, &isnull));

		keyset_add(keys, (int32) spi_int(row, 1, NULL), (int16) spi_int(row, 2, NULL),
				   VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
take_by_delete(int segment, keyset_hash *keys)
{
	char	   *sql = psprintf("WITH taken AS (DELETE FROM reputation.inbox_%d "
							   "RETURNING source, key_no, key) "
							   "SELECT DISTINCT source, key_no, key FROM taken", segment);

	spi_exec(sql, 0, NULL, NULL, NULL);
	append_rows(keys);
}

/* Of a segment that is too large to be emptied, or locked. */
static void
take_portion(int segment, keyset_hash *keys)
{
	char	   *sql = psprintf("WITH taken AS (DELETE FROM reputation.inbox_%1$d WHERE ctid = ANY "
							   "(ARRAY(SELECT ctid FROM reputation.inbox_%1$d LIMIT %2$d)) "
							   "RETURNING source, key_no, key) "
							   "SELECT DISTINCT source, key_no, key FROM taken",
							   segment, TAKE_ROWS);

	spi_exec(sql, 0, NULL, NULL, NULL);
	append_rows(keys);
}

static bool
is_too_large(int segment)
{
	return spi_exec(psprintf("SELECT 1 FROM reputation.inbox_%d OFFSET %d LIMIT 1", segment,
							 TAKE_ROWS), 0, NULL, NULL, NULL) > 0;
}

static void
take_by_truncate(int segment, keyset_hash *keys)
{
	char	   *sql = psprintf("SELECT DISTINCT source, key_no, key FROM reputation.inbox_%d",
							   segment);

	spi_exec(sql, 0, NULL, NULL, NULL);
	append_rows(keys);
	spi_utility(psprintf("TRUNCATE reputation.inbox_%d", segment));
}

/*
 * The size of a segment; false when somebody has it locked against deleting
 * from it, unless it shall wait.
 */
static bool
segment_pages(Oid oid, bool wait, BlockNumber *pages)
{
	Relation	relation;

	*pages = 0;
	if (wait)
		LockRelationOid(oid, RowExclusiveLock);
	else if (!ConditionalLockRelationOid(oid, RowExclusiveLock))
		return false;
	relation = try_relation_open(oid, NoLock);
	if (relation != NULL)
	{
		*pages = RelationGetNumberOfBlocks(relation);
		relation_close(relation, NoLock);
	}
	UnlockRelationOid(oid, RowExclusiveLock);
	return true;
}

/*
 * inbox_take -- takes all keys whose transactions have committed (TAKE_ROWS at
 * most of a large segment), without duplicates, as part of the current
 * transaction; all: waits for segments that are locked (else *skipped says that
 * there is one), and looks into those, too, that were looked at less than a
 * second ago. Needs the FOLD lock and READ COMMITTED. Runs with the extension
 * owner's rights.
 */
keyset_hash *
inbox_take(bool all, bool *skipped)
{
	keyset_hash *keys = keyset_create(CurrentMemoryContext, 64, NULL);

	*skipped = false;
	for (int segment = 0; segment <= INBOX_RESERVE; segment++)
	{
		Oid			oid = segment_oid(segment);
		BlockNumber pages;

		if (!OidIsValid(oid))
			continue;
		if (!segment_pages(oid, all, &pages))
			*skipped = true;
		if (pages == 0)
			continue;
		if (pages < TRUNCATE_PAGES)
			take_by_delete(segment, keys);
		else if (segment == INBOX_RESERVE)
			take_portion(segment, keys);
		else if (lock_relation_within(oid, AccessExclusiveLock,
									  retired_scan[segment] == 0 ? TRUNCATE_WAIT : 0))
		{
			if (is_too_large(segment))
				take_portion(segment, keys);
			else
				take_by_truncate(segment, keys);
			retired_scan[segment] = 0;
		}
		else
		{
			TimestampTz now = GetCurrentTimestamp();

			if (shmem_inbox_first_segment() == segment)
				shmem_set_inbox_first_segment((segment + 1) % INBOX_SEGMENTS);
			if (all || now < retired_scan[segment] ||
				TimestampDifferenceExceeds(retired_scan[segment], now, RETIRED_INTERVAL))
			{
				take_portion(segment, keys);
				retired_scan[segment] = now;
			}
		}
	}
	return keys;
}

/*
 * inbox_lock_segments -- keeps the segments from being truncated, until
 * inbox_unlock_segments(): a snapshot that is older than a truncation sees
 * nothing. False when one is locked and it shall not wait.
 */
bool
inbox_lock_segments(bool wait)
{
	for (int segment = 0; segment < INBOX_SEGMENTS; segment++)
	{
		Oid			oid = segment_oid(segment);

		if (!OidIsValid(oid))
			continue;
		if (wait)
			LockRelationOid(oid, AccessShareLock);
		else if (!ConditionalLockRelationOid(oid, AccessShareLock))
		{
			while (--segment >= 0)
				UnlockRelationOid(segment_oid(segment), AccessShareLock);
			return false;
		}
	}
	return true;
}

void
inbox_unlock_segments(void)
{
	for (int segment = 0; segment < INBOX_SEGMENTS; segment++)
	{
		Oid			oid = segment_oid(segment);

		if (OidIsValid(oid))
			UnlockRelationOid(oid, AccessShareLock);
	}
}

/* Does the snapshot show a row that a transaction before the xid (if any) wrote? */
static bool
segment_has_keys_before(Oid oid, TransactionId xid, Snapshot snapshot)
{
	Relation	relation = try_relation_open(oid, AccessShareLock);
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (relation == NULL)
		return false;
	if (RelationGetNumberOfBlocks(relation) > 0)
	{
		scan = table_beginscan(relation, snapshot, 0, NULL);
		while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		{
			TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

			CHECK_FOR_INTERRUPTS();
			found = !TransactionIdIsValid(xid) || !TransactionIdIsNormal(xmin) ||
				TransactionIdPrecedes(xmin, xid);
		}
		table_endscan(scan);
	}
	relation_close(relation, AccessShareLock);
	return found;
}

/*
 * inbox_has_keys_before -- are there keys that a transaction before the xid (any
 * when invalid) wrote? By the active snapshot; but where that is older than the
 * statement, by what is committed now: that takes no predicate lock, so a
 * serializable reader cannot make a writer's append fail.
 */
bool
inbox_has_keys_before(TransactionId xid)
{
	Snapshot	snapshot = IsolationUsesXactSnapshot() ? SnapshotSelf : GetActiveSnapshot();

	for (int segment = 0; segment <= INBOX_RESERVE; segment++)
	{
		Oid			oid = segment_oid(segment);

		if (OidIsValid(oid) && segment_has_keys_before(oid, xid, snapshot))
			return true;
	}
	return false;
}

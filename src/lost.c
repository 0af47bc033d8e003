/*
 * lost.c
 *		Changes that no inbox had a place for: everybody is to be recomputed.
 *
 * A writer waits for nobody. When somebody has locked all segments of the inbox and the
 * reserve (inbox.c) its keys are nowhere, and what is left is to say that something
 * changed. That is a request in shared memory, and a mark, an empty file, because shared
 * memory does not outlive a crash or a restart.
 *
 * The request. resync is WANTED once the change is visible: whoever drains next makes it
 * TAKEN, starts a run over everybody in the same (sub)transaction, which commits
 * synchronously, and makes it NONE when that is visible, or WANTED again when it was rolled
 * back. Another request meanwhile makes it WANTED, and the exchange to NONE fails. The
 * change of a prepared transaction becomes visible later: resync_after has the last such
 * transaction (the lower half; and how many there were in the upper half, so that whoever
 * looks which ones have ended can tell whether one came meanwhile), and is turned into
 * WANTED when none up to it is prepared any more.
 *
 * The mark. The first writer that finds no place makes the file durable before it
 * commits, and counts itself as one that is about to request; the others find it made and
 * count themselves. A writer counts itself off when it has requested, or has been rolled
 * back. The file is removed, under the same lock, when nobody is counted and nothing is
 * requested: then the run of the last request is on disk. So whenever the server stops,
 * there is the file, or there is nothing to remember. (A crash may bring a removed file
 * back: everybody is recomputed once too often.)
 *
 * Where the server starts with a mark there is a request: for now, and for after all those
 * that are prepared, because the mark does not tell whose it is. Which those are is looked
 * up by the first who drains: what was prepared and has ended by then is visible to the
 * run for now.
 *
 * When the file cannot be written there is a WARNING, and the request all the same.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xact.h"
#include "lost.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shmem_state.h"
#include "spi.h"
#include "storage/fd.h"
#include "utils/builtins.h"

/* Where and how marks are named, by the database's OID. */
#define MARK_DIRECTORY	PGSTAT_STAT_PERMANENT_DIRECTORY
#define MARK_PREFIX		"reputation_lost."

/* In resync_after, of a server that started with a mark: whatever is prepared then. */
#define ANY_PREPARED	BootstrapTransactionId

/* Is this transaction counted among those that are about to request? */
static bool counted = false;

/* The subtransaction that took the request, if one did. */
static SubTransactionId taken = InvalidSubTransactionId;

static void
mark_path(char *path, Oid database)
{
	snprintf(path, MAXPGPATH, "%s/%s%u", MARK_DIRECTORY, MARK_PREFIX, database);
}

/* Makes a file, durably; false, with errno, when that fails. */
static bool
make_file(const char *path)
{
	int			file = BasicOpenFile(path, O_CREAT | O_WRONLY | PG_BINARY);
	bool		made;

	if (file < 0)
		return false;
	made = pg_fsync(file) == 0;
	return close(file) == 0 && made &&
		fsync_fname_ext(MARK_DIRECTORY, true, false, WARNING) == 0;
}

/* Removes the database's mark if nothing is left that it is for. */
static void
remove_mark(DatabaseEntry *entry)
{
	char		path[MAXPGPATH];

	LWLockAcquire(shmem_state->mark_lock, LW_EXCLUSIVE);
	if (entry->marked && entry->about_to_request == 0 &&
		pg_atomic_read_u32(&entry->resync) == RESYNC_NONE &&
		!TransactionIdIsValid((TransactionId) pg_atomic_read_u64(&entry->resync_after)))
	{
		mark_path(path, entry->database);
		(void) unlink(path);
		entry->marked = false;
	}
	LWLockRelease(shmem_state->mark_lock);
}

/*
 * lost_mark -- this transaction's changes are in no inbox: leaves a mark that outlives a
 * crash. To be called before the commit, or the preparation, and to be followed by
 * lost_report() or lost_nothing(). A WARNING when the mark cannot be written.
 */
void
lost_mark(void)
{
	DatabaseEntry *entry = shmem_my_entry(true);
	char		path[MAXPGPATH];
	int			error = 0;

	if (entry == NULL || counted)
		return;
	mark_path(path, MyDatabaseId);
	LWLockAcquire(shmem_state->mark_lock, LW_EXCLUSIVE);
	if (!entry->marked && !(entry->marked = make_file(path)))
		error = errno;
	entry->about_to_request++;
	counted = true;
	LWLockRelease(shmem_state->mark_lock);
	if (error != 0)
	{
		errno = error;
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", path),
				 errhint("A change found the inbox of reputation locked. Should the server "
						 "stop before it was computed, run reputation_repair().")));
	}
}

/*
 * lost_nothing -- counts this transaction off: it was rolled back, or has requested.
 */
void
lost_nothing(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);

	if (!counted)
		return;
	counted = false;
	LWLockAcquire(shmem_state->mark_lock, LW_EXCLUSIVE);
	entry->about_to_request--;
	LWLockRelease(shmem_state->mark_lock);
	remove_mark(entry);
}

/* Everybody is to be recomputed now. */
static void
request(DatabaseEntry *entry)
{
	pg_atomic_write_u32(&entry->resync, RESYNC_WANTED);
}

/* Everybody is to be recomputed when this transaction has ended, which is found among the prepared ones. */
static void
request_after(DatabaseEntry *entry, TransactionId prepared)
{
	uint64		old = pg_atomic_read_u64(&entry->resync_after);
	TransactionId last;

	do
	{
		last = (TransactionId) old;
		if (!TransactionIdIsValid(last) || TransactionIdPrecedes(last, prepared))
			last = prepared;
	} while (!pg_atomic_compare_exchange_u64(&entry->resync_after, &old,
											 ((old >> 32) + 1) << 32 | last));
}

/*
 * lost_report -- this transaction's changes are in no inbox, and visible now, or once it
 * is no longer prepared: everybody is to be recomputed. The caller wakes a worker.
 */
void
lost_report(bool prepared)
{
	DatabaseEntry *entry = shmem_my_entry(true);

	if (entry == NULL)
		return;
	if (prepared)
		request_after(entry, GetTopTransactionIdIfAny());
	else
		request(entry);
	lost_nothing();
}

/*
 * lost_startup -- finds the marks when the server starts. The shared memory is not in
 * anybody's hands yet.
 */
void
lost_startup(void)
{
	DIR		   *directory = AllocateDir(MARK_DIRECTORY);
	struct dirent *file;

	while ((file = ReadDirExtended(directory, MARK_DIRECTORY, LOG)) != NULL)
	{
		DatabaseEntry *entry;
		Oid			database;

		if (strncmp(file->d_name, MARK_PREFIX, strlen(MARK_PREFIX)) != 0)
			continue;
		database = (Oid) strtoul(file->d_name + strlen(MARK_PREFIX), NULL, 10);
		entry = OidIsValid(database) ? shmem_find_or_add_entry(database) : NULL;
		if (entry == NULL)
			continue;
		entry->marked = true;
		request(entry);
		request_after(entry, ANY_PREPARED);
	}
	FreeDir(directory);
}

/*
 * lost_forget_database -- removes the mark of a database that was dropped, whose entry
 * is free.
 */
void
lost_forget_database(Oid database)
{
	char		path[MAXPGPATH];

	mark_path(path, database);
	(void) unlink(path);
}

/* Has none of the database's prepared transactions an id up to this one? */
static bool
none_prepared_until(TransactionId xid)
{
	uint64		count = spi_exec("SELECT transaction FROM pg_catalog.pg_prepared_xacts "
								 "WHERE database = pg_catalog.current_database()",
								 0, NULL, NULL, NULL);

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		Datum		prepared = spi_datum(row, 1, &isnull);

		if (TransactionIdPrecedesOrEquals(DatumGetTransactionId(prepared), xid))
			return false;
	}
	return true;
}

/* Turns a request for after prepared transactions into one for now when they have ended. */
static void
look_after_prepared(DatabaseEntry *entry)
{
	uint64		ticket = pg_atomic_read_u64(&entry->resync_after);

	if ((TransactionId) ticket == ANY_PREPARED)
	{
		request_after(entry, ReadNextTransactionId());
		ticket = pg_atomic_read_u64(&entry->resync_after);
	}
	if (!TransactionIdIsValid((TransactionId) ticket) ||
		!none_prepared_until((TransactionId) ticket))
		return;
	request(entry);
	/* If there was another since, that stays. */
	(void) pg_atomic_compare_exchange_u64(&entry->resync_after, &ticket,
										  ticket & ~UINT64CONST(0xFFFFFFFF));
}

/*
 * lost_take -- is everybody to be recomputed? Says so once, to who starts the run in this
 * (sub)transaction. If that is rolled back somebody else is told.
 */
bool
lost_take(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	uint32		wanted = RESYNC_WANTED;

	if (entry == NULL)
		return false;
	look_after_prepared(entry);
	if (pg_atomic_read_u32(&entry->resync) != RESYNC_WANTED ||
		!pg_atomic_compare_exchange_u32(&entry->resync, &wanted, RESYNC_TAKEN))
		return false;
	taken = GetCurrentSubTransactionId();
	ForceSyncCommit();			/* with it goes the only trace of the change */
	return true;
}

/*
 * lost_pending -- was a run over everybody requested that may not be visible yet to a
 * snapshot taken from now on?
 */
bool
lost_pending(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	bool		pending = entry != NULL &&
	(pg_atomic_read_u32(&entry->resync) != RESYNC_NONE ||
	 TransactionIdIsValid((TransactionId) pg_atomic_read_u64(&entry->resync_after)));

	pg_memory_barrier();
	return pending;
}

/* The run is visible; another request since it was taken stays. */
static void
run_is_visible(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	uint32		old = RESYNC_TAKEN;

	(void) pg_atomic_compare_exchange_u32(&entry->resync, &old, RESYNC_NONE);
	remove_mark(entry);
}

/* The run was rolled back. */
static void
give_back(void)
{
	taken = InvalidSubTransactionId;
	request(shmem_my_entry(false));
	shmem_wake_workers();
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (taken == InvalidSubTransactionId)
		return;
	if (event == XACT_EVENT_ABORT)
		give_back();
	/* Nobody knows yet what becomes of it. */
	if (event == XACT_EVENT_PREPARE)
		request_after(shmem_my_entry(false), GetTopTransactionIdIfAny());
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
	{
		run_is_visible();
		taken = InvalidSubTransactionId;
	}
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
						void *arg)
{
	if (taken != mine)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		taken = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		give_back();
}

/*
 * lost_init -- called when the library is loaded.
 */
void
lost_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}

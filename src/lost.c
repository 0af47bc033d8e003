/*
 * lost.c
 *		Changes that no inbox had a place for: everybody is to be recomputed.
 *
 * A writer waits for nobody. When somebody has locked all segments of the inbox and the
 * reserve (inbox.c) its keys are nowhere, and what is left is to say that something
 * changed. That is a request in shared memory, and a mark, an empty file, because shared
 * memory does not outlive a crash or a restart.
 *
 * The request is "wanted" once the change is visible. Whoever drains next takes it: it is
 * "taken" then, and no longer wanted. The taker starts a run over everybody in the same
 * (sub)transaction, which commits synchronously: a crash after an asynchronous commit would
 * undo the run. When that is visible it is not taken any more; when it was rolled back it
 * is wanted again. There is one taker at a time; what is wanted meanwhile waits for its
 * end, also in the taker's own transaction, whose run does not see that change.
 *
 * The change of a prepared transaction becomes visible later: "after" has the last such
 * transaction, and becomes wanted when none up to it is prepared any more. A transaction is
 * among the prepared ones until its commit is visible. Those are looked up without the
 * lock, so how many came to be in "after" is counted: if there is one more, it stays.
 *
 * The mark. The first writer that finds no place makes the file durable before it
 * commits, and counts itself as one that is about to request; the others find it made and
 * count themselves. A writer counts itself off when it has requested, or has been rolled
 * back. The file is removed when nobody is counted and nothing is wanted, taken or to come
 * after something: then the run of the last request is on disk. So whenever the server
 * stops, there is the file, or there is nothing to remember. (A crash may bring a removed
 * file back: everybody is recomputed once too often. So they are when the extension was
 * dropped, and is made again.) Only a change that another extension makes after our turn
 * in its commit is requested first and marked then, since it cannot be held back.
 *
 * Where the server starts with a mark there is a request: for now, and for after all those
 * that are prepared, because the mark does not tell whose it is. Which those are is looked
 * up by the first who drains: what was prepared and has ended by then is visible to the
 * run for now.
 *
 * All of it changes under a lock of its own, under which nothing raises an error or
 * reports anything. Whether there is any request is read without it, in one word.
 *
 * When the file cannot be written there is a WARNING, and the request all the same.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
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

/* What is to come after whatever is prepared when the first drains. */
#define ANY_PREPARED	BootstrapTransactionId

/* Is this transaction counted among those that are about to request? */
static bool counted = false;

/* The subtransaction that took the request, if one did. */
static SubTransactionId taken_by = InvalidSubTransactionId;

static void
mark_path(char *path, Oid database)
{
	snprintf(path, MAXPGPATH, "%s/%s%u", MARK_DIRECTORY, MARK_PREFIX, database);
}

/* Makes a file, or what is done to a directory, durable; 0 or the errno. */
static int
make_durable(const char *path, int flags)
{
	int			file = BasicOpenFile(path, flags | PG_BINARY);
	int			error = 0;

	if (file < 0)
		return errno;
	/* Some systems cannot do it to a directory, and need not. */
	if (pg_fsync(file) != 0 && !((flags & O_CREAT) == 0 && (errno == EBADF || errno == EINVAL)))
		error = errno;
	(void) close(file);
	return error;
}

static void
remove_mark(Oid database)
{
	char		path[MAXPGPATH];

	mark_path(path, database);
	(void) unlink(path);
}

/* Makes the database's mark unless it is there; 0 or the errno. Under the lock. */
static int
make_mark(DatabaseEntry *entry)
{
	char		path[MAXPGPATH];
	int			error;

	if (entry->lost.marked)
		return 0;
	mark_path(path, entry->database);
	error = make_durable(path, O_CREAT | O_WRONLY);
	if (error == 0)
		error = make_durable(MARK_DIRECTORY, O_RDONLY);
	if (error != 0)
		remove_mark(entry->database);
	entry->lost.marked = error == 0;
	return error;
}

static void
lock_requests(void)
{
	LWLockAcquire(shmem_state->lost_lock, LW_EXCLUSIVE);
}

/* Ends a change of the requests: says whether there are any, and removes a mark for nothing. */
static void
unlock_requests(DatabaseEntry *entry)
{
	LostRequests *lost = &entry->lost;
	bool		any = lost->wanted || lost->taken || TransactionIdIsValid(lost->after);

	pg_atomic_write_u32(&lost->any, any ? 1 : 0);
	if (lost->marked && !any && lost->about_to_request == 0)
	{
		remove_mark(entry->database);
		lost->marked = false;
	}
	LWLockRelease(shmem_state->lost_lock);
}

/* Everybody is to be recomputed when this transaction has ended. Under the lock. */
static void
request_after(DatabaseEntry *entry, TransactionId prepared)
{
	LostRequests *lost = &entry->lost;

	if (!TransactionIdIsValid(lost->after) || TransactionIdPrecedes(lost->after, prepared))
		lost->after = prepared;
	lost->after_count++;
}

static void
warn_not_captured(void)
{
	ereport(WARNING,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("a change was not captured because the inbox of reputation is locked"),
			 errhint("Run reputation_repair() when the lock is gone.")));
}

static void
warn_not_marked(Oid database, int error)
{
	char		path[MAXPGPATH];

	mark_path(path, database);
	errno = error;
	ereport(WARNING,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", path),
			 errhint("A change found the inbox of reputation locked. Should the server stop "
					 "before it was computed, run reputation_repair().")));
}

/*
 * lost_mark -- this transaction's changes are in no inbox: leaves a mark that outlives a
 * crash. To be called before the commit, or the preparation, and to be followed by
 * lost_report() or lost_nothing(). A WARNING when the mark cannot be written, or there is
 * no shared memory for the database.
 */
void
lost_mark(void)
{
	DatabaseEntry *entry = shmem_my_entry(true);
	int			error;

	if (counted)
		return;
	if (entry == NULL)
	{
		warn_not_captured();
		return;
	}
	lock_requests();
	error = make_mark(entry);
	entry->lost.about_to_request++;
	counted = true;
	unlock_requests(entry);
	if (error != 0)
		warn_not_marked(entry->database, error);
}

/*
 * lost_nothing -- this transaction was rolled back.
 */
void
lost_nothing(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);

	if (!counted)
		return;
	counted = false;
	lock_requests();
	entry->lost.about_to_request--;
	unlock_requests(entry);
}

/*
 * lost_report -- this transaction's changes are in no inbox, and visible now, or once it
 * is no longer prepared: everybody is to be recomputed. The caller wakes a worker.
 */
void
lost_report(bool prepared)
{
	DatabaseEntry *entry = shmem_my_entry(true);
	int			error = 0;

	if (entry == NULL)
		return;
	lock_requests();
	if (prepared)
		request_after(entry, GetTopTransactionIdIfAny());
	else
		entry->lost.wanted = true;
	if (counted)
		entry->lost.about_to_request--;
	else
		error = make_mark(entry);
	counted = false;
	unlock_requests(entry);
	if (error != 0)
		warn_not_marked(entry->database, error);
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
		entry->lost.marked = true;
		entry->lost.wanted = true;
		request_after(entry, ANY_PREPARED);
		pg_atomic_write_u32(&entry->lost.any, 1);
	}
	FreeDir(directory);
}

/*
 * lost_init_entry -- there is no request in a new entry.
 */
void
lost_init_entry(LostRequests *lost)
{
	memset(lost, 0, sizeof(LostRequests));
	pg_atomic_init_u32(&lost->any, 0);
}

/*
 * lost_forget_database -- removes the mark of a database that was dropped, whose entry
 * is free.
 */
void
lost_forget_database(Oid database)
{
	remove_mark(database);
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

/* Has what is to come after prepared transactions wanted when they have ended. */
static void
look_after_prepared(DatabaseEntry *entry)
{
	LostRequests *lost = &entry->lost;
	TransactionId after;
	uint64		count;

	lock_requests();
	if (lost->after == ANY_PREPARED)
		lost->after = ReadNextTransactionId();
	after = lost->after;
	count = lost->after_count;
	unlock_requests(entry);
	if (!TransactionIdIsValid(after) || !none_prepared_until(after))
		return;
	lock_requests();
	lost->wanted = true;
	if (lost->after_count == count)
		lost->after = InvalidTransactionId;
	unlock_requests(entry);
}

/*
 * lost_take -- is everybody to be recomputed? Says so once, to who starts the run in this
 * (sub)transaction. If that is rolled back somebody else is told.
 */
bool
lost_take(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	bool		take;

	if (entry == NULL || pg_atomic_read_u32(&entry->lost.any) == 0)
		return false;
	look_after_prepared(entry);
	lock_requests();
	take = entry->lost.wanted && !entry->lost.taken;
	if (take)
	{
		entry->lost.wanted = false;
		entry->lost.taken = true;
		taken_by = GetCurrentSubTransactionId();
	}
	unlock_requests(entry);
	if (take)
		ForceSyncCommit();		/* with it goes the only trace of the change */
	return take;
}

/*
 * lost_pending -- was a run over everybody requested that may not be visible yet to a
 * snapshot taken from now on? Not on a standby, which computes nothing: a mark that came
 * with a backup is for when it is promoted.
 */
bool
lost_pending(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	bool		pending = entry != NULL && pg_atomic_read_u32(&entry->lost.any) != 0 &&
	!RecoveryInProgress();

	pg_memory_barrier();
	return pending;
}

/* Ends the taking: the run is visible, or was rolled back, or comes after a prepared transaction. */
static void
end_taking(bool visible, TransactionId prepared)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	bool		wake;

	taken_by = InvalidSubTransactionId;
	lock_requests();
	entry->lost.taken = false;
	if (TransactionIdIsValid(prepared))
		request_after(entry, prepared);
	else if (!visible)
		entry->lost.wanted = true;
	wake = entry->lost.wanted;
	unlock_requests(entry);
	if (wake)
		shmem_wake_workers();
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (taken_by == InvalidSubTransactionId)
		return;
	if (event == XACT_EVENT_COMMIT)
		end_taking(true, InvalidTransactionId);
	else if (event == XACT_EVENT_ABORT)
		end_taking(false, InvalidTransactionId);
	else if (event == XACT_EVENT_PREPARE)	/* nobody knows yet what becomes of it */
		end_taking(false, GetTopTransactionIdIfAny());
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
						void *arg)
{
	if (taken_by != mine)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		taken_by = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		end_taking(false, InvalidTransactionId);
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

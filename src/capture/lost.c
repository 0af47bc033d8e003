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
#include "base/spi.h"
#include "capture/lost.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "shmem/shmem.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

/* Where and how marks are named, by the database's OID. */
#define MARK_DIRECTORY	PGSTAT_STAT_PERMANENT_DIRECTORY
#define MARK_PREFIX		"reputation_lost."

/* What is to come after whatever is prepared when the first drains. */
#define ANY_PREPARED	BootstrapTransactionId

/* A database's requests for a run over everybody; under their lock, but for "any". */
typedef struct LostRequests
{
	pg_atomic_uint32 any;		/* 1: wanted, taken, or after something */
	bool		wanted;
	bool		taken;			/* by a transaction that is not committed yet */
	TransactionId after;		/* and once none up to this one is prepared */
	uint64		after_count;	/* how often there came another */
	int			about_to_request;	/* transactions that have left the mark */
	bool		marked;			/* the mark is on disk */
} LostRequests;

typedef struct LostState
{
	LWLock	   *lock;
	LostRequests databases[MAX_DATABASES];
} LostState;

/* NULL without the preload. */
static LostState *lost_state = NULL;

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
make_mark(LostRequests *lost)
{
	char		path[MAXPGPATH];
	int			error;

	if (lost->marked)
		return 0;
	mark_path(path, MyDatabaseId);
	error = make_durable(path, O_CREAT | O_WRONLY);
	if (error == 0)
		error = make_durable(MARK_DIRECTORY, O_RDONLY);
	if (error != 0)
		remove_mark(MyDatabaseId);
	lost->marked = error == 0;
	return error;
}

/* This database's; NULL when there are none. */
static LostRequests *
my_requests(bool add)
{
	int			place = lost_state == NULL ? -1 : shmem_my_place(add);

	return place < 0 ? NULL : &lost_state->databases[place];
}

static void
lock_requests(void)
{
	LWLockAcquire(lost_state->lock, LW_EXCLUSIVE);
}

/* Ends a change of the requests: says whether there are any, and removes a mark for nothing. */
static void
unlock_requests(LostRequests *lost)
{
	bool		any = lost->wanted || lost->taken || TransactionIdIsValid(lost->after);

	pg_atomic_write_u32(&lost->any, any ? 1 : 0);
	if (lost->marked && !any && lost->about_to_request == 0)
	{
		remove_mark(MyDatabaseId);
		lost->marked = false;
	}
	LWLockRelease(lost_state->lock);
}

/* Everybody is to be recomputed when this transaction has ended. Under the lock. */
static void
request_after(LostRequests *lost, TransactionId prepared)
{
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
	LostRequests *lost = my_requests(true);
	int			error;

	if (counted)
		return;
	if (lost == NULL)
	{
		warn_not_captured();
		return;
	}
	lock_requests();
	error = make_mark(lost);
	lost->about_to_request++;
	counted = true;
	unlock_requests(lost);
	if (error != 0)
		warn_not_marked(MyDatabaseId, error);
}

/*
 * lost_nothing -- this transaction was rolled back.
 */
void
lost_nothing(void)
{
	LostRequests *lost = my_requests(false);

	if (!counted)
		return;
	counted = false;
	lock_requests();
	lost->about_to_request--;
	unlock_requests(lost);
}

/*
 * lost_report -- this transaction's changes are in no inbox, and visible now, or once it
 * is no longer prepared: everybody is to be recomputed. The caller wakes a worker.
 */
void
lost_report(bool prepared)
{
	LostRequests *lost = my_requests(true);
	int			error = 0;

	if (lost == NULL)
		return;
	lock_requests();
	if (prepared)
		request_after(lost, GetTopTransactionIdIfAny());
	else
		lost->wanted = true;
	if (counted)
		lost->about_to_request--;
	else
		error = make_mark(lost);
	counted = false;
	unlock_requests(lost);
	if (error != 0)
		warn_not_marked(MyDatabaseId, error);
}

static void
request_lost(void)
{
	RequestAddinShmemSpace(sizeof(LostState));
	RequestNamedLWLockTranche("reputation_lost", 1);
}

/* There is no request in a new place. */
static void
reset_lost(int place)
{
	LostRequests *lost = &lost_state->databases[place];

	memset(lost, 0, sizeof(LostRequests));
	pg_atomic_init_u32(&lost->any, 0);
}

static void
start_lost(void)
{
	bool		found;

	lost_state = ShmemInitStruct("reputation lost", sizeof(LostState), &found);
	if (found)
		return;
	lost_state->lock = &GetNamedLWLockTranche("reputation_lost")->lock;
	for (int i = 0; i < MAX_DATABASES; i++)
		reset_lost(i);
}

/* Finds the marks when the server starts. The memory is not in anybody's hands yet. */
static void
find_marks(void)
{
	DIR		   *directory = AllocateDir(MARK_DIRECTORY);
	struct dirent *file;

	while ((file = ReadDirExtended(directory, MARK_DIRECTORY, LOG)) != NULL)
	{
		LostRequests *lost;
		Oid			database;
		int			place;

		if (strncmp(file->d_name, MARK_PREFIX, strlen(MARK_PREFIX)) != 0)
			continue;
		database = (Oid) strtoul(file->d_name + strlen(MARK_PREFIX), NULL, 10);
		place = OidIsValid(database) ? shmem_add_place(database) : -1;
		if (place < 0)
			continue;
		lost = &lost_state->databases[place];
		lost->marked = true;
		lost->wanted = true;
		request_after(lost, ANY_PREPARED);
		pg_atomic_write_u32(&lost->any, 1);
	}
	FreeDir(directory);
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
look_after_prepared(LostRequests *lost)
{
	TransactionId after;
	uint64		count;

	lock_requests();
	if (lost->after == ANY_PREPARED)
		lost->after = ReadNextTransactionId();
	after = lost->after;
	count = lost->after_count;
	unlock_requests(lost);
	if (!TransactionIdIsValid(after) || !none_prepared_until(after))
		return;
	lock_requests();
	lost->wanted = true;
	if (lost->after_count == count)
		lost->after = InvalidTransactionId;
	unlock_requests(lost);
}

/*
 * lost_take -- is everybody to be recomputed? Says so once, to who starts the run in this
 * (sub)transaction. If that is rolled back somebody else is told.
 */
bool
lost_take(void)
{
	LostRequests *lost = my_requests(false);
	bool		take;

	if (lost == NULL || pg_atomic_read_u32(&lost->any) == 0)
		return false;
	look_after_prepared(lost);
	lock_requests();
	take = lost->wanted && !lost->taken;
	if (take)
	{
		lost->wanted = false;
		lost->taken = true;
		taken_by = GetCurrentSubTransactionId();
	}
	unlock_requests(lost);
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
	LostRequests *lost = my_requests(false);
	bool		pending = lost != NULL && pg_atomic_read_u32(&lost->any) != 0 &&
	!RecoveryInProgress();

	pg_memory_barrier();
	return pending;
}

/* Ends the taking: the run is visible, or was rolled back, or comes after a prepared transaction. */
static void
end_taking(bool visible, TransactionId prepared)
{
	LostRequests *lost = my_requests(false);
	bool		wake;

	taken_by = InvalidSubTransactionId;
	lock_requests();
	lost->taken = false;
	if (TransactionIdIsValid(prepared))
		request_after(lost, prepared);
	else if (!visible)
		lost->wanted = true;
	wake = lost->wanted;
	unlock_requests(lost);
	if (wake)
		shmem_wake_workers();
}

static void
lost_at_transaction(XactEvent event, void *arg)
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
lost_at_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
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
	static const ShmemPart part = {
		.request = request_lost,
		.startup = start_lost,
		.started = find_marks,
		.reset_database = reset_lost,
		.forget_database = remove_mark
	};

	shmem_register(&part);
	RegisterXactCallback(lost_at_transaction, NULL);
	RegisterSubXactCallback(lost_at_subtransaction, NULL);
}

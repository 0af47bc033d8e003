/*
 * shmem.c
 *		The extension's shared memory: the databases and how their workers and
 *		the launcher are woken. slots.c has the life of a worker's slot.
 *
 * One named struct holds the launcher's latch, MAX_WORKER_SLOTS slots for
 * workers and MAX_DATABASES entries for databases. A crash wipes it, and may:
 * who is there, who wants to be woken, where to write first.
 *
 * Modules above have memory of their own there. They register it (shmem_register()), so
 * this file knows none of them; what they have of a database is at the place of its
 * entry. shmem_register() has to be called before shmem_init().
 *
 * One lock (tranche "reputation") protects all of it except the atomics and
 * the state of a slot, which its own worker changes while it runs. While it is held
 * nothing can raise an error and no other lock is taken, so it can be
 * taken anywhere, in commit callbacks too.
 *
 * An entry belongs to its database from the first mention until the launcher
 * has seen that the database is gone. A session keeps its database from being
 * dropped, so the pointer to its own entry, once found, stays right for the
 * session's life: that is what lets a commit look at it without the lock.
 *
 * Waking a worker without the lock. The writer makes its commit visible, then
 * reads the set of workers and their "asleep"; the worker sets its bit in the
 * set, or asleep = 1, then takes a snapshot and looks at the inbox, and only
 * then waits. With a full barrier between the two steps on both sides at least
 * one of them sees the other: the worker the commit, or the writer the worker.
 * Exchanging "asleep" makes one of many writers set the latch. If the worker
 * ends with the wake-up in its hands, the next one looks at the inbox when it
 * starts. A latch is part of some PGPROC and stays valid memory, so the worst
 * that a pointer just outdated can do is to wake a process for nothing.
 *
 * A database whose workers nobody knows of, because it just got the extension,
 * is "wanted": the first such commit sets that under the lock and wakes the
 * launcher, and the others see it set and go on. slots.c says when it is
 * cleared.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "base/compat.h"
#include "shmem/shmem.h"
#include "shmem/shmem_state.h"

SharedState *shmem_state = NULL;

/* What modules above have there. */
#define MAX_PARTS	8
static const ShmemPart *parts[MAX_PARTS];
static int	nparts = 0;

/* This session's database, once found. */
static DatabaseEntry *my_entry = NULL;

/* In a session: the database it keeps free of workers. */
static Oid	blocked_database = InvalidOid;

static shmem_startup_hook_type next_startup_hook = NULL;
#ifdef HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type next_request_hook = NULL;
#endif

/*
 * request_shmem -- asks the server for the memory and the lock.
 */
static void
request_shmem(void)
{
#ifdef HAVE_SHMEM_REQUEST_HOOK
	if (next_request_hook != NULL)
		next_request_hook();
#endif
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedState)));
	RequestNamedLWLockTranche("reputation", 1);
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i]->request != NULL)
			parts[i]->request();
	}
}

/*
 * startup_shmem -- finds the memory, and fills it in the first process, at the
 * start and again after a crash.
 */
static void
startup_shmem(void)
{
	bool		found;

	if (next_startup_hook != NULL)
		next_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shmem_state = ShmemInitStruct("reputation", sizeof(SharedState), &found);
	if (!found)
	{
		memset(shmem_state, 0, sizeof(SharedState));
		shmem_state->lock = &GetNamedLWLockTranche("reputation")->lock;
		for (int i = 0; i < MAX_WORKER_SLOTS; i++)
		{
			pg_atomic_init_u32(&shmem_state->slots[i].asleep, 0);
			pg_atomic_init_u64(&shmem_state->slots[i].leave, 0);
			pg_atomic_init_u64(&shmem_state->slots[i].unit_since, 0);
			pg_atomic_init_u64(&shmem_state->slots[i].code_since, 0);
			pg_atomic_init_u32(&shmem_state->slots[i].engine, 0);
			pg_atomic_init_u64(&shmem_state->slots[i].units, 0);
			pg_atomic_init_u64(&shmem_state->slots[i].users, 0);
		}
		for (int i = 0; i < MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&shmem_state->databases[i].wanted, 0);
			pg_atomic_init_u32(&shmem_state->databases[i].first_segment, 0);
			pg_atomic_init_u64(&shmem_state->databases[i].workers, 0);
		}
	}
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i]->startup != NULL)
			parts[i]->startup();
	}
	for (int i = 0; i < nparts && !found; i++)
	{
		if (parts[i]->started != NULL)
			parts[i]->started();
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * shmem_register -- takes a part in, which is to stay where it is; while the library is
 * loaded.
 */
void
shmem_register(const ShmemPart *part)
{
	if (nparts == MAX_PARTS)
		elog(ERROR, "too many parts of the shared memory");
	parts[nparts++] = part;
}

/*
 * shmem_init -- arranges for the shared memory; only while the server preloads.
 */
void
shmem_init(void)
{
#ifdef HAVE_SHMEM_REQUEST_HOOK
	next_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
#else
	request_shmem();
#endif
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/*
 * shmem_available -- was the library preloaded?
 */
bool
shmem_available(void)
{
	return shmem_state != NULL;
}

/*
 * shmem_find_entry -- the database's entry or NULL. Under the lock.
 */
DatabaseEntry *
shmem_find_entry(Oid database)
{
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (shmem_state->databases[i].database == database)
			return &shmem_state->databases[i];
	}
	return NULL;
}

/*
 * shmem_find_or_add_entry -- the database's entry, a new one if need be; NULL
 * when all are in use. Under the lock, exclusive.
 */
DatabaseEntry *
shmem_find_or_add_entry(Oid database)
{
	DatabaseEntry *entry = shmem_find_entry(database);

	if (entry != NULL)
		return entry;

	entry = shmem_find_entry(InvalidOid);
	if (entry != NULL)
	{
		entry->database = database;
		entry->state = DATABASE_UNKNOWN;
		entry->blockers = 0;
		pg_atomic_write_u32(&entry->wanted, 0);
		pg_atomic_write_u32(&entry->first_segment, 0);
		pg_atomic_write_u64(&entry->workers, 0);
		for (int i = 0; i < nparts; i++)
		{
			if (parts[i]->reset_database != NULL)
				parts[i]->reset_database((int) (entry - shmem_state->databases));
		}
	}
	return entry;
}

/*
 * shmem_add_place -- the place of a database, while the memory is nobody else's; -1 when
 * all are in use.
 */
int
shmem_add_place(Oid database)
{
	DatabaseEntry *entry = shmem_find_or_add_entry(database);

	return entry == NULL ? -1 : (int) (entry - shmem_state->databases);
}

/*
 * shmem_my_entry -- this session's entry, added on request; NULL when there is
 * none. Takes the lock only until it is found.
 */
DatabaseEntry *
shmem_my_entry(bool add)
{
	if (my_entry != NULL || shmem_state == NULL || !OidIsValid(MyDatabaseId))
		return my_entry;

	LWLockAcquire(shmem_state->lock, add ? LW_EXCLUSIVE : LW_SHARED);
	my_entry = add ? shmem_find_or_add_entry(MyDatabaseId) : shmem_find_entry(MyDatabaseId);
	LWLockRelease(shmem_state->lock);
	return my_entry;
}

/*
 * shmem_my_place -- which of the MAX_DATABASES entries is this database's, added on
 * request; -1 when there is none.
 */
int
shmem_my_place(bool add)
{
	DatabaseEntry *entry = shmem_my_entry(add);

	return entry == NULL ? -1 : (int) (entry - shmem_state->databases);
}

/*
 * want_worker -- notes that this database has work for a worker, and tells the
 * launcher unless it knows.
 */
static void
want_worker(DatabaseEntry *entry)
{
	bool		tell;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	tell = pg_atomic_exchange_u32(&entry->wanted, 1) == 0 &&
		entry->state != DATABASE_HAS_EXTENSION;
	if (entry->state == DATABASE_NO_EXTENSION)
		entry->state = DATABASE_UNKNOWN;
	LWLockRelease(shmem_state->lock);

	if (tell)
		shmem_wake_launcher();
}

/*
 * shmem_wake_workers -- wakes a worker of this database if one sleeps, and has
 * one started if the launcher does not know of the extension. To be called
 * after the commit has become visible; see the top for why no wake-up is lost.
 * Without the lock, but for a database's first time.
 */
void
shmem_wake_workers(void)
{
	DatabaseEntry *entry = shmem_my_entry(true);
	uint64		workers;

	if (entry == NULL)
		return;

	pg_memory_barrier();
	if (pg_atomic_read_u32(&entry->wanted) == 0)
		want_worker(entry);

	workers = pg_atomic_read_u64(&entry->workers);
	while (workers != 0)
	{
		WorkerSlot *slot = &shmem_state->slots[pg_rightmost_one_pos64(workers)];

		if (pg_atomic_read_u32(&slot->asleep) == 1 &&
			pg_atomic_exchange_u32(&slot->asleep, 0) == 1)
		{
			Latch	   *latch = slot->latch;

			if (latch != NULL)
				SetLatch(latch);
			return;
		}
		workers &= workers - 1;
	}
}

/*
 * shmem_inbox_first_segment -- the segment that writers try first.
 */
int
shmem_inbox_first_segment(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);

	return entry == NULL ? 0 : (int) pg_atomic_read_u32(&entry->first_segment);
}

/*
 * shmem_set_inbox_first_segment -- sends the writers to another segment.
 */
void
shmem_set_inbox_first_segment(int segment)
{
	DatabaseEntry *entry = shmem_my_entry(true);

	if (entry != NULL)
		pg_atomic_write_u32(&entry->first_segment, (uint32) segment);
}

/*
 * shmem_wake_launcher -- has the launcher look at everything again.
 */
void
shmem_wake_launcher(void)
{
	Latch	   *latch = shmem_state == NULL ? NULL : shmem_state->launcher_latch;

	if (latch != NULL)
		SetLatch(latch);
}

/*
 * shmem_databases -- the databases that have an entry, MAX_DATABASES at most.
 */
int
shmem_databases(Oid *databases)
{
	int			count = 0;

	LWLockAcquire(shmem_state->lock, LW_SHARED);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		if (OidIsValid(shmem_state->databases[i].database))
			databases[count++] = shmem_state->databases[i].database;
	}
	LWLockRelease(shmem_state->lock);
	return count;
}

/*
 * shmem_forget_database -- gives the entry of a dropped database free, once
 * nobody refers to it.
 */
void
shmem_forget_database(Oid database)
{
	DatabaseEntry *entry;
	bool		free;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	entry = shmem_find_entry(database);
	free = entry != NULL && entry->blockers == 0 && pg_atomic_read_u64(&entry->workers) == 0;
	if (free)
		entry->database = InvalidOid;
	LWLockRelease(shmem_state->lock);
	for (int i = 0; i < nparts && free; i++)
	{
		if (parts[i]->forget_database != NULL)
			parts[i]->forget_database(database);
	}
}

/*
 * unblock_at_exit -- a session that ends in the middle of the statement.
 */
static void
unblock_at_exit(int code, Datum arg)
{
	shmem_unblock_database();
}

/*
 * shmem_block_database -- keeps new workers out of the database until
 * shmem_unblock_database() or this session's end. One database at a time.
 */
void
shmem_block_database(Oid database)
{
	static bool registered = false;
	DatabaseEntry *entry;

	Assert(!OidIsValid(blocked_database));
	if (!registered)
		on_shmem_exit(unblock_at_exit, (Datum) 0);
	registered = true;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	entry = shmem_find_or_add_entry(database);
	if (entry != NULL)
	{
		entry->blockers++;
		blocked_database = database;
	}
	LWLockRelease(shmem_state->lock);
}

/*
 * shmem_unblock_database -- lets workers in again. A count, since two sessions
 * may copy one database at the same time.
 */
void
shmem_unblock_database(void)
{
	DatabaseEntry *entry;

	if (!OidIsValid(blocked_database))
		return;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	entry = shmem_find_entry(blocked_database);
	if (entry != NULL)
		entry->blockers--;
	LWLockRelease(shmem_state->lock);
	blocked_database = InvalidOid;
}

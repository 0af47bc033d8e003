/*
 * slots.c
 *		The life of a worker's slot in shared memory.
 *
 * A slot goes FREE -> STARTING (launcher: shmem_claim_slot) -> running
 * (worker: shmem_worker_attach) -> FREE (worker, when it exits), or from
 * STARTING back to FREE (launcher, when the worker ended before it attached).
 * Each start has an id; a worker that comes late, to a slot that is no longer
 * its own, sees that and leaves. All changes are made under the lock of
 * shmem.c. A pid stays in its slot until the process, exiting, takes the lock
 * to remove it: whoever holds the lock can signal that pid and hits nobody
 * else.
 *
 * A database is UNKNOWN until a probe, a single worker, has looked whether it
 * has the extension; then HAS_EXTENSION or NO_EXTENSION. A worker that finds
 * the extension gone makes it UNKNOWN again, and only a probe says no: it
 * alone was started after "wanted" was cleared. A commit that has work for a
 * worker (that of CREATE EXTENSION is one) sets "wanted" when it has become
 * visible. So if it does so before the clearing, the probe's snapshot sees
 * what it did, and if it does so after, the probe sees "wanted", which annuls
 * its no.
 */
#include "postgres.h"

#include <signal.h>

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/builtins.h"

#include "base/srf.h"
#include "shmem/shmem.h"
#include "shmem/shmem_state.h"

#define RESTART_DELAY		1000	/* ms between two starts of a slot's worker */
#define MAX_DELAY_DOUBLINGS	5
#define LEAVE_PATIENCE		1000	/* ms from asking a worker to leave to terminating it */
#define PROBE_PATIENCE		5000	/* ms until the next probe does not wait */

PG_FUNCTION_INFO_V1(reputation_workers);

/* In a worker: its slot, until it leaves. */
static WorkerSlot *my_slot = NULL;

/*
 * monotonic_ms -- for delays between starts. Not the extension's clock, which
 * tests stop, nor the system's, which an administrator may set back.
 */
static int64
monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/*
 * own_start_id -- which start of its slot this worker is; the launcher put it
 * into the registration.
 */
static uint64
own_start_id(void)
{
	uint64		start_id;

	memcpy(&start_id, MyBgworkerEntry->bgw_extra, sizeof(start_id));
	return start_id;
}

/* Makes a slot ready for its next worker. Under the lock. */
static void
free_slot(WorkerSlot *slot)
{
	DatabaseEntry *entry = shmem_find_entry(slot->database);

	if (entry != NULL)
		pg_atomic_fetch_and_u64(&entry->workers,
								~(UINT64CONST(1) << (slot - shmem_state->slots)));
	pg_atomic_write_u32(&slot->asleep, 0);
	pg_atomic_write_u64(&slot->leave, 0);
	pg_atomic_write_u64(&slot->unit_since, 0);
	pg_atomic_write_u64(&slot->code_since, 0);
	slot->latch = NULL;
	slot->pid = 0;
	slot->state = WORKER_FREE;
}

/*
 * leave_launcher -- at the launcher's exit: nobody to wake any more.
 */
static void
leave_launcher(int code, Datum arg)
{
	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	shmem_state->launcher_latch = NULL;
	LWLockRelease(shmem_state->lock);
}

/*
 * shmem_launcher_attach -- makes this process the one that is woken when a
 * database wants workers. Slots that its predecessor had not seen attached are
 * freed: nobody would notice if they never are.
 */
void
shmem_launcher_attach(void)
{
	on_shmem_exit(leave_launcher, (Datum) 0);

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	shmem_state->launcher_latch = MyLatch;
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		if (shmem_state->slots[i].state == WORKER_STARTING)
			free_slot(&shmem_state->slots[i]);
	}
	LWLockRelease(shmem_state->lock);
}

/*
 * leave_slot -- at a worker's exit: frees its slot and wakes the launcher.
 */
static void
leave_slot(int code, Datum arg)
{
	if (my_slot == NULL)
		return;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	free_slot(my_slot);
	LWLockRelease(shmem_state->lock);
	my_slot = NULL;
	shmem_wake_launcher();
}

/*
 * shmem_worker_database -- the database a starting worker shall connect to;
 * InvalidOid when its slot is no longer its own: it shall leave.
 */
Oid
shmem_worker_database(int slot_index)
{
	WorkerSlot *slot = &shmem_state->slots[slot_index];
	Oid			database = InvalidOid;

	LWLockAcquire(shmem_state->lock, LW_SHARED);
	if (slot->state == WORKER_STARTING && slot->start_id == own_start_id())
		database = slot->database;
	LWLockRelease(shmem_state->lock);
	return database;
}

/*
 * shmem_is_worker -- is this process one of the extension's workers? Others'
 * background workers, of a scheduler or an apply, are not.
 */
bool
shmem_is_worker(void)
{
	return my_slot != NULL;
}

/*
 * shmem_worker_attach -- takes the slot into use by this worker, until it
 * exits. NULL when it shall leave at once: the slot is no longer its own, or
 * the database is to be free of workers.
 */
WorkerSlot *
shmem_worker_attach(int slot_index)
{
	WorkerSlot *slot = &shmem_state->slots[slot_index];
	DatabaseEntry *entry;
	bool		welcome;

	on_shmem_exit(leave_slot, (Datum) 0);

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	entry = shmem_find_entry(MyDatabaseId);
	welcome = entry != NULL && slot->state == WORKER_STARTING &&
		slot->start_id == own_start_id();
	if (welcome)
	{
		Assert(slot->database == MyDatabaseId);
		slot->failures = 0;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->state = WORKER_IDLE;
		pg_atomic_write_u32(&slot->asleep, 0);
		pg_atomic_write_u64(&slot->leave, 0);
		pg_atomic_write_u64(&slot->units, 0);
		pg_atomic_write_u64(&slot->users, 0);
		pg_atomic_fetch_or_u64(&entry->workers, UINT64CONST(1) << slot_index);
		my_slot = slot;
		if (entry->blockers > 0)
		{
			/* The statement waits for the slot; the exit frees it. */
			slot->started_at = 0;
			welcome = false;
		}
	}
	LWLockRelease(shmem_state->lock);

	return welcome ? slot : NULL;
}

/*
 * shmem_worker_report -- shows what this worker is doing.
 */
void
shmem_worker_report(WorkerSlot *slot, WorkerState state)
{
	slot->state = state;
}

/*
 * shmem_worker_unit -- a unit of this worker begins or is over.
 */
void
shmem_worker_unit(bool begins)
{
	if (my_slot != NULL)
		pg_atomic_write_u64(&my_slot->unit_since, begins ? (uint64) monotonic_ms() : 0);
}

/*
 * shmem_worker_code -- this worker enters or leaves code of the application's, for an
 * engine (0: for none in particular).
 */
void
shmem_worker_code(int engine, bool begins)
{
	if (my_slot == NULL)
		return;
	/* Whoever reads the engine reads the time first, and once more after it. */
	pg_atomic_write_u64(&my_slot->code_since, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&my_slot->engine, (uint32) engine);
	pg_write_barrier();
	if (begins)
		pg_atomic_write_u64(&my_slot->code_since, (uint64) monotonic_ms());
}

/*
 * shmem_worker_uncancellable -- leaves a note for the worker that follows in the slot:
 * this one ends because of code of that engine's (NULL: it is not known where). 0 takes
 * it away.
 */
void
shmem_worker_uncancellable(int engine, const char *where)
{
	int			length = where ? pg_mbcliplen(where, strlen(where), MAX_WHERE - 1) : 0;

	memcpy(my_slot->uncancellable_where, where ? where : "", length);
	my_slot->uncancellable_where[length] = '\0';
	my_slot->uncancellable = engine;
}

/*
 * shmem_worker_has_extension -- this worker's database has the extension: the
 * launcher starts the other workers.
 */
void
shmem_worker_has_extension(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);
	bool		changed;

	if (entry == NULL || my_slot == NULL)
		return;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	changed = entry->state != DATABASE_HAS_EXTENSION;
	entry->state = DATABASE_HAS_EXTENSION;
	my_slot->probe = false;
	LWLockRelease(shmem_state->lock);

	if (changed)
		shmem_wake_launcher();
}

/*
 * shmem_worker_no_extension -- this worker's database does not have the
 * extension; the worker shall leave. See the top for who says no.
 */
void
shmem_worker_no_extension(void)
{
	DatabaseEntry *entry = shmem_my_entry(false);

	if (entry == NULL || my_slot == NULL)
		return;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	if (my_slot->probe && pg_atomic_read_u32(&entry->wanted) == 0)
		entry->state = DATABASE_NO_EXTENSION;
	else
		entry->state = DATABASE_UNKNOWN;
	/* It did not fail, so the next one need not wait. */
	my_slot->started_at = 0;
	LWLockRelease(shmem_state->lock);

	leave_slot(0, (Datum) 0);
}

/*
 * shmem_workers_in_database -- how many workers run there.
 */
int
shmem_workers_in_database(Oid database)
{
	DatabaseEntry *entry;
	uint64		workers = 0;

	if (shmem_state == NULL || !OidIsValid(database))
		return 0;

	LWLockAcquire(shmem_state->lock, LW_SHARED);
	entry = shmem_find_entry(database);
	if (entry != NULL)
		workers = pg_atomic_read_u64(&entry->workers);
	LWLockRelease(shmem_state->lock);

	return pg_popcount64(workers);
}

/*
 * probe_running -- is a probe under way, and not for suspiciously long? Under
 * the lock. Probes go one at a time: a server with many databases shall not
 * spend all its processes on them.
 */
static bool
probe_running(int64 now)
{
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		WorkerSlot *slot = &shmem_state->slots[i];

		if (slot->state != WORKER_FREE && slot->probe &&
			now - slot->started_at < PROBE_PATIENCE)
			return true;
	}
	return false;
}

/*
 * choose_slot -- a free slot for a worker: the one its predecessor had, else
 * the one that was used least recently. *running says that there is such a
 * worker already; NULL when no slot is free. Under the lock.
 */
static WorkerSlot *
choose_slot(Oid database, int number, bool *running)
{
	WorkerSlot *choice = NULL;
	int64		best = 0;

	*running = false;
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		WorkerSlot *slot = &shmem_state->slots[i];
		bool		same = slot->database == database && slot->number == number;
		int64		rank = same ? -1 : slot->started_at;

		if (slot->state != WORKER_FREE)
			*running |= same;
		else if (choice == NULL || rank < best)
		{
			choice = slot;
			best = rank;
		}
	}
	return choice;
}

/*
 * may_start -- may a worker start in this free slot now? Under the lock.
 */
static bool
may_start(DatabaseEntry *entry, WorkerSlot *slot, int number, int64 now)
{
	if (entry->blockers > 0)
		return false;
	if (slot->database == entry->database && slot->number == number &&
		slot->started_at != 0 &&
		now - slot->started_at < RESTART_DELAY << Min(slot->failures, MAX_DELAY_DOUBLINGS))
		return false;
	return entry->state == DATABASE_HAS_EXTENSION ||
		pg_atomic_read_u32(&entry->wanted) == 1 || !probe_running(now);
}

/*
 * claim_slot -- shmem_claim_slot() under the lock.
 */
static SlotClaim
claim_slot(Oid database, int number, WorkerSlot **claimed)
{
	int64		now = monotonic_ms();
	DatabaseEntry *entry = shmem_find_or_add_entry(database);
	WorkerSlot *slot;
	bool		running;

	if (entry == NULL)
		return SLOT_NONE_LEFT;
	if (entry->state == DATABASE_NO_EXTENSION ||
		(entry->state == DATABASE_UNKNOWN && number > 0))
		return SLOT_NOT_NEEDED;
	slot = choose_slot(database, number, &running);
	if (running)
		return SLOT_NOT_NEEDED;
	if (slot == NULL)
		return SLOT_NONE_LEFT;
	if (!may_start(entry, slot, number, now))
		return SLOT_LATER;

	if (slot->database != database || slot->number != number)
		slot->failures = slot->uncancellable = 0;
	slot->database = database;
	slot->number = number;
	slot->started_at = now;
	slot->start_id = ++shmem_state->last_start_id;
	slot->probe = entry->state == DATABASE_UNKNOWN;
	slot->state = WORKER_STARTING;
	if (slot->probe)
		pg_atomic_write_u32(&entry->wanted, 0);
	*claimed = slot;
	return SLOT_CLAIMED;
}

/*
 * shmem_claim_slot -- reserves a slot for the worker with this number in the
 * database, if it needs one that it does not have. The launcher then registers
 * a worker with the slot's index and start_id, or releases it.
 */
SlotClaim
shmem_claim_slot(Oid database, int number, int *slot_index, uint64 *start_id)
{
	WorkerSlot *slot = NULL;
	SlotClaim	result;

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	result = claim_slot(database, number, &slot);
	if (result == SLOT_CLAIMED)
	{
		*slot_index = slot - shmem_state->slots;
		*start_id = slot->start_id;
	}
	LWLockRelease(shmem_state->lock);
	return result;
}

/*
 * shmem_release_slot -- the worker of this start will not attach any more:
 * it failed before, or it was never registered. Nothing if it had attached.
 */
void
shmem_release_slot(int slot_index, uint64 start_id, bool failed)
{
	WorkerSlot *slot = &shmem_state->slots[slot_index];

	LWLockAcquire(shmem_state->lock, LW_EXCLUSIVE);
	if (slot->state == WORKER_STARTING && slot->start_id == start_id)
	{
		free_slot(slot);
		if (failed)
			slot->failures++;
		else
			slot->started_at = 0;
	}
	LWLockRelease(shmem_state->lock);
}

/*
 * ask_to_leave -- asks a running worker to leave between two units; called again
 * later, terminates it if it is still there. Under the lock, shared: callers
 * that ask at once set about the same time.
 */
static void
ask_to_leave(WorkerSlot *slot)
{
	uint64		asked = pg_atomic_read_u64(&slot->leave);
	uint64		now = (uint64) monotonic_ms();

	if (asked == 0)
	{
		pg_atomic_write_u64(&slot->leave, now);
		SetLatch(slot->latch);
	}
	else if (now - asked >= LEAVE_PATIENCE)
		kill(slot->pid, SIGTERM);
}

/*
 * shmem_stop_workers -- sends away the running workers of the database whose
 * number is not below "keep", and those that run on although somebody found
 * the extension gone.
 */
void
shmem_stop_workers(Oid database, int keep)
{
	DatabaseEntry *entry;

	LWLockAcquire(shmem_state->lock, LW_SHARED);
	entry = shmem_find_entry(database);
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		WorkerSlot *slot = &shmem_state->slots[i];

		if (slot->pid == 0 || slot->database != database)
			continue;
		if (slot->number >= keep || entry == NULL ||
			(entry->state != DATABASE_HAS_EXTENSION && !slot->probe))
			ask_to_leave(slot);
	}
	LWLockRelease(shmem_state->lock);
}

/*
 * shmem_send_away -- sends the database's workers away; called every few
 * milliseconds until they left. pids (one for each slot, 0 at first) remembers
 * them. Returns how many slots are still
 * in use, starting workers included.
 */
int
shmem_send_away(Oid database, int *pids)
{
	int			count = 0;

	LWLockAcquire(shmem_state->lock, LW_SHARED);
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		WorkerSlot *slot = &shmem_state->slots[i];

		if (slot->state == WORKER_FREE || slot->database != database)
			continue;
		count++;
		if (slot->pid != 0)
		{
			pids[i] = slot->pid;
			ask_to_leave(slot);
		}
	}
	LWLockRelease(shmem_state->lock);
	return count;
}

/*
 * state_name -- a running worker's state in words.
 */
static const char *
state_name(WorkerState state)
{
	switch (state)
	{
		case WORKER_BUSY:
			return "busy";
		case WORKER_MISMATCH:
			return "mismatch";
		default:
			return "idle";
	}
}

/* What a running worker is at, as the columns of reputation.workers() from the seventh on. */
static void
put_unit(WorkerSlot *slot, Datum *values, bool *nulls)
{
	uint64		now = (uint64) monotonic_ms();
	uint64		unit = pg_atomic_read_u64(&slot->unit_since);
	uint64		code = pg_atomic_read_u64(&slot->code_since);
	uint32		engine;

	pg_read_barrier();
	engine = pg_atomic_read_u32(&slot->engine);
	pg_read_barrier();
	if (pg_atomic_read_u64(&slot->code_since) != code)
		code = 0;				/* it has just left it */
	nulls[0] = unit == 0;
	values[0] = Int64GetDatum((int64) (now - Min(unit, now)));
	nulls[1] = code == 0;
	values[1] = Int64GetDatum((int64) (now - Min(code, now)));
	nulls[2] = code == 0 || engine == 0;
	values[2] = Int32GetDatum((int32) engine);
}

/*
 * reputation.workers() -- a row for each running worker of the cluster.
 */
Datum
reputation_workers(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *store = srf_begin(fcinfo, &tupdesc);

	for (int i = 0; shmem_state != NULL && i < MAX_WORKER_SLOTS; i++)
	{
		WorkerSlot *slot = &shmem_state->slots[i];
		Datum		values[9];
		bool		nulls[9] = {false};
		WorkerState state;
		int			pid;

		LWLockAcquire(shmem_state->lock, LW_SHARED);
		pid = slot->pid;
		state = slot->state;
		values[0] = Int32GetDatum(pid);
		values[1] = ObjectIdGetDatum(slot->database);
		values[2] = Int32GetDatum(i);
		LWLockRelease(shmem_state->lock);

		if (pid == 0)
			continue;
		values[3] = CStringGetTextDatum(state_name(state));
		values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->units));
		values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->users));
		put_unit(slot, &values[6], &nulls[6]);
		tuplestore_putvalues(store, tupdesc, values, nulls);
	}
	return (Datum) 0;
}

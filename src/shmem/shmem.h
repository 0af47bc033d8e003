/*
 * shmem.h
 *		The extension's shared memory: worker slots, wake-ups, inbox advice.
 *
 * Everything here works without the preload too: the readers then say "nothing
 * there" and the writers do nothing. shmem.c explains who may touch what.
 */
#ifndef REPUTATION_SHMEM_H
#define REPUTATION_SHMEM_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/latch.h"

#define MAX_WORKER_SLOTS	64	/* workers in the whole cluster, bits of a uint64 */
#define MAX_WHERE			256 /* bytes of a function's name and the place in it */
#define MAX_DATABASES		1024	/* databases whose state is remembered */

typedef enum WorkerState
{
	WORKER_FREE = 0,			/* slot not in use */
	WORKER_STARTING,			/* launcher registered it, not yet running */
	WORKER_IDLE,
	WORKER_BUSY,
	WORKER_MISMATCH				/* library and extension versions differ */
} WorkerState;

typedef struct WorkerSlot
{
	/* Kept while the slot is free: they delay a restart. */
	Oid			database;
	int			number;			/* 0 .. reputation.workers - 1 in its database */
	int64		started_at;		/* shmem.c's monotonic ms; 0: start at once */
	int			failures;		/* starts in a row that did not get to attach */
	int			uncancellable;	/* the engine of whose code the last worker died, or 0 */
	char		uncancellable_where[MAX_WHERE];

	uint64		start_id;		/* tells this start from all others */
	bool		probe;			/* started to see whether there is an extension */
	int			pid;			/* 0: not attached */
	WorkerState state;
	Latch	   *latch;
	pg_atomic_uint32 asleep;	/* 1: a writer's commit shall set the latch */
	pg_atomic_uint64 leave;		/* asked to leave at this monotonic ms; 0: not */
	pg_atomic_uint64 unit_since;	/* the unit that is on began; monotonic ms, 0: none */
	pg_atomic_uint64 code_since;	/* the same of its code of the application's */
	pg_atomic_uint32 engine;	/* whose code that is; 0: no single engine's */
	pg_atomic_uint64 units;		/* transactions done */
	pg_atomic_uint64 users;		/* users computed */
} WorkerSlot;

/* What the launcher got when it asked for a slot. */
typedef enum SlotClaim
{
	SLOT_CLAIMED,				/* start a worker in it */
	SLOT_NOT_NEEDED,			/* it runs already, or the database wants none */
	SLOT_LATER,					/* not now; ask again in a second */
	SLOT_NONE_LEFT				/* this file's limits are reached */
} SlotClaim;

/*
 * What a module above has in shared memory. Any of the functions may be NULL. A database's
 * place is a number below MAX_DATABASES.
 */
typedef struct ShmemPart
{
	void		(*request) (void);	/* asks the server for memory and locks */
	void		(*startup) (void);	/* finds it, and fills it when it is new */
	void		(*started) (void);	/* new memory, and all parts are there */
	void		(*reset_database) (int place);	/* it is another database's now; no error */
	void		(*forget_database) (Oid database);	/* it was dropped; no error */
} ShmemPart;

extern void shmem_register(const ShmemPart *part);
extern void shmem_init(void);
extern bool shmem_available(void);
extern int	shmem_add_place(Oid database);

/* For sessions. */
extern int	shmem_my_place(bool add);
extern void shmem_wake_workers(void);
extern int	shmem_inbox_first_segment(void);
extern void shmem_set_inbox_first_segment(int segment);

/*
 * For workers, in this order: ask for the database, connect to it, attach (or
 * leave), then say whether the extension is there: at the start and whenever
 * that was looked at again. Before it sleeps a worker sets asleep = 1, passes a
 * full memory barrier, looks with a new snapshot for work, and only then waits.
 */
extern Oid	shmem_worker_database(int slot_index);
extern WorkerSlot *shmem_worker_attach(int slot_index);
extern bool shmem_is_worker(void);
extern void shmem_worker_report(WorkerSlot *slot, WorkerState state);
extern void shmem_worker_unit(bool begins);
extern void shmem_worker_code(int engine, bool begins);
extern void shmem_worker_uncancellable(int engine, const char *where);
extern void shmem_worker_has_extension(void);
extern void shmem_worker_no_extension(void);
extern int	shmem_workers_in_database(Oid database);

/* For the launcher. */
extern void shmem_launcher_attach(void);
extern void shmem_wake_launcher(void);
extern SlotClaim shmem_claim_slot(Oid database, int number, int *slot_index,
								  uint64 *start_id);
extern void shmem_release_slot(int slot_index, uint64 start_id, bool failed);
extern void shmem_stop_workers(Oid database, int keep);
extern int	shmem_databases(Oid *databases);
extern void shmem_forget_database(Oid database);

/* For the utility hook. */
extern void shmem_block_database(Oid database);
extern void shmem_unblock_database(void);
extern int	shmem_send_away(Oid database, int *pids);

#endif							/* REPUTATION_SHMEM_H */

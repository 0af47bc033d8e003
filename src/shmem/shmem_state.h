/*
 * shmem_state.h
 *		What lies in shared memory; for shmem.c and slots.c only.
 */
#ifndef REPUTATION_SHMEM_STATE_H
#define REPUTATION_SHMEM_STATE_H

#include "postgres.h"

#include "port/atomics.h"
#include "shmem/shmem.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

typedef enum DatabaseState
{
	DATABASE_UNKNOWN = 0,
	DATABASE_HAS_EXTENSION,
	DATABASE_NO_EXTENSION
} DatabaseState;

typedef struct DatabaseEntry
{
	Oid			database;		/* InvalidOid: not in use */
	DatabaseState state;
	int			blockers;		/* statements that want it free of workers */
	pg_atomic_uint32 wanted;	/* 1: a commit had work; changed under the lock */
	pg_atomic_uint32 first_segment;
	pg_atomic_uint64 workers;	/* bit i: slot i runs here; changed under the lock */
} DatabaseEntry;

typedef struct SharedState
{
	LWLock	   *lock;
	Latch	   *launcher_latch; /* NULL: no launcher */
	uint64		last_start_id;
	WorkerSlot	slots[MAX_WORKER_SLOTS];
	DatabaseEntry databases[MAX_DATABASES];
} SharedState;

/* NULL without the preload. */
extern SharedState *shmem_state;

/* Under the lock. */
extern DatabaseEntry *shmem_find_entry(Oid database);
extern DatabaseEntry *shmem_find_or_add_entry(Oid database);

/* Takes the lock. */
extern DatabaseEntry *shmem_my_entry(bool add);

#endif							/* REPUTATION_SHMEM_STATE_H */

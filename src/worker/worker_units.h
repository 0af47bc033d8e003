/*
 * worker_units.h
 *		What the files of the worker share: its state, and units.
 */
#ifndef REPUTATION_WORKER_UNITS_H
#define REPUTATION_WORKER_UNITS_H

#include "postgres.h"

#include "shmem/shmem.h"
#include "utils/timestamp.h"
#include "work/drain.h"

#define LONGEST_POLL		250 /* ms, while somebody else is at what there is to do */

typedef enum UnitStatus
{
	UNIT_OK,
	UNIT_FAILED,				/* an error, reported */
	UNIT_BUSY,					/* somebody has the extension: DROP or ALTER */
	UNIT_MISMATCH,				/* the versions differ */
	UNIT_NO_EXTENSION
} UnitStatus;

typedef struct Worker
{
	WorkerSlot *slot;
	int			number;
	MemoryContext context;		/* reset after each unit */
	bool		mismatch_logged;
	TimestampTz next_fold;		/* held off until then */
	int64		clock_offset;	/* of the clock from a steady one, in us */
	int64		schedule_seen;	/* when the schedule was looked at, by the steady one */
	int64		due_seen;		/* the same of what is due by time alone */
	long		poll_ms;		/* how long it last waited for somebody else */
	int			turn;			/* which engine's is next */
	unsigned	busy_units;		/* units with something to do */
	int			careful;		/* keys still to be worked on one by one */
	bool		started;		/* the first unit was done */
	/* what the unit that ran left behind */
	int			keys;
	bool		skipped;		/* somebody had an engine */
	bool		locked_out;		/* unit_drain() was kept from an engine or the inbox */
	bool		prepared;		/* there are prepared transactions */
	int			jobs;
	bool		fed;
	bool		batch;			/* a run in steps is on */
	bool		job_due;		/* a scheduled job is to be started */
	bool		boards;			/* the top of one may have changed */
	int64		boards_seen;	/* when those were refreshed, by the steady clock */
	bool		clock_due;		/* there is work for unit_clock() */
	long		sleep_ms;
} Worker;

typedef void (*Unit) (Worker *worker, List *engines);

/* unit.c */
extern void unit_reload(void);
extern UnitStatus unit_run(Worker *worker, Unit unit);
extern void unit_run_at_exit(Worker *worker, Unit unit);
extern DrainScope unit_scope(const Worker *worker);

/* worker_units.c */
extern long unit_held_off(const Worker *worker);
extern long unit_poll(Worker *worker);
extern void unit_nothing(Worker *worker, List *engines);
extern void unit_drain(Worker *worker, List *engines);
extern void unit_compact(Worker *worker, List *engines);
extern void unit_batch(Worker *worker, List *engines);
extern void unit_boards(Worker *worker, List *engines);
extern void unit_notify(Worker *worker, List *engines);
extern void unit_clock(Worker *worker, List *engines);

/* worker_careful.c */
extern void careful_start(Worker *worker, List *engines);
extern void careful_leave(Worker *worker, List *engines);
extern UnitStatus careful_work(Worker *worker);
extern void careful_tidy(const Worker *worker);

#endif							/* REPUTATION_WORKER_UNITS_H */

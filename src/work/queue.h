/*
 * queue.h
 *		Due and deferred work: the job table.
 */
#ifndef REPUTATION_QUEUE_H
#define REPUTATION_QUEUE_H

#include "engine/engine.h"

#define PRIORITY_HIGH	1
#define PRIORITY_MEDIUM	2
#define PRIORITY_LOW	3
#define PRIORITY_TIME	4		/* a share of each batch, and what is left of it */

/* Which part of the work, and how. */
typedef struct DrainScope
{
	int			number;			/* of this worker, 0 .. workers - 1 */
	int			workers;		/* that share the work */
	bool		wait;			/* a session: waits for locks others hold */
	int			limit;			/* keys of one unit at most */
	const struct Job *only;		/* this key alone, or NULL */
} DrainScope;

/*
 * A session stored the user without a claim: somebody with one looks again. In
 * the job table a run_id of null is none, 0 or less one of these, else a sweep.
 */
#define RUN_RECHECK 0
#define RUN_TIME (-1)			/* time alone may have changed the score (due.c) */

/* What a key is: 0 a user to compute, above that a lookup, below a user to restore (restore.c). */
#define KIND_RESTORE_SCORE	(-1)	/* the cached column */
#define KIND_RESTORE_RANK	(-2)	/* the rank column */

/* One key to compute: all its job rows together. */
typedef struct Job
{
	int16		kind;
	char	   *key;
	int16		attempt;
	int16		lock_tries;
	int16		priority;
	int64		run_id;			/* of a sweep, RUN_RECHECK or RUN_TIME */
	bool		event;			/* some row came from a change */
	bool		may_wait;		/* if the window is open: it is not due, or blindly so */
} Job;

/* What became of a run's jobs in this unit. */
typedef struct RunTally
{
	int64		run_id;
	int64		done;
	int64		changed;
} RunTally;

#define MAX_TALLIES 16

typedef struct Tallies
{
	int			count;
	RunTally	runs[MAX_TALLIES];
} Tallies;

extern int	job_compare(const void *a, const void *b);
extern void tally(Tallies *tallies, int64 run_id, int64 done, int64 changed);
extern void tallies_store(const Tallies *tallies);

extern void queue_enqueue(const Engine *engine, char **keys, int count, int16 priority);
extern void queue_enqueue_restores(const Engine *engine, int16 kind, char **keys, int count);
extern void queue_enqueue_run(const Engine *engine, char **keys, int count, int64 run_id);
extern int	queue_claim(const Engine *engine, const DrainScope *scope, Job **jobs,
						Tallies *tallies);
extern bool queue_peek(const Engine *engine, Job *job);
extern void queue_put_back(const Engine *engine, const Job *job, TimestampTz due_at);
extern bool queue_fail(const Engine *engine, const Job *job, const char *error);
extern void queue_succeeded(const Engine *engine, int16 kind, char **keys, int count);
extern TimestampTz queue_lock_retry(const Job *job);
extern TimestampTz queue_next_due(void);
extern void queue_rebase(const Engine *engine);
extern bool queue_try(void);
extern void queue_compact(void);
extern void queue_remove_windows(void);

extern int	due_feed(const Engine *engine, int portion, bool wait);
extern TimestampTz due_next(const List *engines);
extern bool due_job(const Engine *engine);

extern void windows_open(const Engine *engine, char **keys, int count);
extern TimestampTz *windows_closing(const Engine *engine, const Job *jobs, int count);

#endif							/* REPUTATION_QUEUE_H */

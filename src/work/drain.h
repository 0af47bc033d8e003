/*
 * drain.h
 *		Units of work: fold the inbox, compute a batch, feed a sweep.
 */
#ifndef REPUTATION_DRAIN_H
#define REPUTATION_DRAIN_H

#include "work/queue.h"

/*
 * Keys that a session claims at once, and queues of a run at once. What it deletes
 * stays dead in the job table as long as its transaction lasts, and each claim
 * wades through that.
 */
#define SESSION_KEYS	100000

extern int	fold_inbox(const DrainScope *scope, List *engines);
extern int	drain_claim(Engine *engine, const DrainScope *scope);
extern void drain_jobs(Engine *engine, const DrainScope *scope, Job *jobs, int count,
					   Tallies *tallies);

extern void recheck_queue(Engine *engine, Score *scores, int count);
extern int64 recheck_orphans(Engine *engine);

extern int64 sweep_start(const Engine *engine, const char *job_name, const char *trigger);
extern bool sweep_feed(List *engines, int portion, bool raise);
extern void sweep_where_lost(List *engines);
extern void sweep_where_set_back(const Engine *engine);

extern void notify_init(void);
extern void notify_add(const Engine *engine, const char *key);
extern bool notify_pending(void);
extern void notify_send(void);

#endif							/* REPUTATION_DRAIN_H */

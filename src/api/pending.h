/*
 * pending.h
 *		What is still to be computed of a user.
 */
#ifndef REPUTATION_PENDING_H
#define REPUTATION_PENDING_H

#include "engine/engine.h"

/* One look at all that can be pending; what it leaves out is set before. */
typedef struct PendingLook
{
	TransactionId horizon;		/* if valid, what this and later ones captured is left out */
	bool		changes_only;	/* runs by the schedule, which no change led to */
	bool		resync;			/* a lost change's run is not visible yet */
} PendingLook;

extern bool pending_begin(PendingLook *look, bool wait);
extern void pending_end(void);
extern char *pending_look_once(PendingLook *look, const Engine *engine, const char *key);
extern TimestampTz pending_give_up(FunctionCallInfo fcinfo, int argno);
extern void pending_timed_out(const char *engine, const char *key,
							  const char *what);
extern char *pending_work(const PendingLook *look, const Engine *engine, const char *key);

#endif							/* REPUTATION_PENDING_H */

/*
 * capture.h
 *		Row triggers that remember which keys a transaction changed.
 */
#ifndef REPUTATION_CAPTURE_H
#define REPUTATION_CAPTURE_H

#include "postgres.h"

#include "base/keyset.h"
#include "fmgr.h"
#include "utils/relcache.h"

extern void capture_init(void);

/*
 * What follows a user whose row is deleted (new_key NULL), or gets another id, in the same
 * transaction, if it is wanted: the column of the relation is a key of users of whom there
 * is something to follow.
 */
typedef struct CaptureFollower
{
	bool		(*wanted) (Relation relation, AttrNumber attnum);
	void		(*follow) (FunctionCallInfo fcinfo, Relation relation, AttrNumber attnum,
						   const char *old_key, const char *new_key);
} CaptureFollower;

extern void capture_register_follower(const CaptureFollower *follower);
extern const CaptureFollower *capture_follower(void);

/*
 * Who wants to know what a transaction has captured, before it commits, and, once that is
 * visible, that there were changes of which nobody knows the keys. Neither raises an error.
 */
typedef struct CaptureConsumer
{
	void		(*captured) (keyset_hash *keys);
	void		(*lost) (void);
} CaptureConsumer;

extern void capture_register_consumer(const CaptureConsumer *consumer);

/*
 * While on, the rows that this backend's next statements change themselves are
 * not captured: a store step is covered by its claim or a recheck (queue.c).
 * What triggers change in turn is. Returns the former state, for capture_restore().
 */
typedef struct CaptureState
{
	bool		suspended;
	int			depth;			/* of triggers, when it was */
} CaptureState;

extern CaptureState capture_suspend(bool suspend);
extern void capture_restore(CaptureState state);

/* Wake this database's workers when the transaction commits. */
extern void capture_wake_at_commit(void);
extern void capture_everyone(int32 source);

extern bool capture_is_pending(void);

#endif							/* REPUTATION_CAPTURE_H */

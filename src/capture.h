/*
 * capture.h
 *		Row triggers that remember which keys a transaction changed.
 */
#ifndef REPUTATION_CAPTURE_H
#define REPUTATION_CAPTURE_H

#include "postgres.h"

extern void capture_init(void);

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

#endif							/* REPUTATION_CAPTURE_H */

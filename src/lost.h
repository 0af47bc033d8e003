/*
 * lost.h
 *		Changes that no inbox had a place for: everybody is to be recomputed.
 */
#ifndef REPUTATION_LOST_H
#define REPUTATION_LOST_H

#include "postgres.h"

#include "port/atomics.h"

/* A database's requests for a run over everybody; under their lock, but for "any". */
typedef struct LostRequests
{
	pg_atomic_uint32 any;		/* 1: wanted, taken, or after something */
	bool		wanted;
	bool		taken;			/* by a transaction that is not committed yet */
	TransactionId after;		/* and once none up to this one is prepared */
	uint64		after_count;	/* how often there came another */
	int			about_to_request;	/* transactions that have left the mark */
	bool		marked;			/* the mark is on disk */
} LostRequests;

extern void lost_init(void);
extern void lost_startup(void);
extern void lost_init_entry(LostRequests *lost);
extern void lost_forget_database(Oid database);

/* For the writer: before its commit; then either of the others. */
extern void lost_mark(void);
extern void lost_report(bool prepared);
extern void lost_nothing(void);

/* For who drains, and for who waits. */
extern bool lost_take(void);
extern bool lost_pending(void);

#endif							/* REPUTATION_LOST_H */

/*
 * inbox.h
 *		The inbox: segments of captured keys.
 */
#ifndef REPUTATION_INBOX_H
#define REPUTATION_INBOX_H

#include "base/keyset.h"

#define INBOX_SEGMENTS	4		/* that writers take turns with */
#define INBOX_RESERVE	4		/* and the segment for when those are locked */

/* For writers, before their commit. */
extern bool inbox_append(keyset_hash *keys, MemoryContext context);

/* For the fold, which holds the FOLD lock: takes what is there. */
extern keyset_hash *inbox_take(bool all, bool *skipped);

/* For those who look whether anything is pending. */
extern bool inbox_lock_segments(bool wait);
extern void inbox_unlock_segments(void);
extern bool inbox_has_keys_before(TransactionId xid);

#endif							/* REPUTATION_INBOX_H */

/*
 * invalidate.h
 *		Who changes something makes the read cache forget it, when it commits.
 */
#ifndef REPUTATION_INVALIDATE_H
#define REPUTATION_INVALIDATE_H

#include "engine.h"
#include "keyset.h"

extern void invalidate_init(void);

/* Before the commit; what is invalidated is forgotten when that is visible. */
extern void invalidate_captured(keyset_hash *keys);
extern void invalidate_queued(const Engine *engine, char **users, int count);
extern void invalidate_everyone(void);
extern bool invalidate_is_pending(void);
extern void invalidate_lost(void);

#endif							/* REPUTATION_INVALIDATE_H */

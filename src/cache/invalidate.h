/*
 * invalidate.h
 *		Who changes something makes the read cache forget it, when it commits.
 */
#ifndef REPUTATION_INVALIDATE_H
#define REPUTATION_INVALIDATE_H

#include "base/keyset.h"
#include "engine/engine.h"

extern void invalidate_init(void);

/* What is invalidated is forgotten when the commit is visible. */
extern void invalidate_queued(const Engine *engine, char **users, int count);
extern void invalidate_everyone(void);
extern bool invalidate_is_pending(void);

#endif							/* REPUTATION_INVALIDATE_H */

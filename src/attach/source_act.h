/*
 * source_act.h
 *		The one way to do something to an application's table.
 */
#ifndef REPUTATION_SOURCE_ACT_H
#define REPUTATION_SOURCE_ACT_H

#include "postgres.h"

#include "storage/lockdefs.h"

typedef void (*SourceBody) (void *arg);

extern bool source_is_own(Oid table);
extern Oid	source_owner(Oid table);
extern bool source_lock(Oid table, LOCKMODE mode, bool inheritors);
extern void source_require_owner(Oid table);
extern void source_grant(Oid table);
extern void source_act(Oid table, SourceBody body, void *arg);

#endif							/* REPUTATION_SOURCE_ACT_H */

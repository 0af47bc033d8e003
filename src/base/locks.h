/*
 * locks.h
 *		The extension's own locks, and locks that are only tried.
 */
#ifndef REPUTATION_LOCKS_H
#define REPUTATION_LOCKS_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

#define LANES	16

#define MAX_ENGINE_ID 254

extern bool lock_fold(bool wait);
extern bool lock_lane(int engine, int lane, bool wait);
extern bool lock_due(int engine, bool wait);
extern bool lock_rank(int tree, bool wait);
extern bool lock_board(int tree);
extern bool lock_registry(bool exclusive, bool wait);
extern bool lock_engine(int engine, bool exclusive, bool wait);
extern bool lock_relation_within(Oid relation, LOCKMODE mode, int timeout_ms);
extern Relation lock_try_open(Oid oid, LOCKMODE mode);

#endif							/* REPUTATION_LOCKS_H */

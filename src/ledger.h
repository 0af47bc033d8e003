/*
 * ledger.h
 *		The ledger's rows and the badges of a user whose row goes.
 */
#ifndef REPUTATION_LEDGER_H
#define REPUTATION_LEDGER_H

#include "engines.h"
#include "fmgr.h"
#include "utils/relcache.h"

/* Those of whose users something is kept that cannot be computed again, as bits. */
#define LEDGER_ENGINES ((1 << points_engine.id) | (1 << badges_engine.id))

extern uint32 ledger_engines(Relation relation, AttrNumber attnum);
extern void ledger_follow(FunctionCallInfo fcinfo, uint32 engines, const char *old_key,
						  const char *new_key);

#endif							/* REPUTATION_LEDGER_H */

/*
 * ledger.h
 *		The ledger's rows and the badges of a user whose row goes.
 */
#ifndef REPUTATION_LEDGER_H
#define REPUTATION_LEDGER_H

#include "engine.h"
#include "fmgr.h"

extern void ledger_follow(FunctionCallInfo fcinfo, const EngineDescriptor *users,
						  const char *old_key, const char *new_key, bool partition);

#endif							/* REPUTATION_LEDGER_H */

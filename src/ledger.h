/*
 * ledger.h
 *		The ledger's rows of a user whose row goes.
 */
#ifndef REPUTATION_LEDGER_H
#define REPUTATION_LEDGER_H

#include "fmgr.h"

extern void ledger_follow(FunctionCallInfo fcinfo, const char *old_key, const char *new_key,
						  bool partition);

#endif							/* REPUTATION_LEDGER_H */

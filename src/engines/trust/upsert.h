/*
 * upsert.h
 *		Writing a user from a JSON document.
 */
#ifndef REPUTATION_UPSERT_H
#define REPUTATION_UPSERT_H

#include "fmgr.h"
#include "utils/jsonb.h"

/* The engine whose users table is written to. */

extern char *upsert_write(FunctionCallInfo fcinfo, int engine_arg, Jsonb *doc, MemoryContext context);

#endif							/* REPUTATION_UPSERT_H */

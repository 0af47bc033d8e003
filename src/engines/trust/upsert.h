/*
 * upsert.h
 *		Writing a user from a JSON document.
 */
#ifndef REPUTATION_UPSERT_H
#define REPUTATION_UPSERT_H

#include "fmgr.h"
#include "utils/jsonb.h"

/* The engine whose users table is written to. */
#define UPSERT_ENGINE "trust"

extern char *upsert_write(FunctionCallInfo fcinfo, Jsonb *doc, MemoryContext context);

#endif							/* REPUTATION_UPSERT_H */

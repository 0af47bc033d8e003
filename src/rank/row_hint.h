/*
 * row_hint.h
 *		Where users' score rows were seen.
 */
#ifndef REPUTATION_ROW_HINT_H
#define REPUTATION_ROW_HINT_H

#include "postgres.h"

#include "storage/buf.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

extern void row_hint_init(void);
extern uint64 row_hint_hash(Relation table, const char *key);
extern bool row_hint_get(uint64 hash, Buffer *buffer, ItemPointer tid);
extern void row_hint_set(uint64 hash, Buffer buffer, const ItemPointerData *tid);

#endif							/* REPUTATION_ROW_HINT_H */

/*
 * rank_fetch.h
 *		Reading single rows in place.
 */
#ifndef REPUTATION_RANK_FETCH_H
#define REPUTATION_RANK_FETCH_H

#include "postgres.h"

#include "access/genam.h"
#include "access/htup.h"
#include "core/ranktree.h"
#include "rank/board.h"
#include "storage/buf.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A row where it is, and the pin that keeps it there. */
typedef struct FetchedRow
{
	HeapTupleData tuple;
	Buffer		buffer;			/* invalid: there is none */
} FetchedRow;

/* A rank tree as a snapshot shows it. */
typedef struct RankReader
{
	RankStorage storage;
	int			tree;
	Snapshot	snapshot;
	Relation	table;
	Relation	index;			/* NULL: it was not needed yet */
	FetchedRow	row;			/* the node that was fetched last */
	int			top;			/* its level, while that is the row with the top; else -1 */
	uint64		top_prefix;
} RankReader;

extern bool rank_fetch_score(const Board *board, const char *key, Snapshot snapshot,
							 FetchedRow *row);
extern void rank_fetch_release(FetchedRow *row);
extern bool rank_reader_open(RankReader *reader, int tree, Snapshot snapshot);
extern void rank_reader_close(RankReader *reader);

#endif							/* REPUTATION_RANK_FETCH_H */

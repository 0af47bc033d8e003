/*
 * board_rows.c
 *		Rows of a board: leaderboard(), leaderboard_around().
 *
 * Everything is read with the calling statement's snapshot, so the list is exact and
 * agrees with the ranks that the same statement asks for. It is not read from
 * reputation.leaderboard_cache: a list in order is what the score table's index is, and
 * to read a hundred entries of it costs no more than to read a hundred rows of a cache.
 *
 * leaderboard() walks that index without the executor. It has all that is returned, so
 * a row itself is only looked at where its page is not known to be visible to all; as
 * an index-only scan does, and right for the same reasons (the index page stays pinned
 * meanwhile, and the visibility map is looked at after the entry). Where there is no
 * such index, or it is younger than the snapshot's rows, the executor sorts.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "base/compat.h"
#include "base/keyset.h"
#include "base/spi.h"
#include "base/srf.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "rank/board.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(reputation_leaderboard);
PG_FUNCTION_INFO_V1(reputation_leaderboard_around);

/* The order of a board, and its rows: part of a query; %s is a comparison. */
static char *
rows_query(const Board *board, const char *condition, bool backward)
{
	const EngineDescriptor *d = board->engine->descriptor;
	const char *column = board_column(board);

	return psprintf("SELECT user_id, %1$s::bigint, reached_at FROM reputation.%2$s WHERE %3$s%4$s "
					"ORDER BY %1$s %5$s, reached_at %6$s, user_id %6$s", column, d->score_table,
					board->source.positive ? psprintf("%s > 0 AND ", column) : "", condition, backward ? "ASC" : "DESC", backward ? "DESC" : "ASC");
}

/* Rows that are to be returned, with ranks that follow from the row before. */
typedef struct BoardRows
{
	const Board *board;
	Tuplestorestate *store;
	TupleTableSlot *slot;
	MinimalTuple tuple;			/* the row that is added */
	int64		position;		/* of the last row, from 1 */
	int64		rank;
	int64		score;
	bool		any;
} BoardRows;

/* The first row's rank: of all with its score, since the position may be among them. */
static void
first_rank(BoardRows *rows, int64 score)
{
	RankPlace	place = {0};

	if (rows->position > 1)
		place = rank_find_place(rows->board, score, rows->board->ties == TIES_DENSE);
	rows->rank = rows->board->ties == TIES_DENSE ? 1 + place.scores_above :
		rows->board->ties == TIES_RANK ? 1 + place.users_above : rows->position;
}

/* The header of a row, and a row of the longest id. */
#define ROW_HEADER	MAXALIGN(SizeofMinimalTupleHeader)
#define ROW_LENGTH	(ROW_HEADER + 3 * sizeof(int64) + MAXALIGN(VARHDRSZ + MAX_KEY_LENGTH))

static void
begin_rows(FunctionCallInfo fcinfo, BoardRows *rows, const Board *board)
{
	TupleDesc	desc;

	rows->board = board;
	rows->store = srf_begin(fcinfo, &desc);
	rows->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	rows->tuple = palloc0(ROW_LENGTH);
	rows->tuple->t_infomask = HEAP_HASVARWIDTH;
	HeapTupleHeaderSetNatts(rows->tuple, 4);
	rows->tuple->t_hoff = ROW_HEADER + MINIMAL_TUPLE_OFFSET;
}

/*
 * Has the tuple store take a row. It is what heap_form_minimal_tuple() makes of these
 * columns, which takes a fifth of the time that a list takes.
 */
static void
put_row(BoardRows *rows, struct varlena *user, TimestampTz reached)
{
	char	   *columns = (char *) rows->tuple + ROW_HEADER;
	Size		id_length = VARSIZE_ANY(user);
	Size		score_at = MAXALIGN(sizeof(int64) + id_length);

	rows->tuple->t_len = ROW_HEADER + score_at + 2 * sizeof(int64);
	if (rows->tuple->t_len > ROW_LENGTH)
		elog(ERROR, "a user id is too long");
	memcpy(columns, &rows->rank, sizeof(int64));
	memcpy(columns + sizeof(int64), user, id_length);
	memset(columns + sizeof(int64) + id_length, 0, score_at - sizeof(int64) - id_length);
	memcpy(columns + score_at, &rows->score, sizeof(int64));
	memcpy(columns + score_at + sizeof(int64), &reached, sizeof(TimestampTz));
	ExecStoreMinimalTuple(rows->tuple, rows->slot, false);
	tuplestore_puttupleslot(rows->store, rows->slot);
}

/* Adds the row that follows. */
static void
add_row(BoardRows *rows, Datum user, int64 score, Datum reached)
{
	rows->position++;
	if (!rows->any)
		first_rank(rows, score);
	else if (rows->board->ties == TIES_ROW || score != rows->score)
		rows->rank = rows->board->ties == TIES_DENSE ? rows->rank + 1 : rows->position;
	rows->any = true;
	rows->score = score;
	put_row(rows, (struct varlena *) DatumGetPointer(user), DatumGetTimestampTz(reached));
}

/* Adds a row of a query as it comes. */
static void
add_slot(TupleTableSlot *slot, void *arg)
{
	slot_getallattrs(slot);
	add_row(arg, slot->tts_values[0], DatumGetInt64(slot->tts_values[1]), slot->tts_values[2]);
}

/* Adds a row of a query's result. */
static void
add_result(BoardRows *rows, uint64 row)
{
	bool		isnull;

	add_row(rows, spi_datum(row, 1, &isnull), spi_int(row, 2, NULL), spi_datum(row, 3, &isnull));
}

/* The rows on either side of a user are held in memory: no more than this. */
#define MOST_AROUND	10000

/* An argument that must not be negative. 22023. */
static int64
count_argument(FunctionCallInfo fcinfo, int argno, const char *name)
{
	int64		count = PG_ARGISNULL(argno) ? -1 : PG_GETARG_INT64(argno);

	if (count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a number from 0 on", name)));
	return count;
}

/*
 * The board's index, to be read by the snapshot of the statement; NULL when there is none
 * that can be, since rows were changed before it was made that the snapshot shows.
 */
static Relation
open_order_index(const Board *board)
{
	Relation	index;

	if (!OidIsValid(board->order_index))
		return NULL;
	index = index_open(board->order_index, AccessShareLock);
	if (!index->rd_index->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							  TransactionXmin))
		return index;
	index_close(index, AccessShareLock);
	return NULL;
}

/* Goes on to the next entry whose row the snapshot shows; false after the last. */
static bool
next_entry(IndexScanDesc scan, TupleTableSlot *slot, Buffer *map)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		BlockNumber block = ItemPointerGetBlockNumber(tid);

		CHECK_FOR_INTERRUPTS();
		if (VM_ALL_VISIBLE(scan->heapRelation, block, map))
		{
			PredicateLockPage(scan->heapRelation, block, scan->xs_snapshot);
			return true;
		}
		if (index_fetch_heap(scan, slot))
		{
			ExecClearTuple(slot);
			return true;
		}
	}
	return false;
}

/* Adds the rows by the index. */
static void
list_by_index(BoardRows *rows, Relation index, int64 limit, int64 offset)
{
	const Board *board = rows->board;
	IndexScanDesc scan = index_begin(board->table, index, GetActiveSnapshot(), 0);
	TupleTableSlot *slot = table_slot_create(board->table, NULL);
	Buffer		map = InvalidBuffer;

	scan->xs_want_itup = true;
	index_rescan(scan, NULL, 0, NULL, 0);
	for (int64 row = 0; row - offset < limit && next_entry(scan, slot, &map); row++)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		int64		score;

		if (row < offset)
			continue;
		index_deform_tuple(scan->xs_itup, scan->xs_itupdesc, values, nulls);
		score = rank_value(values[0], board->score_type);
		if (board->source.positive && score <= 0)
			break;
		add_row(rows, values[2], score, values[1]);
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
}

/* Adds the rows by a query. */
static void
list_by_query(FunctionCallInfo fcinfo, BoardRows *rows, int64 limit, int64 offset)
{
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(limit), Int64GetDatum(offset)};
	EngineContext outside;
	SpiReader	reader;

	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	spi_read_each(psprintf("%s LIMIT $1 OFFSET $2", rows_query(rows->board, "true", false)), 2,
				  types, values, add_slot, rows);
	owner_leave(&outside);
	spi_reader_end(&reader);
}

/*
 * leaderboard(board, period, limit, offset) -- a part of a board.
 */
Datum
reputation_leaderboard(PG_FUNCTION_ARGS)
{
	Board		board;
	int64		limit = count_argument(fcinfo, 2, "limit");
	int64		offset = count_argument(fcinfo, 3, "offset");
	BoardRows	rows = {.position = offset};
	Relation	index;

	board_open(fcinfo, 0, 1, &board);
	begin_rows(fcinfo, &rows, &board);
	index = open_order_index(&board);
	if (index != NULL)
	{
		list_by_index(&rows, index, limit, offset);
		index_close(index, AccessShareLock);
	}
	else
		list_by_query(fcinfo, &rows, limit, offset);
	board_close(&board);
	return (Datum) 0;
}

/*
 * Rows of those with the user's score (same), or of those above it, or below; in the
 * order away from the user.
 */
static uint64
read_near(const Board *board, const char *key, const Standing *standing, bool same, bool above,
		  int64 limit)
{
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID, INT8OID};
	Datum		values[] = {Int64GetDatum(standing->score),
		TimestampTzGetDatum(standing->reached), CStringGetTextDatum(key),
	Int64GetDatum(limit)};
	char	   *condition = same ? board_equals(board, above ? "<" : ">") :
	psprintf("%s %s %s", board_column(board), above ? ">" : "<", board_score_argument(board));

	return spi_read(psprintf("%s LIMIT $4", rows_query(board, condition, above)), 4, types, values,
					NULL);
}

/* The rows above the user, the nearest last; returns how many. */
static uint64
read_above(const Board *board, const char *key, const Standing *standing, int64 n,
		   SPITupleTable *tables[2], uint64 counts[2])
{
	counts[0] = read_near(board, key, standing, true, true, n);
	tables[0] = SPI_tuptable;
	counts[1] = read_near(board, key, standing, false, true, n - (int64) counts[0]);
	tables[1] = SPI_tuptable;
	return counts[0] + counts[1];
}

/* Adds the rows of a result, last one first when it is of those above. */
static void
add_neighbours(BoardRows *rows, SPITupleTable *table, uint64 count, bool backward)
{
	SPI_tuptable = table;
	for (uint64 i = 0; i < count; i++)
		add_result(rows, backward ? count - 1 - i : i);
}

/*
 * leaderboard_around(uid, n, period, board) -- the n before the user, the user, and
 * the n after; none when the user is not on the board. 22023 over MOST_AROUND.
 */
Datum
reputation_leaderboard_around(PG_FUNCTION_ARGS)
{
	Board		board;
	int64		n = count_argument(fcinfo, 1, "n");
	BoardRows	rows = {0};
	EngineContext outside;
	SpiReader	reader;
	Standing	standing;
	SPITupleTable *tables[2];
	uint64		counts[2];
	uint64		above;
	char	   *key;
	Oid			type = TEXTOID;
	Datum		value;

	if (n > MOST_AROUND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"n\" must not be greater than %d", MOST_AROUND),
				 errhint("leaderboard() gives any part of a board.")));
	board_open(fcinfo, 3, 2, &board);
	begin_rows(fcinfo, &rows, &board);
	if (!rank_find_user(fcinfo, &board, false, &key, &standing))
	{
		board_close(&board);
		return (Datum) 0;
	}
	rows.position = standing.place.users_above +
		rank_count_before(fcinfo, &board, key, &standing);
	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	above = read_above(&board, key, &standing, n, tables, counts);
	rows.position -= (int64) above;
	add_neighbours(&rows, tables[1], counts[1], true);
	add_neighbours(&rows, tables[0], counts[0], true);
	value = CStringGetTextDatum(key);
	above = spi_read(rows_query(&board, "user_id = $1", false), 1, &type, &value, NULL);
	add_neighbours(&rows, SPI_tuptable, above, false);
	counts[0] = read_near(&board, key, &standing, true, false, n);
	add_neighbours(&rows, SPI_tuptable, counts[0], false);
	counts[1] = read_near(&board, key, &standing, false, false, n - (int64) counts[0]);
	add_neighbours(&rows, SPI_tuptable, counts[1], false);
	owner_leave(&outside);
	spi_reader_end(&reader);
	board_close(&board);
	return (Datum) 0;
}

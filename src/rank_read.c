/*
 * rank_read.c
 *		Boards as they are read: a user's rank, a board's rows.
 *
 * Everything is read with the calling statement's snapshot: the score row, the
 * tree, the deltas. A rank needs no executor: the user's score row by its primary
 * key, and a node for each byte of the score. What is known of a board is kept
 * until an engine or a board changes (engine_cached).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "api.h"
#include "board.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "spi.h"
#include "srf.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(reputation_calculate_user_rank);
PG_FUNCTION_INFO_V1(reputation_board_place);
PG_FUNCTION_INFO_V1(reputation_leaderboard);
PG_FUNCTION_INFO_V1(reputation_leaderboard_around);

/* Boards that were looked up. */
typedef struct KnownBoard
{
	char	   *name;
	char	   *engine;
	BoardTies	ties;
} KnownBoard;

static MemoryContext known_context = NULL;
static List *known_boards = NIL;
static uint64 known_generation = 0;

/* Where a user is on a board. */
typedef struct Standing
{
	int64		score;
	TimestampTz reached;
	RankPlace	place;
} Standing;

/* The board of that name. 22023 when there is none. */
static KnownBoard *
load_board(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	KnownBoard *board;
	MemoryContext before;

	if (spi_exec("SELECT engine, ties FROM reputation.board WHERE name = $1", 1, types, values,
				 NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no board \"%s\"", name),
				 errhint("The boards are in reputation.board; leaderboard_create() makes one.")));
	if (known_context == NULL)
		known_context = AllocSetContextCreate(CacheMemoryContext, "reputation boards",
											  ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(known_context);
	board = palloc(sizeof(KnownBoard));
	board->name = pstrdup(name);
	board->engine = spi_text(0, 1);
	board->ties = spi_text(0, 2)[0] == 'd' ? TIES_DENSE : spi_text(0, 2)[1] == 'a' ? TIES_RANK :
		TIES_ROW;
	known_boards = lappend(known_boards, board);
	MemoryContextSwitchTo(before);
	return board;
}

/* The same from what is known, if nothing changed since. */
static KnownBoard *
find_known(const char *name)
{
	ListCell   *cell;

	if (known_generation != engine_cache_generation())
	{
		known_boards = NIL;
		if (known_context != NULL)
			MemoryContextReset(known_context);
		known_generation = engine_cache_generation();
	}
	foreach(cell, known_boards)
	{
		KnownBoard *board = lfirst(cell);

		if (strcmp(board->name, name) == 0)
			return board;
	}
	return NULL;
}

/* 22023 unless the board has that period. */
static int
find_period(const EngineDescriptor *d, const char *board, const char *name)
{
	for (int i = 0; i < (d->windows ? BOARD_PERIODS : 1); i++)
	{
		if (strcmp(board_periods[i], name) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the board \"%s\" has no period \"%s\"", board, name),
			 errhint("%s", d->windows ? "The periods are all_time, weekly and daily." :
					 "It has all_time alone.")));
}

/*
 * board_find -- a period of a board by the arguments of a function. 22023 when there
 * is no such board or period, 55000 when its engine is not attached, 22004 when one
 * is null.
 */
Board
board_find(FunctionCallInfo fcinfo, int board_arg, int period_arg)
{
	Board		board;
	KnownBoard *known;

	if (PG_ARGISNULL(board_arg) || PG_ARGISNULL(period_arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("board and period must not be null")));
	board.name = text_to_cstring(PG_GETARG_TEXT_PP(board_arg));
	known = find_known(board.name);
	board.engine = known == NULL ? NULL : engine_remembered(known->engine);
	if (board.engine == NULL)
	{
		EngineContext outside;

		spi_begin();
		owner_enter(fcinfo, &outside);
		if (known == NULL)
			known = load_board(board.name);
		board.engine = engine_cached(known->engine);
		owner_leave(&outside);
		spi_end();
	}
	board.ties = known->ties;
	board.period = find_period(board.engine->descriptor, board.name,
							   text_to_cstring(PG_GETARG_TEXT_PP(period_arg)));
	board.source = rank_source(board.engine->descriptor, board.period);
	return board;
}

/*
 * board_column -- the column of the score table that the board goes by.
 */
const char *
board_column(const Board *board)
{
	return board->engine->descriptor->windows ? board_periods[board->period] : "score";
}

/* Reads the user's score row; false when there is none, or it is not on the board. */
static bool
read_score(const Board *board, const char *key, Standing *standing)
{
	Relation	table = table_open(board->source.relation, AccessShareLock);
	Relation	index = index_open(primary_key_index(table), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	IndexScanDesc scan = index_begin(table, index, GetActiveSnapshot(), 1);
	ScanKeyData scan_key;
	bool		found;
	bool		isnull;

	ScanKeyEntryInitialize(&scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(key));
	index_rescan(scan, &scan_key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
	{
		TupleDesc	desc = RelationGetDescr(table);
		Oid			type = TupleDescAttr(desc, board->source.column - 1)->atttypid;
		AttrNumber	reached = get_attnum(RelationGetRelid(table),
										 board->engine->descriptor->reached);

		standing->score = rank_value(slot_getattr(slot, board->source.column, &isnull), type);
		standing->reached = DatumGetTimestampTz(slot_getattr(slot, reached, &isnull));
		found = standing->score > 0 || !board->source.positive;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	return found;
}

/* 55000 unless the board's tree is kept. */
static void
require_tracked(const Board *board)
{
	if (!rank_is_tracked(board->source.relation))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the board \"%s\" has no ranks", board->name),
				 errdetail("The trigger rank_track of \"%s\" is missing, or does not always fire.",
						   board->engine->descriptor->score_table),
				 errhint("See reputation_status().")));
}

/* Adds a change that the nodes do not have yet to the place of a score. */
static void
add_to_place(uint64 key, const RankChange *change, const RankStorage *storage, RankPlace *place)
{
	RankPlace	there;

	place->users += change->users;
	if (change->key == key)
		place->users_same += change->users;
	if (change->key <= key)
		return;
	place->users_above += change->users;
	if (rank_find(storage, change->key, &there))
		place->scores_above += (there.users_same + change->users > 0) - (there.users_same > 0);
}

/* XX001: the tree is spoilt, or was not made yet after a restore. */
static void
cannot_read(const Board *board)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the ranks of the board \"%s\" cannot be read", board->name),
			 errdetail("The scores of \"%s\" are not all counted in reputation.rank_node.",
					   board->engine->descriptor->score_table),
			 errhint("reputation_repair() makes them anew; after a restore the first drain does.")));
}

/*
 * Where a score that somebody has is on the board. XX001 when the tree cannot be
 * read, or does not know the score.
 */
static RankPlace
find_place(const Board *board, int64 score)
{
	RankNodes  *nodes = rank_nodes_open(board->source.tree, GetActiveSnapshot(), false);
	uint64		key = rank_key(score);
	RankPlace	place;
	RankChange *pending;
	size_t		npending;

	if (nodes == NULL || !rank_find(rank_nodes_storage(nodes), key, &place))
		cannot_read(board);
	npending = rank_pending(board->source.tree, GetActiveSnapshot(), &pending);
	for (size_t i = 0; i < npending; i++)
		add_to_place(key, &pending[i], rank_nodes_storage(nodes), &place);
	rank_nodes_close(nodes);
	if (place.users_same < 1)
		cannot_read(board);
	return place;
}

/* P0002 unless there is such a user. */
static void
require_user(FunctionCallInfo fcinfo, const Board *board, const char *key)
{
	const Engine *engine = board->engine;
	EngineContext outside;
	Oid			type = engine->key_type;
	Datum		id = engine_key_datum(engine, key);

	spi_begin();
	owner_enter(fcinfo, &outside);
	if (engine_read(engine, psprintf("SELECT 1 FROM %s WHERE %s = $1", engine->users_name,
									 engine->users_key), 1, &type, &id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("there is no user \"%s\" in %s", key, engine->users_name)));
	owner_leave(&outside);
	spi_end();
}

/* How many with the same score reached it earlier, or have a smaller id. */
static int64
count_before(FunctionCallInfo fcinfo, const Board *board, const char *key,
			 const Standing *standing)
{
	EngineContext outside;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(standing->score),
	TimestampTzGetDatum(standing->reached), CStringGetTextDatum(key)};
	int64		before;

	spi_begin();
	owner_enter(fcinfo, &outside);
	spi_read(psprintf("SELECT count(*) FROM reputation.%1$s WHERE %2$s = $1%4$s "
					  "AND (%3$s, user_id) < ($2, $3 COLLATE \"C\")",
					  board->engine->descriptor->score_table, board_column(board),
					  board->engine->descriptor->reached,
					  board->engine->descriptor->windows ? "" : "::int"), 3, types, values, NULL);
	before = spi_int(0, 1, NULL);
	owner_leave(&outside);
	spi_end();
	return before;
}

/* The user of the first argument and where it is; false when it is not on the board. */
static bool
find_user(FunctionCallInfo fcinfo, const Board *board, char **key, Standing *standing)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the user id must not be null")));
	*key = engine_key_from_argument(fcinfo, 0, board->engine);
	if (!read_score(board, *key, standing))
	{
		require_user(fcinfo, board, *key);
		return false;
	}
	require_tracked(board);
	standing->place = find_place(board, standing->score);
	return true;
}

static int64
rank_of(FunctionCallInfo fcinfo, const Board *board, const char *key, const Standing *standing)
{
	switch (board->ties)
	{
		case TIES_DENSE:
			return 1 + standing->place.scores_above;
		case TIES_ROW:
			return 1 + standing->place.users_above + count_before(fcinfo, board, key, standing);
		default:
			return 1 + standing->place.users_above;
	}
}

/*
 * calculate_user_rank(uid, period, board) -- the user's rank; null when the user is
 * not on the board.
 */
Datum
reputation_calculate_user_rank(PG_FUNCTION_ARGS)
{
	Board		board = board_find(fcinfo, 2, 1);
	Standing	standing;
	char	   *key;

	if (!find_user(fcinfo, &board, &key, &standing))
		PG_RETURN_NULL();
	PG_RETURN_INT64(rank_of(fcinfo, &board, key, &standing));
}

/*
 * reputation.board_place(uid, period, board) -- where a user is: score, rank, and how
 * many are above, have the same score, and are on the board; null when it is not.
 */
Datum
reputation_board_place(PG_FUNCTION_ARGS)
{
	Board		board = board_find(fcinfo, 2, 1);
	Standing	standing;
	char	   *key;
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false};

	if (!find_user(fcinfo, &board, &key, &standing))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(standing.score);
	values[1] = Int64GetDatum(rank_of(fcinfo, &board, key, &standing));
	values[2] = Int64GetDatum(standing.place.users_above);
	values[3] = Int64GetDatum(standing.place.users_same);
	values[4] = Int64GetDatum(standing.place.users);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* The order of a board, and its rows: part of a query; %s is a comparison. */
static char *
rows_query(const Board *board, const char *condition, bool backward)
{
	const EngineDescriptor *d = board->engine->descriptor;
	const char *column = board_column(board);

	return psprintf("SELECT user_id, %1$s::bigint, %2$s FROM reputation.%3$s WHERE %4$s%5$s "
					"ORDER BY %1$s %6$s, %2$s %7$s, user_id %7$s", column, d->reached,
					d->score_table, board->source.positive ? psprintf("%s > 0 AND ", column) : "",
					condition, backward ? "ASC" : "DESC", backward ? "DESC" : "ASC");
}

/* Rows that are to be returned, with ranks that follow from the row before. */
typedef struct BoardRows
{
	const Board *board;
	Tuplestorestate *store;
	TupleDesc	desc;
	int64		position;		/* of the last row, from 1 */
	int64		rank;
	int64		score;
	bool		any;
} BoardRows;

/* The first row's rank: of all with its score, since the position may be among them. */
static void
first_rank(BoardRows *rows, int64 score)
{
	RankPlace	place = find_place(rows->board, score);

	rows->rank = rows->board->ties == TIES_DENSE ? 1 + place.scores_above :
		rows->board->ties == TIES_RANK ? 1 + place.users_above : rows->position;
}

/* Adds the row of a query's result that follows. */
static void
add_row(BoardRows *rows, uint64 row)
{
	bool		isnull;
	int64		score = spi_int(row, 2, NULL);
	Datum		values[4];
	bool		nulls[4] = {false};

	rows->position++;
	if (!rows->any)
		first_rank(rows, score);
	else if (rows->board->ties == TIES_ROW || score != rows->score)
		rows->rank = rows->board->ties == TIES_DENSE ? rows->rank + 1 : rows->position;
	rows->any = true;
	rows->score = score;
	values[0] = Int64GetDatum(rows->rank);
	values[1] = spi_datum(row, 1, &isnull);
	values[2] = Int64GetDatum(score);
	values[3] = spi_datum(row, 3, &isnull);
	tuplestore_putvalues(rows->store, rows->desc, values, nulls);
}

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
 * leaderboard(board, period, limit, offset) -- a part of a board.
 */
Datum
reputation_leaderboard(PG_FUNCTION_ARGS)
{
	Board		board = board_find(fcinfo, 0, 1);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(count_argument(fcinfo, 2, "limit")),
	Int64GetDatum(count_argument(fcinfo, 3, "offset"))};
	BoardRows	rows = {&board, NULL, NULL, PG_GETARG_INT64(3)};
	EngineContext outside;
	uint64		count;

	require_tracked(&board);
	rows.store = srf_begin(fcinfo, &rows.desc);
	spi_begin();
	owner_enter(fcinfo, &outside);
	count = spi_read(psprintf("%s LIMIT $1 OFFSET $2", rows_query(&board, "true", false)), 2,
					 types, values, NULL);
	for (uint64 row = 0; row < count; row++)
		add_row(&rows, row);
	owner_leave(&outside);
	spi_end();
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
	const char *sign = above ? "<" : ">";
	const char *column = board_column(board);
	const char *type = board->engine->descriptor->windows ? "" : "::int";
	char	   *condition = same ?
	psprintf("%s = $1%s AND (%s, user_id) %s ($2, $3 COLLATE \"C\")", column, type,
			 board->engine->descriptor->reached, sign) :
	psprintf("%s %s $1%s", column, above ? ">" : "<", type);

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
add_rows(BoardRows *rows, SPITupleTable *table, uint64 count, bool backward)
{
	SPI_tuptable = table;
	for (uint64 i = 0; i < count; i++)
		add_row(rows, backward ? count - 1 - i : i);
}

/*
 * leaderboard_around(uid, n, period, board) -- the n before the user, the user, and
 * the n after; none when the user is not on the board.
 */
Datum
reputation_leaderboard_around(PG_FUNCTION_ARGS)
{
	Board		board = board_find(fcinfo, 3, 2);
	int64		n = count_argument(fcinfo, 1, "n");
	BoardRows	rows = {.board = &board};
	EngineContext outside;
	Standing	standing;
	SPITupleTable *tables[2];
	uint64		counts[2];
	uint64		above;
	char	   *key;
	Oid			type = TEXTOID;
	Datum		value;

	rows.store = srf_begin(fcinfo, &rows.desc);
	if (!find_user(fcinfo, &board, &key, &standing))
		return (Datum) 0;
	rows.position = standing.place.users_above + count_before(fcinfo, &board, key, &standing);
	spi_begin();
	owner_enter(fcinfo, &outside);
	above = read_above(&board, key, &standing, n, tables, counts);
	rows.position -= (int64) above;
	add_rows(&rows, tables[1], counts[1], true);
	add_rows(&rows, tables[0], counts[0], true);
	value = CStringGetTextDatum(key);
	above = spi_read(rows_query(&board, "user_id = $1", false), 1, &type, &value, NULL);
	add_rows(&rows, SPI_tuptable, above, false);
	counts[0] = read_near(&board, key, &standing, true, false, n);
	add_rows(&rows, SPI_tuptable, counts[0], false);
	counts[1] = read_near(&board, key, &standing, false, false, n - (int64) counts[0]);
	add_rows(&rows, SPI_tuptable, counts[1], false);
	owner_leave(&outside);
	spi_end();
	return (Datum) 0;
}

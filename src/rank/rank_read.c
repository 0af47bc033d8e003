/*
 * rank_read.c
 *		A user's rank.
 *
 * Everything is read with the calling statement's snapshot: the score row, the
 * tree, the deltas. So a rank is of one moment in every isolation level, on a standby
 * and without the preload. It needs no executor: the user's score row by its primary
 * key, and a node for each byte of the score (rank_fetch.c). What is known of a board
 * is kept (board_lookup.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "rank/board.h"
#include "rank/rank_fetch.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(reputation_calculate_user_rank);
PG_FUNCTION_INFO_V1(reputation_board_place);

/* Reads the user's score row; false when there is none, or it is not on the board. */
static bool
read_score(const Board *board, const char *key, Standing *standing)
{
	TupleDesc	desc = RelationGetDescr(board->table);
	FetchedRow	row;
	bool		found;
	bool		isnull;

	found = rank_fetch_score(board, key, GetActiveSnapshot(), &row);
	if (found)
	{
		standing->score = rank_value(heap_getattr(&row.tuple, board->source.column, desc, &isnull),
									 board->score_type);
		standing->reached = DatumGetTimestampTz(heap_getattr(&row.tuple, board->reached, desc,
															 &isnull));
		found = standing->score > 0 || !board->source.positive;
		rank_fetch_release(&row);
	}
	return found;
}

/* Adds a change that the nodes do not have yet to the place of a score. */
static void
add_to_place(uint64 key, const RankChange *change, const RankStorage *storage, bool all,
			 RankPlace *place)
{
	RankPlace	there;

	place->users += change->users;
	if (change->key == key)
		place->users_same += change->users;
	if (change->key <= key)
		return;
	place->users_above += change->users;
	if (all && rank_find(storage, change->key, false, &there))
		place->scores_above += (there.users_same + change->users > 0) - (there.users_same > 0);
}

/* Does the snapshot show a node of the tree? */
static bool
shows_tree(int tree, Snapshot snapshot)
{
	RankReader	reader;
	uint64		prefix;
	bool		found;

	if (!rank_reader_open(&reader, tree, snapshot))
		return false;
	found = reader.storage.top(reader.storage.arg, &prefix) >= 0;
	rank_reader_close(&reader);
	return found;
}

/*
 * XX001: the tree is spoilt, or was not made yet after a restore. 40001: it was made, but
 * after the snapshot was taken, which shows the scores without it.
 */
static void
cannot_read(const Board *board)
{
	int			tree = board->source.tree;

	if (!shows_tree(tree, GetActiveSnapshot()) && shows_tree(tree, GetLatestSnapshot()))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the ranks of the board \"%s\" were made after this query began",
						board->name),
				 errdetail("The query's snapshot is older than they are."),
				 errhint("Run the transaction again.")));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the ranks of the board \"%s\" cannot be read", board->name),
			 errdetail("The scores of \"%s\" are not all counted in reputation.rank_node.",
					   board->engine->descriptor->score_table),
			 errhint("reputation_repair() makes them anew; after a restore the first drain does.")));
}

/*
 * rank_find_place -- where a score that somebody has is on the board; all of it, or
 * how many are above. XX001 when the tree does not know it, or cannot be read; 40001 when the
 * snapshot is older than the tree.
 */
RankPlace
rank_find_place(const Board *board, int64 score, bool all)
{
	Snapshot	snapshot = GetActiveSnapshot();
	uint64		key = rank_key(score);
	RankReader	reader;
	RankPlace	place;
	RankChange *pending;
	size_t		npending;

	if (!rank_reader_open(&reader, board->source.tree, snapshot) ||
		!rank_find(&reader.storage, key, all, &place))
		cannot_read(board);
	npending = rank_pending(board->source.tree, snapshot, &pending);
	for (size_t i = 0; i < npending; i++)
		add_to_place(key, &pending[i], &reader.storage, all, &place);
	rank_reader_close(&reader);
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
	SpiReader	reader;
	Oid			type = engine->key_type;
	Datum		id = engine_key_datum(engine, key);

	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	if (engine_read(engine, psprintf("SELECT 1 FROM %s WHERE %s = $1", engine->users_name,
									 engine->users_key), 1, &type, &id) == 0)
		engine_unknown_user(engine, key);
	owner_leave(&outside);
	spi_reader_end(&reader);
}

/*
 * rank_count_before -- how many with the same score reached it earlier, or have a
 * smaller id.
 */
int64
rank_count_before(FunctionCallInfo fcinfo, const Board *board, const char *key,
				  const Standing *standing)
{
	EngineContext outside;
	SpiReader	reader;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(standing->score),
	TimestampTzGetDatum(standing->reached), CStringGetTextDatum(key)};
	int64		before;

	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	spi_read(psprintf("SELECT count(*) FROM reputation.%s WHERE %s",
					  board->engine->descriptor->score_table, board_equals(board, "<")), 3, types,
			 values, NULL);
	before = spi_int(0, 1, NULL);
	owner_leave(&outside);
	spi_reader_end(&reader);
	return before;
}

/*
 * rank_find_user -- the user of the first argument and where it is, all of that or how
 * many are above; false when it is not on the board. 22004, 22P02, P0002.
 */
bool
rank_find_user(FunctionCallInfo fcinfo, const Board *board, bool all, char **key,
			   Standing *standing)
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
	standing->place = rank_find_place(board, standing->score, all);
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
			return 1 + standing->place.users_above + rank_count_before(fcinfo, board, key, standing);
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
	Board		board;
	Standing	standing;
	char	   *key;
	bool		listed;
	int64		rank = 0;

	board_open(fcinfo, 2, 1, &board);
	listed = rank_find_user(fcinfo, &board, board.ties == TIES_DENSE, &key, &standing);
	if (listed)
		rank = rank_of(fcinfo, &board, key, &standing);
	board_close(&board);
	if (!listed)
		PG_RETURN_NULL();
	PG_RETURN_INT64(rank);
}

/*
 * reputation.board_place(uid, period, board) -- where a user is: score, rank, and how
 * many are above, have the same score, and are on the board; null when it is not.
 */
Datum
reputation_board_place(PG_FUNCTION_ARGS)
{
	Board		board;
	Standing	standing;
	char	   *key;
	bool		listed;
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false};

	board_open(fcinfo, 2, 1, &board);
	listed = rank_find_user(fcinfo, &board, true, &key, &standing);
	if (listed)
		values[1] = Int64GetDatum(rank_of(fcinfo, &board, key, &standing));
	board_close(&board);
	if (!listed)
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(standing.score);
	values[2] = Int64GetDatum(standing.place.users_above);
	values[3] = Int64GetDatum(standing.place.users_same);
	values[4] = Int64GetDatum(standing.place.users);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

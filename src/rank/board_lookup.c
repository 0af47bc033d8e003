/*
 * board_lookup.c
 *		A board by the arguments of a function.
 *
 * Reads are short, so what they need to know of a board is kept: its row until an
 * engine or a board changes (engine_cached), of the score table what relations.c
 * says. The table is opened by what is kept, and if something has changed when it is
 * locked, or it is gone, all is looked up again; once it is locked nobody changes its
 * columns or takes an index away.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "base/compat.h"
#include "base/relations.h"
#include "base/spi.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/nodes.h"
#include "rank/board.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Boards that were looked up. */
typedef struct KnownBoard
{
	char	   *name;
	size_t		name_length;
	char	   *engine;
	uint64		changes[BOARD_PERIODS]; /* of relations, when it was looked up; 0: it was not */
	Board		periods[BOARD_PERIODS];
} KnownBoard;

static MemoryContext known_context = NULL;
static List *known_boards = NIL;
static uint64 known_generation = 0;

static void
no_such_board(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no board \"%s\"", name),
			 errhint("The boards are in reputation.board; leaderboard_create() makes one.")));
}

/* The board of that name, from its row. 22023 when there is none. */
static KnownBoard *
load_board(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	KnownBoard *known;
	Board		board = {.ties = TIES_ROW};
	MemoryContext before;

	if (spi_exec("SELECT engine, ties FROM reputation.board WHERE name = $1", 1, types, values,
				 NULL) == 0)
		no_such_board(name);
	if (known_context == NULL)
		known_context = AllocSetContextCreate(CacheMemoryContext, "reputation boards",
											  ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(known_context);
	known = palloc0(sizeof(KnownBoard));
	known->name = pstrdup(name);
	known->name_length = strlen(name);
	known->engine = spi_text(0, 1);
	strlcpy(board.name, name, sizeof(board.name));
	if (strcmp(spi_text(0, 2), "row") != 0)
		board.ties = strcmp(spi_text(0, 2), "rank") == 0 ? TIES_RANK : TIES_DENSE;
	for (board.period = 0; board.period < BOARD_PERIODS; board.period++)
		known->periods[board.period] = board;
	known_boards = lappend(known_boards, known);
	MemoryContextSwitchTo(before);
	return known;
}

static bool
text_is(const text * value, const char *string, size_t length)
{
	return VARSIZE_ANY_EXHDR(value) == length && memcmp(VARDATA_ANY(value), string, length) == 0;
}

/* The board of that name from what is known, if nothing changed since. */
static KnownBoard *
find_known(const text * name)
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
		KnownBoard *known = lfirst(cell);

		if (text_is(name, known->name, known->name_length))
			return known;
	}
	return NULL;
}

/* The board of that name and its engine. 22023 when there is no such board, 55000 without one. */
static KnownBoard *
find_board(FunctionCallInfo fcinfo, text * name, const Engine **engine)
{
	KnownBoard *known = find_known(name);
	EngineContext outside;
	SpiReader	reader;

	*engine = known == NULL ? NULL : engine_remembered(known->engine);
	if (*engine != NULL)
		return known;
	spi_reader_begin(&reader);
	owner_enter(fcinfo, &outside);
	if (known == NULL)
		known = load_board(text_to_cstring(name));
	*engine = engine_cached(known->engine);
	owner_leave(&outside);
	spi_reader_end(&reader);
	return known;
}

/* 22023 unless the board has that period. */
static int
find_period(const EngineDescriptor *d, const char *board, const text * name)
{
	for (int i = 0; i < engine_periods(d); i++)
	{
		if (text_is(name, board_periods[i], strlen(board_periods[i])))
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the board \"%s\" has no period \"%s\"", board, text_to_cstring(name)),
			 errhint("%s", d->class->windows ? "The periods are all_time, weekly and daily." :
					 "It has all_time alone.")));
}

/* Has the index all rows of the board, and if there are others, after these? */
static bool
has_members(Relation index, const Board *board)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	Datum		condition;

	if (predicate == NIL)
		return true;
	if (!board->source.positive || list_length(predicate) != 1)
		return false;
	condition = DirectFunctionCall2(pg_get_expr,
									CStringGetTextDatum(nodeToString(linitial(predicate))),
									ObjectIdGetDatum(board->source.relation));
	return strcmp(TextDatumGetCString(condition), psprintf("(%s > 0)", board_column(board))) == 0;
}

/* Is the index in the board's order: (score DESC, reached, user_id)? */
static bool
is_in_order(Relation index, const Board *board)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
		form->indnkeyatts == 3 && form->indkey.values[0] == board->source.column &&
		form->indkey.values[1] == board->reached && form->indkey.values[2] == board->user &&
		index->rd_indoption[0] == (INDOPTION_DESC | INDOPTION_NULLS_FIRST) &&
		index->rd_indoption[1] == 0 && index->rd_indoption[2] == 0 &&
		index->rd_indcollation[2] == C_COLLATION_OID && has_members(index, board);
}

static Oid
find_order_index(Relation table, const Board *board)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		found = is_in_order(index, board);

		index_close(index, AccessShareLock);
		if (found)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* Looks up the score table and what is wanted of it. */
static void
look_up(Board *board)
{
	Relation	table;

	board->source = rank_source(board->engine->descriptor, board->period);
	board->tracked = false;
	if (!OidIsValid(board->source.relation))
		return;
	table = try_relation_open(board->source.relation, AccessShareLock);
	if (table == NULL)
	{
		board->source.relation = InvalidOid;
		return;
	}
	board->tracked = rank_is_tracked(board->source.relation);
	board->score_type = TupleDescAttr(RelationGetDescr(table),
									  board->source.column - 1)->atttypid;
	board->user = get_attnum(board->source.relation, "user_id");
	board->reached = get_attnum(board->source.relation, "reached_at");
	board->key_index = primary_key_index(table);
	board->order_index = find_order_index(table, board);
	table_close(table, AccessShareLock);
}

/* 55000 unless the board's tree is kept; 22023 when it went after the snapshot was taken. */
static void
require_tracked(const Board *board)
{
	if (!OidIsValid(board->source.relation))
		no_such_board(board->name);
	if (!board->tracked)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the board \"%s\" has no ranks", board->name),
				 errdetail("The trigger rank_track of \"%s\" is missing, or does not always fire.",
						   board->engine->descriptor->score_table),
				 errhint("See reputation_status().")));
}

/*
 * board_open -- a period of a board by the arguments of a function, with the score
 * table locked. 22023 when there is no such board or period, 55000 when its engine is
 * not attached or the tree is not kept, 22004 when one is null.
 */
void
board_open(FunctionCallInfo fcinfo, int board_arg, int period_arg, Board *board)
{
	const Engine *engine;
	KnownBoard *known;
	int			period;
	uint64		changes;

	if (PG_ARGISNULL(board_arg) || PG_ARGISNULL(period_arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("board and period must not be null")));
	for (;;)
	{
		known = find_board(fcinfo, PG_GETARG_TEXT_PP(board_arg), &engine);
		period = find_period(engine->descriptor, known->name, PG_GETARG_TEXT_PP(period_arg));
		*board = known->periods[period];
		board->engine = engine;
		changes = relation_changes();
		if (known->changes[period] != changes)
		{
			look_up(board);
			known->periods[period] = *board;
			known->changes[period] = changes;
		}
		if (changes == relation_changes())
		{
			require_tracked(board);
			board->table = try_relation_open(board->source.relation, AccessShareLock);
			if (changes == relation_changes() && board->table != NULL)
				return;
			if (board->table != NULL)
				board_close(board);
		}
	}
}

/*
 * board_close -- the end of it.
 */
void
board_close(Board *board)
{
	table_close(board->table, AccessShareLock);
	board->table = NULL;
}

/*
 * board_equals -- a condition: who has the score $1 and comes before the time $2 and the
 * key $3 (sign <), or after (>).
 */
char *
board_equals(const Board *board, const char *sign)
{
	return psprintf("%s = %s AND (reached_at, user_id) %s ($2, $3 COLLATE \"C\")",
					board_column(board), board_score_argument(board), sign);
}

/*
 * board_score_argument -- $1, a bigint, in the type of the board's column.
 */
const char *
board_score_argument(const Board *board)
{
	return board->engine->descriptor->class->windows ? "$1" : "$1::int";
}

/*
 * board_column -- the column of the score table that the board goes by.
 */
const char *
board_column(const Board *board)
{
	return engine_period_column(board->engine->descriptor, board->period);
}

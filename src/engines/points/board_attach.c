/*
 * board_attach.c
 *		Making and dropping leaderboards.
 *
 * A board over an application's table is an engine of its own (board_engine.c), and goes
 * with it.
 */
#include "postgres.h"

#include "api/api.h"
#include "attach/attach.h"
#include "base/args.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engines/points/board_engine.h"
#include "engines/points/points_engine.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(reputation_leaderboard_create);
PG_FUNCTION_INFO_V1(reputation_leaderboard_drop);

/* An argument that was given and is for a board over a table; NULL when there is none. */
static const char *
table_argument(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(5))
		return "zone";
	if (!PG_ARGISNULL(6))
		return "rank_column";
	if (strcmp(args_required_text(fcinfo, 3, "users"), "users") != 0)
		return "users";
	if (!PG_ARGISNULL(2) && JB_ROOT_COUNT(PG_GETARG_JSONB_P(2)) > 0)
		return "columns";
	if (strcmp(args_required_text(fcinfo, 7, "fire"), "origin") != 0)
		return "fire";
	return NULL;
}

/* Registers a board, with the extension owner's rights; its engine's id. */
static int
register_board(FunctionCallInfo fcinfo)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	char	   *zone = args_text(fcinfo, 5);
	const char *of_table = table_argument(fcinfo);
	Datum		values[] = {CStringGetTextDatum(args_required_text(fcinfo, 0, "name")),
		CStringGetTextDatum(args_required_text(fcinfo, 1, "source")),
		CStringGetTextDatum(args_required_text(fcinfo, 4, "ties")),
		zone ? CStringGetTextDatum(zone) : (Datum) 0,
	of_table ? CStringGetTextDatum(of_table) : (Datum) 0};
	const char	nulls[] = {' ', ' ', ' ', zone ? ' ' : 'n', of_table ? ' ' : 'n'};
	EngineContext caller;
	int			id;

	spi_begin();
	owner_enter(fcinfo, &caller);
	spi_exec("SELECT reputation.board_register($1, $2, $3, $4, $5)", 5, types, values, nulls);
	id = (int) spi_int(0, 1, NULL);
	engine_forget_cached();
	owner_leave(&caller);
	spi_end();
	return id;
}

/*
 * leaderboard_create(name, source, columns, users, ties, zone, rank_column, fire) --
 * see sql/34-boards.sql.
 */
Datum
reputation_leaderboard_create(PG_FUNCTION_ARGS)
{
	args_require_read_committed("leaderboard_create");
	if (register_board(fcinfo) == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(points_attach_source(fcinfo, attach_engine(fcinfo, 0, board_class), false,
										 args_required_text(fcinfo, 3, "users"),
										 args_required_text(fcinfo, 1, "source"),
										 PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
										 args_text(fcinfo, 6), args_required_text(fcinfo, 7, "fire")));
}

/* Is the board the one that its engine was made for? 22023 when there is no such board. */
static bool
has_own_engine(FunctionCallInfo fcinfo, const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	EngineContext caller;
	bool		own;

	spi_begin();
	owner_enter(fcinfo, &caller);
	spi_exec("SELECT reputation.board_may_go($1)", 1, types, values, NULL);
	own = spi_int(0, 1, NULL) != 0;
	owner_leave(&caller);
	spi_end();
	return own;
}

/*
 * leaderboard_drop(name) -- removes a board; of one over a table the engine, too.
 */
Datum
reputation_leaderboard_drop(PG_FUNCTION_ARGS)
{
	char	   *name = args_required_text(fcinfo, 0, "name");
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	EngineContext caller;

	if (has_own_engine(fcinfo, name))
		attach_remove(fcinfo, attach_engine_named(fcinfo, 0, board_class));
	spi_begin();
	owner_enter(fcinfo, &caller);
	spi_exec("SELECT reputation.board_unregister($1)", 1, types, values, NULL);
	engine_forget_cached();
	owner_leave(&caller);
	spi_end();
	PG_RETURN_VOID();
}

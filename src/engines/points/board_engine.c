/*
 * board_engine.c
 *		The class of the engines that are boards over an application's table.
 *
 * Such an engine computes as the points engine does, from another source, and keeps
 * nothing. It bears the name of its board.
 */
#include "postgres.h"

#include "engines/points/board_engine.h"
#include "engines/points/points_engine.h"

static const EngineOutput outputs[] = {
	{.table = "board_scores", .pattern = "points_scores", .key = "user_id", .rows = ROWS_ONE,
	.origin = OUTPUT_COMPUTED, .shown = "min(s.score)"}
};

/* Made of the points' class while the library is loaded. */
static EngineClass made;

const EngineClass *const board_class = &made;

/*
 * board_engine_init -- called when the library is loaded.
 */
void
board_engine_init(void)
{
	made = points_class;
	made.name = "board";
	made.signals_view = "board_signals";
	made.outputs = outputs;
	made.noutputs = lengthof(outputs);
	made.attach_function = "leaderboard_create";
	engine_register(board_class);
}

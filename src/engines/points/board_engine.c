/*
 * board_engine.c
 *		Engines that are made at run time: boards over an application's table.
 *
 * Such an engine is the points engine with a name, a view and a score table of
 * its own. Its description is made from its id and name when it is needed, and
 * kept for the life of the backend: nothing in it changes.
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "engines/points/board_engine.h"
#include "engines/points/points_engine.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static List *made = NIL;

/*
 * board_descriptor -- the description of the engine of that id and name.
 */
const EngineDescriptor *
board_descriptor(int id, const char *name)
{
	MemoryContext before;
	EngineDescriptor *descriptor;
	ListCell   *cell;

	foreach(cell, made)
	{
		descriptor = lfirst(cell);
		if (descriptor->id == id && strcmp(descriptor->name, name) == 0)
			return descriptor;
	}
	before = MemoryContextSwitchTo(TopMemoryContext);
	descriptor = palloc(sizeof(EngineDescriptor));
	*descriptor = points_engine;
	descriptor->id = id;
	descriptor->name = pstrdup(name);
	descriptor->signals_view = psprintf("board_%s_signals", name);
	descriptor->score_table = psprintf("board_%s_scores", name);
	descriptor->attach_function = "leaderboard_create";
	made = lappend(made, descriptor);
	MemoryContextSwitchTo(before);
	return descriptor;
}

/* The same by its name alone; NULL when there is none. */
static const EngineDescriptor *
board_descriptor_named(const char *name)
{
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(FIRST_BOARD_ENGINE)};
	const EngineDescriptor *descriptor = NULL;

	spi_begin();
	if (spi_exec("SELECT engine_id FROM reputation.board WHERE name = $1 AND engine = $1 AND engine_id >= $2", 2, types,
				 values, NULL) > 0)
		descriptor = board_descriptor((int) spi_int(0, 1, NULL), name);
	spi_end();
	return descriptor;
}

/*
 * board_engine_init -- called when the library is loaded.
 */
void
board_engine_init(void)
{
	static const EngineFamily family = {&points_engine, board_descriptor, board_descriptor_named};

	engine_register_family(&family);
}

/*
 * home.c
 *		Where a database is: what comes out of a dump or a copy is recomputed.
 *
 * A dump carries no pending work, and no triggers on the extension's own tables. So
 * reputation.engine.home says in which database an engine was attached; in another one
 * whoever drains first makes what is missing and has everybody computed. While the
 * restore is on the engines are left alone: whoever computed them would pay what is still
 * to be loaded.
 */
#include "postgres.h"

#include "attach/attach_steps.h"
#include "attach/home.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "work/drain.h"

/*
 * Has this database come out of a dump or a copy, and is all of it there? The triggers
 * on the application's tables come last; but of a parallel restore, where one comes
 * as soon as its own table is loaded. So what the registry has must fit together, each
 * of its tables being loaded in one transaction, and no pg_restore be connected.
 */
static bool
is_restored(void)
{
	return spi_exec("SELECT 1 FROM reputation.source_findings() WHERE missing "
					"UNION ALL SELECT 1 FROM reputation.engine e WHERE NOT EXISTS "
					"(SELECT FROM reputation.capture c WHERE c.engine = e.id) OR NOT EXISTS "
					"(SELECT FROM reputation.capture_key k WHERE k.engine = e.id) "
					"UNION ALL SELECT 1 FROM reputation.capture_key k WHERE NOT EXISTS "
					"(SELECT FROM reputation.source s JOIN reputation.source_key n "
					"ON n.source = s.id WHERE s.id = k.source AND n.key_no = k.key_no) "
					"UNION ALL SELECT 1 FROM pg_catalog.pg_stat_activity "
					"WHERE datname = pg_catalog.current_database() "
					"AND application_name = 'pg_restore'", 0, NULL, NULL, NULL) == 0;
}

/*
 * home_engines -- the engines that were attached in this database. What belongs to
 * another may be loaded or not: whoever computed it would pay what is in the dump.
 */
List *
home_engines(List *engines)
{
	char	   *home = TextDatumGetCString(DirectFunctionCall1(reputation_home, (Datum) 0));
	List	   *at_home = NIL;
	ListCell   *cell;

	foreach(cell, engines)
	{
		if (strcmp(((Engine *) lfirst(cell))->home, home) == 0)
			at_home = lappend(at_home, lfirst(cell));
	}
	return at_home;
}

/* Makes this database an engine's home and starts a sweep, unless somebody has. */
static void
move_home(const Engine *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name)};

	if (spi_exec("UPDATE reputation.engine SET home = reputation.home() "
				 "WHERE name = $1 AND home <> reputation.home()", 1, types, values, NULL) == 0)
		return;
	spi_exec("UPDATE reputation.job_runs SET status = 'cancelled', "
			 "finished_at = reputation.clock(), error = 'the database was copied' "
			 "WHERE status = 'running' AND scope = $1", 1, types, values, NULL);
	sweep_start(engine, "recompute", "resync");
}

/*
 * home_move -- starts a sweep of every engine whose database is not
 * the one it was attached in: a dump carries no pending work. While a restore
 * is on it waits for the triggers, which come last; one that is there but
 * disabled was so in the dump. Gives the engines that can be worked on: those at home,
 * or all.
 */
List *
home_move(List *engines)
{
	List	   *at_home = home_engines(engines);
	ListCell   *cell;

	if (list_length(at_home) == list_length(engines) || !is_restored() || !triggers_restore_own())
		return at_home;

	spi_exec("SELECT reputation.board_restore()", 0, NULL, NULL, NULL);
	triggers_number_columns();
	foreach(cell, engines)
		move_home(lfirst(cell));
	/* A trigger that fired during the restore may have found no engine (follow.c). */
	engine_forget_cached();
	return engines;
}

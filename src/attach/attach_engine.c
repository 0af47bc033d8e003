/*
 * attach_engine.c
 *		The engines there are: made when one of a new name is attached.
 *
 * The engine that bears its class's name has the tables that the extension's script made.
 * Any other gets tables like those, called after it. They are ordinary tables, so that a
 * dump has them; with their grants and triggers (reputation.table_like()).
 *
 * Whoever makes, attaches or drops an engine holds REGISTRY.
 */
#include "postgres.h"

#include "attach/attach_steps.h"
#include "base/args.h"
#include "base/locks.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(reputation_engine_make);
PG_FUNCTION_INFO_V1(reputation_engine_table);
PG_FUNCTION_INFO_V1(reputation_drop);

/*
 * Makes a new engine's tables. Those of one that bears its class's name the script has made
 * that has the class. 42P07 when one of another engine's bears the name.
 */
static void
make_tables(const EngineDescriptor *engine)
{
	if (engine_bears_class(engine))
		return;
	for (int i = 0; i < engine->class->noutputs; i++)
	{
		const EngineOutput *output = &engine->class->outputs[i];
		Oid			types[] = {TEXTOID, TEXTOID};
		Datum		values[2];

		if (engine->tables[i] == NULL)
			continue;
		values[0] = CStringGetTextDatum(output->pattern != NULL ? output->pattern : output->table);
		values[1] = CStringGetTextDatum(engine->tables[i]);
		spi_exec("SELECT reputation.table_like($1, $2)", 2, types, values, NULL);
	}
}

/* Makes an engine, with the extension owner's rights. 22023 bad name; 54000 too many. */
static const EngineDescriptor *
make_engine(const char *name, const EngineClass *class)
{
	Oid			types[] = {TEXTOID, TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(class->name),
	Int32GetDatum(MAX_ENGINE_ID)};
	const EngineDescriptor *engine;

	(void) lock_registry(true, true);
	spi_exec("SELECT reputation.engine_register($1, $2, $3)", 3, types, values, NULL);
	engine = engine_of_class(name, class);
	make_tables(engine);
	return engine;
}

/* Is there an engine of that name, of whatever class? */
static bool
engine_exists(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	return spi_exec("SELECT 1 FROM reputation.instance WHERE name = $1", 1, types, values, NULL) > 0;
}

/*
 * attach_engine -- the engine that is to be attached, by an argument with its name; made
 * when there is none of that name, and locked. 22023 when it is of another class, or the
 * name is no engine's; 54000 when there are too many; 25001 unless READ COMMITTED: with an older snapshot an attach
 * would miss a BEFORE trigger.
 */
const EngineDescriptor *
attach_engine(FunctionCallInfo fcinfo, int argno, const EngineClass *class)
{
	char	   *name = args_required_text(fcinfo, argno, "name");
	const EngineDescriptor *engine;
	EngineContext caller;

	args_require_read_committed(class->attach_function);
	spi_begin();
	owner_enter(fcinfo, &caller);
	(void) lock_registry(true, true);
	engine = engine_exists(name) ? engine_of_class(name, class) : make_engine(name, class);
	(void) lock_engine(engine->id, true, true);
	owner_leave(&caller);
	spi_end();
	return engine;
}

/*
 * attach_engine_named -- the engine of a class that is to be detached or dropped, by an
 * argument with its name. 22023 when there is none.
 */
const EngineDescriptor *
attach_engine_named(FunctionCallInfo fcinfo, int argno, const EngineClass *class)
{
	char	   *name = args_required_text(fcinfo, argno, "engine");
	const EngineDescriptor *engine;
	EngineContext caller;

	spi_begin();
	owner_enter(fcinfo, &caller);
	engine = engine_of_class(name, class);
	owner_leave(&caller);
	spi_end();
	return engine;
}

/*
 * attach_detach -- detaches an engine of the class, by the first argument. 22023, 55000.
 */
void
attach_detach(FunctionCallInfo fcinfo, const EngineClass *class)
{
	attach_remove(fcinfo, attach_engine_named(fcinfo, 0, class));
}

/* The names of an engine's tables. */
static Datum
own_tables(const EngineDescriptor *engine)
{
	char	   *names[MAX_ENGINE_OUTPUTS];
	int			count = 0;

	for (int i = 0; i < engine->class->noutputs; i++)
	{
		if (engine->tables[i] != NULL)
			names[count++] = (char *) engine->tables[i];
	}
	return text_array(names, count);
}

/* 22023, 55000 or 2BP01 unless the engine may be dropped. */
static void
require_droppable(const EngineDescriptor *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->name)};
	Oid			table_types[] = {TEXTARRAYOID};
	Datum		tables[] = {own_tables(engine)};

	if (engine_bears_class(engine))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the engine \"%s\" cannot be dropped", engine->name),
				 errdetail("Its tables are the extension's.")));
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE name = $1", 1, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the engine \"%s\" is attached", engine->name),
				 errhint("Detach it first.")));
	if (spi_exec("SELECT name FROM reputation.board WHERE engine = $1", 1, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("the board \"%s\" goes by the engine \"%s\"", spi_text(0, 1), engine->name),
				 errhint("leaderboard_drop() removes it.")));
	if (spi_exec("SELECT e.name, e.class FROM reputation.engine e WHERE e.pays_into = $1", 1, types,
				 values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("the engine \"%s\" pays into the engine \"%s\"", spi_text(0, 1), engine->name),
				 errhint("Detach it first with %s.", attach_detach_call(spi_text(0, 1), spi_text(0, 2)))));
	if (spi_exec("SELECT e.name FROM reputation.engine e JOIN reputation.capture c ON c.engine = e.id "
				 "JOIN reputation.source s ON s.id = c.source "
				 "JOIN pg_catalog.pg_class t ON t.oid = s.relation "
				 "WHERE t.relnamespace = 'reputation'::regnamespace AND t.relname = ANY ($1)", 1,
				 table_types, tables, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("the engine \"%s\" computes from a table of the engine \"%s\"",
						spi_text(0, 1), engine->name)));
}

/* Drops an engine's tables. 2BP01 when somebody's view is over one. */
static void
drop_tables(const EngineDescriptor *engine)
{
	for (int i = 0; i < engine->class->noutputs; i++)
	{
		if (engine->tables[i] != NULL)
			spi_utility(psprintf("DROP TABLE IF EXISTS reputation.%s",
								 quote_identifier(engine->tables[i])));
	}
}

/*
 * reputation_drop(engine) -- removes a detached engine that an attach made, and its tables.
 * 22023, 55000, 2BP01.
 */
Datum
reputation_drop(PG_FUNCTION_ARGS)
{
	const EngineDescriptor *engine;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};

	spi_begin();
	(void) lock_registry(true, true);
	engine = engine_descriptor(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	(void) lock_engine(engine->id, true, true);
	require_droppable(engine);
	drop_tables(engine);
	spi_exec("DELETE FROM reputation.algorithm WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.dead_letter WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.instance WHERE name = $1", 1, types, values, NULL);
	spi_end();
	PG_RETURN_VOID();
}

/* The class of that name. 22023 when there is none. */
static const EngineClass *
class_named(const char *name)
{
	const EngineClass *class = engine_class(name);

	if (class == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no class of engines \"%s\"", name)));
	return class;
}

/*
 * reputation.engine_table(engine, class, of_class) -- engine_object() for SQL. 22023.
 */
Datum
reputation_engine_table(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const EngineClass *class = class_named(text_to_cstring(PG_GETARG_TEXT_PP(1)));

	PG_RETURN_TEXT_P(cstring_to_text(engine_object(engine_of_class(name, class),
												   text_to_cstring(PG_GETARG_TEXT_PP(2)))));
}

/*
 * reputation.engine_make(name, class) -- makes an engine; returns its id. 22023 bad name,
 * or no such class; 42710 there is one; 54000 too many.
 */
Datum
reputation_engine_make(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const EngineClass *class = class_named(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	int			id;

	spi_begin();
	id = make_engine(name, class)->id;
	spi_end();
	PG_RETURN_INT32(id);
}

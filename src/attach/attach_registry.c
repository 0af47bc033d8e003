/*
 * attach_registry.c
 *		The registry: which engine is attached to what, and which columns it
 *		wants captured.
 *
 * Runs with the extension owner's rights, as part of an attach or a detach.
 */
#include "postgres.h"

#include "attach/attach_steps.h"
#include "base/clock.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "work/queue.h"
#include "work/rank_run.h"

/* Forgets what waits for the engine: its keys are of other users from now on. */
void
registry_cancel_work(const EngineDescriptor *engine, const char *why)
{
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->id), CStringGetTextDatum(engine->name),
	CStringGetTextDatum(why)};

	spi_exec("DELETE FROM reputation.job WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.recent_run WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.run_tally t USING reputation.job_runs r "
			 "WHERE r.id = t.run_id AND r.scope = $1", 1, &types[1], &values[1], NULL);
	spi_exec("DELETE FROM reputation.rank_portion p USING reputation.job_runs r "
			 "WHERE r.id = p.run_id AND r.scope = $1", 1, &types[1], &values[1], NULL);
	spi_exec("UPDATE reputation.job_runs SET status = 'cancelled', "
			 "finished_at = reputation.clock(), error = $2 "
			 "WHERE scope = $1 AND status = 'running'", 2, &types[1], &values[1], NULL);
}

/*
 * registry_require_same_users -- engines that write the same output go by the same ids: a
 * bonus is paid to the badges' user, and counts for the points'. 55000 when another one is
 * attached to other users; one whose users table is gone is not in the way. 22023 when
 * there is no engine that it might pay into.
 */
void
registry_require_same_users(AttachSpec *spec)
{
	const EngineClass *class = spec->engine->class;
	const EngineDescriptor *paid = spec->pays_into == NULL ? spec->engine :
	engine_of_class(spec->pays_into, engine_class(class->pays));
	AttachColumn *key = attach_column(&spec->tables[0], spec->users_key);
	Oid			types[] = {TEXTOID, INT4OID, OIDOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(paid->name), Int32GetDatum(spec->engine->id),
	ObjectIdGetDatum(spec->tables[0].oid), CStringGetTextDatum(key->raw)};
	const char *other;
	const char *other_class;

	if (spi_exec("SELECT e.name, e.users_key, e.users::text, e.class FROM reputation.engine e "
				 "JOIN pg_catalog.pg_class c ON c.oid = e.users "
				 "WHERE $1 IN (e.name, e.pays_into) AND e.id <> $2 "
				 "AND (e.users <> $3 OR e.users_key <> $4) ORDER BY e.id", 4, types, values, NULL) == 0)
		return;
	other = spi_text(0, 1);
	other_class = spi_text(0, 4);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the engines \"%s\" and \"%s\" must be attached to the same users",
					spec->engine->name, other),
			 errdetail("Both write reputation.%s. The ids of the engine \"%s\" are in the "
					   "column %s of %s.", paid->tables[engine_earned(paid->class)], other, quote_identifier(spi_text(0, 2)),
					   spi_text(0, 3)),
			 errhint("Attach this one to those, or detach the other one first with %s.",
					 attach_detach_call(other, other_class))));
}

/* The tables of an attach, but for the users table and the extension's own. */
static Datum
other_tables(const AttachSpec *spec)
{
	Datum		oids[MAX_ATTACH_TABLES];
	int			count = 0;

	for (int i = 1; i < spec->ntables; i++)
	{
		if (!spec->tables[i].own)
			oids[count++] = ObjectIdGetDatum(spec->tables[i].oid);
	}
	return PointerGetDatum(construct_array(oids, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* 55000 when the engine pays into another one than it is to. */
static void
require_same_paid(AttachSpec *spec)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(spec->engine->id), 0};

	if (spec->pays_into == NULL)
		return;
	values[1] = CStringGetTextDatum(spec->pays_into);
	if (spi_exec("SELECT pays_into FROM reputation.engine WHERE id = $1 AND pays_into <> $2", 2, types,
				 values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the engine \"%s\" pays into the engine \"%s\"", spec->engine->name,
						spi_text(0, 1)),
				 errdetail("What it has paid there stays, and would be paid again."),
				 errhint("Another engine beside it gets another name: name => '...'. To have this one pay "
						 "elsewhere: replace => true.")));
}

/*
 * registry_require_same_tables -- 55000 when the engine is attached to other tables, which
 * are there: another users table, or others of which some have no part in the attach, and
 * some of that have none in them.
 */
void
registry_require_same_tables(AttachSpec *spec)
{
	Oid			types[] = {INT4OID, OIDOID, OIDARRAYOID};
	Datum		values[] = {Int32GetDatum(spec->engine->id), ObjectIdGetDatum(spec->tables[0].oid),
	other_tables(spec)};
	const char *others;

	if (spi_exec("SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY s.id) "
				 "FROM reputation.engine e JOIN reputation.capture k ON k.engine = e.id "
				 "JOIN reputation.source s ON s.id = k.source "
				 "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
				 "AND c.relnamespace <> 'reputation'::regnamespace WHERE e.id = $1 "
				 "HAVING bool_or(c.oid = e.users AND c.oid <> $2) "
				 "OR (bool_or(c.oid <> e.users AND c.oid <> ALL ($3)) "
				 "AND NOT $3 <@ array_agg(c.oid))", 3, types, values, NULL) == 0)
	{
		require_same_paid(spec);
		return;
	}
	others = spi_text(0, 1);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the engine \"%s\" is attached to other tables", spec->engine->name),
			 errdetail("Its tables are %s.", others),
			 errhint("Another engine beside it gets another name: name => '...'. To have this one leave "
					 "those tables: replace => true.")));
}

/*
 * registry_require_free_columns -- 55000 when another engine writes a column that this one
 * is to write.
 */
void
registry_require_free_columns(AttachSpec *spec)
{
	const char *columns[] = {spec->cached_column, spec->rank_column};
	Oid			types[] = {INT4OID, OIDOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(spec->engine->id), ObjectIdGetDatum(spec->tables[0].oid), 0};

	for (int i = 0; i < lengthof(columns); i++)
	{
		if (columns[i] == NULL)
			continue;
		values[2] = CStringGetTextDatum(columns[i]);
		if (spi_exec("SELECT name FROM reputation.engine WHERE id <> $1 AND users = $2 "
					 "AND $3 IN (cached_column, rank_column)", 3, types, values, NULL) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column %s of %s is written by the engine \"%s\"",
							quote_identifier(columns[i]), spec->tables[0].qualified, spi_text(0, 1)),
					 errhint("Name another one, which is added when it is missing.")));
	}
}

/* Everything in the registry that is the engine's own. */
void
registry_remove_engine(const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->id)};

	spi_exec("DELETE FROM reputation.capture_key WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.capture WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.lookup WHERE engine = $1", 1, types, values, NULL);
	spi_exec("DELETE FROM reputation.engine WHERE id = $1", 1, types, values, NULL);
}

/* Which column of the users table is which of the engine's. */
static void
add_inputs(AttachSpec *spec)
{
	char	   *names[MAX_ATTACH_COLUMNS];
	char	   *actual[MAX_ATTACH_COLUMNS];
	int			count = 0;
	Oid			types[] = {INT4OID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[3];

	for (AttachColumn *column = spec->tables[0].columns; column->name != NULL; column++)
	{
		if (column->raw == NULL)
			continue;
		names[count] = (char *) column->name;
		actual[count++] = column->raw;
	}
	values[0] = Int32GetDatum(spec->engine->id);
	values[1] = text_array(names, count);
	values[2] = text_array(actual, count);
	spi_exec("UPDATE reputation.engine SET inputs = jsonb_object($2, $3) WHERE id = $1",
			 3, types, values, NULL);
}

/* The engine's first algorithm, unless there is one. */
static void
add_algorithm(const EngineDescriptor *engine)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->name),
	CStringGetTextDatum(engine->class->default_parameters)};

	spi_exec("INSERT INTO reputation.algorithm (engine, version, parameters, active) "
			 "SELECT $1, 1, $2::jsonb, true WHERE NOT EXISTS "
			 "(SELECT FROM reputation.algorithm WHERE engine = $1)", 2, types, values, NULL);
}

/*
 * Has the active algorithm go by these parameters, too: by a new version of it,
 * unless it does already. What is computed then is the attach's first run.
 */
static void
set_parameters(const EngineDescriptor *engine, char *parameters)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->name), CStringGetTextDatum(parameters),
	CStringGetTextDatum(engine->class->default_parameters)};

	if (spi_exec("UPDATE reputation.algorithm SET active = false WHERE engine = $1 AND active "
				 "AND NOT ($3::jsonb || parameters) @> $2::jsonb RETURNING parameters::text",
				 3, types, values, NULL) == 0)
		return;
	values[2] = CStringGetTextDatum(spi_text(0, 1));
	spi_exec("INSERT INTO reputation.algorithm (engine, version, parameters, active) "
			 "SELECT $1, max(version) + 1, $3::jsonb || $2::jsonb, true "
			 "FROM reputation.algorithm WHERE engine = $1", 3, types, values, NULL);
}

/* The engine's row and its algorithm. */
void
registry_add_engine(AttachSpec *spec, Oid role, ViewState view)
{
	const EngineDescriptor *engine = spec->engine;
	AttachColumn *key = attach_column(&spec->tables[0], spec->users_key);
	Oid			types[] = {INT4OID, TEXTOID, OIDOID, OIDOID, TEXTOID, OIDOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->id), CStringGetTextDatum(engine->name),
		ObjectIdGetDatum(role), ObjectIdGetDatum(spec->tables[0].oid),
		CStringGetTextDatum(key->raw), ObjectIdGetDatum(key->type),
		spec->cached_column ? CStringGetTextDatum(spec->cached_column) : (Datum) 0,
		spec->rank_column ? CStringGetTextDatum(spec->rank_column) : (Datum) 0,
		CStringGetTextDatum(view.definition), CStringGetTextDatum(spec->fire),
		TimestampTzGetDatum(clock_now()), CStringGetTextDatum(view.rule),
		CStringGetTextDatum(engine->class->name),
	spec->pays_into ? CStringGetTextDatum(spec->pays_into) : (Datum) 0};
	char		nulls[] = "              ";
	Oid			same_types[] = {INT4OID, OIDOID, OIDOID};
	Datum		same[] = {values[0], values[3], values[5]};

	if (spec->cached_column == NULL)
		nulls[6] = 'n';
	if (spec->rank_column == NULL)
		nulls[7] = 'n';
	if (spec->pays_into == NULL)
		nulls[13] = 'n';
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE id = $1 AND users = $2 AND key_type = $3",
				 3, same_types, same, NULL) == 0)
		registry_cancel_work(engine, "the engine was attached to other tables");
	registry_remove_engine(engine);
	spi_exec("INSERT INTO reputation.engine (id, name, role, users, users_key, key_type, "
			 "cached_column, rank_column, view_definition, fire, attached_at, view_rule, class, pays_into, "
			 "home) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
			 "reputation.home())",
			 14, types, values, nulls);
	add_algorithm(engine);
	if (spec->parameters != NULL)
		set_parameters(engine, spec->parameters);
	add_inputs(spec);
	/* With it go the caches of its boards. */
	if (spec->rank_column != NULL || engine->class->windows)
		rank_run_schedule();
}

/* The id of a table's row in reputation.source, made when it is missing; never reused. */
int32
registry_add_source(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	spi_exec("INSERT INTO reputation.source AS s (relation, name, shape) "
			 "VALUES ($1, $1::regclass::text, reputation.partition_shape($1::regclass)) "
			 "ON CONFLICT (relation) DO UPDATE SET name = excluded.name, shape = excluded.shape "
			 "RETURNING id", 1, types, values, NULL);
	return (int32) spi_int(0, 1, NULL);
}

/*
 * The users' key, to be captured when somebody else writes a column that the engine
 * writes. No other engine wants that one.
 */
static void
add_written_key(AttachSpec *spec, int32 source, char mode, int16 kind)
{
	Oid			types[] = {INT4OID, INT4OID, TEXTOID, CHAROID, INT2OID, INT2OID};
	Datum		values[] = {Int32GetDatum(spec->engine->id), Int32GetDatum(source),
		CStringGetTextDatum(attach_column(&spec->tables[0], spec->users_key)->raw),
	CharGetDatum(mode), Int16GetDatum(kind), Int16GetDatum(PRIORITY_HIGH)};

	spi_exec("INSERT INTO reputation.source_key (source, key_no, column_name, mode, engine) "
			 "SELECT $2, coalesce(max(key_no), 0) + 1, $3, $4, $1 "
			 "FROM reputation.source_key WHERE source = $2 "
			 "HAVING NOT EXISTS (SELECT FROM reputation.source_key WHERE source = $2 "
			 "AND column_name = $3 AND mode = $4 AND engine = $1)", 4, types, values, NULL);
	spi_exec("INSERT INTO reputation.capture_key (engine, source, key_no, kind, priority) "
			 "SELECT $1, $2, key_no, $5, $6 FROM reputation.source_key "
			 "WHERE source = $2 AND column_name = $3 AND mode = $4 AND engine = $1",
			 6, types, values, NULL);
}

/* The columns that are watched, or written, by their names as they are now. */
static void
add_columns_of(int32 source, char **names, int count)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID};
	Datum		values[] = {Int32GetDatum(source), text_array(names, count)};

	spi_exec("DELETE FROM reputation.source_column WHERE source = $1 AND name = ANY ($2)",
			 2, types, values, NULL);
	spi_exec("INSERT INTO reputation.source_column (source, name, attnum, type, relation) "
			 "SELECT s.id, a.attname, a.attnum, a.atttypid, s.relation FROM reputation.source s "
			 "JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relation "
			 "WHERE s.id = $1 AND a.attname = ANY ($2)", 2, types, values, NULL);
}

/* What the engine wants captured of a table. */
void
registry_add_capture(AttachSpec *spec, AttachTable *table, int32 source)
{
	Oid			types[] = {INT4OID, INT4OID, TEXTARRAYOID};
	char	   *watched[MAX_ATTACH_COLUMNS + 2];
	int			nwatched = 0;
	Datum		values[3];

	for (AttachColumn *column = table->columns; column->name != NULL; column++)
	{
		if (column->raw != NULL)
			watched[nwatched++] = column->raw;
	}
	values[0] = Int32GetDatum(spec->engine->id);
	values[1] = Int32GetDatum(source);
	values[2] = text_array(watched, nwatched);
	if (spi_exec("INSERT INTO reputation.capture (engine, source, position, watched, owner) "
				 "SELECT $1, $2, p.position, $3, c.relowner FROM reputation.source s "
				 "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
				 "CROSS JOIN LATERAL (SELECT min(i) AS position FROM generate_series(0, 31) i "
				 "WHERE NOT EXISTS (SELECT FROM reputation.capture o WHERE o.source = $2 "
				 "AND o.position = i)) p WHERE s.id = $2 AND p.position IS NOT NULL",
				 3, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is the source of 32 engines already", table->qualified)));

	for (AttachKey *key = table->keys; key->column != NULL; key++)
	{
		Oid			key_types[] = {INT4OID, INT4OID, TEXTOID, CHAROID, INT2OID, INT2OID};
		Datum		k[] = {Int32GetDatum(spec->engine->id), Int32GetDatum(source),
			CStringGetTextDatum(attach_column(table, key->column)->raw),
		CharGetDatum(key->mode), Int16GetDatum(key->kind), Int16GetDatum(key->priority)};

		/* One for all engines that want it, and one of this engine's. */
		spi_exec("INSERT INTO reputation.source_key (source, key_no, column_name, mode, engine) "
				 "SELECT $2, m.key_no + row_number() OVER (ORDER BY n.engine), $3, $4, n.engine "
				 "FROM (SELECT coalesce(max(key_no), 0) AS key_no "
				 "FROM reputation.source_key WHERE source = $2) m, (VALUES (0), ($1)) AS n(engine) "
				 "WHERE NOT EXISTS (SELECT FROM reputation.source_key s WHERE s.source = $2 "
				 "AND s.column_name = $3 AND s.mode = $4 AND s.engine = n.engine)",
				 4, key_types, k, NULL);
		spi_exec("INSERT INTO reputation.capture_key (engine, source, key_no, kind, priority) "
				 "SELECT $1, $2, key_no, $5, $6 FROM reputation.source_key "
				 "WHERE source = $2 AND column_name = $3 AND mode = $4 AND engine IN (0, $1)",
				 6, key_types, k, NULL);
	}
	if (table == &spec->tables[0] && spec->cached_column != NULL)
	{
		add_written_key(spec, source, 'c', KIND_RESTORE_SCORE);
		watched[nwatched++] = (char *) spec->cached_column;
	}
	if (table == &spec->tables[0] && spec->rank_column != NULL)
	{
		add_written_key(spec, source, 'r', KIND_RESTORE_RANK);
		watched[nwatched++] = (char *) spec->rank_column;
	}
	add_columns_of(source, watched, nwatched);
}

/*
 * registry_computed -- everybody of the engine is computed by its first run: of sources
 * that it alone watches nothing is missed.
 */
void
registry_computed(const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->id)};

	spi_exec("DELETE FROM reputation.source_missed m WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture c WHERE c.source = m.source AND c.engine <> $1)",
			 1, types, values, NULL);
}

/* What no engine wants any more. */
void
registry_remove_unused(void)
{
	spi_exec("DELETE FROM reputation.source_key k WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture_key c WHERE c.source = k.source AND c.key_no = k.key_no)",
			 0, NULL, NULL, NULL);
	spi_exec("DELETE FROM reputation.source s WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture c WHERE c.source = s.id)", 0, NULL, NULL, NULL);
	spi_exec("DELETE FROM reputation.source_column w WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture c WHERE c.source = w.source AND w.name = ANY (c.watched)) "
			 "AND NOT EXISTS (SELECT FROM reputation.source s JOIN reputation.engine e "
			 "ON e.users = s.relation WHERE s.id = w.source "
			 "AND w.name IN (e.cached_column, e.rank_column))", 0, NULL, NULL, NULL);
	spi_exec("DELETE FROM reputation.source_missed m WHERE NOT EXISTS (SELECT FROM "
			 "reputation.capture c WHERE c.source = m.source)", 0, NULL, NULL, NULL);
}

/* The sources an engine captures from, in the order of their ids. */
List *
registry_captured_tables(const EngineDescriptor *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->id)};

	return spi_oids(spi_exec("SELECT s.relation::oid FROM reputation.source s "
							 "JOIN reputation.capture c ON c.source = s.id "
							 "WHERE c.engine = $1 ORDER BY s.id", 1, types, values, NULL));
}

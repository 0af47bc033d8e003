/*
 * algorithm.c
 *		Versions of an engine's parameters: what another would change, and making
 *		one the active one. Which engines there are.
 *
 * An activation takes the engine's lock exclusively, like an attach: a unit that
 * has read the old version is over before it, and the jobs of the run that it
 * starts are claimed by units that have read the new one. So a user that was
 * computed with the old version is computed again after that.
 */
#include "postgres.h"

#include "api/api.h"
#include "base/locks.h"
#include "base/spi.h"
#include "base/srf.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_algorithm_preview);
PG_FUNCTION_INFO_V1(reputation_algorithm_activate);
PG_FUNCTION_INFO_V1(reputation_engines);
PG_FUNCTION_INFO_V1(reputation_outputs);

typedef struct Preview
{
	Tuplestorestate *rows;
	TupleDesc	desc;
} Preview;

/* The users whose score is not the stored one. */
static void
preview_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	Preview    *to = arg;

	for (int i = 0; i < count; i++)
	{
		const Score *s = &scores[i];
		Datum		values[] = {CStringGetTextDatum(s->user), Int32GetDatum(s->row_score),
		Int32GetDatum(s->score), Int32GetDatum(s->score - s->row_score)};
		bool		nulls[] = {false, !s->has_row, false, !s->has_row};

		if (!s->has_row || s->row_score != s->score)
			tuplestore_putvalues(to->rows, to->desc, values, nulls);
	}
}

/*
 * algorithm_preview(engine, parameters) -- whose score would be another with these
 * parameters; stores nothing. 55000 when the engine is not attached, 22023 when
 * it cannot read them.
 */
Datum
reputation_algorithm_preview(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *parameters = PG_GETARG_JSONB_P(1);
	Preview		to;
	Engine	   *engine;

	to.rows = srf_begin(fcinfo, &to.desc);
	if (!JB_ROOT_IS_OBJECT(parameters))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"parameters\" must be an object"),
				 errhint("It is what reputation.algorithm has; what is not given has its default.")));
	spi_begin();
	engine = engine_get(name);
	engine->parameters = parameters;
	engine->weights = engine_parse_parameters(engine->descriptor, parameters);
	engine_scan(engine, preview_scanned, &to);
	spi_end();
	return (Datum) 0;
}

/* 22023, naming the versions that there are. */
static void
no_such_version(const char *name, int32 version)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	spi_exec("SELECT string_agg(version::text, ', ' ORDER BY version) FROM reputation.algorithm "
			 "WHERE engine = $1", 1, types, values, NULL);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the engine \"%s\" has no algorithm version %d", name, version),
			 errhint("There are versions %s. Add one to reputation.algorithm.",
					 spi_text(0, 1))));
}

/*
 * algorithm_activate(engine, version) -- has an engine compute with another
 * version from now on, and everybody computed with it; returns the id of that
 * run. 55000 when the engine is not attached, 22023 when there is no such
 * version.
 */
Datum
reputation_algorithm_activate(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int32		version = PG_GETARG_INT32(1);
	const EngineDescriptor *descriptor = engine_descriptor(name);
	Oid			types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	int64		run;

	spi_begin();
	(void) lock_engine(descriptor->id, true, true);
	if (spi_exec("SELECT 1 FROM reputation.engine WHERE name = $1", 1, types, values, NULL) == 0)
		engine_not_attached(descriptor);
	/* In two steps: there is one active version at any moment. */
	spi_exec("UPDATE reputation.algorithm SET active = false "
			 "WHERE engine = $1 AND active AND version <> $2", 2, types, values, NULL);
	if (spi_exec("UPDATE reputation.algorithm SET active = true "
				 "WHERE engine = $1 AND version = $2", 2, types, values, NULL) == 0)
		no_such_version(name, version);
	/* It may have been suspended because there was none. */
	spi_exec("UPDATE reputation.engine SET retry_at = NULL WHERE name = $1 AND retry_at IS NOT NULL",
			 1, types, values, NULL);
	run = sweep_start(engine_get(name), "recompute", "algorithm");
	spi_end();
	capture_wake_at_commit();
	PG_RETURN_INT64(run);
}

typedef void (*PutEngine) (Tuplestorestate *rows, TupleDesc desc, const EngineDescriptor *engine);

static void
put_engine(Tuplestorestate *rows, TupleDesc desc, const EngineDescriptor *d)
{
	Datum		values[] = {Int32GetDatum(d->id), CStringGetTextDatum(d->name),
		CStringGetTextDatum(d->score_table),
		d->audit_table ? CStringGetTextDatum(d->audit_table) : (Datum) 0,
		CStringGetTextDatum(d->attach_call), BoolGetDatum(d->class->timed),
		CStringGetTextDatum(d->class->name), BoolGetDatum(d->class->windows),
	CStringGetTextDatum(d->signals_view)};
	bool		nulls[] = {false, false, false, d->audit_table == NULL, false, false, false, false, false};

	tuplestore_putvalues(rows, desc, values, nulls);
}

/* The tables of an engine; not what it writes of another engine's. */
static void
put_outputs(Tuplestorestate *rows, TupleDesc desc, const EngineDescriptor *d)
{
	static const char *const numbers[] = {
		[ROWS_NONE] = "none",[ROWS_ONE] = "one",[ROWS_MANY] = "many"
	};
	static const char *const origins[] = {
		[OUTPUT_GIVEN] = "given",[OUTPUT_COMPUTED] = "computed",[OUTPUT_AUDIT] = "audit",
		[OUTPUT_EARNED] = "earned"
	};

	for (int i = 0; i < d->class->noutputs; i++)
	{
		const EngineOutput *output = &d->class->outputs[i];
		Datum		values[9] = {Int32GetDatum(d->id), CStringGetTextDatum(d->name),
			CStringGetTextDatum(output->table), 0, CStringGetTextDatum(output->key),
			CStringGetTextDatum(numbers[output->rows]), CStringGetTextDatum(origins[output->origin]),
		BoolGetDatum(output->settle != NULL), 0};
		bool		nulls[9] = {false};

		if (d->tables[i] == NULL)
			continue;
		values[3] = CStringGetTextDatum(d->tables[i]);
		nulls[8] = output->anonymous == NULL;
		if (!nulls[8])
			values[8] = CStringGetTextDatum(output->anonymous);
		tuplestore_putvalues(rows, desc, values, nulls);
	}
}

/* Of each engine there is. */
static Datum
put_engines(FunctionCallInfo fcinfo, PutEngine put)
{
	TupleDesc	desc;
	Tuplestorestate *rows = srf_begin(fcinfo, &desc);
	uint64		count;

	spi_begin();
	count = spi_read("SELECT id, name, class FROM reputation.instance ORDER BY id", 0, NULL, NULL,
					 NULL);
	for (uint64 row = 0; row < count; row++)
	{
		const EngineDescriptor *d = engine_descriptor_of((int) spi_int(row, 1, NULL),
														 spi_text(row, 2), spi_text(row, 3));

		if (d != NULL)
			put(rows, desc, d);
	}
	spi_end();
	return (Datum) 0;
}

/*
 * reputation.engines() -- the engines there are, attached or not, of the classes that are
 * loaded.
 */
Datum
reputation_engines(PG_FUNCTION_ARGS)
{
	return put_engines(fcinfo, put_engine);
}

/*
 * reputation.outputs() -- their tables, by which SQL goes that does something to all of
 * them.
 */
Datum
reputation_outputs(PG_FUNCTION_ARGS)
{
	return put_engines(fcinfo, put_outputs);
}

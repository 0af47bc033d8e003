/*
 * api_verify.c
 *		Comparing what is stored with a recomputation: verify, repair, sample.
 *
 * repair stores without a claim, like recalc (api.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/api.h"
#include "api/pending.h"
#include "attach/source_check.h"
#include "base/args.h"
#include "base/spi.h"
#include "base/srf.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "rank/rank_tree.h"
#include "utils/builtins.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_verify);
PG_FUNCTION_INFO_V1(reputation_repair);
PG_FUNCTION_INFO_V1(reputation_sample);

/* Users that reputation.sample() looks at. */
#define SAMPLE_ROWS 100

typedef struct Report
{
	Tuplestorestate *rows;
	TupleDesc	desc;
} Report;

static void
report(Report *to, const Engine *engine, const char *user, const char *item, const char *cached,
	   const char *expected)
{
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name),
		user ? CStringGetTextDatum(user) : (Datum) 0, CStringGetTextDatum(item),
		cached ? CStringGetTextDatum(cached) : (Datum) 0,
	expected ? CStringGetTextDatum(expected) : (Datum) 0};
	bool		nulls[] = {false, user == NULL, false, cached == NULL, expected == NULL};

	tuplestore_putvalues(to->rows, to->desc, values, nulls);
}

static char *
time_text(TimestampTz time)
{
	return time == DT_NOEND ? NULL : pstrdup(timestamptz_to_str(time));
}

static char *
value_text(const ScoreColumn *column, ScoreValue value)
{
	return column->kind == COLUMN_TEXT ? value.text :
		column->kind == COLUMN_TIME ? time_text(value.number) :
		psprintf(INT64_FORMAT, value.number);
}

/* The differences in the engine's own columns, and in when the next change is due. */
static void
report_columns(const Engine *engine, const Score *s, Report *to)
{
	const EngineDescriptor *d = engine->descriptor;

	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (score_column_differs(engine, s, i))
			report(to, engine, s->user, d->class->columns[i].name,
				   value_text(&d->class->columns[i], s->row_columns[i]),
				   value_text(&d->class->columns[i], s->columns[i]));
	}
	if (s->row_due_at != s->next_due_at)
		report(to, engine, s->user, "next_due_at", time_text(s->row_due_at),
			   time_text(s->next_due_at));
}

static void
report_differences(Engine *engine, Score *scores, int count, void *arg)
{
	for (int i = 0; i < count; i++)
	{
		const Score *s = &scores[i];
		char	   *expected = psprintf("%d", s->score);

		if (score_cached_differs(engine, s))
			report(arg, engine, s->user, engine->cached_name,
				   s->cached_null ? NULL : psprintf("%d", s->cached), expected);
		if (!s->has_row || s->row_score != s->score)
			report(arg, engine, s->user, engine->descriptor->score_table,
				   s->has_row ? psprintf("%d", s->row_score) : NULL, expected);
		else if (s->row_version != engine->version)
			report(arg, engine, s->user, "algorithm_version", psprintf("%d", s->row_version),
				   psprintf("%d", engine->version));
		if (s->has_row)
			report_columns(engine, s, arg);
		for (int output = 0; output < engine->descriptor->class->noutputs; output++)
		{
			if (score_output_differs(s, output))
				report(arg, engine, s->user, engine->descriptor->tables[output], s->outputs[output].held,
					   s->outputs[output].due);
		}
	}
}

/* What a table has of users that do not exist; shown is an aggregate of their rows. */
static void
report_nobodys(Engine *engine, const char *table, const char *shown, Report *to)
{
	uint64		count = engine_read(engine,
									psprintf("SELECT s.user_id, %s::text FROM reputation.%s s "
											 "WHERE NOT EXISTS (SELECT FROM %s t "
											 "WHERE t.%s::text COLLATE \"C\" = s.user_id) "
											 "GROUP BY s.user_id", shown, table,
											 engine->users_name, engine->users_key),
									0, NULL, NULL);

	for (uint64 row = 0; row < count; row++)
		report(to, engine, spi_text(row, 1), table, spi_text(row, 2), NULL);
}

/*
 * What outputs have of users that do not exist. Of those that are earned that cannot be
 * computed again, so repair leaves it.
 */
static void
report_orphans(Engine *engine, Report *to)
{
	const EngineDescriptor *d = engine->descriptor;

	for (int i = 0; i < d->class->noutputs; i++)
	{
		if (d->class->outputs[i].shown != NULL)
			report_nobodys(engine, d->tables[i], d->class->outputs[i].shown, to);
	}
}

/* Triggers that keep the trees of an engine's boards, and do not always fire; returns how many. */
static uint64
report_untracked(const Engine *engine, Report *to)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name)};
	uint64		count = spi_read("SELECT u.trigger::text, CASE WHEN NOT u.missing THEN 'does not always fire' END "
								 "FROM reputation.rank_untracked() u WHERE u.engine = $1",
								 1, types, values, NULL);

	for (uint64 row = 0; to != NULL && row < count; row++)
		report(to, engine, NULL, psprintf("trigger %s", spi_text(row, 1)),
			   spi_text(row, 2), "fires always");
	return count;
}

typedef struct TreeReport
{
	Report	   *to;				/* NULL: the trees that differ are made anew */
	const Engine *engine;
	int			last;			/* the tree that was reported last */
	int			trees;			/* that differ */
} TreeReport;

/* A node of a rank tree that is not as it should be. */
static void
report_tree(void *arg, const RankSource *source, const char *item, const char *cached,
			const char *expected)
{
	TreeReport *trees = arg;

	if (trees->to != NULL)
		report(trees->to, trees->engine, NULL, item, cached, expected);
	else if (source->tree != trees->last)
		rank_request_rebuild(source);
	trees->trees += source->tree != trees->last;
	trees->last = source->tree;
}

/*
 * reputation_verify(engine) -- lists each cached value that differs from a
 * recomputation; everything is seen in the calling statement's snapshot.
 */
Datum
reputation_verify(PG_FUNCTION_ARGS)
{
	char	   *name = args_text(fcinfo, 0);
	Report		to;
	ListCell   *cell;

	to.rows = srf_begin(fcinfo, &to.desc);
	spi_begin();
	foreach(cell, engine_chosen(name))
	{
		engine_scan(lfirst(cell), report_differences, &to);
		report_orphans(lfirst(cell), &to);
		(void) report_untracked(lfirst(cell), &to);
		rank_verify(lfirst(cell), report_tree, &(TreeReport) {&to, lfirst(cell)});
	}
	spi_end();
	return (Datum) 0;
}

/* Stores what differs, and waits for nobody: locked rows are left to the worker. */
static void
repair_scanned(Engine *engine, Score *scores, int count, void *arg)
{
	Score	   *differing = palloc(sizeof(Score) * count);
	int			ndiffering = 0;
	int64	   *mended = arg;

	for (int i = 0; i < count; i++)
	{
		if (score_differs(engine, &scores[i]))
			differing[ndiffering++] = scores[i];
	}
	api_store_scanned(engine, differing, ndiffering, &(int64) {0});
	for (int i = 0; i < ndiffering; i++)
		*mended += differing[i].stored;
}

/* Makes the triggers and the trees of an engine's boards anew; how many trees. */
static int
track_again(Engine *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name)};

	spi_exec("SELECT reputation.board_track($1)", 1, types, values, NULL);
	return engine_periods(engine->descriptor);
}

/*
 * reputation_repair(engine) -- mends what verify would list; returns how many
 * users.
 */
Datum
reputation_repair(PG_FUNCTION_ARGS)
{
	char	   *name = args_text(fcinfo, 0);
	int64		mended = 0;
	ListCell   *cell;

	spi_begin();
	foreach(cell, engine_chosen(name))
	{
		Engine	   *engine = lfirst(cell);
		TreeReport	trees = {NULL, engine};

		sources_repair(engine);
		/* Before anything is stored: by the snapshot of the calling statement. */
		if (report_untracked(engine, NULL) == 0)
			rank_verify(engine, report_tree, &trees);
		else
			trees.trees = track_again(engine);
		engine_scan(engine, repair_scanned, &mended);
		mended += trees.trees;
		mended += recheck_orphans(engine);
	}
	notify_send();
	spi_end();
	PG_RETURN_INT64(mended);
}

/*
 * reputation.sample(engine) -- recomputes some users picked at random; how many,
 * and how many differ from what is stored although nothing is pending.
 */
Datum
reputation_sample(PG_FUNCTION_ARGS)
{
	Engine	   *engine;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	Score	   *scores;
	char	  **keys;
	uint64		count;
	int			found;
	int			differing = 0;
	PendingLook look = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	spi_begin();
	engine = engine_get(args_text(fcinfo, 0));
	count = engine_exec(engine, false,
						psprintf("SELECT t.%1$s::text FROM %2$s t TABLESAMPLE SYSTEM (least(100, "
								 "(SELECT 100 * 5000.0 / greatest(reltuples, 1) "
								 "FROM pg_class WHERE oid = %3$u))) WHERE %5$s LIMIT %4$d",
								 engine->users_key, engine->users_name, engine->users,
								 SAMPLE_ROWS,
								 engine_usable_keys(engine,
													psprintf("t.%s", engine->users_key))),
						0, NULL, NULL);
	keys = palloc(sizeof(char *) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	(void) pending_begin(&look, true);
	found = engine_compute_in_snapshot(engine, keys, (int) count, &scores);
	for (int i = 0; i < found; i++)
		differing += score_differs(engine, &scores[i]) &&
			pending_work(&look, engine, scores[i].user) == NULL;
	pending_end();
	spi_end();

	values[0] = Int32GetDatum(found);
	values[1] = Int32GetDatum(differing);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

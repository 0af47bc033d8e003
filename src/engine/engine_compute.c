/*
 * engine_compute.c
 *		From user ids to scores: ids -> signals view -> pure score function.
 *
 * Workers, recalc, batch runs, repair and verify all come through here,
 * with other sets of ids.
 */
#include "postgres.h"

#include <ctype.h>

#include "base/clock.h"
#include "base/keyset.h"
#include "base/spi.h"
#include "base/types.h"
#include "catalog/pg_type.h"
#include "engine/engine.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* Rows of one step of a scan over all users. */
#define SCAN_ROWS	5000

/*
 * engine_usable_keys -- a condition on a key column that leaves out what is no
 * id: nulls, which can come after the attach has seen that there are none, and
 * ids longer than MAX_KEY_LENGTH. For every query over all users.
 */
const char *
engine_usable_keys(const Engine *engine, const char *column)
{
	if (engine->key_type != TEXTOID && engine->key_type != VARCHAROID)
		return psprintf("%s IS NOT NULL", column);
	/* Of a null it is null, and not true. */
	return psprintf("octet_length(%s) <= %d", column, MAX_KEY_LENGTH);
}

/* The query of the signals and of what is stored, for some keys or for all. */
static char *
compute_query(const Engine *engine, bool all)
{
	const EngineDescriptor *d = engine->descriptor;
	StringInfoData stored;

	engine_require_objects(engine);
	engine_require_algorithm(engine);
	initStringInfo(&stored);
	if (d->class->timed)
		appendStringInfoString(&stored, ", s.next_due_at");
	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (d->class->columns[i].exact)
			appendStringInfo(&stored, d->class->columns[i].kind == COLUMN_TEXT ? ", s.%s::text" : ", s.%s",
							 d->class->columns[i].name);
	}
	return psprintf("SELECT v.user_id::text, %s, s.score, s.algorithm_version, %s%s "
					"FROM reputation.%s v JOIN %s t ON t.%s = v.user_id "
					"LEFT JOIN reputation.%s s ON s.user_id = v.user_id::text COLLATE \"C\" WHERE %s",
					engine->cached_column ? psprintf("t.%s", engine->cached_column) : "NULL::int",
					d->class->signals, stored.data, d->signals_view, engine->users_name,
					engine->users_key, d->score_table,
					all ? engine_usable_keys(engine, "v.user_id") : "v.user_id = ANY ($1)");
}

/*
 * engine_fetch -- opens the portal of a query over the application's objects
 * unless it is open, with the active snapshot, and fetches the next rows. Of a query
 * over all users: the bound is for as many.
 */
uint64
engine_fetch(const Engine *engine, const char *sql, int rows, Portal *portal)
{
	MemoryContext memory = CurrentMemoryContext;
	EngineContext context;

	engine_enter(engine, true, &context);
	PG_TRY();
	{
		if (*portal == NULL)
			*portal = SPI_cursor_open(NULL, spi_plan(sql, 0, NULL), NULL, NULL, true);
		SPI_cursor_fetch(*portal, true, rows);
	}
	PG_CATCH();
	{
		engine_failed(engine, &context, memory);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	engine_leave(&context);
	return SPI_processed;
}

/* A column of the stored score row; what there is none of is NULL, or 0. */
static ScoreValue
stored_value(const ScoreColumn *column, HeapTuple tuple, TupleDesc desc, int number)
{
	ScoreValue	value = {NULL};
	bool		isnull;
	Datum		datum;

	if (column->kind == COLUMN_TEXT)
	{
		value.text = SPI_getvalue(tuple, desc, number);
		return value;
	}
	datum = SPI_getbinval(tuple, desc, number, &isnull);
	value.number = isnull ? 0 : DatumGetInt64(datum);
	return value;
}

static void
score_row(Engine *engine, SPITupleTable *table, uint64 row, Score *score)
{
	const EngineDescriptor *d = engine->descriptor;
	HeapTuple	tuple = table->vals[row];
	TupleDesc	desc = table->tupdesc;
	ScoreResult result = {.next_due_at = DT_NOEND};
	int			next = 5;
	bool		isnull;

	score->user = SPI_getvalue(tuple, desc, 1);
	score->cached = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &score->cached_null));
	score->row_score = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	score->has_row = !isnull;
	score->row_version = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
	for (int i = 0; i < d->class->nsignals; i++)
		score->signals[i] = SPI_getbinval(tuple, desc, next++, &score->nulls[i]);

	score->row_due_at = DT_NOEND;
	if (d->class->timed)
	{
		Datum		due = SPI_getbinval(tuple, desc, next++, &isnull);

		if (!isnull)
			score->row_due_at = DatumGetTimestampTz(due);
	}
	if (d->class->ncolumns > 0)
	{
		result.columns = palloc0(sizeof(ScoreValue) * 2 * d->class->ncolumns);
		score->row_columns = result.columns + d->class->ncolumns;
	}
	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (d->class->columns[i].exact)
			score->row_columns[i] = stored_value(&d->class->columns[i], tuple, desc, next++);
	}

	d->class->score(engine->weights, engine->now, score->signals, score->nulls, &result);
	score->score = result.score;
	score->next_due_at = result.next_due_at;
	score->columns = result.columns;
	memcpy(score->outputs, result.outputs, sizeof(result.outputs));
	score->cause = CAUSE_MANUAL;
	score->audit = false;
	score->stored = false;
	score->changed = false;
}

/*
 * typed_array -- texts as an array Datum of some type. What the type's input
 * function raises.
 */
Datum
typed_array(Oid type, char **texts, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));
	FmgrInfo	input;
	Oid			function;
	Oid			ioparam;
	int16		length;
	bool		byval;
	char		align;

	getTypeInputInfo(type, &function, &ioparam);
	fmgr_info(function, &input);
	get_typlenbyvalalign(type, &length, &byval, &align);
	for (int i = 0; i < count; i++)
		values[i] = InputFunctionCall(&input, texts[i], ioparam, -1);
	return PointerGetDatum(construct_array(values, count, type, length, byval, align));
}

/* Is it a uuid as the type's output function writes it? */
static bool
is_uuid(const char *key)
{
	for (int i = 0; i < 36; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? key[i] != '-' : !isxdigit((unsigned char) key[i]))
			return false;
	}
	return key[36] == '\0';
}

/*
 * Can there be such a user? A column of wider integers can refer to others, and a
 * ledger's texts to anything.
 */
static bool
key_fits(Oid type, const char *key)
{
	int64		number;
	char	   *end;

	if (type == UUIDOID)
		return is_uuid(key);
	if (!type_is_integer(type))
		return true;
	errno = 0;
	number = strtoll(key, &end, 10);
	if (end == key || *end != '\0' || errno != 0)
		return false;
	return type == INT8OID || (type == INT2OID ? number >= PG_INT16_MIN && number <= PG_INT16_MAX :
							   number >= PG_INT32_MIN && number <= PG_INT32_MAX);
}

/* The keys that fit the type, as an array of it. */
static Datum
fitting_keys(Oid type, char **keys, int count)
{
	char	  **fitting = palloc(sizeof(char *) * Max(count, 1));
	int			nfitting = 0;

	for (int i = 0; i < count; i++)
	{
		if (key_fits(type, keys[i]))
			fitting[nfitting++] = keys[i];
	}
	return typed_array(type, fitting, nfitting);
}

/* Computes some users as of a time, with the active snapshot or with a new one. */
static int
compute_signals(Engine *engine, bool read_only, TimestampTz now, char **keys, int count, Score **scores)
{
	Oid			types[] = {get_array_type(engine->key_type)};
	Datum		values[] = {fitting_keys(engine->key_type, keys, count)};
	char	   *sql = compute_query(engine, false);
	uint64		found;
	int			level = spi_settings_begin();

	engine->now = now;
	/* A thousand keys look like half the table; they never are worth reading it. */
	spi_set("plan_cache_mode", "force_generic_plan");
	found = read_only ? engine_read(engine, sql, 1, types, values) :
		engine_exec(engine, false, sql, 1, types, values);
	spi_settings_end(level);

	*scores = palloc(sizeof(Score) * Max(found, 1));
	for (uint64 row = 0; row < found; row++)
		score_row(engine, SPI_tuptable, row, &(*scores)[row]);
	return (int) found;
}

/*
 * engine_compute -- computes some users with one statement and a new snapshot;
 * returns how many of them exist. Keys that give no row are of users that are
 * gone. Errors of the view and of the data are raised.
 */
int
engine_compute(Engine *engine, char **keys, int count, Score **scores)
{
	return compute_signals(engine, false, clock_now(), keys, count, scores);
}

/*
 * engine_compute_in_snapshot -- the same with the active snapshot.
 */
int
engine_compute_in_snapshot(Engine *engine, char **keys, int count, Score **scores)
{
	return compute_signals(engine, true, clock_now(), keys, count, scores);
}

/*
 * engine_foresee -- a user as of a time to come, if nothing is written until then;
 * with the active snapshot. NULL when the view will not have the user.
 */
Score *
engine_foresee(Engine *engine, char *key, TimestampTz when)
{
	TimestampTz now = engine->now;
	Score	   *score;
	int			found = compute_signals(engine, true, when, &key, 1, &score);

	engine->now = now;
	return found > 0 ? score : NULL;
}

/*
 * engine_scan -- computes all users in one snapshot, the calling statement's,
 * and hands them to the consumer in portions.
 */
void
engine_scan(Engine *engine, ScoreConsumer consumer, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext portion = AllocSetContextCreate(context, "reputation scan",
												  ALLOCSET_DEFAULT_SIZES);
	Portal		portal = NULL;
	char	   *sql = compute_query(engine, true);
	uint64		count;

	engine->now = clock_now();
	while ((count = engine_fetch(engine, sql, SCAN_ROWS, &portal)) > 0)
	{
		SPITupleTable *table = SPI_tuptable;
		Score	   *scores;

		MemoryContextSwitchTo(portion);
		scores = palloc(sizeof(Score) * count);
		for (uint64 row = 0; row < count; row++)
			score_row(engine, table, row, &scores[row]);
		consumer(engine, scores, (int) count, arg);
		MemoryContextSwitchTo(context);
		MemoryContextReset(portion);
		SPI_freetuptable(table);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(portion);
}

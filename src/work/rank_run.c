/*
 * rank_run.c
 *		The rank column of an engine's users table: the job "leaderboards".
 *
 * A run is worked off in steps (batch.c). The first computes every user's rank in one
 * snapshot, locks nothing, and leaves the ranks that differ from the column in
 * reputation.rank_portion, a batch a row; each of the others writes one of these. So
 * the ranks are of one moment, but no user's row is locked for longer than it takes to
 * write a batch.
 *
 * A user whose row is locked or gone meanwhile is passed over; the next run
 * finds that the rank differs. The portions are unlogged. "done" counts the
 * users of those that were written and is the key of the next; when that is not
 * there and "done" is not "total", a crash took them and the run starts over.
 * It also does when it was asked for while it was on.
 *
 * No request is lost: the step that computes takes it ("again" is false then)
 * with the run's row locked, and takes its snapshot after that. A request waits
 * for that lock or was committed before, and so was the change that led to it;
 * the snapshot that the unit began with may be older than both.
 */
#include "postgres.h"

#include "base/guc.h"
#include "base/spi.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "engine/engine.h"
#include "rank/board.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "work/rank_run.h"

PG_FUNCTION_INFO_V1(reputation_rank_step);

#define RANK_JOB "leaderboards"

/* A running run; batch.c has its row locked. */
typedef struct RankRun
{
	Engine	   *engine;
	int64		id;
	bool		computed;
	int64		done;
	int64		total;
	bool		again;
} RankRun;

/*
 * rank_run_start -- has all ranks of an engine's users written: starts a run, or has the
 * one that is on start over.
 */
void
rank_run_start(const Engine *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name)};

	spi_exec("INSERT INTO reputation.job_runs (job_name, status, trigger, scope, started_at) "
			 "VALUES ('" RANK_JOB "', 'running', 'resync', $1, reputation.clock()) "
			 "ON CONFLICT (job_name, scope) WHERE status = 'running' "
			 "DO UPDATE SET again = true, trigger = excluded.trigger", 1, types, values, NULL);
	capture_wake_at_commit();
}

/*
 * rank_run_schedule -- has the worker run the job at its usual times from now on, unless it
 * is scheduled.
 */
void
rank_run_schedule(void)
{
	spi_exec("SELECT reputation.schedule_usual('" RANK_JOB "', true)", 0, NULL, NULL, NULL);
}

/* Reads the run. 22023 when there is none, 55000 when its engine is not attached. */
static void
read_run(RankRun *run)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run->id)};
	bool		isnull;
	char	   *scope;

	if (spi_exec("SELECT scope, total, done, again FROM reputation.job_runs WHERE id = $1",
				 1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no run " INT64_FORMAT, run->id)));
	scope = spi_text(0, 1);
	run->total = spi_int(0, 2, &isnull);
	run->computed = !isnull;
	run->done = spi_int(0, 3, NULL);
	run->again = DatumGetBool(spi_datum(0, 4, &isnull));
	run->engine = engine_attached(scope);
}

/* Keeps the fetched users and ranks as one portion. */
static void
store_portion(const RankRun *run, int64 first, SPITupleTable *rows, uint64 count)
{
	Oid			types[] = {INT8OID, INT8OID, TEXTARRAYOID, INT8ARRAYOID};
	char	  **users = palloc(sizeof(char *) * count);
	int64	   *ranks = palloc(sizeof(int64) * count);
	Datum		values[4];
	bool		isnull;

	for (uint64 row = 0; row < count; row++)
	{
		users[row] = SPI_getvalue(rows->vals[row], rows->tupdesc, 1);
		ranks[row] = DatumGetInt64(SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));
	}
	values[0] = Int64GetDatum(run->id);
	values[1] = Int64GetDatum(first);
	values[2] = text_array(users, (int) count);
	values[3] = bigint_array(ranks, (int) count);
	spi_exec("INSERT INTO reputation.rank_portion (run_id, first, users, ranks) "
			 "VALUES ($1, $2, $3, $4)", 4, types, values, NULL);
}

/*
 * Computes the ranks in a snapshot of its own, and keeps those that differ in
 * portions. What runs that are over left behind goes, too. 42P01 when the users
 * table is gone.
 */
static void
compute_ranks(const RankRun *run)
{
	const Engine *engine = run->engine;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext portion = AllocSetContextCreate(context, "reputation ranks",
												  ALLOCSET_DEFAULT_SIZES);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(run->id), 0};
	Portal		portal = NULL;
	int64		total = 0;
	uint64		count;
	char	   *sql;

	engine_require_objects(engine);
	if (engine->cached_column == NULL)
		sql = psprintf("SELECT t.%2$s::text, r.rank FROM %1$s t JOIN "
					   "(SELECT user_id, rank() OVER (ORDER BY %4$s DESC) AS rank "
					   "FROM reputation.%5$s) r ON r.user_id = t.%2$s::text COLLATE \"C\" "
					   "WHERE t.%3$s IS DISTINCT FROM r.rank",
					   engine->users_name, engine->users_key, engine->rank_column,
					   engine_period_column(engine->descriptor, 0),
					   engine->descriptor->score_table);
	else
		sql = psprintf("SELECT r.id, r.rank FROM (SELECT %2$s::text AS id, %4$s AS stored, "
					   "rank() OVER (ORDER BY %3$s DESC) AS rank FROM %1$s WHERE %5$s) r "
					   "WHERE r.stored IS DISTINCT FROM r.rank",
					   engine->users_name, engine->users_key, engine->cached_column,
					   engine->rank_column, engine_usable_keys(engine, engine->users_key));
	spi_exec("DELETE FROM reputation.rank_portion p WHERE p.run_id = $1 OR NOT EXISTS "
			 "(SELECT FROM reputation.job_runs r WHERE r.id = p.run_id AND r.status = 'running')",
			 1, types, values, NULL);
	PushActiveSnapshot(GetTransactionSnapshot());
	while ((count = engine_fetch(engine, sql, guc_batch_size, &portal)) > 0)
	{
		SPITupleTable *rows = SPI_tuptable;

		MemoryContextSwitchTo(portion);
		store_portion(run, total, rows, count);
		MemoryContextSwitchTo(context);
		MemoryContextReset(portion);
		SPI_freetuptable(rows);
		total += (int64) count;
	}
	SPI_cursor_close(portal);
	PopActiveSnapshot();
	MemoryContextDelete(portion);
	values[1] = Int64GetDatum(total);
	spi_exec("UPDATE reputation.job_runs SET total = $2, done = 0, again = false WHERE id = $1",
			 2, types, values, NULL);
}

/* Writes the next portion to the rows that nobody holds; false when there is none. */
static bool
write_portion(const RankRun *run)
{
	const Engine *engine = run->engine;
	Oid			types[] = {INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(run->id), Int64GetDatum(run->done), 0, 0};
	Oid			portion_types[] = {TEXTARRAYOID, INT8ARRAYOID};
	Datum		portion[2];
	bool		isnull;
	uint64		changed;

	if (spi_exec("DELETE FROM reputation.rank_portion WHERE run_id = $1 AND first = $2 "
				 "RETURNING users, ranks, cardinality(users)", 2, types, values, NULL) == 0)
		return false;
	portion[0] = spi_datum(0, 1, &isnull);
	portion[1] = spi_datum(0, 2, &isnull);
	values[2] = Int64GetDatum(spi_int(0, 3, NULL));
	changed = engine_exec(engine, true,
						  psprintf("WITH free AS (SELECT t.%2$s AS id, n.rank FROM %1$s t "
								   "JOIN unnest($1, $2) AS n(id, rank) ON t.%2$s = n.id::%4$s "
								   "WHERE t.%3$s IS DISTINCT FROM n.rank "
								   "FOR NO KEY UPDATE OF t SKIP LOCKED) "
								   "UPDATE %1$s t SET %3$s = free.rank FROM free "
								   "WHERE t.%2$s = free.id",
								   engine->users_name, engine->users_key, engine->rank_column,
								   engine->key_type_name), 2, portion_types, portion);
	values[3] = Int64GetDatum((int64) changed);
	spi_exec("UPDATE reputation.job_runs SET done = $2 + $3, changed = changed + $4 "
			 "WHERE id = $1", 4, types, values, NULL);
	return true;
}

/*
 * reputation.rank_step(run) -- does the next step of a run; false when that was the last: the
 * ranks are written, and the caches of the boards refreshed with them.
 */
Datum
reputation_rank_step(PG_FUNCTION_ARGS)
{
	RankRun		run = {.id = PG_GETARG_INT64(0)};
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run.id)};
	bool		more = true;

	spi_begin();
	read_run(&run);
	if (run.engine->rank_column == NULL)
		more = false;
	else if (!run.computed)
		compute_ranks(&run);
	else if (write_portion(&run))
		more = true;
	else if (run.done < run.total || run.again)
		spi_exec("UPDATE reputation.job_runs SET total = NULL, done = 0 WHERE id = $1",
				 1, types, values, NULL);
	else
		more = false;
	if (!more)
		board_refresh_caches(list_make1(run.engine), true);
	spi_end();
	PG_RETURN_BOOL(more);
}

/*
 * prune.c
 *		The audit's old rows: those past reputation.audit_retention, but for each
 *		user's last.
 *
 * A pass walks through an audit table in the order of its ids, a portion a
 * transaction: from the lowest, until a portion has no old row. Rows are written
 * in the order of their times but for what a clock that was set back and long
 * transactions do to it; what is out of order goes with a later pass. So a pass
 * reads what it removes, the last rows of users whom nothing happened to since,
 * and one portion more; the primary key serves it, and the audit needs no index on
 * its times, which each computation would have to write.
 *
 * A pass is a run in steps (batch.c), of an engine that has an audit. It remembers
 * nothing but where it is, in "cursor"; "done" counts the rows that it looked at,
 * "changed" those that it removed. A row is removed only when the statement's
 * snapshot has a later one of the same user. That may be removed meanwhile, too,
 * but only because there is a still later one; the last has none in any snapshot.
 * Rows that somebody has locked stay for the next pass: nobody is waited for.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engine/engine.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(reputation_prune_step);

/*
 * Removes what is too old in the next portion after the run's cursor, and moves that; false
 * when no portion after it can have any.
 */
static bool
prune_portion(const Engine *engine, int64 run_id, int64 after)
{
	Oid			types[] = {TIMESTAMPTZOID, INT8OID, INT8OID};
	Datum		values[] = {TimestampTzGetDatum(clock_now()), Int64GetDatum(after),
	Int64GetDatum(guc_batch_size)};
	Oid			run_types[] = {INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		run[4];
	bool		none_old;
	int64		last;
	int			settings = spi_settings_begin();

	spi_prefer_indexes();
	spi_exec(psprintf("WITH portion AS MATERIALIZED ("
					  "SELECT id, user_id, computed_at < $1 - interval '%2$d days' AS old "
					  "FROM reputation.%1$s WHERE id > $2 ORDER BY id LIMIT $3), "
					  "gone AS (DELETE FROM reputation.%1$s WHERE id = ANY (ARRAY("
					  "SELECT a.id FROM reputation.%1$s a WHERE a.id = ANY (ARRAY("
					  "SELECT p.id FROM portion p WHERE p.old AND EXISTS ("
					  "SELECT FROM reputation.%1$s b WHERE b.user_id = p.user_id "
					  "AND b.id > p.id))) FOR UPDATE SKIP LOCKED)) RETURNING id) "
					  "SELECT CASE WHEN bool_or(old) THEN max(id) END, count(*), "
					  "(SELECT count(*) FROM gone) FROM portion",
					  engine->descriptor->audit_table, guc_audit_retention),
			 3, types, values, NULL);
	spi_settings_end(settings);
	last = spi_int(0, 1, &none_old);
	run[0] = Int64GetDatum(run_id);
	run[1] = Int64GetDatum(none_old ? after : last);
	run[2] = Int64GetDatum(spi_int(0, 2, NULL));
	run[3] = Int64GetDatum(spi_int(0, 3, NULL));
	spi_exec("UPDATE reputation.job_runs SET cursor = $2::text, done = done + $3, "
			 "changed = changed + $4 WHERE id = $1", 4, run_types, run, NULL);
	return !none_old;
}

/*
 * reputation.prune_step(run) -- does the next step of a run; false when that was the last.
 * 22023 when there is no such run, 55000 when its engine is not attached.
 */
Datum
reputation_prune_step(PG_FUNCTION_ARGS)
{
	int64		run_id = PG_GETARG_INT64(0);
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run_id)};
	const Engine *engine;
	char	   *scope;
	int64		after;
	bool		more = false;

	spi_begin();
	if (spi_exec("SELECT scope, coalesce(cursor, '0')::bigint FROM reputation.job_runs "
				 "WHERE id = $1", 1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no run " INT64_FORMAT, run_id)));
	scope = spi_text(0, 1);
	after = spi_int(0, 2, NULL);
	engine = engine_attached(scope);
	if (engine->descriptor->audit_table != NULL && guc_audit_retention > 0)
		more = prune_portion(engine, run_id, after);
	spi_end();
	PG_RETURN_BOOL(more);
}

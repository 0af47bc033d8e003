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
 * A pass remembers nothing but where it is. That is in a worker's memory, or in
 * the session that calls reputation.prune_audit(); one that breaks off is begun
 * anew. Several at once do no harm. A row is removed only when the statement's
 * snapshot has a later one of the same user. That may be removed meanwhile, too,
 * but only because there is a still later one; the last has none in any snapshot.
 * Rows that somebody has locked stay for the next pass: nobody is waited for.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_prune_audit);

/*
 * prune_step -- removes what is too old in the next portion, after an id; returns
 * the portion's last id, 0 when the pass is over.
 */
int64
prune_step(const Engine *engine, int64 after)
{
	Oid			types[] = {TIMESTAMPTZOID, INT8OID, INT8OID};
	Datum		values[] = {TimestampTzGetDatum(clock_now()), Int64GetDatum(after),
	Int64GetDatum(guc_batch_size)};
	int64		last = 0;
	int			settings;

	if (engine->descriptor->audit_table == NULL || guc_audit_retention == 0)
		return 0;
	settings = spi_settings_begin();
	spi_prefer_indexes();
	if (spi_exec(psprintf("WITH portion AS MATERIALIZED ("
						  "SELECT id, user_id, computed_at < $1 - interval '%2$d days' AS old "
						  "FROM reputation.%1$s WHERE id > $2 ORDER BY id LIMIT $3), "
						  "gone AS (DELETE FROM reputation.%1$s WHERE id = ANY (ARRAY("
						  "SELECT a.id FROM reputation.%1$s a WHERE a.id = ANY (ARRAY("
						  "SELECT p.id FROM portion p WHERE p.old AND EXISTS ("
						  "SELECT FROM reputation.%1$s b WHERE b.user_id = p.user_id "
						  "AND b.id > p.id))) FOR UPDATE SKIP LOCKED))) "
						  "SELECT max(id) FROM portion HAVING bool_or(old)",
						  engine->descriptor->audit_table, guc_audit_retention),
				 3, types, values, NULL) > 0)
		last = spi_int(0, 1, NULL);
	spi_settings_end(settings);
	return last;
}

/*
 * reputation.prune_audit(engine, after) -- prune_step() for SQL; null when the pass
 * is over. 55000 when the engine is not attached.
 */
Datum
reputation_prune_audit(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		last;

	spi_begin();
	last = prune_step(engine_get(name), PG_GETARG_INT64(1));
	spi_end();
	if (last == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(last);
}

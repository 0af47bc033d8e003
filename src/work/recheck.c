/*
 * recheck.c
 *		Having a worker look once more at what a session stored.
 *
 * A session stores without a claim, by a snapshot that may be older than what it
 * overwrites (queue.c). So whoever stores in a session queues the users afterwards; those
 * that had no score row get one from whoever claims them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/spi.h"
#include "capture/capture.h"
#include "catalog/pg_type.h"
#include "work/drain.h"

/* Users of a transaction that are queued one by one to be looked at again. */
#define MAX_RECHECKS	10000

/* Has a worker look again at everybody; takes no lock that another could want. */
static void
recheck_everyone(Engine *engine)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(engine->users)};

	if (spi_exec("SELECT id FROM reputation.source WHERE relation = $1", 1, types, values,
				 NULL) == 0)
		elog(ERROR, "the users table of engine %s is no source", engine->descriptor->name);
	capture_everyone((int32) spi_int(0, 1, NULL));
}

/*
 * recheck_queue -- has a worker look again at what was written, or was to be. When a transaction
 * has stored very many, everybody is cheaper than a job for each.
 */
void
recheck_queue(Engine *engine, Score *scores, int count)
{
	static TransactionId counted_in = InvalidTransactionId;
	static int64 counted = 0;
	char	  **users = palloc(sizeof(char *) * Max(count, 1));
	int			nusers = 0;

	for (int i = 0; i < count; i++)
	{
		if (scores[i].audit || score_differs(engine, &scores[i]))
			users[nusers++] = scores[i].user;
	}
	if (nusers == 0)
		return;

	if (counted_in != GetTopTransactionId())
		counted = 0;
	counted_in = GetTopTransactionId();
	/* A mark stays in the captured set even if a savepoint is rolled back. */
	if (counted <= MAX_RECHECKS && counted + nusers > MAX_RECHECKS)
		recheck_everyone(engine);
	counted += nusers;
	if (counted > MAX_RECHECKS)
		return;
	queue_enqueue_run(engine, users, nusers, RUN_RECHECK);
	capture_wake_at_commit();
}

/*
 * recheck_orphans -- queues the score rows of users that do not exist:
 * whoever claims them removes them, or finds the user there again. Returns how
 * many.
 */
int64
recheck_orphans(Engine *engine)
{
	char	   *sql = psprintf("SELECT s.user_id FROM reputation.%s s WHERE NOT EXISTS "
							   "(SELECT FROM %s t WHERE t.%s::text = s.user_id COLLATE \"C\")",
							   engine->descriptor->score_table, engine->users_name,
							   engine->users_key);
	uint64		count = engine_exec_all(engine, sql);
	char	  **keys;

	if (count == 0)
		return 0;

	keys = palloc(sizeof(char *) * count);
	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	queue_enqueue_run(engine, keys, (int) count, RUN_RECHECK);
	capture_wake_at_commit();
	return (int64) count;
}

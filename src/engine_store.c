/*
 * engine_store.c
 *		Storing scores: the cached column and the score table.
 *
 * Nothing is written that did not change: a row of the users table only when
 * its cached value differs, a score row only when the score or the version
 * does. Rows that others hold locked are skipped and reported as not stored.
 * Why a stale value cannot stay is told in queue.c.
 */
#include "postgres.h"

#include "capture.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "engine.h"
#include "queue.h"
#include "spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * score_differs -- is anything stored for the user that is not the score?
 */
bool
score_differs(const Engine *engine, const Score *score)
{
	return score->cached_null || score->cached != score->score ||
		!score->has_row || score->row_score != score->score ||
		score->row_version != engine->version;
}

static int
compare_users(const void *a, const void *b)
{
	return strcmp((*(Score *const *) a)->user, (*(Score *const *) b)->user);
}

static int
compare_user(const void *key, const void *element)
{
	return strcmp(key, (*(Score *const *) element)->user);
}

/* Marks the scores of the users in the statement's result, which are sorted. */
static void
mark_returned(Score **scores, int count, uint64 returned, bool changed)
{
	for (uint64 row = 0; row < returned; row++)
	{
		Score	  **score = bsearch(spi_text(row, 1), scores, count, sizeof(Score *),
									compare_user);

		if (score == NULL)
			continue;
		(*score)->stored = true;
		(*score)->changed |= changed;
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Writes the cached column of the rows that nobody holds locked, and marks
 * those scores as stored. Not captured: the claim covers it, or the recheck.
 */
static void
store_cached(Engine *engine, Score **scores, int count)
{
	Oid			types[] = {get_array_type(engine->key_type), INT4ARRAYOID};
	char	  **keys = palloc(sizeof(char *) * Max(count, 1));
	int32	   *numbers = palloc(sizeof(int32) * Max(count, 1));
	Datum		values[2];
	uint64		written;
	char	   *sql;

	qsort(scores, count, sizeof(Score *), compare_users);
	for (int i = 0; i < count; i++)
	{
		keys[i] = scores[i]->user;
		numbers[i] = scores[i]->score;
	}
	values[0] = typed_array(engine->key_type, keys, count);
	values[1] = int_array(numbers, count);
	sql = psprintf("WITH free AS ("
				   "SELECT t.%2$s AS id, n.score FROM %1$s t "
				   "JOIN unnest($1, $2) AS n(id, score) ON t.%2$s = n.id "
				   "FOR NO KEY UPDATE OF t SKIP LOCKED) "
				   "UPDATE %1$s t SET %3$s = free.score FROM free WHERE t.%2$s = free.id "
				   "RETURNING t.%2$s::text",
				   engine->users_name, engine->users_key, engine->cached_column);

	written = engine_exec(engine, true, sql, 2, types, values);
	mark_returned(scores, count, written, true);
}

/*
 * Writes score rows: updates those that are there and not locked, or inserts
 * those that are missing. Marks what it wrote as stored.
 */
static void
store_rows(Engine *engine, Score **scores, int count, bool missing)
{
	Oid			types[] = {TEXTARRAYOID, INT4ARRAYOID, INT4OID, TIMESTAMPTZOID};
	char	  **keys = palloc(sizeof(char *) * count);
	int32	   *numbers = palloc(sizeof(int32) * count);
	Datum		values[4];
	const char *sql;

	qsort(scores, count, sizeof(Score *), compare_users);
	for (int i = 0; i < count; i++)
	{
		keys[i] = scores[i]->user;
		numbers[i] = scores[i]->score;
		scores[i]->stored = false;
	}
	values[0] = text_array(keys, count);
	values[1] = int_array(numbers, count);
	values[2] = Int32GetDatum(engine->version);
	values[3] = TimestampTzGetDatum(clock_now());
	sql = missing ?
		"INSERT INTO reputation.%1$s AS s SELECT n.id, n.score, $3, $4 "
		"FROM unnest($1, $2) AS n(id, score) ON CONFLICT (user_id) DO UPDATE "
		"SET score = excluded.score, algorithm_version = $3, computed_at = $4 "
		"RETURNING user_id" :
		"WITH free AS (SELECT s.user_id, n.score FROM reputation.%1$s s "
		"JOIN unnest($1, $2) AS n(id, score) ON s.user_id = n.id "
		"FOR NO KEY UPDATE OF s SKIP LOCKED) "
		"UPDATE reputation.%1$s s SET score = free.score, algorithm_version = $3, "
		"computed_at = $4 FROM free WHERE s.user_id = free.user_id RETURNING s.user_id";
	mark_returned(scores, count,
				  spi_exec(psprintf(sql, engine->descriptor->score_table), 4, types, values, NULL),
				  false);
}

/* Has a worker look again at what differed. */
static void
queue_rechecks(Engine *engine, Score *scores, int count)
{
	char	  **users = palloc(sizeof(char *) * Max(count, 1));
	int			nusers = 0;

	for (int i = 0; i < count; i++)
	{
		if (score_differs(engine, &scores[i]))
			users[nusers++] = scores[i].user;
	}
	if (nusers > 0)
	{
		queue_enqueue_run(engine, users, nusers, RUN_RECHECK);
		capture_wake_at_commit();
	}
	pfree(users);
}

/*
 * engine_store -- stores what differs and sets stored and changed. Claimed: the
 * caller holds the users' lanes (queue.c). Otherwise what differed is queued to
 * be looked at by somebody with a claim, who also inserts the score rows that
 * are missing: an insert of a session's could hold up a worker's.
 */
void
engine_store(Engine *engine, Score *scores, int count, bool claimed)
{
	Score	  **picked = palloc(sizeof(Score *) * Max(count, 1));
	int			npicked = 0;

	for (int i = 0; i < count; i++)
	{
		scores[i].stored = !scores[i].cached_null && scores[i].cached == scores[i].score;
		if (!scores[i].stored)
			picked[npicked++] = &scores[i];
	}
	if (npicked > 0)
		store_cached(engine, picked, npicked);

	for (int missing = 0; missing < (claimed ? 2 : 1); missing++)
	{
		npicked = 0;
		for (int i = 0; i < count; i++)
		{
			Score	   *score = &scores[i];

			if (score->stored && score->has_row == !missing &&
				(missing || score->row_score != score->score ||
				 score->row_version != engine->version))
				picked[npicked++] = score;
		}
		if (npicked > 0)
			store_rows(engine, picked, npicked, missing);
	}
	if (!claimed)
		queue_rechecks(engine, scores, count);
	pfree(picked);
}

/*
 * engine_probe -- does for no users what computing and storing does: raises
 * what is wrong with the engine as such.
 */
void
engine_probe(Engine *engine)
{
	Score	   *none;

	engine_compute(engine, NULL, 0, &none);
	store_cached(engine, &none, 0);
}

/*
 * engine_row_is_free -- can the user's row be locked now? Tells a row that
 * somebody holds from one that a trigger refuses to update.
 */
bool
engine_row_is_free(Engine *engine, const char *key)
{
	Oid			types[] = {engine->key_type};
	Datum		values[] = {engine_key_datum(engine, key)};
	char	   *sql = psprintf("SELECT 1 FROM %s t WHERE t.%s = $1 FOR NO KEY UPDATE SKIP LOCKED",
							   engine->users_name, engine->users_key);

	return engine_exec(engine, false, sql, 1, types, values) > 0;
}

/*
 * engine_remove_users -- removes what is kept about users that are gone.
 */
void
engine_remove_users(Engine *engine, char **keys, int count)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), text_array(keys, count),
	CStringGetTextDatum(engine->descriptor->name)};

	spi_exec(psprintf("DELETE FROM reputation.%s WHERE user_id = ANY ($1)",
					  engine->descriptor->score_table), 1, &types[1], &values[1], NULL);
	spi_exec("DELETE FROM reputation.recent_run WHERE engine = $1 AND key = ANY ($2)", 2, types,
			 values, NULL);
	spi_exec("DELETE FROM reputation.dead_letter WHERE engine = $2 AND kind = 0 AND key = ANY ($1)",
			 2, &types[1], &values[1], NULL);
}

/*
 * engine_queue_orphans -- queues the score rows of users that do not exist:
 * whoever claims them removes them, or finds the user there again. Returns how
 * many.
 */
int64
engine_queue_orphans(Engine *engine)
{
	char	   *sql = psprintf("SELECT s.user_id FROM reputation.%s s WHERE NOT EXISTS "
							   "(SELECT FROM %s t WHERE t.%s::text = s.user_id)",
							   engine->descriptor->score_table, engine->users_name,
							   engine->users_key);
	uint64		count = engine_exec(engine, false, sql, 0, NULL, NULL);
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

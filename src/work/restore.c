/*
 * restore.c
 *		What somebody else wrote to a column that an engine writes is undone.
 *
 * The cached column and the rank column are the engine's. An application that saves
 * a stale copy of a row, a user who may update his own, or an INSERT with a value of
 * its own writes them all the same. Nothing that scores come from has changed then, so
 * nothing is computed: the cached column gets what the score row says, the rank
 * column the user's rank by the score table as of now (not as of the last run that
 * wrote ranks). It is done by the next unit, whether a debounce window is open or
 * not, and opens none; what waits for the window goes on waiting.
 *
 * Capture leaves a key of its own for such a write (mode c or r, capture.c), which the
 * fold makes a job of a kind of its own. Where there is no score row yet the user is
 * computed, as after any event. Why no such value stays, nor a stale one comes of it:
 *
 * 1. The write commits with its key, the key is folded into a job in one transaction,
 *	  and the job goes in the transaction that restores the value or was refused
 *	  (cached_foreign_write: "before", and t/interrupted for a crash).
 * 2. A restore holds the user's lane, and reads score row and column with a snapshot
 *	  taken after it got the lane. So the score row is what the last unit stored, and no
 *	  unit is between its two writes ("while": the store has the lane, the restore comes
 *	  after it).
 * 3. A session stores without a lane. If its store commits between the restore's
 *	  snapshot and its update, the restore may put the value from before in the place of
 *	  the new one; but then the session has committed a recheck with it ("recalc").
 * 4. A row that somebody holds is passed over and its job comes back, so a write that is
 *	  not committed yet is never what was looked at; its own key comes when it is
 *	  ("while", with the writer holding the row).
 * 5. A claim takes rows of one kind: the job that waits for the user's window, and the
 *	  window, stay as they are (12_foreign_writes).
 * 6. What a restore writes is not captured, so it leads to no restore. A trigger of the
 *	  application's that changes the value again is found by looking at what the update
 *	  returns: the job fails, backs off, and ends as a dead letter (12_foreign_writes).
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "work/queue.h"
#include "work/restore.h"

/* What the look found of a user. */
typedef struct Found
{
	const char *key;
	bool		has_score;
	int64		right;
	bool		differs;
} Found;

static int
compare_found(const void *key, const void *element)
{
	return strcmp(key, ((const Found *) element)->key);
}

static int
compare_places(const void *a, const void *b)
{
	return strcmp(((const Found *) a)->key, ((const Found *) b)->key);
}

/* The query of key, right value, and whether the column has another one. */
static char *
look_query(const Engine *engine, int16 kind)
{
	const EngineDescriptor *d = engine->descriptor;
	const char *score = kind == KIND_RESTORE_RANK ? engine_period_column(d, 0) : "score";
	char	   *right = kind == KIND_RESTORE_RANK ?
	psprintf("1 + (SELECT count(*) FROM reputation.%1$s o WHERE o.%2$s > s.%2$s)",
			 d->score_table, score) : "s.score::bigint";

	return psprintf("SELECT n.id, n.value, n.stored IS DISTINCT FROM n.value FROM "
					"(SELECT t.%2$s::text AS id, t.%3$s AS stored, "
					"CASE WHEN s.user_id IS NOT NULL THEN %4$s END AS value FROM %1$s t "
					"LEFT JOIN reputation.%5$s s ON s.user_id = t.%2$s::text COLLATE \"C\" "
					"WHERE t.%2$s = ANY ($1)) n",
					engine->users_name, engine->users_key, restore_column(engine, kind), right,
					d->score_table);
}

/* Looks at the users, who are sorted by key then; returns how many there are. */
static int
look_at_users(const Engine *engine, int16 kind, char **keys, int count, Found **found)
{
	Oid			types[] = {get_array_type(engine->key_type)};
	Datum		values[] = {typed_array(engine->key_type, keys, count)};
	uint64		rows = engine_update(engine, false, look_query(engine, kind), 1, types, values);

	*found = palloc(sizeof(Found) * Max(rows, 1));
	for (uint64 row = 0; row < rows; row++)
	{
		Found	   *user = &(*found)[row];
		bool		isnull;

		user->key = spi_text(row, 1);
		user->right = spi_int(row, 2, &isnull);
		user->has_score = !isnull;
		user->differs = DatumGetBool(spi_datum(row, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(*found, rows, sizeof(Found), compare_places);
	return (int) rows;
}

/*
 * restore_column -- the column of the users table, quoted; NULL when the engine has
 * none any more.
 */
const char *
restore_column(const Engine *engine, int16 kind)
{
	return kind == KIND_RESTORE_RANK ? engine->rank_column : engine->cached_column;
}

/*
 * restore_users -- gives the users whose lanes are held the right value, and says what
 * became of each. Needs SPI and the extension owner's rights; for no users it raises
 * what it would for some.
 */
void
restore_users(Engine *engine, int16 kind, char **keys, int count, Restored *results)
{
	Oid			types[] = {get_array_type(engine->key_type), INT8ARRAYOID};
	const char *column = restore_column(engine, kind);
	char	  **wrong = palloc(sizeof(char *) * Max(count, 1));
	int64	   *right = palloc(sizeof(int64) * Max(count, 1));
	int			nwrong = 0;
	Found	   *found;
	int			nfound;
	Datum		values[2];
	uint64		written;

	for (int i = 0; i < count; i++)
		results[i] = RESTORE_RIGHT;
	if (column == NULL)
		return;
	nfound = look_at_users(engine, kind, keys, count, &found);
	for (int i = 0; i < count; i++)
	{
		Found	   *user = bsearch(keys[i], found, nfound, sizeof(Found), compare_found);

		if (user == NULL)
			continue;			/* gone: another key tells of that */
		if (!user->has_score)
			results[i] = RESTORE_NO_SCORE;
		else if (user->differs)
		{
			results[i] = RESTORE_LOCKED;
			wrong[nwrong] = keys[i];
			right[nwrong++] = user->right;
		}
	}
	if (nwrong == 0 && count > 0)
		return;

	values[0] = typed_array(engine->key_type, wrong, nwrong);
	values[1] = bigint_array(right, nwrong);
	written = engine_update(engine, false,
							psprintf("WITH free AS (SELECT t.%2$s AS id, n.value FROM %1$s t "
									 "JOIN unnest($1, $2) AS n(id, value) ON t.%2$s = n.id "
									 "FOR NO KEY UPDATE OF t SKIP LOCKED) "
									 "UPDATE %1$s t SET %3$s = free.value FROM free "
									 "WHERE t.%2$s = free.id "
									 "RETURNING t.%2$s::text, t.%3$s IS NOT DISTINCT FROM free.value",
									 engine->users_name, engine->users_key, column),
							2, types, values);
	nfound = (int) written;
	found = palloc(sizeof(Found) * Max(nfound, 1));
	for (int i = 0; i < nfound; i++)
	{
		bool		isnull;

		found[i].key = spi_text(i, 1);
		found[i].differs = !DatumGetBool(spi_datum(i, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(found, nfound, sizeof(Found), compare_places);
	for (int i = 0; i < count; i++)
	{
		Found	   *user = bsearch(keys[i], found, nfound, sizeof(Found), compare_found);

		if (user != NULL)
			results[i] = user->differs ? RESTORE_REFUSED : RESTORE_RIGHT;
	}
}

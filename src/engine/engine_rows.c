/*
 * engine_rows.c
 *		Writing score rows, and the audit that goes with them.
 *
 * An engine's score table has the columns of its description. Where there is an
 * audit table, the statement that writes a score row writes the audit row too,
 * after it has the score row's lock: a user's last audit row, by its id, is of
 * the score row as it is, and "old" is what that row said before. A score row of
 * which only next_due_at differs keeps everything else, the score included, which may be
 * another by now, and gets no audit row.
 *
 * Rows are written in haste (engine_store.c), or the free ones are locked first. An
 * audited one is always locked first, for its old score.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engine/engine.h"
#include "utils/builtins.h"

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

/*
 * engine_mark_returned -- marks the scores of the users in the statement's
 * result as stored; the scores are sorted.
 */
void
engine_mark_returned(Score **scores, int count, uint64 returned, bool changed)
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
 * engine_sort_scores -- sorts by key; the keys and scores as C arrays.
 */
void
engine_sort_scores(Score **scores, int count, char ***keys, int32 **numbers)
{
	*keys = palloc(sizeof(char *) * Max(count, 1));
	*numbers = palloc(sizeof(int32) * Max(count, 1));
	qsort(scores, count, sizeof(Score *), compare_users);
	for (int i = 0; i < count; i++)
	{
		(*keys)[i] = scores[i]->user;
		(*numbers)[i] = scores[i]->score;
	}
}

/* A column of a row s that is left alone on a condition, else set. */
#define UNLESS(condition, column, new) \
	column " = CASE WHEN " condition " THEN s." column " ELSE " new " END"

/* Since when the score is what it is: as before when a new row has the same. */
#define REACHED(new)	UNLESS("s.score = " new ".score", "reached_at", "$4")

/* Has the engine an own idea of since when a user has the score? */
static bool
dates_scores(const EngineDescriptor *d)
{
	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (strcmp(d->class->columns[i].name, "reached_at") == 0)
			return true;
	}
	return false;
}

/* The statement that writes rows of scores alone; %s is the table. */
static const char *
plain_statement(bool missing, bool hasty)
{
	if (missing)
		return "INSERT INTO reputation.%1$s AS s "
			"(user_id, score, reached_at, algorithm_version, computed_at) "
			"SELECT n.id, n.score, $4, $3, $4 FROM unnest($1, $2) AS n(id, score) "
			"ON CONFLICT (user_id) DO UPDATE SET score = excluded.score, "
			REACHED("excluded") ", algorithm_version = $3, computed_at = $4 "
			"RETURNING user_id";
	if (hasty)
		return "UPDATE reputation.%1$s s SET score = n.score, " REACHED("n") ", "
			"algorithm_version = $3, computed_at = $4 FROM unnest($1, $2) AS n(id, score) "
			"WHERE s.user_id = n.id RETURNING s.user_id";
	return "WITH free AS (SELECT s.ctid, n.score FROM reputation.%1$s s "
		"JOIN unnest($1, $2) AS n(id, score) ON s.user_id = n.id "
		"FOR NO KEY UPDATE OF s SKIP LOCKED) "
		"UPDATE reputation.%1$s s SET score = free.score, " REACHED("free") ", "
		"algorithm_version = $3, computed_at = $4 FROM free WHERE s.ctid = free.ctid RETURNING s.user_id";
}

/* The engine's own columns, each after a format with up to two places for it. */
static char *
columns(const EngineDescriptor *d, bool audited_only, const char *format)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (d->class->columns[i].audited || !audited_only)
			appendStringInfo(&list, format, d->class->columns[i].name, d->class->columns[i].type);
	}
	return list.data;
}

/* The parameters from $5 on as a table "n", with the first two; see write_columns(). */
static char *
parameter_rows(const EngineDescriptor *d)
{
	StringInfoData arrays;

	initStringInfo(&arrays);
	for (int i = 0; i < d->class->ncolumns; i++)
		appendStringInfo(&arrays, ", $%d", 7 + i);
	return psprintf("unnest($1, $2, $5, $6%s) AS n(id, score, due_at, cause%s)", arrays.data,
					columns(d, false, ", %1$s"));
}

/* What follows "WITH written AS (...)", and gives the users. */
static char *
audit_statement(const EngineDescriptor *d)
{
	if (d->audit_table == NULL)
		return " SELECT user_id FROM written";
	return psprintf(", audited AS (INSERT INTO reputation.%s (user_id, old_score, new_score, "
					"cause, algorithm_version, computed_at%s) "
					"SELECT user_id, old_score, score, cause, $3, $4%s FROM written "
					"WHERE cause <> '') SELECT user_id FROM written",
					d->audit_table, columns(d, true, ", %1$s"), columns(d, true, ", %1$s"));
}

/*
 * What an update sets a row s to, from n; a cause of '' means that only next_due_at
 * is another. (Than in the row that was compared: by now it may be somebody else's,
 * whose score has its audit row.)
 */
static char *
row_assignments(const EngineDescriptor *d)
{
	return psprintf("%1$s%2$s" UNLESS("n.cause = ''", "score", "n.score") ", "
					UNLESS("n.cause = ''", "algorithm_version", "$3") ", "
					UNLESS("n.cause = ''", "computed_at", "$4") "%3$s",
					d->class->timed ? "next_due_at = nullif(n.due_at, 'infinity'), " : "",
					dates_scores(d) ? "" :
					UNLESS("n.cause = '' OR s.score = n.score", "reached_at", "$4") ", ",
					columns(d, false, ", " UNLESS("n.cause = ''", "%1$s", "n.%1$s::%2$s")));
}

/* The statement that adds rows with the engine's columns. */
static char *
insert_statement(const EngineDescriptor *d)
{
	return psprintf("WITH n AS MATERIALIZED (SELECT * FROM %1$s), "
					"added AS (INSERT INTO reputation.%2$s AS s "
					"(user_id, score, algorithm_version, computed_at%6$s%8$s%3$s) "
					"SELECT n.id, n.score, $3, $4%7$s%9$s%4$s FROM n "
					"ON CONFLICT (user_id) DO NOTHING RETURNING s.*), "
					"written AS (SELECT a.*, NULL::int AS old_score, n.cause "
					"FROM added a JOIN n ON n.id = a.user_id)%5$s",
					parameter_rows(d), d->score_table, columns(d, false, ", %1$s"),
					columns(d, false, ", n.%1$s::%2$s"), audit_statement(d),
					d->class->timed ? ", next_due_at" : "",
					d->class->timed ? ", nullif(n.due_at, 'infinity')" : "",
					dates_scores(d) ? "" : ", reached_at", dates_scores(d) ? "" : ", $4");
}

/* The statement that updates them, for which it locks them first unless it is hasty. */
static char *
update_statement(const EngineDescriptor *d, bool hasty)
{
	if (hasty && d->audit_table == NULL)
		return psprintf("UPDATE reputation.%2$s s SET %3$s FROM %1$s WHERE s.user_id = n.id "
						"RETURNING s.user_id",
						parameter_rows(d), d->score_table, row_assignments(d));
	return psprintf("WITH free AS (SELECT s.ctid, s.score AS old_score, n.* "
					"FROM reputation.%2$s s JOIN %1$s ON s.user_id = n.id "
					"FOR NO KEY UPDATE OF s SKIP LOCKED), "
					"written AS (UPDATE reputation.%2$s s SET %3$s "
					"FROM free n WHERE s.ctid = n.ctid RETURNING s.*, n.old_score, n.cause)%4$s",
					parameter_rows(d), d->score_table, row_assignments(d), audit_statement(d));
}

/* The scores' values of a column as an array, of a type. */
static Datum
column_array(const Engine *engine, Score **scores, int count, int column, Oid *type)
{
	ColumnKind	kind = engine->descriptor->class->columns[column].kind;
	int64	   *numbers;

	if (kind == COLUMN_TEXT)
	{
		char	  **texts = palloc(sizeof(char *) * Max(count, 1));

		for (int i = 0; i < count; i++)
			texts[i] = scores[i]->columns[column].text;
		*type = TEXTARRAYOID;
		return text_array(texts, count);
	}
	numbers = palloc(sizeof(int64) * Max(count, 1));
	for (int i = 0; i < count; i++)
		numbers[i] = scores[i]->columns[column].number;
	*type = kind == COLUMN_TIME ? TIMESTAMPTZARRAYOID : INT8ARRAYOID;
	return kind == COLUMN_TIME ? timestamp_array(numbers, count) : bigint_array(numbers, count);
}

/* Writes rows with the engine's columns. */
static uint64
write_columns(Engine *engine, Score **scores, int count, bool missing, bool hasty,
			  const Datum *common)
{
	const EngineDescriptor *d = engine->descriptor;
	Oid			types[6 + MAX_SCORE_COLUMNS] = {TEXTARRAYOID, INT4ARRAYOID, INT4OID,
	TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID};
	Datum		values[6 + MAX_SCORE_COLUMNS];
	TimestampTz *due = palloc(sizeof(TimestampTz) * Max(count, 1));
	char	  **texts = palloc(sizeof(char *) * Max(count, 1));

	memcpy(values, common, sizeof(Datum) * 4);
	for (int i = 0; i < count; i++)
	{
		Score	   *score = scores[i];

		due[i] = score->next_due_at;
		texts[i] = (char *) (score->audit || score_changed(engine, score) ? score->cause : "");
	}
	values[4] = timestamp_array(due, count);
	values[5] = text_array(texts, count);
	for (int i = 0; i < d->class->ncolumns; i++)
		values[6 + i] = column_array(engine, scores, count, i, &types[6 + i]);
	return spi_exec(missing ? insert_statement(d) : update_statement(d, hasty), 6 + d->class->ncolumns,
					types, values, NULL);
}

/*
 * engine_write_rows -- writes score rows: updates those that are there and, unless
 * it is hasty, not locked; or inserts those that are missing. Marks what it
 * wrote as stored, the others as not.
 */
void
engine_write_rows(Engine *engine, Score **scores, int count, bool missing, bool hasty)
{
	const EngineDescriptor *d = engine->descriptor;
	Oid			types[] = {TEXTARRAYOID, INT4ARRAYOID, INT4OID, TIMESTAMPTZOID};
	char	  **keys;
	int32	   *numbers;
	Datum		values[4];
	uint64		written;
	int			settings = spi_settings_begin();

	engine_sort_scores(scores, count, &keys, &numbers);
	for (int i = 0; i < count; i++)
		scores[i]->stored = false;
	values[0] = text_array(keys, count);
	values[1] = int_array(numbers, count);
	values[2] = Int32GetDatum(engine->version);
	values[3] = TimestampTzGetDatum(d->class->ncolumns > 0 ? engine->now : clock_now());
	spi_prefer_indexes();
	if (hasty)
		spi_set("lock_timeout", "1ms");
	written = d->class->ncolumns > 0 ? write_columns(engine, scores, count, missing, hasty, values) :
		spi_exec(psprintf(plain_statement(missing, hasty), d->score_table), 4, types, values,
				 NULL);
	engine_mark_returned(scores, count, written, false);
	spi_settings_end(settings);
}

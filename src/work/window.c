/*
 * window.c
 *		Debounce windows: until when an event of a user has to wait.
 *
 * A row of reputation.recent_run says that a unit computed the user because of a
 * change, and when the window that this opened closes. A user may have several;
 * the last one counts. Why no user is computed twice in a window is told in
 * queue.c.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "work/queue.h"

/*
 * windows_open -- the users were computed because of a change: their
 * debounce windows are open from now on.
 */
void
windows_open(const Engine *engine, char **keys, int count)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		values[3];

	if (count == 0 || engine->debounce == 0)
		return;
	values[0] = Int32GetDatum(engine->descriptor->id);
	values[1] = text_array(keys, count);
	values[2] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(clock_now(), engine->debounce));
	spi_exec("INSERT INTO reputation.recent_run (engine, key, closes_at) "
			 "SELECT $1, k, $3 FROM unnest($2) AS k", 3, types, values, NULL);
}

/*
 * windows_closing -- when the windows close of those claimed users that were due for
 * blind rows alone, and so wait for that; 0: the user waits for none. The jobs are in the
 * order of their keys.
 */
TimestampTz *
windows_closing(const Engine *engine, const Job *jobs, int count)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	char	  **keys = palloc(sizeof(char *) * Max(count, 1));
	TimestampTz *closing = palloc0(sizeof(TimestampTz) * Max(count, 1));
	TimestampTz now = clock_now();
	Datum		values[4];
	int			nwindows;
	int			nkeys = 0;
	int			next = 0;

	for (int i = 0; i < count; i++)
	{
		if (jobs[i].may_wait)
			keys[nkeys++] = jobs[i].key;
	}
	if (nkeys == 0)
		return closing;

	values[0] = Int32GetDatum(engine->descriptor->id);
	values[1] = text_array(keys, nkeys);
	values[2] = TimestampTzGetDatum(now);
	values[3] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, engine->debounce));
	nwindows = (int) spi_exec("SELECT key, least(max(closes_at), $4) FROM reputation.recent_run "
							  "WHERE engine = $1 AND key = ANY ($2) AND closes_at > $3 "
							  "AND $4 > $3 GROUP BY key ORDER BY key COLLATE \"C\"",
							  4, types, values, NULL);
	for (int i = 0; i < count && next < nwindows; i++)
	{
		bool		isnull;

		if (jobs[i].may_wait && strcmp(jobs[i].key, spi_text(next, 1)) == 0)
			closing[i] = DatumGetTimestampTz(spi_datum(next++, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return closing;
}

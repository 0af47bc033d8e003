/*
 * due.c
 *		Scores that time alone changes: from next_due_at to the job table.
 *
 * A score row of a timed engine says when its score or its badges can change
 * next if nothing is written. An index on that finds whose time has come, and
 * tells a worker how long it may sleep; nobody looks at the others. Who is due
 * is put into the job table like a user of a sweep, in portions, and goes the
 * way of any other job from there: lanes, retries, quarantine. A share of each batch
 * is theirs (queue.c), and they are looked for under load, too: no load of events
 * keeps a badge that is over, and no number of them holds up the events. While a
 * portion of them is waiting there come no more.
 *
 * Why none is missed or done for ever. A row stays due until somebody stores
 * a later next_due_at, or the user is gone and the row with it. Until then it
 * is fed, unless a job that is there already will do: one that is due, that
 * failed and comes back, or a sweep's. The statement sees row and job in one
 * snapshot, and a unit removes the job in the transaction that stores the row.
 * An event that waits for its window is no such job: the time has come before.
 * A dead letter is, until it is retried or the user has an event: it would only
 * fail again. One feeds at a time (DUE lock): whoever is next has a snapshot that
 * shows what its predecessor queued, or what became of it.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/locks.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "work/drain.h"
#include "work/queue.h"

/* A score row s of the engine $1 (a number) that has no such job; $2 is its name. */
#define NOT_QUEUED \
	"NOT EXISTS (SELECT FROM reputation.job j WHERE j.engine = $1 AND j.kind = 0 " \
	"AND j.key = s.user_id AND (j.run_id IS NOT NULL OR j.attempt > 0 OR j.lock_tries > 0 " \
	"OR j.due_at <= $3)) " \
	"AND NOT EXISTS (SELECT FROM reputation.dead_letter d WHERE d.key = s.user_id " \
	"AND d.engine = $2 AND d.kind = 0)"

/* Runs a query with NOT_QUEUED over the engine's score table. */
static uint64
query(const Engine *engine, const char *format, int limit)
{
	Oid			types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id),
		CStringGetTextDatum(engine->descriptor->name),
	TimestampTzGetDatum(clock_now())};
	int			settings = spi_settings_begin();
	uint64		count;

	spi_prefer_indexes();
	count = spi_exec(psprintf(format, engine->descriptor->score_table, limit), 3, types, values,
					 NULL);
	spi_settings_end(settings);
	return count;
}

/* How many of those that were queued are due still, as far as a portion goes. */
static int
waiting(const Engine *engine, int portion)
{
	Oid			types[] = {INT4OID, INT2OID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), Int16GetDatum(PRIORITY_TIME),
	TimestampTzGetDatum(clock_now())};

	spi_exec(psprintf("SELECT count(*) FROM (SELECT FROM reputation.job WHERE engine = $1 "
					  "AND priority = $2 AND due_at <= $3 LIMIT %d) j", portion),
			 3, types, values, NULL);
	return (int) spi_int(0, 1, NULL);
}

/* Queues the users that are due, at most so many; returns how many. */
static int
feed_timed(const Engine *engine, int limit)
{
	uint64		count = query(engine, "SELECT s.user_id FROM reputation.%s s "
							  "WHERE s.next_due_at <= $3 AND " NOT_QUEUED
							  " ORDER BY s.next_due_at LIMIT %d", limit);
	char	  **keys = palloc(sizeof(char *) * Max(count, 1));

	for (uint64 row = 0; row < count; row++)
		keys[row] = spi_text(row, 1);
	if (count > 0)
		queue_enqueue_run(engine, keys, (int) count, RUN_TIME);
	return (int) count;
}

/*
 * due_feed -- queues a portion of the users whose time has come; returns how many.
 * None when somebody else is at it and it shall not wait, or when a portion waits.
 */
int
due_feed(const Engine *engine, int portion, bool wait)
{
	int			room;

	if (!engine->descriptor->class->timed || !lock_due(engine->descriptor->id, wait))
		return 0;
	room = portion - waiting(engine, portion);
	return room > 0 ? feed_timed(engine, room) : 0;
}

/*
 * due_job -- queues one of them; false when there is none.
 */
bool
due_job(const Engine *engine)
{
	return engine->descriptor->class->timed && lock_due(engine->descriptor->id, false) &&
		feed_timed(engine, 1) > 0;
}

/*
 * due_next -- when the next user of these engines is due; DT_NOEND when nobody
 * ever is.
 */
TimestampTz
due_next(const List *engines)
{
	TimestampTz next = DT_NOEND;
	ListCell   *cell;

	foreach(cell, engines)
	{
		const Engine *engine = lfirst(cell);
		bool		isnull;

		if (engine->descriptor->class->timed &&
			query(engine, "SELECT s.next_due_at FROM reputation.%s s "
				  "WHERE s.next_due_at IS NOT NULL AND " NOT_QUEUED
				  " ORDER BY s.next_due_at LIMIT %d", 1) > 0)
			next = Min(next, Max(DatumGetTimestampTz(spi_datum(0, 1, &isnull)),
								 engine->retry_at));
	}
	return next;
}

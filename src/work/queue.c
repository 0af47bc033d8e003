/*
 * queue.c
 *		Due and deferred work: the job table.
 *
 * One job row says: compute this key at due_at. Rows are only inserted and
 * deleted (queue_rebase() apart), and a key may have several. Users are spread over LANES lanes by a
 * hash; whoever takes rows of a lane out holds its lock to the end of the
 * transaction (locks.c). So no user is computed by two units at once, and
 * these hold:
 *
 * - A claim deletes all rows of the keys it picks that its snapshot shows.
 *	 The computation's snapshot is later. A row that is inserted meanwhile stays.
 * - An enqueue may leave out a row that a pending one covers only when it holds
 *	 the lane: the snapshot it looks with was taken after it got the lock, so
 *	 the row it sees is not being worked on, and whoever takes it out later
 *	 computes with a later snapshot than the change that is enqueued. Without
 *	 the lane it inserts blindly.
 * - A value stored by a claimed unit is replaced only by a unit with a later
 *	 snapshot, since both held the lane. A value stored by anybody else may come
 *	 from an older snapshot; but with it is committed what leads to one more
 *	 computation: a job row if a session's recalc or repair stored it. What the
 *	 application writes to the cached column itself is undone (restore.c).
 *
 * Due times are the debounce: an event inside a user's window becomes due when
 * the window closes. They decide when something runs, never whether. Windows
 * are opened by units, which hold the lane until they commit. So an enqueue that
 * gets the lane sees all of them. One that does not get it may miss the one that
 * the unit at work is about to open: its row is due now, and marked as blind. Who
 * claims that holds the lane again and has a later snapshot than that unit's
 * commit: a user who is due for nothing else is put back until the window
 * closes (window.c). So there is one computation for events in a window, and one
 * when it closes if an event came in.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/guc.h"
#include "base/locks.h"
#include "base/spi.h"
#include "cache/invalidate.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "engine/bound.h"
#include "utils/builtins.h"
#include "work/queue.h"

PG_FUNCTION_INFO_V1(reputation_lane);

#define LONGEST_BACKOFF	3600	/* s */

static int16
lane_of(const char *key)
{
	return (int16) (hash_bytes((const unsigned char *) key, strlen(key)) % LANES);
}

/*
 * reputation.lane(key) -- lane_of() for SQL.
 */
Datum
reputation_lane(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT16(lane_of(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/*
 * tally -- counts jobs of a run that are through, and those that changed a
 * score. RUN_RECHECK and RUN_TIME are no runs.
 */
void
tally(Tallies *tallies, int64 run_id, int64 done, int64 changed)
{
	int			i;

	if (run_id <= RUN_RECHECK)
		return;
	for (i = 0; i < tallies->count; i++)
	{
		if (tallies->runs[i].run_id == run_id)
			break;
	}
	if (i == MAX_TALLIES)
		elog(ERROR, "more than %d runs in one unit of work", MAX_TALLIES);
	if (i == tallies->count)
		tallies->runs[tallies->count++] = (RunTally) {.run_id = run_id};
	tallies->runs[i].done += done;
	tallies->runs[i].changed += changed;
}

/*
 * tallies_store -- leaves them in reputation.run_tally, one row per run, for the
 * run's next step to add up (sweep.c). Inserted only: the row of the run, which
 * all workers would want and a session may hold, is not touched.
 */
void
tallies_store(const Tallies *tallies)
{
	Oid			types[] = {INT8OID, INT8OID, INT8OID};

	for (int i = 0; i < tallies->count; i++)
	{
		const RunTally *run = &tallies->runs[i];
		Datum		values[] = {Int64GetDatum(run->run_id), Int64GetDatum(run->done),
		Int64GetDatum(run->changed)};

		spi_exec("INSERT INTO reputation.run_tally (run_id, done, changed) VALUES ($1, $2, $3)",
				 3, types, values, NULL);
	}
}

/*
 * The keys' lanes, and which of these could be locked without waiting, as the arrays of
 * an INSERT.
 */
static void
try_lanes(const Engine *engine, char **keys, int count, Datum *lane_array, Datum *safe_array)
{
	int16	   *lanes = palloc(sizeof(int16) * Max(count, 1));
	bool	   *safe = palloc(sizeof(bool) * Max(count, 1));
	int8		got[LANES] = {0}; /* 0 not asked, 1 got, -1 not */

	for (int i = 0; i < count; i++)
	{
		int16		lane = lanes[i] = lane_of(keys[i]);

		if (got[lane] == 0)
			got[lane] = lock_lane(engine->descriptor->id, lane, false) ? 1 : -1;
		safe[i] = got[lane] > 0;
	}
	*lane_array = smallint_array(lanes, count);
	*safe_array = bool_array(safe, count);
}

/*
 * queue_enqueue -- queues users that a change concerns: due now, or when the
 * debounce window closes; priority high knows no window. A pending row of an event
 * that is due within a window's time is at the end of the user's window, which stays
 * as it is until that row is claimed; so whom it covers need not be looked up in
 * the windows. A row that no event led to covers none: it would be forgotten that
 * there was one.
 */
void
queue_enqueue(const Engine *engine, char **keys, int count, int16 priority)
{
	Oid			types[] = {INT4OID, INT2OID, TEXTARRAYOID, INT2ARRAYOID, BOOLARRAYOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz now = clock_now();
	int			window = priority == PRIORITY_HIGH ? 0 : engine->debounce;
	Datum		values[7];

	if (count == 0)
		return;
	invalidate_queued(engine, keys, count);
	values[0] = Int32GetDatum(engine->descriptor->id);
	values[1] = Int16GetDatum(priority);
	values[2] = text_array(keys, count);
	try_lanes(engine, keys, count, &values[3], &values[4]);
	values[5] = TimestampTzGetDatum(now);
	values[6] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, window));
	spi_exec("INSERT INTO reputation.job (engine, key, lane, priority, due_at, blind) "
			 "SELECT $1, n.key, n.lane, $2, w.due_at, NOT n.safe AND $7 > $6 "
			 "FROM unnest($3, $4, $5) AS n(key, lane, safe) "
			 "CROSS JOIN LATERAL (SELECT coalesce(max(least(r.closes_at, $7)), $6) AS due_at "
			 "FROM reputation.recent_run r "
			 "WHERE r.engine = $1 AND r.key = n.key AND r.closes_at > $6 AND $7 > $6) w "
			 "WHERE NOT (n.safe AND EXISTS (SELECT FROM reputation.job j "
			 "WHERE j.engine = $1 AND j.kind = 0 AND j.key = n.key AND j.event "
			 "AND (j.attempt > 0 OR (j.priority <= $2 "
			 "AND j.due_at <= CASE WHEN j.lock_tries = 0 THEN $7 ELSE $6 END))))",
			 7, types, values, NULL);
}

/*
 * queue_enqueue_restores -- queues users whose cached or rank column somebody else
 * wrote: due now, in the order of their keys. One that is pending covers another, where
 * the lane is held.
 */
void
queue_enqueue_restores(const Engine *engine, int16 kind, char **keys, int count)
{
	Oid			types[] = {INT4OID, INT2OID, TEXTARRAYOID, INT2ARRAYOID, BOOLARRAYOID, INT2OID,
	TIMESTAMPTZOID, INT8OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), Int16GetDatum(kind),
		text_array(keys, count), 0, 0, Int16GetDatum(PRIORITY_HIGH),
	TimestampTzGetDatum(clock_now()), Int64GetDatum(RUN_RECHECK)};

	try_lanes(engine, keys, count, &values[3], &values[4]);
	spi_exec("INSERT INTO reputation.job (engine, kind, key, lane, priority, due_at, event, run_id) "
			 "SELECT $1, $2, n.key, n.lane, $6, $7, false, $8 "
			 "FROM unnest($3, $4, $5) AS n(key, lane, safe) "
			 "WHERE NOT (n.safe AND EXISTS (SELECT FROM reputation.job j "
			 "WHERE j.engine = $1 AND j.kind = $2 AND j.key = n.key))", 8, types, values, NULL);
}

/*
 * queue_enqueue_run -- queues users of a run, RUN_RECHECK or RUN_TIME: due now, at low
 * priority, or at that of time. Takes no lane.
 */
void
queue_enqueue_run(const Engine *engine, char **keys, int count, int64 run_id)
{
	Oid			types[] = {INT4OID, TEXTARRAYOID, INT2ARRAYOID, INT2OID, TIMESTAMPTZOID, INT8OID};
	int16	   *lanes = palloc(sizeof(int16) * Max(count, 1));
	Datum		values[6];

	for (int i = 0; i < count; i++)
		lanes[i] = lane_of(keys[i]);
	values[0] = Int32GetDatum(engine->descriptor->id);
	values[1] = text_array(keys, count);
	values[2] = smallint_array(lanes, count);
	values[3] = Int16GetDatum(run_id == RUN_TIME ? PRIORITY_TIME : PRIORITY_LOW);
	values[4] = TimestampTzGetDatum(clock_now());
	values[5] = Int64GetDatum(run_id);
	spi_exec("INSERT INTO reputation.job (engine, key, lane, priority, due_at, event, run_id) "
			 "SELECT $1, n.key, n.lane, $4, $5, false, $6 FROM unnest($2, $3) AS n(key, lane)",
			 6, types, values, NULL);
}

/* Tries the lanes of this worker's share, or the others; returns how many it got. */
static int
lock_lanes(const Engine *engine, const DrainScope *scope, bool own_share, int16 *lanes)
{
	int			count = 0;

	for (int lane = 0; lane < LANES; lane++)
	{
		bool		mine = lane % scope->workers == scope->number % scope->workers;

		if (mine == own_share && lock_lane(engine->descriptor->id, lane, scope->wait))
			lanes[count++] = (int16) lane;
	}
	return count;
}

/*
 * job_compare -- the order of jobs for qsort(): by kind, then key.
 */
int
job_compare(const void *a, const void *b)
{
	const Job  *x = a;
	const Job  *y = b;

	return x->kind != y->kind ? x->kind - y->kind : strcmp(x->key, y->key);
}

/* Makes one job of all rows of a key; a second run's row is through with it. */
static int
merge_jobs(Job *rows, int count, Tallies *tallies)
{
	int			last = 0;

	if (count == 0)
		return 0;
	qsort(rows, count, sizeof(Job), job_compare);
	for (int i = 1; i < count; i++)
	{
		Job		   *job = &rows[last];

		if (job_compare(job, &rows[i]) != 0)
		{
			rows[++last] = rows[i];
			continue;
		}
		job->attempt = Max(job->attempt, rows[i].attempt);
		job->lock_tries = Max(job->lock_tries, rows[i].lock_tries);
		job->priority = Min(job->priority, rows[i].priority);
		job->event |= rows[i].event;
		job->may_wait &= rows[i].may_wait;
		if (job->run_id <= RUN_RECHECK)
			job->run_id = Max(job->run_id, rows[i].run_id);
		else
			tally(tallies, rows[i].run_id, 1, 0);
	}
	return last + 1;
}

/* The rows of the statement's result as jobs. */
static Job *
returned_jobs(uint64 count)
{
	Job		   *jobs = palloc(sizeof(Job) * Max(count, 1));

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;

		jobs[row].kind = (int16) spi_int(row, 1, NULL);
		jobs[row].key = spi_text(row, 2);
		jobs[row].attempt = (int16) spi_int(row, 3, NULL);
		jobs[row].lock_tries = (int16) spi_int(row, 4, NULL);
		jobs[row].priority = (int16) spi_int(row, 5, NULL);
		jobs[row].run_id = spi_int(row, 6, NULL);
		jobs[row].event = DatumGetBool(spi_datum(row, 7, &isnull));
		jobs[row].may_wait = DatumGetBool(spi_datum(row, 8, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return jobs;
}

/*
 * queue_peek -- the key that a claim would take first, without taking it.
 */
bool
queue_peek(const Engine *engine, Job *job)
{
	Oid			types[] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id),
	TimestampTzGetDatum(clock_now())};
	uint64		count = spi_exec("SELECT kind, key, attempt, lock_tries, priority, run_id, "
								 "event, false FROM reputation.job WHERE engine = $1 AND due_at <= $2 "
								 "ORDER BY priority, due_at LIMIT 1", 2, types, values, NULL);

	if (count > 0)
		*job = *returned_jobs(count);
	return count > 0;
}

/* What a claim takes: keys of one of these. */
typedef enum JobClass
{
	CLASS_RESTORES = -1,
	CLASS_USERS = 0,
	CLASS_LOOKUPS = 1
} JobClass;

#define CLASS	"(kind + 0 > 0)::int - (kind + 0 < 0)::int"

/*
 * Puts back, until their windows close, those of the claimed users that were due for
 * blind rows alone; returns how many jobs are left. They are in the order of their keys.
 */
static int
defer(const Engine *engine, Job *jobs, int count)
{
	TimestampTz *closing = windows_closing(engine, jobs, count);
	int			left = 0;

	for (int i = 0; i < count; i++)
	{
		if (closing[i] == 0)
			jobs[left++] = jobs[i];
		else
			queue_put_back(engine, &jobs[i], closing[i]);
	}
	return left;
}

/* For claim_lanes(): the due keys of a priority, at most so many. */
#define DUE_OF(priority, limit) \
	"(SELECT key FROM reputation.job WHERE engine + 0 = $1 AND priority = " priority " " \
	"AND due_at <= $2 AND lane = ANY ($3) AND " CLASS " = $5 " \
	"ORDER BY due_at LIMIT " limit ")"

/*
 * Takes out keys of a class of these lanes. A key picked for one of its
 * rows gives up all of them, deferred ones too. The sums keep the planner, whose
 * statistics may be of a moment when the table was empty, from walking through
 * a whole index by its last column: due rows are found by priority and time, a
 * key's rows by the key.
 *
 * A quarter of the batch goes to users whom time alone makes due, if there are so
 * many: a lasting load of events holds them up no longer than that takes, and however
 * many there are (after a night without a worker), they take no more from the events.
 */
static int
claim_lanes(const Engine *engine, const DrainScope *scope, int16 *lanes, int nlanes,
			JobClass class, Job **jobs, Tallies *tallies)
{
	Oid			types[] = {INT4OID, TIMESTAMPTZOID, INT2ARRAYOID, INT8OID, INT4OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id),
		TimestampTzGetDatum(clock_now()), smallint_array(lanes, nlanes),
	Int64GetDatum(scope->limit), Int32GetDatum(class)};
	uint64		count;
	int			left;

	count = spi_exec("WITH due AS MATERIALIZED (SELECT key FROM ("
					 DUE_OF("1", "$4") " UNION ALL " DUE_OF("4", "$4 / 4") " UNION ALL "
					 DUE_OF("2", "$4") " UNION ALL " DUE_OF("3", "$4") " UNION ALL "
					 DUE_OF("4", "$4 OFFSET $4 / 4") ") d LIMIT $4) "
					 "DELETE FROM reputation.job WHERE engine + 0 = $1 AND " CLASS " = $5 "
					 "AND key = ANY (ARRAY(SELECT key FROM due)) "
					 "RETURNING kind, key, attempt, lock_tries, priority, run_id, event, "
					 "$5 = 0 AND (blind OR (due_at > $2 AND priority > 1 AND attempt = 0 "
					 "AND run_id IS NULL))",
					 5, types, values, NULL);
	*jobs = returned_jobs(count);
	left = defer(engine, *jobs, merge_jobs(*jobs, (int) count, tallies));
	/* All were put back: there may be more. */
	if (left == 0 && count > 0)
		return claim_lanes(engine, scope, lanes, nlanes, class, jobs, tallies);
	return left;
}

/* Takes the rows of one key out, if its lane is free. */
static int
claim_only(const Engine *engine, const DrainScope *scope, Job **jobs, Tallies *tallies)
{
	Oid			types[] = {INT4OID, TEXTOID, INT2OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id),
	CStringGetTextDatum(scope->only->key), Int16GetDatum(scope->only->kind)};
	uint64		count;

	if (!lock_lane(engine->descriptor->id, lane_of(scope->only->key), scope->wait))
		return 0;
	count = spi_exec("DELETE FROM reputation.job WHERE engine = $1 AND key = $2 AND kind = $3 "
					 "RETURNING kind, key, attempt, lock_tries, priority, run_id, event, false",
					 3, types, values, NULL);
	*jobs = returned_jobs(count);
	return merge_jobs(*jobs, (int) count, tallies);
}

/* Is there anybody to restore? Normally not. */
static bool
has_restores(const Engine *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id)};

	return (engine->cached_column != NULL || engine->rank_column != NULL) &&
		spi_exec("SELECT FROM reputation.job WHERE engine = $1 AND kind <> 0 AND kind + 0 < 0 "
				 "LIMIT 1", 1, types, values, NULL) > 0;
}

/*
 * queue_claim -- takes up to scope->limit due keys of lanes nobody else holds
 * out of the job table; returns how many. A worker looks at its share of the
 * lanes first and helps out in the others when there is nothing. Restores and users
 * take turns, so that many of the ones do not hold up the others; lookups, which are
 * there only when they failed, come last.
 */
int
queue_claim(const Engine *engine, const DrainScope *scope, Job **jobs, Tallies *tallies)
{
	static bool had_users[MAX_ENGINE_ID + 1];	/* whose users had the last turn */
	int			id = engine->descriptor->id;
	int16		lanes[LANES];
	int			nlanes;
	int			count = 0;

	if (scope->only != NULL)
		return claim_only(engine, scope, jobs, tallies);

	for (int share = 0; share < 2 && count == 0; share++)
	{
		/* The own share first; with one worker that is all of them. */
		bool		restores;

		nlanes = lock_lanes(engine, scope, share == 0, lanes);
		if (nlanes == 0)
			continue;
		restores = has_restores(engine);
		if (restores && had_users[id])
		{
			had_users[id] = false;
			count = claim_lanes(engine, scope, lanes, nlanes, CLASS_RESTORES, jobs, tallies);
			restores = false;
		}
		if (count == 0)
		{
			count = claim_lanes(engine, scope, lanes, nlanes, CLASS_USERS, jobs, tallies);
			had_users[id] |= count > 0;
		}
		if (count == 0 && restores)
			count = claim_lanes(engine, scope, lanes, nlanes, CLASS_RESTORES, jobs, tallies);
		if (count == 0)
			count = claim_lanes(engine, scope, lanes, nlanes, CLASS_LOOKUPS, jobs, tallies);
	}
	return count;
}

static void
insert_job(const Engine *engine, const Job *job, TimestampTz due_at, const char *error)
{
	Oid			types[] = {INT4OID, INT2OID, TEXTOID, INT2OID, INT2OID, TIMESTAMPTZOID, INT2OID,
	INT2OID, INT8OID, BOOLOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), Int16GetDatum(job->kind),
		CStringGetTextDatum(job->key), Int16GetDatum(lane_of(job->key)),
		Int16GetDatum(job->priority), TimestampTzGetDatum(due_at), Int16GetDatum(job->attempt),
		Int16GetDatum(job->lock_tries), Int64GetDatum(job->run_id), BoolGetDatum(job->event),
	error ? CStringGetTextDatum(error) : (Datum) 0};
	char		nulls[] = "           ";

	if (job->run_id <= RUN_RECHECK && job->event)
		nulls[8] = 'n';
	if (error == NULL)
		nulls[10] = 'n';
	spi_exec("INSERT INTO reputation.job (engine, kind, key, lane, priority, due_at, attempt, "
			 "lock_tries, run_id, event, error) "
			 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", 11, types, values, nulls);
}

/*
 * queue_put_back -- a claimed job was not done and shall be at due_at.
 */
void
queue_put_back(const Engine *engine, const Job *job, TimestampTz due_at)
{
	insert_job(engine, job, due_at, NULL);
}

/*
 * queue_succeeded -- jobs of one kind succeeded: if a key was given up before, it
 * no longer is. No letter is about a later change than the attempt saw: who
 * writes one holds the key's lane, as here; and a fold's lookup comes after
 * whatever was folded before. Who was computed has the right cached column, too. Letters
 * that somebody holds, to retry or forget them, are passed over.
 */
void
queue_succeeded(const Engine *engine, int16 kind, char **keys, int count)
{
	Oid			types[] = {TEXTOID, INT2OID, TEXTARRAYOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name), Int16GetDatum(kind),
	text_array(keys, count)};

	/* Normally there is no letter at all, and the keys need not be looked for. */
	spi_exec("DELETE FROM reputation.dead_letter WHERE id = ANY (ARRAY("
			 "SELECT d.id FROM reputation.dead_letter d WHERE EXISTS "
			 "(SELECT FROM reputation.dead_letter) AND d.engine = $1 "
			 "AND (d.kind = $2 OR ($2 = 0 AND d.kind = -1)) "
			 "AND d.key = ANY ($3) FOR UPDATE OF d SKIP LOCKED))", 3, types, values, NULL);
}

/* least(2^n s, 1 h), spread by a quarter either way, the same for the same key. */
static TimestampTz
backoff(const char *key, int attempt)
{
	double		seconds = Min(ldexp(1, Min(attempt, 30)), LONGEST_BACKOFF);
	uint32		hash = hash_combine(hash_bytes((const unsigned char *) key, strlen(key)),
									murmurhash32((uint32) attempt));

	seconds *= 0.75 + 0.5 * (hash / (double) PG_UINT32_MAX);
	return clock_now() + (int64) (seconds * USECS_PER_SEC);
}

/*
 * queue_fail -- a job failed: it comes back after a while, or becomes a dead
 * letter at its last attempt; true then.
 */
bool
queue_fail(const Engine *engine, const Job *job, const char *error)
{
	Job			next = *job;
	Oid			types[] = {TEXTOID, INT2OID, TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[6];

	next.attempt++;
	next.lock_tries = 0;
	if (next.attempt < guc_max_attempts)
	{
		insert_job(engine, &next, backoff(job->key, next.attempt), error);
		return false;
	}

	values[0] = CStringGetTextDatum(engine->descriptor->name);
	values[1] = Int16GetDatum(job->kind);
	values[2] = CStringGetTextDatum(job->key);
	values[3] = Int32GetDatum(next.attempt);
	values[4] = CStringGetTextDatum(error);
	values[5] = TimestampTzGetDatum(clock_now());
	spi_exec("INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) "
			 "VALUES ($1, $2, $3, $4, $5, $6)", 6, types, values, NULL);
	return true;
}

/*
 * queue_lock_retry -- when to return to a user whose row is locked: soon at
 * first, every five seconds at last.
 */
TimestampTz
queue_lock_retry(const Job *job)
{
	int			ms = Min(25 << Min(job->lock_tries, 8), 5000);

	return TimestampTzPlusMilliseconds(clock_now(), ms);
}

/*
 * queue_next_due -- when the next job of any engine is due; DT_NOEND when there is none.
 */
TimestampTz
queue_next_due(void)
{
	Datum		due;
	bool		none;

	spi_exec("SELECT min(greatest(j.due_at, e.retry_at)) FROM reputation.engine e "
			 "CROSS JOIN generate_series(1, 4) AS p CROSS JOIN LATERAL "
			 "(SELECT due_at FROM reputation.job j WHERE j.engine = e.id AND j.priority = p "
			 "ORDER BY due_at LIMIT 1) j", 0, NULL, NULL, NULL);
	due = spi_datum(0, 1, &none);
	return none ? DT_NOEND : DatumGetTimestampTz(due);
}

/*
 * queue_rebase -- makes due what is further ahead than a window, a backoff or a
 * suspension can have put it: the clock was set back since. Whoever may have
 * missed that calls it.
 */
void
queue_rebase(const Engine *engine)
{
	Oid			types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz now = clock_now();
	TimestampTz suspension = TimestampTzPlusMilliseconds(now, LONGEST_SUSPENSION + INT64CONST(60000));
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), TimestampTzGetDatum(now),
		TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, engine->debounce +
														INT64CONST(60000))),
	TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, LONGEST_BACKOFF * INT64CONST(1500)))};

	spi_exec("UPDATE reputation.job SET due_at = $2 WHERE engine = $1 "
			 "AND priority = ANY ('{1,2,3,4}') AND due_at > $3 AND (attempt = 0 OR due_at > $4)",
			 4, types, values, NULL);
	values[2] = TimestampTzGetDatum(suspension);
	spi_exec("UPDATE reputation.engine SET retry_at = $2 WHERE id = $1 AND retry_at > $3",
			 3, types, values, NULL);
}

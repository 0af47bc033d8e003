/*
 * drain.c
 *		One unit of work: claim a batch, compute it, store it.
 *
 * The whole unit is one transaction, so a job row goes exactly when its score
 * is stored. The work on a batch is done in a subtransaction; what that raised
 * decides what happens to it:
 *
 * - an error that says nothing about a user (a cancel, a lock, a lack of
 *	 resources): the batch goes back and comes again a little later, and is
 *	 halved when that does not help;
 * - code of the application's that took longer than a worker lets it (bound.c): the unit
 *	 is over with that batch, and the engine's next ones are smaller, with the other engines'
 *	 batches in between, until a user is alone or it succeeds. A user who is alone
 *	 has failed, and the engine is suspended for a while;
 * - otherwise, if the same statements fail for no users at all too, the engine
 *	 is broken (a view, a table, a privilege is gone): the batch goes back as it
 *	 was, and the engine is suspended for a while with the error in its row;
 * - otherwise some user is to blame: the batch is halved until it is alone.
 *
 * In a session (reputation_process) the first and the second are raised
 * instead: the transaction's end puts everything back.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "work/drain.h"
#include "work/restore.h"

/* Keys that are worked on together; a claim of more is worked on in parts. */
#define MAX_BATCH		5000

#define TRANSIENT_TRIES	3		/* of a batch as a whole, then it is halved */
#define RANK_TRIES		10		/* to find a score row, before the next run that writes ranks */

#define NARROWING		10		/* a batch that took too long comes back in so many parts */
#define PASSES			3		/* of a suspect, then it is the others who are passed over */

/*
 * What this process knows of an engine whose code took too long (bound.c). The limit is
 * that of a claim. Users who failed since are suspects: each is computed alone, after
 * the others or, when those do not end, after so many batches.
 */
typedef struct Patience
{
	int			limit;			/* 0: as many as usual */
	bool		suspects;
} Patience;

static Patience patience[MAX_ENGINE_ID + 1];

typedef enum Outcome
{
	OUTCOME_DONE,				/* computed; nothing had to be written */
	OUTCOME_CHANGED,			/* computed and written */
	OUTCOME_LOCKED,				/* somebody holds the user's row */
	OUTCOME_REFUSED,			/* the row is free, but was not updated */
	OUTCOME_EARLY,				/* there is no score row to restore the rank by yet */
	OUTCOME_GONE				/* there is no such user */
} Outcome;

typedef struct Batch
{
	Engine	   *engine;
	const DrainScope *scope;
	Tallies    *tallies;
	bool		probed;			/* the engine as such works */
	bool		suspended;		/* it does not */
	bool		too_long;		/* its code took too long: the rest is for the next unit */
	TimestampTz began;
	bool		computed;		/* users were */
	int16		kind;			/* of the jobs at hand */
	char	  **windows;		/* users whose window opens */
	int			nwindows;
} Batch;

typedef void (*Attempt) (Batch *batch, Job *jobs, int count, Outcome *outcomes);

static char **
job_keys(const Job *jobs, int count)
{
	char	  **keys = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		keys[i] = jobs[i].key;
	return keys;
}

static int
compare_key(const void *key, const void *element)
{
	return strcmp(key, ((const Job *) element)->key);
}

/*
 * Stores one user whose row was locked again and again, under a lock: what is
 * not updated then is refused by a trigger or a rule.
 */
static Outcome
store_under_lock(Engine *engine, Score *score)
{
	/* A score row is only ever locked, not refused. */
	if (engine->cached_column == NULL || !engine_row_is_free(engine, score->user))
		return OUTCOME_LOCKED;
	engine_store(engine, score, 1, STORE_CLAIMED);
	return score->stored ? OUTCOME_CHANGED : OUTCOME_REFUSED;
}

/* The cause that a run is to the users it computes: the job's own, or what asked for it. */
static const char *
run_cause(int64 run_id)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(run_id)};
	char	   *trigger;

	if (run_id == RUN_TIME)
		return CAUSE_TIME;
	if (run_id == RUN_RECHECK ||
		spi_exec("SELECT r.trigger, b.cause FROM reputation.job_runs r "
				 "LEFT JOIN reputation.batch_job b ON b.name = r.job_name WHERE r.id = $1",
				 1, types, values, NULL) == 0)
		return CAUSE_MANUAL;
	trigger = spi_text(0, 1);
	if (spi_text(0, 2) != NULL)
		return spi_text(0, 2);
	if (strcmp(trigger, "clock") == 0)
		return CAUSE_TIME;
	if (strcmp(trigger, "algorithm") == 0)
		return CAUSE_ALGORITHM;
	/* TRUNCATE and lost changes are events that nobody knows the users of. */
	return strcmp(trigger, "attach") == 0 || strcmp(trigger, "manual") == 0 ? CAUSE_MANUAL :
		CAUSE_EVENT;
}

/*
 * Says for the audit why each user was computed. One who was for an event is
 * written down whatever came of it. Else the first score of another version is the
 * new algorithm's doing: the run that it started may have been on already, or another
 * was quicker.
 */
static void
name_causes(Batch *batch, const Job *jobs, int count, Score *scores, int found)
{
	int64		run_id = RUN_RECHECK;
	const char *cause = CAUSE_MANUAL;

	for (int i = 0; i < found; i++)
	{
		const Job  *job = bsearch(scores[i].user, jobs, count, sizeof(Job), compare_key);

		if (job == NULL)
			continue;
		if (job->run_id != run_id)
			cause = run_cause(run_id = job->run_id);
		scores[i].cause = job->event ? CAUSE_EVENT :
			scores[i].has_row && scores[i].row_version != batch->engine->version ?
			CAUSE_ALGORITHM : cause;
		scores[i].audit = job->event;
	}
}

/* Computes and stores users; the jobs are sorted by key. */
static void
compute_users(Batch *batch, Job *jobs, int count, Outcome *outcomes)
{
	Engine	   *engine = batch->engine;
	Score	   *scores;
	int			found = engine_compute(engine, job_keys(jobs, count), count, &scores);

	if (engine->descriptor->audit_table != NULL)
		name_causes(batch, jobs, count, scores, found);
	engine_store(engine, scores, found, STORE_CLAIMED);
	for (int i = 0; i < count; i++)
		outcomes[i] = OUTCOME_GONE;
	for (int i = 0; i < found; i++)
	{
		Job		   *job = bsearch(scores[i].user, jobs, count, sizeof(Job), compare_key);

		if (job == NULL)
			continue;
		if (scores[i].stored)
			outcomes[job - jobs] = scores[i].changed ? OUTCOME_CHANGED : OUTCOME_DONE;
		else if (job->lock_tries < 3)
			outcomes[job - jobs] = OUTCOME_LOCKED;
		else
			outcomes[job - jobs] = store_under_lock(engine, &scores[i]);
	}
}

/* The row was locked again and again: if it is not, it is a trigger that refuses. */
static Outcome
locked_or_refused(Engine *engine, const Job *job)
{
	return job->lock_tries < 3 || !engine_row_is_free(engine, job->key) ? OUTCOME_LOCKED :
		OUTCOME_REFUSED;
}

/*
 * Gives users their cached or rank column back; the jobs are of one kind. Who was
 * never computed is, as after an event. With the score row there is a rank, so that one
 * is looked at again, at first at once.
 */
static void
restore_written(Batch *batch, Job *jobs, int count, Outcome *outcomes)
{
	int16		kind = batch->kind;
	Restored   *results = palloc(sizeof(Restored) * Max(count, 1));
	char	  **unknown = palloc(sizeof(char *) * Max(count, 1));
	int			nunknown = 0;

	restore_users(batch->engine, kind, job_keys(jobs, count), count, results);
	for (int i = 0; i < count; i++)
	{
		outcomes[i] = OUTCOME_DONE;
		if (results[i] == RESTORE_LOCKED)
			outcomes[i] = locked_or_refused(batch->engine, &jobs[i]);
		if (results[i] == RESTORE_REFUSED)
			outcomes[i] = OUTCOME_REFUSED;
		if (results[i] != RESTORE_NO_SCORE)
			continue;
		unknown[nunknown++] = jobs[i].key;
		if (kind == KIND_RESTORE_RANK && jobs[i].lock_tries < RANK_TRIES)
			outcomes[i] = OUTCOME_EARLY;
	}
	queue_enqueue(batch->engine, unknown, nunknown, PRIORITY_LOW);
}

/* Resolves lookup keys to users and queues those; the jobs are of one kind. */
static void
resolve_lookups(Batch *batch, Job *jobs, int count, Outcome *outcomes)
{
	Engine	   *engine = batch->engine;
	Oid			types[] = {INT4OID, INT2OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), Int16GetDatum(jobs[0].kind)};
	int16		priority = PRIORITY_LOW;
	char	   *view;
	Oid			key_type;
	Oid			array_type;
	Datum		keys;
	uint64		nusers;
	char	  **users;

	if (spi_exec("SELECT view_name::oid, key_type::oid FROM reputation.lookup "
				 "WHERE engine = $1 AND kind = $2", 2, types, values, NULL) != 1)
		elog(ERROR, "engine %s has no lookup %d", engine->descriptor->name, jobs[0].kind);
	view = get_rel_name((Oid) spi_int(0, 1, NULL));
	if (view == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("lookup view %d of the engine \"%s\" no longer exists", jobs[0].kind,
						engine->descriptor->name),
				 errhint("Attach the engine again with %s.",
						 engine->descriptor->attach_call)));
	key_type = (Oid) spi_int(0, 2, NULL);
	array_type = get_array_type(key_type);
	keys = typed_array(key_type, job_keys(jobs, count), count);

	nusers = engine_exec(engine, false,
						 psprintf("SELECT DISTINCT user_id::text FROM reputation.%s "
								  "WHERE key = ANY ($1) AND user_id IS NOT NULL",
								  quote_identifier(view)),
						 1, &array_type, &keys);
	users = palloc(sizeof(char *) * Max(nusers, 1));
	for (uint64 row = 0; row < nusers; row++)
		users[row] = spi_text(row, 1);

	for (int i = 0; i < count; i++)
	{
		priority = Min(priority, jobs[i].priority);
		outcomes[i] = OUTCOME_DONE;
	}
	queue_enqueue(engine, users, (int) nusers, priority);
}

/* Does what the attempt does for no keys at all: fails if the engine is broken. */
static void
probe(Batch *batch, Job *jobs, int count, Outcome *outcomes)
{
	engine_probe(batch->engine);
}

typedef struct AttemptCall
{
	Attempt		attempt;
	Batch	   *batch;
	Job		   *jobs;
	int			count;
	Outcome    *outcomes;
} AttemptCall;

static void
call_attempt(void *arg)
{
	AttemptCall *call = arg;

	call->attempt(call->batch, call->jobs, call->count, call->outcomes);
}

/* Makes an attempt in a subtransaction; the error if it failed. */
static ErrorData *
try_attempt(Attempt attempt, Batch *batch, Job *jobs, int count, Outcome *outcomes)
{
	AttemptCall call = {attempt, batch, jobs, count, outcomes};

	return subxact_try(call_attempt, &call);
}

static void
put_back(Batch *batch, const Job *jobs, int count)
{
	TimestampTz due_at = clock_now();

	for (int i = 0; i < count; i++)
		queue_put_back(batch->engine, &jobs[i], due_at);
}

/* put_back() after an error that may be over the next time. */
static void
put_back_later(Batch *batch, Job *jobs, int count)
{
	for (int i = 0; i < count; i++)
	{
		TimestampTz due_at = queue_lock_retry(&jobs[i]);

		jobs[i].lock_tries = Min(jobs[i].lock_tries + 1, 100);
		queue_put_back(batch->engine, &jobs[i], due_at);
	}
}

/* A job failed on its own account. */
static void
fail_job(Batch *batch, const Job *job, const char *error)
{
	if (queue_fail(batch->engine, job, error))
	{
		ereport(WARNING,
				(errmsg("reputation gave up \"%s\" of the engine \"%s\": %s", job->key,
						batch->engine->descriptor->name, error),
				 errhint("It is in reputation.dead_letter; reputation_retry() queues it again.")));
		tally(batch->tallies, job->run_id, 1, 0);
	}
}

/* What follows from a successful attempt's outcomes. */
static void
settle_jobs(Batch *batch, Job *jobs, int count, const Outcome *outcomes)
{
	char	  **gone = palloc(sizeof(char *) * count);
	int			ngone = 0;
	char	  **done = palloc(sizeof(char *) * count);
	int			ndone = 0;

	for (int i = 0; i < count; i++)
	{
		Job		   *job = &jobs[i];

		switch (outcomes[i])
		{
			case OUTCOME_LOCKED:
				put_back_later(batch, job, 1);
				continue;
			case OUTCOME_REFUSED:
				fail_job(batch, job, job->kind == KIND_RESTORE_RANK ?
						 "the users table refuses the update of the rank column" :
						 "the users table refuses the update of the cached column");
				continue;
			case OUTCOME_EARLY:
				if (job->lock_tries++ == 0)
					queue_put_back(batch->engine, job, clock_now());
				else
					put_back_later(batch, job, 1);
				continue;
			case OUTCOME_GONE:
				gone[ngone++] = job->key;
				break;
			case OUTCOME_CHANGED:
				notify_add(batch->engine, job->key);
				break;
			case OUTCOME_DONE:
				break;
		}
		done[ndone++] = job->key;
		if (job->event && job->kind == 0 && outcomes[i] != OUTCOME_GONE)
			batch->windows[batch->nwindows++] = job->key;
		tally(batch->tallies, job->run_id, 1, outcomes[i] == OUTCOME_CHANGED);
	}
	if (ngone > 0)
		engine_remove_users(batch->engine, gone, ngone);
	if (ndone > 0)
		queue_succeeded(batch->engine, jobs[0].kind, done, ndone);
}

static Attempt
attempt_of(int16 kind)
{
	if (kind < 0)
		return restore_written;
	return kind == 0 ? compute_users : resolve_lookups;
}

/*
 * The application's code took too long over these jobs. One that was alone has failed,
 * unless the engine takes too long over nobody, too.
 */
static void
give_way(Batch *batch, Job *jobs, int count, const ErrorData *error)
{
	Patience   *p = &patience[batch->engine->descriptor->id];
	ErrorData  *probed = NULL;

	batch->too_long = true;
	if (count > 1)
	{
		p->limit = Max(count / NARROWING, 1);
		put_back(batch, jobs, count);
		return;
	}
	p->limit = 1;
	p->suspects = true;
	if (jobs[0].kind == 0)
		probed = try_attempt(probe, batch, NULL, 0, NULL);
	if (probed != NULL && bound_exceeded(probed))
	{
		engine_suspend(batch->engine, probed);
		put_back(batch, jobs, 1);
		return;
	}
	engine_suspend(batch->engine, error);
	fail_job(batch, &jobs[0], failure_text(batch->engine, error));
}

/*
 * Did the parts of a batch that fail take too long together? The rest is for smaller
 * batches.
 */
static bool
is_used_up(Batch *batch, int count)
{
	if (batch->scope->wait || guc_application_timeout == 0 ||
		GetCurrentTimestamp() - batch->began < guc_application_timeout * INT64CONST(1000))
		return false;
	patience[batch->engine->descriptor->id].limit = Max(count / NARROWING, 1);
	return batch->too_long = true;
}

/* Works on jobs of one kind, as the file's head describes. */
static void
run_range(Batch *batch, Job *jobs, int count)
{
	Attempt		attempt = attempt_of(batch->kind = jobs[0].kind);
	Outcome    *outcomes;
	ErrorData  *error;

	if (batch->suspended || batch->too_long || is_used_up(batch, count))
	{
		put_back(batch, jobs, count);
		return;
	}
	outcomes = palloc(sizeof(Outcome) * count);
	error = try_attempt(attempt, batch, jobs, count, outcomes);
	if (error == NULL)
	{
		batch->computed |= jobs[0].kind == 0;
		settle_jobs(batch, jobs, count, outcomes);
		return;
	}

	if (bound_exceeded(error))
	{
		give_way(batch, jobs, count, error);
		return;
	}

	if (error_is_transient(error))
	{
		if (batch->scope->wait)
			ReThrowError(error);
		if (count == 1 || jobs[0].lock_tries < TRANSIENT_TRIES)
		{
			put_back_later(batch, jobs, count);
			return;
		}
		/* Again and again: it is about one of them after all. */
		run_range(batch, jobs, count / 2);
		run_range(batch, jobs + count / 2, count - count / 2);
		return;
	}

	if (!batch->probed)
	{
		ErrorData  *broken = try_attempt(probe, batch, NULL, 0, NULL);

		if (broken == NULL && jobs[0].kind != 0)
			broken = try_attempt(attempt, batch, jobs, 0, outcomes);
		if (broken != NULL)
		{
			if (batch->scope->wait)
				ReThrowError(broken);
			engine_suspend(batch->engine, broken);
			batch->suspended = true;
			put_back(batch, jobs, count);
			return;
		}
		batch->probed = true;
	}

	if (count == 1)
		fail_job(batch, &jobs[0], failure_text(batch->engine, error));
	else
	{
		run_range(batch, jobs, count / 2);
		run_range(batch, jobs + count / 2, count - count / 2);
	}
}

/*
 * Of an engine that has suspects: those of the jobs that are worked on now, to the
 * front, in their order; the others are put back. Either all but the suspects, or
 * one of these. Returns how many.
 */
static int
part_suspects(Batch *batch, Job *jobs, int count)
{
	int			nsuspects = 0;
	int			alone = -1;
	int			kept = 0;

	for (int i = 0; i < count; i++)
	{
		if (jobs[i].attempt == 0)
			continue;
		nsuspects++;
		if (alone < 0 && jobs[i].lock_tries >= PASSES)
			alone = i;
	}
	if (nsuspects == 0 || count == 1)
		return count;
	if (nsuspects == count && alone < 0)
		alone = 0;
	for (int i = 0; i < count; i++)
	{
		if (alone >= 0 ? i == alone : jobs[i].attempt == 0)
			jobs[kept++] = jobs[i];
		else if (alone >= 0)
			put_back(batch, &jobs[i], 1);
		else
			put_back_later(batch, &jobs[i], 1);
	}
	return kept;
}

/* The engine's code was quick enough with these: more of them, and more, from now on. */
static void
regain_patience(Patience *p, const Job *jobs, int count, int usual, long ms)
{
	if (p->limit > 0 && ms < guc_application_timeout / NARROWING)
		p->limit *= 2;
	if (p->limit >= usual || guc_application_timeout == 0)
		p->limit = 0;
	if (count == 1 && jobs[0].attempt > 0)
		p->suspects = false;
}

/*
 * drain_jobs -- works on jobs that were taken out of the job table (or never
 * were in it), sorted by kind and key.
 */
void
drain_jobs(Engine *engine, const DrainScope *scope, Job *jobs, int count, Tallies *tallies)
{
	Batch		batch = {
		.engine = engine,
		.scope = scope,
		.tallies = tallies,
		.began = GetCurrentTimestamp(),
		.windows = palloc(sizeof(char *) * Max(count, 1))
	};
	Patience   *p = &patience[engine->descriptor->id];
	int			first = 0;

	if (p->suspects && !scope->wait)
		count = part_suspects(&batch, jobs, count);
	while (first < count)
	{
		int			next = first + 1;

		while (next < count && jobs[next].kind == jobs[first].kind)
			next++;
		run_range(&batch, jobs + first, next - first);
		first = next;
	}
	if (!batch.suspended && !batch.too_long && !scope->wait && count > 0)
		regain_patience(p, jobs, count, scope->limit,
						(GetCurrentTimestamp() - batch.began) / 1000);

	windows_open(engine, batch.windows, batch.nwindows);
	if (engine->suspended_error != NULL && batch.computed && !batch.suspended && !batch.too_long)
		engine_resume(engine);
}

/*
 * drain_claim -- claims what the scope allows of an engine's keys, and works on them;
 * returns how many it took out.
 */
int
drain_claim(Engine *engine, const DrainScope *scope)
{
	Tallies		tallies = {0};
	DrainScope	narrowed = *scope;
	Job		   *jobs = NULL;
	int			count;

	if (engine->retry_at > clock_now() && !scope->wait)
		return 0;
	if (!scope->wait && patience[engine->descriptor->id].limit > 0)
		narrowed.limit = Min(scope->limit, patience[engine->descriptor->id].limit);
	count = queue_claim(engine, &narrowed, &jobs, &tallies);
	for (int first = 0; first < count; first += MAX_BATCH)
	{
		CHECK_FOR_INTERRUPTS();
		/* What a batch leaves in memory goes with its connection. */
		spi_begin();
		drain_jobs(engine, scope, jobs + first, Min(count - first, MAX_BATCH), &tallies);
		spi_end();
	}
	tallies_store(&tallies);
	return count;
}

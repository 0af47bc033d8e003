/*
 * engine_store.c
 *		Storing scores: the cached column and the score table.
 *
 * Nothing is written that did not change: a row of the users table only when
 * its cached value differs, a score row only when what it says does (engine_rows.c)
 * or an event is to be audited. Rows that others hold locked are skipped and reported as not stored.
 * Why a stale value cannot stay is told in queue.c.
 *
 * A unit, and a session that drains very many, first stores a batch in haste, by plain
 * updates in a subtransaction that gives up at the first lock it would have to wait
 * for; that is nearly always enough. When it is not, the batch and some after it are stored with care: the
 * free rows are locked first (SKIP LOCKED), then updated, at twice the cost. A score row
 * that a session is just adding cannot be skipped like that: its user is found
 * by halving, and comes back.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "base/clock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "engine/engine.h"
#include "shmem/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Batches that are stored with care after one could not be in haste. */
#define CAREFUL_BATCHES	16

/* How many of those are left. */
static int	careful = 0;

/* Fewer users are not worth a session's subtransaction. */
#define HASTY_USERS		1000

/*
 * Writes the cached column of the rows that nobody holds locked (hasty: of all),
 * and marks those scores as stored. Not captured: the claim covers it, or the
 * recheck.
 */
static void
store_cached(Engine *engine, Score **scores, int count, bool hasty)
{
	Oid			types[] = {get_array_type(engine->key_type), INT4ARRAYOID};
	char	  **keys;
	int32	   *numbers;
	Datum		values[2];
	uint64		written;
	const char *sql = hasty ?
	"UPDATE %1$s t SET %3$s = n.score FROM unnest($1, $2) AS n(id, score) "
	"WHERE t.%2$s = n.id RETURNING t.%2$s::text" :
	"WITH free AS (SELECT t.%2$s AS id, n.score FROM %1$s t "
	"JOIN unnest($1, $2) AS n(id, score) ON t.%2$s = n.id "
	"FOR NO KEY UPDATE OF t SKIP LOCKED) "
	"UPDATE %1$s t SET %3$s = free.score FROM free WHERE t.%2$s = free.id "
	"RETURNING t.%2$s::text";

	engine_sort_scores(scores, count, &keys, &numbers);
	values[0] = typed_array(engine->key_type, keys, count);
	values[1] = int_array(numbers, count);
	written = engine_update(engine, hasty,
							psprintf(sql, engine->users_name, engine->users_key,
									 engine->cached_column), 2, types, values);
	engine_mark_returned(scores, count, written, true);
}

typedef struct Store
{
	Engine	   *engine;
	Score	   *scores;
	int			count;
	StoreMode	mode;
	bool		hasty;
	Score	  **picked;			/* for add_missing_rows() */
} Store;

/* Writes the cached column where it differs; says who has it as it shall be. */
static void
store_cached_values(Store *this, Score **picked)
{
	int			npicked = 0;

	for (int i = 0; i < this->count; i++)
	{
		Score	   *score = &this->scores[i];

		score->changed = false;
		score->stored = !score_cached_differs(this->engine, score);
		if (!score->stored)
			picked[npicked++] = score;
	}
	if (npicked > 0)
		store_cached(this->engine, picked, npicked, this->hasty);
}

static void
add_missing_rows(void *arg)
{
	Store	   *this = arg;

	engine_write_rows(this->engine, this->picked, this->count, true, true);
}

/*
 * Adds the score rows that nobody else is just adding: there is no other way to
 * see an uncommitted row of a session's than to wait for it, so a range that
 * holds one is halved until it is alone, and left as not stored.
 */
static void
add_free_rows(Engine *engine, Score **scores, int count)
{
	Store		range = {.engine = engine, .picked = scores, .count = count};
	ErrorData  *error = subxact_try(add_missing_rows, &range);

	if (error == NULL)
		return;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	if (count == 1)
		return;
	add_free_rows(engine, scores, count / 2);
	add_free_rows(engine, scores + count / 2, count - count / 2);
}

/* Writes the score rows that differ, of users whose cached column is stored. */
static void
store_rows(Store *this, Score **picked, bool missing)
{
	Engine	   *engine = this->engine;
	int			npicked = 0;

	for (int i = 0; i < this->count; i++)
	{
		Score	   *score = &this->scores[i];

		if (score->stored && score->has_row == !missing &&
			(missing || score->audit || score->row_due_at != score->next_due_at ||
			 score_changed(engine, score)))
			picked[npicked++] = score;
	}
	if (npicked > 0 && missing && !this->hasty && shmem_is_worker())
		add_free_rows(engine, picked, npicked);
	else if (npicked > 0 && (!missing || this->mode != STORE_SESSION))
		engine_write_rows(engine, picked, npicked, missing, this->hasty);
	for (int i = 0; i < npicked && engine->cached_column == NULL; i++)
	{
		if (missing && this->mode == STORE_SESSION)
			picked[i]->stored = false;
		picked[i]->changed = picked[i]->stored && score_changed(engine, picked[i]);
	}
}

/* Stores what differs. */
static void
store_differing(void *arg)
{
	Store	   *this = arg;
	Score	  **picked = palloc(sizeof(Score *) * Max(this->count, 1));

	store_cached_values(this, picked);
	store_rows(this, picked, false);
	store_rows(this, picked, true);
	pfree(picked);
}

/*
 * Has the users table an UPDATE trigger beside ours? It would run with our short
 * lock_timeout, and might take that for an answer.
 */
static bool
has_foreign_trigger(Oid users)
{
	Relation	relation = table_open(users, AccessShareLock);
	TriggerDesc *desc = relation->trigdesc;

	Oid			capture = source_capture_function();

	/* Of a partition's triggers nothing is known here. */
	bool		found = relation->rd_rel->relkind != RELKIND_RELATION;

	for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
		found |= TRIGGER_FOR_UPDATE(desc->triggers[i].tgtype) &&
			!desc->triggers[i].tgisinternal &&
			desc->triggers[i].tgfoid != capture;
	table_close(relation, AccessShareLock);
	return found;
}

/*
 * May a batch be stored in haste? A session's transaction may store many of them, and a
 * snapshot has room for 64 subtransactions of each: only large ones that it has
 * claimed. And not when one could not be lately.
 */
static bool
may_hurry(const Engine *engine, int count, StoreMode mode)
{
	if (careful > 0)
		careful--;
	else
		return (shmem_is_worker() || (mode == STORE_CLAIMED && count >= HASTY_USERS)) &&
			!has_foreign_trigger(engine->users);
	return false;
}

/* Of users whose lanes are held. */
static void
settle_outputs(Engine *engine, Score *scores, int count)
{
	const EngineClass *class = engine->descriptor->class;

	for (int i = 0; i < class->noutputs; i++)
	{
		if (class->outputs[i].settle != NULL)
			class->outputs[i].settle(engine, scores, count);
	}
}

/*
 * engine_store -- stores what differs and sets stored and changed. A session then has
 * somebody with a claim look at what differed (recheck.c), who also
 * inserts the score rows that are missing, unless the session shall: a session that
 * stores many would wait for others' units. Outputs are settled by who has the claim
 * alone.
 */
void
engine_store(Engine *engine, Score *scores, int count, StoreMode mode)
{
	Store		this = {
		.engine = engine,
		.scores = scores,
		.count = count,
		.mode = mode,
		.hasty = may_hurry(engine, count, mode)
	};
	ErrorData  *error = NULL;

	if (this.hasty)
		error = subxact_try(store_differing, &this);
	if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	if (error != NULL)
		careful = CAREFUL_BATCHES;
	if (error != NULL || !this.hasty)
	{
		this.hasty = false;
		store_differing(&this);
	}
	if (mode == STORE_CLAIMED)
		settle_outputs(engine, scores, count);
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
	if (engine->cached_column != NULL)
		store_cached(engine, &none, 0, false);
	settle_outputs(engine, none, 0);
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
 * engine_remove_users -- removes what is kept about users that are gone, but for what is
 * earned: that goes in the transaction that deletes the user (follow.c).
 */
void
engine_remove_users(Engine *engine, char **keys, int count)
{
	const EngineDescriptor *d = engine->descriptor;
	Oid			types[] = {INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[] = {Int32GetDatum(d->id), text_array(keys, count),
	CStringGetTextDatum(d->name)};

	for (int i = 0; i < d->class->noutputs; i++)
	{
		OutputOrigin origin = d->class->outputs[i].origin;

		if (origin != OUTPUT_COMPUTED && origin != OUTPUT_AUDIT)
			continue;
		/* A score row that somebody added since keeps its audit: it is from before the job. */
		spi_exec(psprintf("DELETE FROM reputation.%s o WHERE o.user_id = ANY ($1)%s", d->tables[i],
						  origin == OUTPUT_COMPUTED ? "" :
						  psprintf(" AND NOT EXISTS (SELECT FROM reputation.%s s "
								   "WHERE s.user_id = o.user_id)", d->score_table)),
				 1, &types[1], &values[1], NULL);
	}
	spi_exec("DELETE FROM reputation.recent_run WHERE engine = $1 AND key = ANY ($2)", 2, types,
			 values, NULL);
	spi_exec("DELETE FROM reputation.dead_letter WHERE engine = $2 AND kind <= 0 AND key = ANY ($1)",
			 2, &types[1], &values[1], NULL);
}

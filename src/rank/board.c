/*
 * board.c
 *		Leaderboards: their trees, and the cache of their tops.
 *
 * A board is a name for the ranks of an engine's score table, with a rule for
 * ties. Of several boards over an engine all go by the same trees.
 *
 * reputation.leaderboard_cache has the first hundred of each board. A transaction
 * that changed a score that may be among them says so in shared memory (rank_top.c)
 * and wakes a worker, which refreshes the cache: one at a time per tree (BOARD lock),
 * with a snapshot taken under the lock. The rows or the board may be locked by an open
 * reputation_forget() or leaderboard_drop(). Nobody waits for that: the top stays
 * stale, and a worker comes again. So it does, a minute later, where a refresh fails for
 * another reason: a cache keeps nobody from computing scores.
 */
#include "postgres.h"

#include "base/locks.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "catalog/pg_type.h"
#include "rank/board.h"
#include "rank/rank_top.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How long a refresh waits for locks. */
#define REFRESH_LOCK_MS	20

/* How long a worker leaves a cache alone that it could not refresh. */
#define REFRESH_RETRY_MS	60000

/* When this process may try again where it failed. */
static TimestampTz retry_at[RANK_TREES];

PG_FUNCTION_INFO_V1(reputation_rank_rebuild);
PG_FUNCTION_INFO_V1(reputation_rank_make);
PG_FUNCTION_INFO_V1(reputation_rank_drop);
PG_FUNCTION_INFO_V1(reputation_board_touch);

/* May a tree's top have changed since it was cached, and may it be looked at? */
static bool
wants_refresh(int tree)
{
	return rank_top_is_stale(tree) && GetCurrentTimestamp() >= retry_at[tree];
}

/*
 * board_caches_are_stale -- is there a board of these engines whose cache is to be
 * refreshed, because its top may have changed?
 */
bool
board_caches_are_stale(const List *engines)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		const EngineDescriptor *d = ((const Engine *) lfirst(cell))->descriptor;

		for (int period = 0; period < engine_periods(d); period++)
		{
			if (wants_refresh(rank_tree_of(d->id, period)))
				return true;
		}
	}
	return false;
}

typedef struct Refresh
{
	const EngineDescriptor *engine;
	int			period;
	int			tree;
} Refresh;

/* Refreshes a tree's boards, unless somebody holds what it needs for long. */
static void
refresh_board(void *arg)
{
	const Refresh *r = arg;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(r->engine->name),
	CStringGetTextDatum(board_periods[r->period])};
	int			level = spi_settings_begin();
	bool		isnull;
	int64		threshold;

	spi_set("lock_timeout", psprintf("%d", REFRESH_LOCK_MS));
	rank_top_refresh_begins(r->tree);
	spi_exec("SELECT reputation.board_refresh($1, $2)", 2, types, values, NULL);
	threshold = spi_int(0, 1, &isnull);
	rank_top_refresh_ends(r->tree, isnull ? 0 : rank_key(threshold));
	spi_settings_end(level);
}

/* The same, if it can be done now. */
static void
try_refresh(const EngineDescriptor *d, int period, int tree)
{
	Refresh		r = {d, period, tree};
	ErrorData  *error;

	if (!lock_board(tree))
		return;
	error = subxact_try(refresh_board, &r);
	retry_at[tree] = 0;
	if (error == NULL || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED)
		return;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_QUERY_CANCELED))
		ReThrowError(error);
	retry_at[tree] = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REFRESH_RETRY_MS);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("the first of the boards over \"%s\" could not be cached", d->name),
			 errdetail("%s", error->message),
			 errhint("reputation_status() and reputation_verify() may tell more.")));
}

/*
 * board_refresh_caches -- refreshes the cache of the boards of these engines; of all,
 * or where the top may have changed. What somebody else is at, or holds, is left for
 * the next time; of what fails otherwise a warning is given.
 */
void
board_refresh_caches(List *engines, bool all)
{
	ListCell   *cell;

	foreach(cell, engines)
	{
		const EngineDescriptor *d = ((const Engine *) lfirst(cell))->descriptor;

		for (int period = 0; period < engine_periods(d); period++)
		{
			int			tree = rank_tree_of(d->id, period);

			if (all || wants_refresh(tree))
				try_refresh(d, period, tree);
		}
	}
}

/*
 * board_fold_deltas -- has changes that could not go into a tree's nodes moved there
 * at the end of this transaction; true if there are any. Those of an engine that is
 * not attached, or suspended, stay: readers add them.
 */
bool
board_fold_deltas(List *engines)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		any = false;
	ListCell   *cell;

	foreach(cell, engines)
	{
		const EngineDescriptor *d = ((const Engine *) lfirst(cell))->descriptor;

		for (int period = 0; period < engine_periods(d); period++)
		{
			RankSource	source;

			if (!rank_deltas_exist(rank_tree_of(d->id, period), snapshot))
				continue;
			source = rank_source(d, period);
			rank_request_fold(&source);
			any = true;
		}
	}
	UnregisterSnapshot(snapshot);
	return any;
}

/* Does something with each of the trees of the engine that the argument names. 22023. */
static void
for_each_tree(FunctionCallInfo fcinfo, void (*act) (const RankSource *source))
{
	const EngineDescriptor *d = engine_descriptor(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	for (int period = 0; period < engine_periods(d); period++)
	{
		RankSource	source = rank_source(d, period);

		act(&source);
	}
}

/*
 * reputation.rank_rebuild(engine) -- has the trees of an engine made anew when the
 * transaction commits.
 */
Datum
reputation_rank_rebuild(PG_FUNCTION_ARGS)
{
	for_each_tree(fcinfo, rank_request_rebuild);
	PG_RETURN_VOID();
}

/*
 * reputation.rank_make(engine) -- makes the trees of an engine anew at once.
 */
Datum
reputation_rank_make(PG_FUNCTION_ARGS)
{
	for_each_tree(fcinfo, rank_make);
	PG_RETURN_VOID();
}

/* An argument that is an engine's id. 22023 when there can be no such engine. */
static int
engine_id_argument(FunctionCallInfo fcinfo)
{
	int			id = PG_GETARG_INT32(0);

	if (id < 1 || id >= RANK_TREES / RANK_TREES_OF_ENGINE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d is no engine's id", id)));
	return id;
}

/*
 * reputation.rank_drop(engine_id) -- removes what there is of an engine's trees at once.
 * 22023.
 */
Datum
reputation_rank_drop(PG_FUNCTION_ARGS)
{
	int			id = engine_id_argument(fcinfo);

	for (int period = 0; period < RANK_TREES_OF_ENGINE; period++)
		rank_drop(rank_tree_of(id, period));
	PG_RETURN_VOID();
}

/*
 * reputation.board_touch(engine_id) -- has the caches of the boards over an engine
 * refreshed soon. 22023.
 */
Datum
reputation_board_touch(PG_FUNCTION_ARGS)
{
	int			id = engine_id_argument(fcinfo);

	for (int period = 0; period < RANK_TREES_OF_ENGINE; period++)
		rank_top_note(rank_tree_of(id, period), RANK_TOP_ANY);
	PG_RETURN_VOID();
}

/*
 * rank_top.c
 *		Which tops of boards may have changed since they were cached.
 *
 * Of each tree shared memory has how often its top was touched, as of which touch
 * it was cached last, and a threshold: the lowest score in the cache when that is
 * full. So any worker follows up what any session or worker changed. (Without the
 * preload each process knows of itself alone, and there is no worker.) After a
 * restart all is stale.
 *
 * A transaction notes the highest score of which it took users away or added some.
 * When it is visible, at the end of its commit, it compares that with the threshold,
 * and counts a touch unless it is lower.
 *
 * A refresh, one at a time per tree (BOARD lock), first has the threshold unknown,
 * then reads the touches, and then takes its snapshot. When it has committed, and still
 * has the lock, it sets the new threshold, and down to which touch the cache is good.
 * Who compared before the refresh began was visible before, so the refresh saw it; who
 * did while it was on counted a touch, so another follows; who does later has the new
 * threshold. A refresh that is rolled back publishes nothing: the top is as stale as
 * before, for all.
 *
 * A prepared transaction counts its touch at the PREPARE, not when it is visible; and
 * so do changes that come without a trigger. The job that refreshes all makes up for them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "rank/rank_top.h"
#include "rank/rank_tree.h"
#include "shmem/shmem.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

/* Of this transaction: the highest key it touched. */
static bool touching[RANK_TREES];
static uint64 highest[RANK_TREES];
static bool any_touched = false;

/* A refresh that this transaction did. */
typedef struct Refresh
{
	int			level;			/* of the (sub)transaction; 0: none */
	uint32		as_of;
	uint64		threshold;
} Refresh;

static Refresh refreshes[RANK_TREES];
static bool any_refreshed = false;

/* Of a tree; all 0 at first. */
typedef struct RankTop
{
	pg_atomic_uint32 touches;
	pg_atomic_uint32 refreshed; /* one more than the touches of the last refresh's begin */
	pg_atomic_uint64 threshold; /* a score with a lower key is not cached; 0: unknown */
} RankTop;

/* Of each database's place; NULL without the preload. */
static RankTop (*tops)[RANK_TREES] = NULL;

/* Without shared memory. */
static RankTop own_tops[RANK_TREES];

static RankTop *
top_of(int tree)
{
	int			place = tops == NULL ? -1 : shmem_my_place(true);

	return place >= 0 ? &tops[place][tree] : &own_tops[tree];
}

/* Makes the tops of a database stale; fresh: in memory that was never used. */
static void
clear_tops(RankTop *trees, bool fresh)
{
	for (int i = 0; i < RANK_TREES; i++)
	{
		if (fresh)
		{
			pg_atomic_init_u32(&trees[i].touches, 0);
			pg_atomic_init_u32(&trees[i].refreshed, 0);
			pg_atomic_init_u64(&trees[i].threshold, 0);
			continue;
		}
		pg_atomic_write_u32(&trees[i].touches, 0);
		pg_atomic_write_u32(&trees[i].refreshed, 0);
		pg_atomic_write_u64(&trees[i].threshold, 0);
	}
}

static Size
tops_size(void)
{
	return MAX_DATABASES * sizeof(*tops);
}

static void
request_tops(void)
{
	RequestAddinShmemSpace(tops_size());
}

static void
start_tops(void)
{
	bool		found;

	tops = ShmemInitStruct("reputation tops", tops_size(), &found);
	for (int i = 0; i < MAX_DATABASES && !found; i++)
		clear_tops(tops[i], true);
}

static void
reset_tops(int place)
{
	clear_tops(tops[place], false);
}

/*
 * rank_top_note -- the transaction changes how many users have a score, by its key.
 */
void
rank_top_note(int tree, uint64 key)
{
	highest[tree] = touching[tree] ? Max(highest[tree], key) : key;
	touching[tree] = true;
	any_touched = true;
}

/*
 * rank_top_is_stale -- may a tree's first ones have changed since they were cached?
 */
bool
rank_top_is_stale(int tree)
{
	RankTop    *top = top_of(tree);

	return pg_atomic_read_u32(&top->refreshed) != pg_atomic_read_u32(&top->touches) + 1;
}

/*
 * rank_top_refresh_begins -- to be called with the BOARD lock, before the snapshot
 * that the cache is made with is taken.
 */
void
rank_top_refresh_begins(int tree)
{
	RankTop    *top = top_of(tree);

	pg_atomic_write_u64(&top->threshold, 0);
	pg_memory_barrier();
	refreshes[tree].as_of = pg_atomic_read_u32(&top->touches);
	refreshes[tree].level = 0;
	pg_memory_barrier();
}

/*
 * rank_top_refresh_ends -- the cache is written, and is good when this commits.
 */
void
rank_top_refresh_ends(int tree, uint64 threshold)
{
	refreshes[tree].level = GetCurrentTransactionNestLevel();
	refreshes[tree].threshold = threshold;
	any_refreshed = true;
}

/* The transaction's touches are counted, and its refreshes published. */
static void
publish(void)
{
	bool		touched = false;

	for (int i = 0; i < RANK_TREES; i++)
	{
		RankTop    *top;

		if (!touching[i] && refreshes[i].level == 0)
			continue;
		top = top_of(i);
		if (refreshes[i].level > 0)
		{
			pg_atomic_write_u64(&top->threshold, refreshes[i].threshold);
			pg_memory_barrier();
			pg_atomic_write_u32(&top->refreshed, refreshes[i].as_of + 1);
		}
		if (touching[i] && highest[i] >= pg_atomic_read_u64(&top->threshold))
		{
			pg_atomic_fetch_add_u32(&top->touches, 1);
			touched = true;
		}
	}
	/* One of our workers looks by itself when its unit is over. */
	if (touched && !shmem_is_worker())
		shmem_wake_workers();
}

static void
tops_at_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (!any_touched && !any_refreshed)
		return;
	if (event != XACT_EVENT_ABORT)
		publish();
	memset(touching, 0, sizeof(touching));
	memset(refreshes, 0, sizeof(refreshes));
	any_touched = any_refreshed = false;
}

static void
tops_at_subtransaction(SubXactEvent event, SubTransactionId id, SubTransactionId parent,
					   void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (!any_refreshed ||
		(event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	for (int i = 0; i < RANK_TREES; i++)
	{
		if (refreshes[i].level >= level)
			refreshes[i].level = event == SUBXACT_EVENT_ABORT_SUB ? 0 : level - 1;
	}
}

/*
 * rank_top_init -- called when the library is loaded.
 */
void
rank_top_init(void)
{
	static const ShmemPart part = {
		.request = request_tops,
		.startup = start_tops,
		.reset_database = reset_tops
	};

	shmem_register(&part);
	clear_tops(own_tops, true);
	RegisterXactCallback(tops_at_transaction, NULL);
	RegisterSubXactCallback(tops_at_subtransaction, NULL);
}

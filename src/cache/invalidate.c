/*
 * invalidate.c
 *		Who changes something makes the read cache forget it, when it commits.
 *
 * Before it commits a writer knows the keys it has captured. Those that are users it
 * takes as they are. From others (a session's match) it finds the users by an index,
 * in C (links.c). When the commit is visible, and before it is acknowledged, their
 * entries are taken out of the cache. Nothing of that waits, runs a query, or can
 * make the commit fail. What cannot be found out so makes the cache forget everybody
 * of this database: a lookup view of another shape, a table without a usable index, a
 * lock that is not to be had, too many keys, TRUNCATE.
 *
 * Two at once. A session of match m changes in T1, the users of m in T2. T2 captures
 * the match's users themselves, the old and the new ones. Both see what of the other
 * was visible when they looked.
 * - T1 looked when T2 was visible: it found the new users.
 * - T2 became visible after T1: then it takes out old and new users when both are.
 * - T2 became visible between T1's look and T1's own commit. A reader may have
 *	 computed a new user with T2 and without T1, and T1 does not know that user. So
 *	 whoever changed links marks each of its users with a tick of the cache's clock
 *	 once it is visible, and only then takes them out; T1 notes the tick before it
 *	 looks and, when it is visible, compares it with the marks of those it found: a
 *	 later one means everybody. If the mark comes after that comparison, so does T2's
 *	 taking out, and both are visible by then.
 * T1 may find no row, where it was inserted or is updated right then (links.c), and
 * so none to compare: then it compares the mark that every change of any link leaves
 * on "no user". And a change that forgets everybody, TRUNCATE of the matches say,
 * leaves one on "every user". A mark of another key with the same hash costs a
 * needless forgetting, no more.
 *
 * A prepared transaction becomes visible when no code of ours runs. Where there may
 * be one, the fold, which finds the users of every key after it is visible, takes
 * them out at its own commit, too. Elsewhere it does not: the writer has, and a value
 * put in since is right.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "base/locks.h"
#include "cache/invalidate.h"
#include "cache/links.h"
#include "cache/read_cache.h"
#include "capture/capture.h"
#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* More users or keys than this are everybody. */
#define MAX_CONCERNED	10000

/* Marks of changes that concern no user that is known, and all of them. */
#define NO_USER		"none"
#define EVERY_USER	"every"

/* What a captured key means to an engine whose scores are read through the cache. */
typedef struct Meaning
{
	int			engine;
	int32		source;
	int16		key_no;
	int16		kind;			/* 0: a user */
	bool		linked;			/* another kind, and links say how to find the users */
	Links		links;
} Meaning;

/* Kept until the registry or a relation of the links changes. */
static MemoryContext meanings_context = NULL;
static Meaning *meanings = NULL;
static int	nmeanings = 0;
static bool meanings_valid = false;
static uint64 meanings_changes = 0;
static Oid	engine_table = InvalidOid;

/* Whom this transaction's commit concerns; in TopTransactionContext. */
typedef enum ConcernKind
{
	CONCERN_LINKS,				/* a user whose links it may have changed */
	CONCERN_FOUND,				/* one that links led to */
	CONCERN_QUEUED				/* by a fold */
} ConcernKind;

typedef struct Concern
{
	CacheKey	key;
	ConcernKind kind;
} Concern;

static Concern *concerns = NULL;
static int	nconcerns = 0;
static int	room = 0;
static bool everyone = false;
static bool not_found = false;	/* a key led to no user */
static uint64 looked_at = 0;	/* tick before the look */

static void
forget_concerns(void)
{
	concerns = NULL;
	nconcerns = room = 0;
	everyone = not_found = false;
	looked_at = 0;
}

/*
 * invalidate_everyone -- all that the cache has of this database is to be
 * forgotten.
 */
void
invalidate_everyone(void)
{
	everyone = true;
}

/*
 * invalidate_is_pending -- has this transaction done something that will make the
 * cache forget, other than by what it has captured?
 */
bool
invalidate_is_pending(void)
{
	return everyone || nconcerns > 0;
}

/* Changes that nobody knows are visible now. */
static void
invalidate_lost(void)
{
	CacheKey	key;

	if (!read_cache_mark(&key, EVERY_USER))
		return;
	read_cache_mark_changed(&key);
	if (read_cache_mark(&key, NO_USER))
		read_cache_mark_changed(&key);
	read_cache_forget_all();
}

static void
add_concern(int engine, const char *user, int length, ConcernKind kind)
{
	CacheKey	key;

	if (everyone || !read_cache_key(&key, engine, user, length))
		return;
	if (nconcerns == MAX_CONCERNED)
	{
		everyone = true;
		return;
	}
	if (nconcerns == room)
	{
		int			more = room == 0 ? 8 : 2 * room;

		if (concerns == NULL)
			concerns = MemoryContextAlloc(TopTransactionContext, more * sizeof(Concern));
		else
			concerns = repalloc(concerns, more * sizeof(Concern));
		room = more;
	}
	concerns[nconcerns].key = key;
	concerns[nconcerns++].kind = kind;
}

/*
 * invalidate_queued -- a fold queues these users of an engine.
 */
void
invalidate_queued(const Engine *engine, char **users, int count)
{
	if (!engine->descriptor->class->read_cached || max_prepared_xacts == 0)
		return;
	for (int i = 0; i < count; i++)
		add_concern(engine->descriptor->id, users[i], (int) strlen(users[i]), CONCERN_QUEUED);
}

static void
forget_meanings(Datum arg, Oid relation)
{
	bool		stale = !OidIsValid(relation) || relation == engine_table || !meanings_valid;

	for (int i = 0; i < nmeanings && !stale; i++)
	{
		const Links *links = &meanings[i].links;

		stale = meanings[i].linked && (relation == links->table || relation == links->index ||
									   relation == links->view);
	}
	if (stale)
	{
		meanings_valid = false;
		meanings_changes++;
	}
}

/* A table of the registry, or NULL: it is locked or gone. */
static Relation
open_registry(const char *name)
{
	Oid			schema = get_namespace_oid("reputation", true);

	return OidIsValid(schema) ? lock_try_open(get_relname_relid(name, schema), AccessShareLock) :
		NULL;
}

/* Are scores of the engine with this number read through the cache? */
static bool
is_read_cached(int id)
{
	const EngineDescriptor *engine = engine_registered(id, NULL);

	return engine != NULL && engine->class->read_cached;
}

/* The view of a lookup, from reputation.lookup (engine, kind, view_name, ...). */
static Oid
lookup_view(Relation lookups, int engine, int16 kind)
{
	TableScanDesc scan = table_beginscan(lookups, SnapshotSelf, 0, NULL);
	TupleDesc	desc = RelationGetDescr(lookups);
	HeapTuple	tuple;
	Oid			view = InvalidOid;
	bool		isnull;

	while (!OidIsValid(view) && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		if (DatumGetInt32(heap_getattr(tuple, 1, desc, &isnull)) == engine &&
			DatumGetInt16(heap_getattr(tuple, 2, desc, &isnull)) == kind)
			view = DatumGetObjectId(heap_getattr(tuple, 3, desc, &isnull));
	}
	table_endscan(scan);
	return view;
}

static void
add_meaning(HeapTuple tuple, TupleDesc desc, Relation lookups)
{
	bool		isnull;
	Meaning    *meaning;
	Oid			view;

	/* reputation.capture_key (engine, source, key_no, kind, ...) */
	if (!is_read_cached(DatumGetInt32(heap_getattr(tuple, 1, desc, &isnull))))
		return;
	meanings = meanings == NULL ? palloc(sizeof(Meaning)) :
		repalloc(meanings, (nmeanings + 1) * sizeof(Meaning));
	meaning = &meanings[nmeanings++];
	memset(meaning, 0, sizeof(Meaning));
	meaning->engine = DatumGetInt32(heap_getattr(tuple, 1, desc, &isnull));
	meaning->source = DatumGetInt32(heap_getattr(tuple, 2, desc, &isnull));
	meaning->key_no = DatumGetInt16(heap_getattr(tuple, 3, desc, &isnull));
	meaning->kind = DatumGetInt16(heap_getattr(tuple, 4, desc, &isnull));
	if (meaning->kind == 0)
		return;
	view = lookup_view(lookups, meaning->engine, meaning->kind);
	meaning->linked = OidIsValid(view) && links_make(view, &meaning->links);
}

/* Reads what keys mean; false when a table is locked, or there is none. */
static bool
read_meanings(void)
{
	Relation	keys = open_registry("capture_key");
	Relation	lookups = open_registry("lookup");
	bool		good = keys != NULL && lookups != NULL;
	TableScanDesc scan;
	HeapTuple	tuple;

	if (good)
	{
		scan = table_beginscan(keys, SnapshotSelf, 0, NULL);
		while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
			add_meaning(tuple, RelationGetDescr(keys), lookups);
		table_endscan(scan);
	}
	if (keys != NULL)
		relation_close(keys, AccessShareLock);
	if (lookups != NULL)
		relation_close(lookups, AccessShareLock);
	return good;
}

/* Has the meanings at hand; false when they cannot be read now. */
static bool
load_meanings(void)
{
	static bool registered = false;
	MemoryContext before;
	uint64		changes;

	if (meanings_valid)
		return true;
	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget_meanings, (Datum) 0);
		registered = true;
	}
	if (meanings_context == NULL)
		meanings_context = AllocSetContextCreate(CacheMemoryContext, "reputation key meanings",
												 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(meanings_context);
	meanings = NULL;
	nmeanings = 0;
	engine_table = get_relname_relid("engine", get_namespace_oid("reputation", true));

	changes = meanings_changes;
	before = MemoryContextSwitchTo(meanings_context);
	if (!read_meanings())
	{
		MemoryContextSwitchTo(before);
		return false;
	}
	MemoryContextSwitchTo(before);
	/* Not kept if it may have changed after it was read. */
	meanings_valid = changes == meanings_changes;
	return true;
}

static void
add_found(const char *user, void *arg)
{
	const Meaning *meaning = arg;

	add_concern(meaning->engine, user, (int) strlen(user), CONCERN_FOUND);
}

/* The users that the keys lead to by this meaning. */
static void
follow_links(keyset_hash *keys, const Meaning *meaning)
{
	keyset_iterator iterator;
	KeysetEntry *entry;
	LinkScan	scan;

	if (!meaning->linked || !links_begin(&meaning->links, &scan))
	{
		everyone = true;
		return;
	}
	keyset_start_iterate(keys, &iterator);
	while (!everyone && (entry = keyset_iterate(keys, &iterator)) != NULL)
	{
		LinkResult	result;

		if (entry->key.source != meaning->source || entry->key.key_no != meaning->key_no)
			continue;
		result = links_find(&scan, entry->key.text, entry->key.length, add_found,
							(void *) meaning);
		everyone |= result == LINK_UNKNOWN;
		not_found |= result == LINK_NONE;
	}
	links_end(&scan);
}

/* Adds the keys of one meaning, if there are any. */
static void
add_keys(keyset_hash *keys, const Meaning *meaning)
{
	keyset_iterator iterator;
	KeysetEntry *entry;
	int			count = 0;

	keyset_start_iterate(keys, &iterator);
	while ((entry = keyset_iterate(keys, &iterator)) != NULL)
	{
		if (entry->key.source != meaning->source)
			continue;
		everyone |= entry->key.key_no == KEY_EVERYONE;
		if (entry->key.key_no != meaning->key_no)
			continue;
		count++;
		if (meaning->kind == 0)
			add_concern(meaning->engine, entry->key.text, entry->key.length, CONCERN_LINKS);
	}
	everyone |= count > MAX_CONCERNED;
	if (count > 0 && meaning->kind != 0 && !everyone)
		follow_links(keys, meaning);
}

/* Finds out, right before the commit, whom the captured keys concern. */
static void
invalidate_captured(keyset_hash *keys)
{
	MemoryContext context;
	MemoryContext before;
	CacheKey	any;

	/* In most databases nothing is read through the cache. */
	if ((meanings_valid && nmeanings == 0) || !read_cache_key(&any, 0, "", 0))
		return;
	context = AllocSetContextCreate(TopTransactionContext, "reputation invalidation",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	looked_at = read_cache_now();
	PushActiveSnapshot(GetLatestSnapshot());
	if (!load_meanings())
		everyone = true;
	else
	{
		for (int i = 0; i < nmeanings && !everyone; i++)
			add_keys(keys, &meanings[i]);
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/* Did links change between the look and now? */
static bool
links_changed(const CacheKey *no_user, const CacheKey *every_user)
{
	bool		found = not_found;

	for (int i = 0; i < nconcerns; i++)
	{
		if (concerns[i].kind != CONCERN_FOUND)
			continue;
		found = true;
		if (read_cache_changed_at(&concerns[i].key) > looked_at)
			return true;
	}
	if (not_found && read_cache_changed_at(no_user) > looked_at)
		return true;
	return found && read_cache_changed_at(every_user) > looked_at;
}

/* The commit is visible: takes out whom it concerns. Raises nothing. */
static void
forget_committed(void)
{
	CacheKey	no_user;
	CacheKey	every_user;
	bool		links = false;

	if ((nconcerns == 0 && !everyone && !not_found) || !read_cache_mark(&no_user, NO_USER) ||
		!read_cache_mark(&every_user, EVERY_USER))
		return;
	pg_memory_barrier();
	if (!everyone && links_changed(&no_user, &every_user))
		read_cache_forget_all();
	if (everyone)
		read_cache_mark_changed(&every_user);
	for (int i = 0; i < nconcerns; i++)
	{
		if (concerns[i].kind == CONCERN_LINKS)
		{
			read_cache_mark_changed(&concerns[i].key);
			links = true;
		}
	}
	if (links || everyone)
		read_cache_mark_changed(&no_user);
	if (everyone)
		read_cache_forget_all();
	else
	{
		for (int i = 0; i < nconcerns; i++)
			(void) read_cache_invalidate(&concerns[i].key);
	}
}

static void
invalidate_at_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		forget_committed();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_concerns();
}

/*
 * invalidate_init -- called when the library is loaded.
 */
void
invalidate_init(void)
{
	static const CaptureConsumer consumer = {invalidate_captured, invalidate_lost};

	capture_register_consumer(&consumer);
	engine_on_change(invalidate_everyone);
	RegisterXactCallback(invalidate_at_transaction, NULL);
}

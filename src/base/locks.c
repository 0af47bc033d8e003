/*
 * locks.c
 *		The extension's own locks, and locks that are only tried.
 *
 * FOLD and REGISTRY (one per database), ENGINE, DUE and LANE (per engine and lane) are heavyweight
 * locks of the advisory class with a number of their own in the tag's fourth
 * field, so that they neither meet the application's advisory locks nor need
 * shared memory of ours. They are held to the end of the transaction: whoever
 * gets one next takes a later snapshot than everything its predecessor did.
 *
 * Workers only try; a session that drains may wait. It takes REGISTRY before ENGINE, those in
 * the order of the ids and before FOLD, that before any lane, lanes in ascending order, and DUE
 * last, so two sessions cannot deadlock: FOLD keeps one out that would want lanes after DUE.
 * RANK is taken at the commit and tried only; who changes a whole tree waits for it
 * (rank_tree.c). A unit holds ENGINE shared, an attach or detach exclusive: no unit
 * works with an engine that is changed under it. It holds REGISTRY shared, an attach
 * exclusive: no unit takes keys out of the inbox that are those of an engine it does not know.
 */
#include "postgres.h"

#include "access/relation.h"
#include "base/locks.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"

/* Unlike the 1 and 2 of pg_advisory_lock(). */
#define LOCKTAG_FIELD4_REPUTATION	0x5250

/* Where an engine's id is in the tags of others. */
#define LOCK_BOARDS		(MAX_ENGINE_ID + 1)
#define LOCK_REGISTRY	(MAX_ENGINE_ID + 2)

static bool
lock_tag(uint32 key1, uint32 key2, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key1, key2, LOCKTAG_FIELD4_REPUTATION);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * lock_fold -- the right to fold the inbox, until the transaction ends.
 */
bool
lock_fold(bool wait)
{
	return lock_tag(0, 0, ExclusiveLock, wait);
}

/*
 * lock_lane -- the right to compute the users of a lane, until the transaction
 * ends.
 */
bool
lock_lane(int engine, int lane, bool wait)
{
	return lock_tag((uint32) engine, (uint32) lane + 1, ExclusiveLock, wait);
}

/*
 * lock_due -- the right to queue the users whose scores time changes, until the
 * transaction ends.
 */
bool
lock_due(int engine, bool wait)
{
	return lock_tag((uint32) engine, LANES + 1, ExclusiveLock, wait);
}

/*
 * lock_registry -- the right to attach an engine, exclusive, or to know that none will
 * be, shared, until the transaction ends.
 */
bool
lock_registry(bool exclusive, bool wait)
{
	return lock_tag(LOCK_REGISTRY, 0, exclusive ? ExclusiveLock : ShareLock, wait);
}

/*
 * lock_engine -- the right to use an attached engine, shared, or to attach or
 * detach it, exclusive, until the transaction ends.
 */
bool
lock_engine(int engine, bool exclusive, bool wait)
{
	return lock_tag((uint32) engine, 0, exclusive ? ExclusiveLock : ShareLock, wait);
}

/*
 * lock_rank -- the right to change a rank tree, until the transaction ends.
 */
bool
lock_rank(int tree, bool wait)
{
	return lock_tag(0, (uint32) tree, ExclusiveLock, wait);
}

/*
 * lock_board -- the right to refresh the cache of a tree's boards, until the
 * transaction ends.
 */
bool
lock_board(int tree)
{
	return lock_tag(LOCK_BOARDS, (uint32) tree, ExclusiveLock, false);
}

typedef struct LockRequest
{
	Oid			relation;
	LOCKMODE	mode;
	int			timeout_ms;
} LockRequest;

static void
wait_for_lock(void *arg)
{
	LockRequest *request = arg;
	int			level = spi_settings_begin();

	spi_set("lock_timeout", psprintf("%d", request->timeout_ms));
	LockRelationOid(request->relation, request->mode);
	spi_settings_end(level);
}

/*
 * lock_relation_within -- locks a relation unless that takes longer than the
 * time given; false then.
 */
bool
lock_relation_within(Oid relation, LOCKMODE mode, int timeout_ms)
{
	LockRequest request = {relation, mode, timeout_ms};
	ErrorData  *error;

	if (ConditionalLockRelationOid(relation, mode))
		return true;
	if (timeout_ms <= 0)
		return false;
	error = subxact_try(wait_for_lock, &request);
	if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		ReThrowError(error);
	return error == NULL;
}

/*
 * lock_try_open -- opens a relation under a lock that is to be had at once; NULL
 * when it is not, or the relation is gone.
 */
Relation
lock_try_open(Oid oid, LOCKMODE mode)
{
	Relation	relation;

	if (!OidIsValid(oid) || !ConditionalLockRelationOid(oid, mode))
		return NULL;
	relation = try_relation_open(oid, NoLock);
	if (relation == NULL)
		UnlockRelationOid(oid, mode);
	return relation;
}

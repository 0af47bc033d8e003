/*
 * locks.c
 *		The extension's own locks, and locks that are only tried.
 *
 * FOLD (one per database) and LANE (per engine and lane) are heavyweight
 * locks of the advisory class with a number of their own in the tag's fourth
 * field, so that they neither meet the application's advisory locks nor need
 * shared memory of ours. They are held to the end of the transaction: whoever
 * gets one next takes a later snapshot than everything its predecessor did.
 *
 * Workers only try; a session that drains may wait. It takes FOLD before any
 * lane and lanes in ascending order, so two sessions cannot deadlock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "locks.h"
#include "miscadmin.h"
#include "spi.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* Unlike the 1 and 2 of pg_advisory_lock(). */
#define LOCKTAG_FIELD4_REPUTATION	0x5250

static bool
lock_tag(uint32 key1, uint32 key2, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key1, key2, LOCKTAG_FIELD4_REPUTATION);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * lock_fold -- the right to fold the inbox, until the transaction ends.
 */
bool
lock_fold(bool wait)
{
	return lock_tag(0, 0, wait);
}

/*
 * lock_lane -- the right to compute the users of a lane, until the transaction
 * ends.
 */
bool
lock_lane(int engine, int lane, bool wait)
{
	return lock_tag((uint32) engine, (uint32) lane + 1, wait);
}

/*
 * lock_relation_within -- locks a relation unless that takes longer than the
 * time given; false then.
 */
bool
lock_relation_within(Oid relation, LOCKMODE mode, int timeout_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = true;
	char		timeout[32];

	if (ConditionalLockRelationOid(relation, mode))
		return true;
	if (timeout_ms <= 0)
		return false;

	snprintf(timeout, sizeof(timeout), "%d", timeout_ms);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			level = spi_settings_begin();

		spi_set("lock_timeout", timeout);
		LockRelationOid(relation, mode);
		spi_settings_end(level);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		FreeErrorData(error);
		locked = false;
	}
	PG_END_TRY();
	return locked;
}

/*
 * capture.c
 *		Row triggers that remember which keys a transaction changed, and the
 *		end of the transaction, where they go to the inbox.
 *
 * The writer pays for one trigger call per changed row, which puts a few keys
 * into a set in its own memory, and for one multi-insert into an inbox segment
 * before its commit. Capturing waits for nobody: no query is run, no
 * row another transaction could want is touched, and the lock on the segment
 * is only tried (inbox.c). What is more than capturing is following: when a user is
 * deleted, or gets another id, what is kept of it and cannot be computed again goes
 * along, by statements that may wait (CaptureFollower).
 *
 * Why no change is missed. The set lives in TopTransactionContext and is only
 * ever added to, so it holds at least the keys of everything that commits; a
 * rolled back subtransaction leaves superfluous ones. It is written at
 * XACT_EVENT_PRE_COMMIT, after all deferred triggers and constraints have
 * fired, or at PRE_PREPARE, in the same transaction as the change: both become
 * visible at the same moment or not at all.
 *
 * An update that leaves all watched columns as they were captures nothing. That
 * is found out here and not in the trigger's WHEN, which the executor would
 * parse anew for every statement. Most other updates do not come here at all,
 * see attach_triggers.c. What a trigger looks at, and captures, is in its arguments
 * (capture_plan.c). Of several engines at one table it is those that watch a
 * column that changed who get the key.
 *
 * The set takes no more memory than maintenance_work_mem: when it would, every
 * source that is in it has everybody marked instead of single keys.
 *
 * A key that is captured must lead to the users it concerns; which columns
 * are captured in which mode is the engine's business (docs/ARCHITECTURE.md,
 * "Capture"). Where a column is not found any more, everybody is marked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "base/guc.h"
#include "base/keyset.h"
#include "base/relations.h"
#include "capture/capture.h"
#include "capture/capture_plan.h"
#include "capture/inbox.h"
#include "capture/lost.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(reputation_capture);
PG_FUNCTION_INFO_V1(reputation_wake);

/* What every engine is concerned with, as the bits of engines. */
#define ALL_ENGINES	PG_UINT32_MAX

static keyset_hash *captured = NULL;	/* lives in captured_context */
static MemoryContext captured_context = NULL;	/* child of TopTransactionContext */
static bool everyone_captured = false;	/* of some source */
static bool wake_at_commit = false;
static bool lost = false;		/* there was no place for the keys */
static CaptureState capture_state = {false, 0};

/* Registered while the library is loaded, by a module above. */
static const CaptureConsumer *commit_consumer = NULL;

/*
 * capture_register_consumer -- takes in who is told of commits; there is one at most.
 */
void
capture_register_consumer(const CaptureConsumer *consumer)
{
	Assert(commit_consumer == NULL);
	commit_consumer = consumer;
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/*
 * capture_suspend -- turns capturing off or on in this backend; returns what
 * it was.
 */
CaptureState
capture_suspend(bool suspend)
{
	CaptureState before = capture_state;

	capture_state.suspended = suspend;
	capture_state.depth = trigger_depth();
	return before;
}

/*
 * capture_restore -- back to a former state.
 */
void
capture_restore(CaptureState state)
{
	capture_state = state;
}

/*
 * capture_wake_at_commit -- has the commit wake the workers.
 */
void
capture_wake_at_commit(void)
{
	wake_at_commit = true;
}

/*
 * reputation.wake() -- capture_wake_at_commit() for SQL.
 */
Datum
reputation_wake(PG_FUNCTION_ARGS)
{
	capture_wake_at_commit();
	PG_RETURN_VOID();
}

/* An empty set for the transaction's keys, in a memory context of its own. */
static keyset_hash *
new_keys(void)
{
	MemoryContext context = AllocSetContextCreate(TopTransactionContext,
												  "reputation captured keys",
												  ALLOCSET_SMALL_SIZES);

	return keyset_create(context, 8, NULL);
}

/* The transaction's set of keys, made at the first one. */
static keyset_hash *
captured_keys(void)
{
	if (captured == NULL)
	{
		captured = new_keys();
		captured_context = captured->ctx;
		everyone_captured = false;
	}
	return captured;
}

/*
 * capture_everyone -- has everybody recomputed once the transaction commits, as
 * if the source had been truncated.
 */
void
capture_everyone(int32 source)
{
	keyset_add(captured_keys(), source, KEY_EVERYONE, "", 0);
	everyone_captured = true;
}

/*
 * capture_is_pending -- has this transaction captured a change, which goes to the
 * inbox when it commits?
 */
bool
capture_is_pending(void)
{
	return captured != NULL;
}

/* Replaces all keys by marks of everybody. An error leaves the set as it was. */
static void
mark_everyone(void)
{
	keyset_hash *marks = new_keys();
	keyset_iterator iterator;
	KeysetEntry *entry;

	keyset_start_iterate(captured, &iterator);
	while ((entry = keyset_iterate(captured, &iterator)) != NULL)
		keyset_add(marks, entry->key.source, KEY_EVERYONE, "", 0);
	MemoryContextDelete(captured_context);
	captured = marks;
	captured_context = marks->ctx;
	everyone_captured = true;
}

/* A key as a text, in the buffer if it is a number; gives its length. */
static const char *
key_text(TriggerColumn *key, Datum value, char number[MAXINT8LEN + 1], int *length)
{
	const char *text = number;

	switch (key->type)
	{
		case INT2OID:
			*length = pg_lltoa(DatumGetInt16(value), number);
			break;
		case INT4OID:
			*length = pg_lltoa(DatumGetInt32(value), number);
			break;
		case INT8OID:
			*length = pg_lltoa(DatumGetInt64(value), number);
			break;
		default:
			text = OutputFunctionCall(&key->output, value);
			*length = strlen(text);
			break;
	}
	return text;
}

/* Adds one key; a null is no key, an oversized one marks everybody. */
static void
add_key(int32 source, TriggerColumn *key, Datum value, bool isnull)
{
	char		number[MAXINT8LEN + 1];
	const char *text;
	int			length;

	if (isnull)
		return;

	text = key_text(key, value, number, &length);
	if (length > MAX_KEY_LENGTH)
		capture_everyone(source);
	else if (!everyone_captured || !keyset_has(captured_keys(), source, KEY_EVERYONE, "", 0))
	{
		keyset_add(captured_keys(), source, key->key_no, text, length);
		if (MemoryContextMemAllocated(captured_context, false) / 1024 > maintenance_work_mem)
			mark_everyone();
	}
}

/* Has the column another value, or another representation of it, in the new row? */
static bool
column_changed(const TriggerColumn *column, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	bool		old_null;
	bool		new_null;
	Datum		old_value = slot_getattr(old_row, column->attnum, &old_null);
	Datum		new_value = slot_getattr(new_row, column->attnum, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(old_value, new_value, column->byval, column->length);
}

/* Which engines does an update concern? */
static uint32
engines_concerned(const TriggerPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	uint32		engines = 0;

	if (plan->unsure)
		return ALL_ENGINES;
	for (int i = 0; i < plan->ncolumns && engines != plan->engines; i++)
	{
		const TriggerColumn *column = &plan->columns[i];

		if (column->mode == 'w' && (column->engines & ~engines) != 0 &&
			column_changed(column, old_row, new_row))
			engines |= column->engines;
	}
	return engines;
}

/*
 * Adds the keys of one changed row; one of the rows may be NULL. Mode a: the
 * old and the new value count; o: the old one, when the row no longer has it;
 * e: the change concerns everybody; w: the column is no key; v, c and r are for
 * capture_written(). A key stands for all engines that want it, so that a
 * change which concerns all of them leaves one row in the inbox; when it concerns
 * only some, the single ones that come after it are taken.
 */
static void
capture_row(TriggerPlan *plan, uint32 engines, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	bool		for_all = false;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		TriggerColumn *column = &plan->columns[i];
		bool		isnull;
		Datum		value;

		if (!column->key)
			continue;
		if (!column->single)
			for_all = (column->engines & engines) == column->engines;
		if (column->single ? for_all || (column->engines & engines) == 0 : !for_all)
			continue;
		if (column->mode == 'e')
		{
			capture_everyone(plan->source);
			continue;
		}
		if (old_row != NULL &&
			(new_row == NULL || column_changed(column, old_row, new_row)))
		{
			value = slot_getattr(old_row, column->attnum, &isnull);
			add_key(plan->source, column, value, isnull);
		}
		if (new_row != NULL && column->mode == 'a')
		{
			value = slot_getattr(new_row, column->attnum, &isnull);
			add_key(plan->source, column, value, isnull);
		}
	}
}

/*
 * Has a new row a value of its own where an engine will write? A rank is null until
 * then, a score null or 0.
 */
static bool
brings_value(const TriggerColumn *written, const TriggerColumn *key, TupleTableSlot *row)
{
	bool		isnull;
	Datum		value = slot_getattr(row, written->attnum, &isnull);

	return !isnull &&
		(key->mode == 'r' || written->type != INT4OID || DatumGetInt32(value) != 0);
}

/*
 * Adds the keys for what only an engine should write (mode v), and somebody else did:
 * the cached column's (c), the rank column's (r). They lead to a restore (restore.c). The
 * first row is NULL for an INSERT.
 */
static void
capture_written(TriggerPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	for (int i = 0; i < plan->ncolumns && plan->written; i++)
	{
		TriggerColumn *written = &plan->columns[i];
		TriggerColumn *key;
		bool		isnull;
		Datum		value;

		if (written->mode != 'v' || written->written_key < 0)
			continue;
		key = &plan->columns[written->written_key];
		if (!(old_row == NULL ? brings_value(written, key, new_row) :
			  column_changed(written, old_row, new_row)))
			continue;
		value = slot_getattr(new_row, key->attnum, &isnull);
		add_key(plan->source, key, value, isnull);
	}
}

/* Is a column the users' key of an engine that keeps what follows a user? */
static bool
is_followed(TriggerColumn *column, Relation relation)
{
	uint64		now = relation_changes();

	if (column->followed_as_of != now)
	{
		column->followed = capture_follower()->wanted(relation, column->attnum);
		column->followed_as_of = now;
	}
	return column->followed;
}

/* When the row of a user that may have ledger rows or badges goes, or gets another id. */
static void
follow_user(FunctionCallInfo fcinfo, TriggerColumn *column, TupleTableSlot *old_row,
			TupleTableSlot *new_row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	char		old_number[MAXINT8LEN + 1];
	char		new_number[MAXINT8LEN + 1];
	const char *new_key = NULL;
	bool		isnull;
	int			length;
	Datum		value;

	if (!column->follows || (new_row != NULL && !column_changed(column, old_row, new_row)))
		return;
	if (!is_followed(column, data->tg_relation))
		return;
	if (new_row != NULL)
	{
		value = slot_getattr(new_row, column->attnum, &isnull);
		if (!isnull)
			new_key = key_text(column, value, new_number, &length);
	}
	value = slot_getattr(old_row, column->attnum, &isnull);
	if (!isnull)
		capture_follower()->follow(fcinfo, data->tg_relation, column->attnum,
								   key_text(column, value, old_number, &length), new_key);
}

/*
 * reputation.capture() -- the trigger function. 39P01 when it is not called as
 * an AFTER ... FOR EACH ROW trigger or an AFTER TRUNCATE trigger.
 */
Datum
reputation_capture(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TriggerPlan *plan;
	uint32		engines;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(data->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.capture() must be an AFTER trigger for each row or for TRUNCATE")));

	/* What the application's triggers write meanwhile counts as ever. */
	if (capture_state.suspended && trigger_depth() == capture_state.depth + 1)
		return PointerGetDatum(NULL);

	plan = capture_plan(data);
	if (plan->refused)
		return PointerGetDatum(NULL);
	if (plan->broken || TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		capture_everyone(plan->source);
	else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		capture_row(plan, ALL_ENGINES, NULL, data->tg_trigslot);
		capture_written(plan, NULL, data->tg_trigslot);
	}
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		capture_row(plan, ALL_ENGINES, data->tg_trigslot, NULL);
	else
	{
		engines = engines_concerned(plan, data->tg_trigslot, data->tg_newslot);
		if (engines != 0)
			capture_row(plan, engines, data->tg_trigslot, data->tg_newslot);
		capture_written(plan, data->tg_trigslot, data->tg_newslot);
	}

	if (plan->follows && (TRIGGER_FIRED_BY_DELETE(data->tg_event) ||
						  TRIGGER_FIRED_BY_UPDATE(data->tg_event)))
	{
		for (int i = 0; i < plan->ncolumns; i++)
			follow_user(fcinfo, &plan->columns[i], data->tg_trigslot,
						TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newslot : NULL);
	}
	return PointerGetDatum(NULL);
}

/*
 * Writes the captured keys to the inbox. Runs before the transaction commits
 * or is prepared.
 */
static void
flush_captured(bool preparing)
{
	if (captured == NULL)
		return;

	if (!preparing && commit_consumer != NULL)
		commit_consumer->captured(captured);
	lost = !inbox_append(captured, captured_context);
	if (lost)
		lost_mark();
	wake_at_commit = true;
	/* A prepared transaction cannot notify. */
	if (guc_notify == NOTIFY_WRITER && !preparing)
		Async_Notify("reputation_work", "");

	captured = NULL;
	MemoryContextDelete(captured_context);
	captured_context = NULL;
}

static void
capture_at_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			flush_captured(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			flush_captured(true);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			/* After PREPARE the worker watches for the commit to come. */
			if (captured != NULL)
			{
				/* Another extension wrote after our turn: too late for the inbox. */
				captured = NULL;
				captured_context = NULL;
				lost = true;
				wake_at_commit = true;
			}
			if (lost)
				lost_report(event == XACT_EVENT_PREPARE);
			if (lost && event == XACT_EVENT_COMMIT && commit_consumer != NULL)
				commit_consumer->lost();
			lost = false;
			if (wake_at_commit)
				shmem_wake_workers();
			wake_at_commit = false;
			break;
		case XACT_EVENT_ABORT:
			/* The context went with TopTransactionContext or will. */
			captured = NULL;
			captured_context = NULL;
			wake_at_commit = false;
			if (lost)
				lost_nothing();
			lost = false;
			capture_state.suspended = false;
			break;
		default:
			break;
	}
}

/*
 * capture_init -- called when the library is loaded.
 */
void
capture_init(void)
{
	RegisterXactCallback(capture_at_transaction, NULL);
}

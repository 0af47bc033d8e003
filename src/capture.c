/*
 * capture.c
 *		Row triggers that remember which keys a transaction changed, and the
 *		end of the transaction, where they go to the inbox.
 *
 * The writer pays for one trigger call per changed row, which puts a few keys
 * into a set in its own memory, and for one multi-insert into an inbox segment
 * before its commit. Nothing here can wait for anybody: no query is run, no
 * row another transaction could want is touched, and the lock on the segment
 * is only tried (inbox.c).
 *
 * Why no change is missed. The set lives in TopTransactionContext and is only
 * ever added to, so it holds at least the keys of everything that commits; a
 * rolled back subtransaction leaves superfluous ones. It is written at
 * XACT_EVENT_PRE_COMMIT, after all deferred triggers and constraints have
 * fired, or at PRE_PREPARE, in the same transaction as the change: both become
 * visible at the same moment or not at all.
 *
 * A key that is captured must lead to the users it concerns; which columns
 * are captured in which mode is the engine's business (docs/ARCHITECTURE.md,
 * "Capture"). Where a column is not found any more, everybody is marked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "capture.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "guc.h"
#include "inbox.h"
#include "keyset.h"
#include "shmem.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(reputation_capture);
PG_FUNCTION_INFO_V1(reputation_wake);

#define MAX_TRIGGER_KEYS 16

/* One key of a trigger, as its argument and the relation's columns say. */
typedef struct TriggerKey
{
	int16		key_no;
	bool		only_when_gone; /* mode o */
	AttrNumber	attnum;
	Oid			type;
	FmgrInfo	output;
} TriggerKey;

/* What a trigger does, kept per trigger OID until its relation changes. */
typedef struct TriggerPlan
{
	Oid			trigger;		/* hash key */
	Oid			relation;
	bool		valid;
	bool		broken;			/* a column is gone: mark everybody */
	int32		source;
	int			nkeys;
	TriggerKey	keys[MAX_TRIGGER_KEYS];
} TriggerPlan;

static HTAB *trigger_plans = NULL;
static keyset_hash *captured = NULL;	/* lives in captured_context */
static MemoryContext captured_context = NULL;	/* child of TopTransactionContext */
static bool wake_at_commit = false;
static bool lost = false;		/* there was no place for the keys */
static CaptureState capture_state = {false, 0};

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

/* The transaction's set of keys, made at the first one. */
static keyset_hash *
captured_keys(void)
{
	if (captured == NULL)
	{
		captured_context = AllocSetContextCreate(TopTransactionContext,
												 "reputation captured keys",
												 ALLOCSET_SMALL_SIZES);
		captured = keyset_create(captured_context, 8, NULL);
	}
	return captured;
}

static void
add_everyone(int32 source)
{
	keyset_add(captured_keys(), source, KEY_EVERYONE, "", 0);
}

/* Adds one key; a null is no key, an oversized one marks everybody. */
static void
add_key(int32 source, TriggerKey *key, Datum value, bool isnull)
{
	char		number[MAXINT8LEN + 1];
	const char *text;
	int			length;

	if (isnull)
		return;

	switch (key->type)
	{
		case INT2OID:
			text = number;
			length = pg_lltoa(DatumGetInt16(value), number);
			break;
		case INT4OID:
			text = number;
			length = pg_lltoa(DatumGetInt32(value), number);
			break;
		case INT8OID:
			text = number;
			length = pg_lltoa(DatumGetInt64(value), number);
			break;
		default:
			text = OutputFunctionCall(&key->output, value);
			length = strlen(text);
			break;
	}

	if (length > MAX_KEY_LENGTH)
		add_everyone(source);
	else
		keyset_add(captured_keys(), source, key->key_no, text, length);
}

static void
forget_plans(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	TriggerPlan *plan;

	hash_seq_init(&scan, trigger_plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relation) || plan->relation == relation)
			plan->valid = false;
	}
}

/*
 * Fills in one key from its argument "mode:key_no:column"; false when the
 * relation has no such column.
 */
static bool
plan_key(TriggerKey *key, const char *argument, Relation relation)
{
	bool		prefixed = (argument[0] == 'a' || argument[0] == 'o') && argument[1] == ':';
	const char *number = prefixed ? argument + 2 : "";
	const char *column = strchr(number, ':');
	Oid			output;
	bool		varlena;
	Form_pg_attribute attribute;

	if (column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("malformed argument \"%s\" of a reputation.capture() trigger", argument),
				 errhint("Attach the engine again.")));

	key->only_when_gone = (argument[0] == 'o');
	key->key_no = (int16) atoi(number);
	key->attnum = get_attnum(RelationGetRelid(relation), column + 1);
	if (key->attnum <= 0)
		return false;

	attribute = TupleDescAttr(RelationGetDescr(relation), key->attnum - 1);
	key->type = attribute->atttypid;
	getTypeOutputInfo(key->type, &output, &varlena);
	fmgr_info_cxt(output, &key->output, CacheMemoryContext);
	return true;
}

/*
 * The plan of the fired trigger, made anew when its relation has changed.
 */
static TriggerPlan *
trigger_plan(TriggerData *data)
{
	Trigger    *trigger = data->tg_trigger;
	TriggerPlan *plan;
	bool		found;

	if (trigger_plans == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(Oid),
			.entrysize = sizeof(TriggerPlan),
			.hcxt = CacheMemoryContext
		};

		trigger_plans = hash_create("reputation trigger plans", 16, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(forget_plans, (Datum) 0);
	}

	plan = hash_search(trigger_plans, &trigger->tgoid, HASH_ENTER, &found);
	if (found && plan->valid && plan->relation == RelationGetRelid(data->tg_relation))
		return plan;

	plan->valid = false;
	plan->relation = RelationGetRelid(data->tg_relation);
	plan->broken = false;
	if (trigger->tgnargs < 1 || trigger->tgnargs > MAX_TRIGGER_KEYS + 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.capture() trigger has %d arguments", trigger->tgnargs),
				 errhint("Attach the engine again.")));
	plan->source = atoi(trigger->tgargs[0]);
	plan->nkeys = trigger->tgnargs - 1;
	for (int i = 0; i < plan->nkeys; i++)
	{
		if (!plan_key(&plan->keys[i], trigger->tgargs[i + 1], data->tg_relation))
			plan->broken = true;
	}
	if (plan->broken)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("a column that reputation captures is gone from table \"%s\"",
						RelationGetRelationName(data->tg_relation)),
				 errdetail("Every change of the table now leads to a recomputation of all users."),
				 errhint("Attach the engine again with the new column in \"columns\".")));
	plan->valid = true;
	return plan;
}

/*
 * Adds the keys of one changed row. In mode a the old and the new value count;
 * in mode o the old one, when the row no longer has it.
 */
static void
capture_row(TriggerPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	for (int i = 0; i < plan->nkeys; i++)
	{
		TriggerKey *key = &plan->keys[i];
		Datum		old_value = (Datum) 0;
		Datum		new_value = (Datum) 0;
		bool		old_null = true;
		bool		new_null = true;
		bool		same;

		if (old_row != NULL)
			old_value = slot_getattr(old_row, key->attnum, &old_null);
		if (new_row != NULL)
			new_value = slot_getattr(new_row, key->attnum, &new_null);

		same = !old_null && !new_null &&
			datumIsEqual(old_value, new_value,
						 TupleDescAttr(old_row->tts_tupleDescriptor, key->attnum - 1)->attbyval,
						 TupleDescAttr(old_row->tts_tupleDescriptor, key->attnum - 1)->attlen);

		if (!same)
			add_key(plan->source, key, old_value, old_null);
		if (!key->only_when_gone)
			add_key(plan->source, key, new_value, new_null);
	}
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

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(data->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.capture() must be an AFTER trigger for each row or for TRUNCATE")));

	/* What the application's triggers write meanwhile counts as ever. */
	if (capture_state.suspended && trigger_depth() == capture_state.depth + 1)
		return PointerGetDatum(NULL);

	plan = trigger_plan(data);
	if (plan->broken || TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		add_everyone(plan->source);
	else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		capture_row(plan, NULL, data->tg_trigslot);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		capture_row(plan, data->tg_trigslot, NULL);
	else
		capture_row(plan, data->tg_trigslot, data->tg_newslot);

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

	lost = !inbox_append(captured);
	wake_at_commit = true;
	/* A prepared transaction cannot notify. */
	if (guc_notify == NOTIFY_WRITER && !preparing)
		Async_Notify("reputation_work", "");

	captured = NULL;
	MemoryContextDelete(captured_context);
	captured_context = NULL;
}

/*
 * The changes of this transaction are not in the inbox: everybody is to be
 * recomputed. Not before they are visible: now, or for a prepared transaction
 * when that has ended.
 */
static void
report_lost(bool preparing)
{
	if (preparing)
		shmem_request_resync_after(GetTopTransactionIdIfAny());
	else
		shmem_request_resync();
}

static void
at_transaction_event(XactEvent event, void *arg)
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
				report_lost(event == XACT_EVENT_PREPARE);
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
	RegisterXactCallback(at_transaction_event, NULL);
}

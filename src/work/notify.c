/*
 * notify.c
 *		NOTIFY reputation_scores: which users' scores changed.
 *
 * A worker sends the ids of a unit after its commit, in a transaction of its
 * own: the lock that a notifying commit takes for the whole
 * cluster is never held while the worker holds users' rows. A session sends
 * them in its own transaction. Payload: {"engine": "builder", "ids": [1, 2]},
 * several notifications when there are many, and {"engine": "builder", "ids":
 * null} (read what you need again) when there are more than fit MAX_PAYLOADS.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/guc.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "work/drain.h"

#define PAYLOAD_LENGTH	7900	/* a payload must be shorter than 8000 bytes */
#define MAX_PAYLOADS	64

typedef struct Pending
{
	const EngineDescriptor *engine;
	StringInfoData ids;			/* of the payload being filled */
	List	   *payloads;		/* full ones */
	bool		overflow;
} Pending;

static MemoryContext pending_context = NULL;
static List *pending = NIL;		/* of Pending *, one per engine */

static Pending *
pending_of(const Engine *engine)
{
	ListCell   *cell;
	Pending    *new;

	foreach(cell, pending)
	{
		if (((Pending *) lfirst(cell))->engine == engine->descriptor)
			return lfirst(cell);
	}
	new = palloc0(sizeof(Pending));
	new->engine = engine->descriptor;
	initStringInfo(&new->ids);
	pending = lappend(pending, new);
	return new;
}

static char *
payload(const EngineDescriptor *engine, const char *ids)
{
	return psprintf("{\"engine\": \"%s\", \"ids\": %s}", engine->name, ids);
}

static void
finish_payload(Pending *p)
{
	if (p->ids.len == 0)
		return;
	p->payloads = lappend(p->payloads, payload(p->engine, psprintf("[%s]", p->ids.data)));
	resetStringInfo(&p->ids);
	p->overflow |= list_length(p->payloads) > MAX_PAYLOADS;
}

/* Forgets what was remembered: it was sent, or its transaction failed. */
static void
discard(void)
{
	if (pending_context != NULL)
		MemoryContextReset(pending_context);
	pending = NIL;
}

static void
notify_at_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		discard();
}

/*
 * notify_init -- called when the library is loaded.
 */
void
notify_init(void)
{
	RegisterXactCallback(notify_at_transaction, NULL);
}

/*
 * notify_add -- remembers a user whose score changed in this transaction.
 */
void
notify_add(const Engine *engine, const char *key)
{
	MemoryContext before;
	Pending    *p;
	StringInfoData id;

	if (guc_notify == NOTIFY_OFF)
		return;
	if (pending_context == NULL)
		pending_context = AllocSetContextCreate(TopMemoryContext, "reputation notifications",
												ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(pending_context);
	p = pending_of(engine);
	if (!p->overflow)
	{
		initStringInfo(&id);
		engine_append_json_key(&id, engine, key);
		if (p->ids.len + id.len + 2 > PAYLOAD_LENGTH - 64)
			finish_payload(p);
		/* An id that long in JSON: the listener must read for itself. */
		p->overflow |= id.len > PAYLOAD_LENGTH - 64;
		appendStringInfo(&p->ids, "%s%s", p->ids.len > 0 ? ", " : "", id.data);
		pfree(id.data);
	}
	MemoryContextSwitchTo(before);
}

/*
 * notify_pending -- is there anything to send?
 */
bool
notify_pending(void)
{
	return pending != NIL;
}

/*
 * notify_send -- has the current transaction send what was remembered.
 */
void
notify_send(void)
{
	ListCell   *cell;
	ListCell   *text;
	MemoryContext before;

	if (pending == NIL)
		return;
	before = MemoryContextSwitchTo(pending_context);
	foreach(cell, pending)
	{
		Pending    *p = lfirst(cell);

		finish_payload(p);
		if (p->overflow)
			p->payloads = list_make1(payload(p->engine, "null"));
		foreach(text, p->payloads)
			Async_Notify("reputation_scores", lfirst(text));
	}
	MemoryContextSwitchTo(before);
	discard();
}

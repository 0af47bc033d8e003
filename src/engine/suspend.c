/*
 * suspend.c
 *		Engines that fail as a whole: their jobs wait, their row says why.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "engine/engine.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define SUSPENSION		10000	/* ms until a broken engine is tried again */
#define LONGEST_FAILURE	1000	/* bytes of an error that is kept */
#define LONGEST_STATEMENT	100 /* bytes of a statement in it */

/*
 * failure_text -- what is kept of an error: what it says, where in code of the
 * application's it came up and as whom that ran, and what can be done about it.
 */
char *
failure_text(const Engine *engine, const ErrorData *error)
{
	StringInfoData text;
	char	   *where = context_function(error->context, GetErrorContextStack());

	initStringInfo(&text);
	appendStringInfoString(&text, error->message);
	/* A statement of the engine's: over the view, or of the users table. */
	if (where == NULL && bound_exceeded(error) && error->context != NULL)
		where = pnstrdup(error->context,
						 pg_mbcliplen(error->context, strcspn(error->context, "\n"),
									  LONGEST_STATEMENT));
	if (where != NULL)
		appendStringInfo(&text, ", in %s, as %s", where,
						 GetUserNameFromId(engine->role, true));
	if (error->hint != NULL)
		appendStringInfo(&text, ". %s", error->hint);
	text.data[pg_mbcliplen(text.data, text.len, LONGEST_FAILURE)] = '\0';
	return text.data;
}

/*
 * engine_suspend -- the engine as a whole fails, or its code takes too long: its jobs
 * wait for a while, and its row says why.
 */
void
engine_suspend(Engine *engine, const ErrorData *error)
{
	engine_suspend_for(engine, failure_text(engine, error), error->sqlerrcode,
					   bound_exceeded(error) ? bound_suspension() : SUSPENSION);
}

/*
 * engine_suspend_for -- the same for so many ms, with a text.
 */
void
engine_suspend_for(Engine *engine, const char *text, int sqlerrcode, long ms)
{
	Oid			types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	TimestampTz retry_at = TimestampTzPlusMilliseconds(clock_now(), ms);
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name),
	CStringGetTextDatum(text), TimestampTzGetDatum(retry_at)};

	if (engine->suspended_error == NULL || strcmp(engine->suspended_error, text) != 0)
		ereport(WARNING,
				(errcode(sqlerrcode),
				 errmsg("the engine \"%s\" is suspended: %s", engine->descriptor->name, text),
				 errdetail("Its jobs wait; it is tried again every %ld seconds.",
						   Max(ms / 1000, 1)),
				 errhint("When it is mended SELECT reputation_retry('%s') has it tried at once.",
						 engine->descriptor->name)));
	/* Whoever has the row (an event trigger, for a renamed column) is not waited for. */
	spi_exec("UPDATE reputation.engine SET suspended_error = $2, retry_at = $3 "
			 "WHERE id = (SELECT id FROM reputation.engine WHERE name = $1 "
			 "FOR NO KEY UPDATE SKIP LOCKED)", 3, types, values, NULL);
	engine->suspended_error = MemoryContextStrdup(GetMemoryChunkContext(engine), text);
	engine->retry_at = retry_at;
}

/*
 * engine_resume -- the engine works again.
 */
void
engine_resume(Engine *engine)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(engine->descriptor->name)};

	ereport(LOG, (errmsg("the engine \"%s\" works again", engine->descriptor->name)));
	spi_exec("UPDATE reputation.engine SET suspended_error = NULL, retry_at = NULL "
			 "WHERE id = (SELECT id FROM reputation.engine WHERE name = $1 "
			 "FOR NO KEY UPDATE SKIP LOCKED)", 1, types, values, NULL);
	engine->suspended_error = NULL;
}

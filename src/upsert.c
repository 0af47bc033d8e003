/*
 * upsert.c
 *		upsert_user() and upsert_user_and_wait(): a JSON document becomes a row of
 *		the users table that the trust engine is attached to.
 *
 * The row is written with the caller's privileges, search_path and all; the
 * triggers capture it like any other write. The values are converted first, so
 * that what is wrong with one can be told with its key, and what the write
 * itself raises stays as it is.
 *
 * The waiting procedure commits, and then looks again and again, each time in a
 * transaction of its own. What it finds deferred to the end of the debounce
 * window it queues once more, due now: a claim takes all jobs of the user.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "api.h"
#include "capture.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "miscadmin.h"
#include "pending.h"
#include "pgstat.h"
#include "queue.h"
#include "spi.h"
#include "storage/latch.h"
#include "subxact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(reputation_upsert_user);
PG_FUNCTION_INFO_V1(reputation_upsert_user_and_wait);

#define ENGINE "trust"

/* How often upsert_user_and_wait() looks (ms). */
#define WAIT_INTERVAL	2

typedef struct Upsert
{
	Engine	   *engine;
	Jsonb	   *inputs;			/* the engine's names -> columns of the users table */
	Jsonb	   *doc;
	char	  **keys;			/* of the document */
	char	  **columns;		/* what they mean */
	int			count;
	char	   *id;				/* the document's, as text; NULL: it has none */
} Upsert;

/* A string of a JSON object, NULL when it has none of that name. */
static char *
json_string(Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&object->root, name, strlen(name), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The columns of the users table that can be written, as a list of names. */
static List *
writable_columns(const Engine *engine)
{
	Relation	users = table_open(engine->users, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(users);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && attribute->attgenerated == '\0')
			names = lappend(names, pstrdup(NameStr(attribute->attname)));
	}
	table_close(users, AccessShareLock);
	return names;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* The keys a document may have: the engine's names, then the other columns. */
static char *
accepted_keys(const Upsert *upsert, List *columns)
{
	StringInfoData list;
	List	   *meant = NIL;
	JsonbIterator *iterator = JsonbIteratorInit(&upsert->inputs->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	ListCell   *cell;

	initStringInfo(&list);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *text;

		if (token != WJB_KEY && token != WJB_VALUE)
			continue;
		text = pnstrdup(value.val.string.val, value.val.string.len);
		if (token == WJB_VALUE)
			meant = lappend(meant, text);
		else
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", text);
	}
	foreach(cell, columns)
	{
		if (!is_listed(meant, lfirst(cell)))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", (char *) lfirst(cell));
	}
	return list.data;
}

/* Raises 22023 about a document's keys. */
static void
bad_keys(const Upsert *upsert, List *columns, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 errhint("The keys are: %s.", accepted_keys(upsert, columns))));
}

/* Finds the columns that the document's keys mean; 22023 naming all that mean none. */
static void
resolve_keys(Upsert *upsert)
{
	List	   *columns = writable_columns(upsert->engine);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData unknown;

	if (!JB_ROOT_IS_OBJECT(upsert->doc) || JB_ROOT_COUNT(upsert->doc) == 0)
		bad_keys(upsert, columns, "the document must be an object with a user's columns");
	initStringInfo(&unknown);
	upsert->keys = palloc(sizeof(char *) * JB_ROOT_COUNT(upsert->doc));
	upsert->columns = palloc(sizeof(char *) * JB_ROOT_COUNT(upsert->doc));
	iterator = JsonbIteratorInit(&upsert->doc->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *key;
		char	   *column;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		column = json_string(upsert->inputs, key);
		if (column == NULL && is_listed(columns, key))
			column = key;
		if (column == NULL)
		{
			appendStringInfo(&unknown, "%s\"%s\"", unknown.len > 0 ? ", " : "", key);
			continue;
		}
		for (int i = 0; i < upsert->count; i++)
		{
			if (strcmp(upsert->columns[i], column) == 0)
				bad_keys(upsert, columns, psprintf("the keys \"%s\" and \"%s\" are the same column",
												   upsert->keys[i], key));
		}
		upsert->keys[upsert->count] = key;
		upsert->columns[upsert->count++] = column;
	}
	if (unknown.len > 0)
		bad_keys(upsert, columns, psprintf("unknown key %s", unknown.data));
}

/* The document as a row r of the users table; for a FROM. */
static char *
converted_row(const Upsert *upsert)
{
	return psprintf("pg_catalog.jsonb_populate_record(NULL::%s, "
					"(SELECT pg_catalog.jsonb_object_agg(m.c, $1 OPERATOR(pg_catalog.->) m.k) "
					"FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS m(k, c))) r",
					upsert->engine->users_name);
}

/* Runs a statement over the row, made of some of the keys. */
static uint64
run(const Upsert *upsert, const char *sql, int first, int count)
{
	Oid			types[] = {JSONBOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[] = {JsonbPGetDatum(upsert->doc), text_array(upsert->keys + first, count),
	text_array(upsert->columns + first, count)};

	return spi_once(sql, 3, types, values);
}

typedef struct Conversion
{
	Upsert	   *upsert;
	int			first;
	int			count;
} Conversion;

static void
convert(void *arg)
{
	Conversion *this = arg;

	run(this->upsert, psprintf("SELECT r.%s::pg_catalog.text, r::pg_catalog.text FROM %s",
							   this->upsert->engine->users_key, converted_row(this->upsert)),
		this->first, this->count);
	this->upsert->id = spi_text(0, 1);
}

/* Converts the values; 22P02 naming the key whose value is not of its column's type. */
static void
check_values(Upsert *upsert)
{
	Conversion	all = {upsert, 0, upsert->count};
	ErrorData  *error = subxact_try(convert, &all);

	if (error == NULL)
		return;
	for (int i = 0; i < upsert->count; i++)
	{
		Conversion	one = {upsert, i, 1};
		ErrorData  *its = subxact_try(convert, &one);

		if (its != NULL && (ERRCODE_TO_CATEGORY(its->sqlerrcode) == ERRCODE_DATA_EXCEPTION ||
							its->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					 errmsg("key \"%s\": %s", upsert->keys[i], its->message),
					 errdetail("The column %s of %s is of type %s.", upsert->columns[i],
							   upsert->engine->users_name,
							   format_type_be(get_atttype(upsert->engine->users,
														  get_attnum(upsert->engine->users,
																	 upsert->columns[i]))))));
	}
	ReThrowError(error);
}

/* Writes the row; returns the user's id as text. */
static char *
write_row(const Upsert *upsert)
{
	StringInfoData names;
	StringInfoData values;
	StringInfoData sets;
	char	   *conflict = "";

	initStringInfo(&names);
	initStringInfo(&values);
	initStringInfo(&sets);
	for (int i = 0; i < upsert->count; i++)
	{
		const char *name = quote_identifier(upsert->columns[i]);

		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", name);
		appendStringInfo(&values, "%sr.%s", i > 0 ? ", " : "", name);
		if (strcmp(name, upsert->engine->users_key) != 0)
			appendStringInfo(&sets, "%s%s = excluded.%s", sets.len > 0 ? ", " : "", name, name);
	}
	if (upsert->id != NULL)
		conflict = psprintf(" ON CONFLICT (%s) DO %s%s", upsert->engine->users_key,
							sets.len > 0 ? "UPDATE SET " : "NOTHING", sets.data);
	if (run(upsert, psprintf("INSERT INTO %s (%s) SELECT %s FROM %s%s RETURNING %s::pg_catalog.text",
							 upsert->engine->users_name, names.data, values.data,
							 converted_row(upsert), conflict, upsert->engine->users_key),
			0, upsert->count) > 0)
		return spi_text(0, 1);
	return upsert->id;
}

/* Writes a document; returns the user's id as text, in the memory context given. */
static char *
upsert_user(FunctionCallInfo fcinfo, Jsonb *doc, MemoryContext context)
{
	Upsert		upsert = {.doc = doc};
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(ENGINE)};
	EngineContext caller;
	bool		isnull;
	char	   *id;

	spi_begin();
	owner_enter(fcinfo, &caller);
	upsert.engine = engine_cached(ENGINE);
	spi_exec("SELECT inputs FROM reputation.engine WHERE name = $1", 1, types, values, NULL);
	upsert.inputs = DatumGetJsonbPCopy(spi_datum(0, 1, &isnull));
	owner_leave(&caller);
	resolve_keys(&upsert);
	check_values(&upsert);
	id = write_row(&upsert);
	id = id == NULL ? NULL : MemoryContextStrdup(context, id);
	spi_end();
	return id;
}

/*
 * upsert_user(doc) -- see sql/31-trust.sql. Null when a trigger kept the row away.
 */
Datum
reputation_upsert_user(PG_FUNCTION_ARGS)
{
	char	   *id = upsert_user(fcinfo, PG_GETARG_JSONB_P(0), CurrentMemoryContext);

	if (id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

/* Has a user who only waits for the debounce window computed now. */
static void
hurry(const Engine *engine, char *key)
{
	Oid			types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id), CStringGetTextDatum(key),
	TimestampTzGetDatum(clock_now())};

	if (spi_exec("SELECT 1 FROM reputation.job WHERE engine = $1 AND kind = 0 AND key = $2 "
				 "HAVING count(*) > 0 AND bool_and(due_at > $3 AND attempt = 0)", 3, types, values,
				 NULL) == 0)
		return;
	queue_enqueue(engine, &key, 1, PRIORITY_HIGH);
	capture_wake_at_commit();
}

/* One look at what is pending of the user, in a transaction: NULL when nothing is. */
static char *
look_and_hurry(FunctionCallInfo fcinfo, PendingLook *look, char *key)
{
	EngineContext caller;
	Engine	   *engine;
	char	   *what;

	spi_begin();
	owner_enter(fcinfo, &caller);
	engine = engine_get(ENGINE);
	what = pending_look_once(look, engine, key);
	if (what != NULL)
	{
		what = MemoryContextStrdup(PortalContext, what);
		hurry(engine, key);
	}
	owner_leave(&caller);
	spi_end();
	return what;
}

/*
 * upsert_user_and_wait(doc, timeout) -- see sql/31-trust.sql.
 */
Datum
reputation_upsert_user_and_wait(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	PendingLook look = {.changes_only = true};
	TimestampTz give_up;
	char	   *key;
	char	   *what;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("upsert_user_and_wait() cannot run inside a transaction block"),
				 errhint("Workers see the user only after a commit. CALL it on its own, or use "
						 "upsert_user() and, after the COMMIT, reputation_wait().")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"doc\" must not be null")));
	give_up = PG_ARGISNULL(1) ? DT_NOEND :
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												TimestampTzGetDatum(GetCurrentTimestamp()),
												PG_GETARG_DATUM(1)));

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	key = upsert_user(fcinfo, PG_GETARG_JSONB_P(0), PortalContext);
	SPI_commit();
	SPI_start_transaction();
	look.horizon = ReadNextTransactionId();
	while (key != NULL && (what = look_and_hurry(fcinfo, &look, key)) != NULL)
	{
		if (GetCurrentTimestamp() >= give_up)
			pending_timed_out(ENGINE, key, what);
		pfree(what);
		SPI_commit();
		SPI_start_transaction();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_INTERVAL,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	PG_RETURN_VOID();
}

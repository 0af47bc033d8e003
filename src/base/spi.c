/*
 * spi.c
 *		The one way to the executor.
 *
 * Plans are kept for the life of the backend, found by the text of their
 * query and its parameters' types; the plan cache revalidates them when an object changes. There are as
 * many as there are statements in this extension times attached engines, so
 * none is ever thrown away.
 *
 * SPI leaves its caller in a memory context of its own; the functions here
 * leave it where it was, so that what is allocated lives as long as it says.
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef struct PlanEntry
{
	uint64		hash;			/* of the text and the types; the key */
	char	   *sql;
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

/*
 * spi_begin, spi_end -- SPI_connect() and SPI_finish() that cannot fail.
 */
void
spi_begin(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
spi_end(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * spi_reader_begin, spi_reader_end -- the same around statements that only read, and whose
 * locks on relations go at the end and not with the transaction: everybody may call what
 * reads the application's tables in the name of an engine, and shall not hold up their
 * owner with an open transaction. The locks are those of a resource owner of its own; it
 * lets them go as that of an aborted subtransaction does, and everything else as at a
 * commit. What others of this transaction have locked stays locked. An error leaves it to
 * the end of the (sub)transaction. No subtransaction may begin in between, nor a cursor,
 * whose locks would be the transaction's.
 */
void
spi_reader_begin(SpiReader *reader)
{
	reader->outer = CurrentResourceOwner;
	reader->own = ResourceOwnerCreate(reader->outer, "reputation reader");
	CurrentResourceOwner = reader->own;
	spi_begin();
}

void
spi_reader_end(SpiReader *reader)
{
	spi_end();
	CurrentResourceOwner = reader->outer;
	ResourceOwnerRelease(reader->own, RESOURCE_RELEASE_BEFORE_LOCKS, true, false);
	ResourceOwnerRelease(reader->own, RESOURCE_RELEASE_LOCKS, false, false);
	ResourceOwnerRelease(reader->own, RESOURCE_RELEASE_AFTER_LOCKS, true, false);
	ResourceOwnerDelete(reader->own);
}

static bool
same_types(SPIPlanPtr plan, int nargs, const Oid *types)
{
	if (SPI_getargcount(plan) != nargs)
		return false;
	for (int i = 0; i < nargs; i++)
	{
		if (SPI_getargtypeid(plan, i) != types[i])
			return false;
	}
	return true;
}

/*
 * spi_plan -- the kept plan of a query with parameters of these types.
 */
SPIPlanPtr
spi_plan(const char *sql, int nargs, const Oid *types)
{
	uint64		seed = nargs == 0 ? 0 :
	hash_bytes_extended((const unsigned char *) types, nargs * sizeof(Oid), 0);
	uint64		hash = hash_bytes_extended((const unsigned char *) sql, strlen(sql), seed);
	PlanEntry  *entry;
	MemoryContext context;
	SPIPlanPtr	plan;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(uint64),
			.entrysize = sizeof(PlanEntry),
			.hcxt = CacheMemoryContext
		};

		plans = hash_create("reputation plans", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	entry = hash_search(plans, &hash, HASH_FIND, NULL);
	if (entry != NULL && strcmp(entry->sql, sql) == 0 && same_types(entry->plan, nargs, types))
		return entry->plan;

	context = CurrentMemoryContext;
	plan = SPI_prepare(sql, nargs, (Oid *) types);
	MemoryContextSwitchTo(context);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (entry != NULL)
		return plan;			/* two queries with one hash: the second is not kept */

	SPI_keepplan(plan);
	entry = hash_search(plans, &hash, HASH_ENTER, &found);
	entry->sql = MemoryContextStrdup(CacheMemoryContext, sql);
	entry->plan = plan;
	return plan;
}

static uint64
run_plan(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls,
		 bool read_only)
{
	MemoryContext context = CurrentMemoryContext;
	int			code = SPI_execute_plan(spi_plan(sql, nargs, types), (Datum *) values, nulls,
										read_only, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * spi_exec -- runs a statement with a new snapshot (in READ COMMITTED); the
 * rows are in SPI_tuptable. Returns their number, or of the rows touched.
 */
uint64
spi_exec(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	return run_plan(sql, nargs, types, values, nulls, false);
}

/*
 * spi_read -- runs a query with the calling statement's snapshot.
 */
uint64
spi_read(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	return run_plan(sql, nargs, types, values, nulls, true);
}

/* Hands rows on as they come. */
typedef struct RowReceiver
{
	DestReceiver base;
	SpiRow		row;
	void	   *arg;
} RowReceiver;

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;

	receiver->row(slot, receiver->arg);
	return true;
}

static void
receive_begin(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receive_end(DestReceiver *self)
{
}

/*
 * spi_read_each -- spi_read() of a query without nulls among its parameters, whose rows
 * are handed on one by one and not kept.
 */
void
spi_read_each(const char *sql, int nargs, const Oid *types, const Datum *values, SpiRow row,
			  void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	RowReceiver receiver = {{receive_row, receive_begin, receive_end, receive_end,
	DestTuplestore}, row, arg};
	ParamListInfo parameters = makeParamList(nargs);
	SPIExecuteOptions options = {0};
	int			code;

	for (int i = 0; i < nargs; i++)
		parameters->params[i] = (ParamExternData)
	{
		values[i], false, PARAM_FLAG_CONST, types[i]
	};
	options.params = parameters;
	options.read_only = true;
	options.dest = &receiver.base;
	code = SPI_execute_plan_extended(spi_plan(sql, nargs, types), &options);
	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(code));
}

/*
 * spi_read_latest -- runs a query with a snapshot of this moment, whatever the
 * transaction's is.
 */
uint64
spi_read_latest(const char *sql, int nargs, const Oid *types, const Datum *values,
				const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	int			code = SPI_execute_snapshot(spi_plan(sql, nargs, types), (Datum *) values, nulls,
											GetLatestSnapshot(), InvalidSnapshot, true, false, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * spi_once -- spi_exec() of a statement whose plan is not worth keeping.
 */
uint64
spi_once(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	int			code = SPI_execute_with_args(sql, nargs, (Oid *) types, (Datum *) values, nulls,
											 false, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * spi_utility -- runs a statement that has no plan worth keeping.
 */
void
spi_utility(const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	int			code = SPI_execute(sql, false, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
}

/*
 * spi_text -- a column (from 1) of a result row as palloc'd text, NULL when null.
 */
char *
spi_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

Datum
spi_datum(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/*
 * spi_int -- a smallint, integer, bigint or oid column; 0 when null.
 */
int64
spi_int(uint64 row, int column, bool *isnull)
{
	bool		null;
	Datum		value = spi_datum(row, column, &null);

	if (isnull != NULL)
		*isnull = null;
	if (null)
		return 0;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, column))
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		case INT8OID:
			return DatumGetInt64(value);
		default:				/* oid, reg* */
			return (int64) DatumGetObjectId(value);
	}
}

/*
 * spi_oids -- the OIDs in the first column of the last result.
 */
List *
spi_oids(uint64 count)
{
	List	   *oids = NIL;

	for (uint64 row = 0; row < count; row++)
		oids = lappend_oid(oids, (Oid) spi_int(row, 1, NULL));
	return oids;
}

/*
 * spi_settings_begin, spi_set, spi_settings_end -- settings for the statements
 * in between; an error resets them with the (sub)transaction.
 */
int
spi_settings_begin(void)
{
	return NewGUCNestLevel();
}

void
spi_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * spi_prefer_indexes -- for statements over some keys: a thousand of them look
 * worth reading a table of a hundred thousand rows, and are not.
 */
void
spi_prefer_indexes(void)
{
	spi_set("enable_seqscan", "off");
	spi_set("enable_hashjoin", "off");
	spi_set("enable_mergejoin", "off");
}

void
spi_settings_end(int level)
{
	AtEOXact_GUC(false, level);
}

/*
 * text_array and its kind -- C arrays as array Datums without nulls.
 */
Datum
text_array(char **texts, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
int_array(const int32 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int32GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(values, count, INT4OID, 4, true, TYPALIGN_INT));
}

/* Of bigint, or of a type that is one inside. */
static Datum
int64_array(Oid type, const int64 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(values, count, type, 8, FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

Datum
bigint_array(const int64 *numbers, int count)
{
	return int64_array(INT8OID, numbers, count);
}

Datum
timestamp_array(const TimestampTz *times, int count)
{
	return int64_array(TIMESTAMPTZOID, times, count);
}

Datum
smallint_array(const int16 *numbers, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int16GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(values, count, INT2OID, 2, true, TYPALIGN_SHORT));
}

Datum
bool_array(const bool *flags, int count)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = BoolGetDatum(flags[i]);
	return PointerGetDatum(construct_array(values, count, BOOLOID, 1, true, TYPALIGN_CHAR));
}

/*
 * upsert.c
 *		upsert_user(): a JSON document becomes a row of the users table that the
 *		trust engine is attached to.
 *
 * The row is written with the caller's privileges, search_path and all; the
 * triggers capture it like any other write. The values are converted first, so
 * that what is wrong with one can be told with its key, and what the write
 * itself raises stays as it is. They are then parameters of plain statements,
 * which take no more privileges than those on the columns given, and SELECT on
 * the id.
 *
 * A row that is there is updated by UPDATE: an INSERT ... ON CONFLICT checks what
 * it would insert first, and a document of some columns fails that. The row is
 * locked before, so that an UPDATE of no row means that a trigger refused it. If
 * it is not there it is inserted; somebody may insert it at the same time, and
 * the ON CONFLICT, which waits for that, then updates it. (What it checks first
 * may fail then: as if this user had come before the other.)
 */
#include "postgres.h"

#include "engines/trust/trust_engine.h"
#include "base/args.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "api/api.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "engines/trust/upsert.h"
#include "funcapi.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(reputation_upsert_user);

/* The document's keys, what they mean, and the values once they are converted. */
typedef struct Fields
{
	int			count;
	char	  **keys;
	char	  **columns;		/* of the users table, not quoted */
	Oid		   *types;
	int32	   *typmods;
	Datum	   *values;
	bool	   *nulls;
} Fields;

typedef struct Upsert
{
	Oid			users;			/* the users table, its name and its key, both quoted */
	char	   *users_name;
	char	   *users_key;
	Jsonb	   *inputs;			/* the engine's names -> columns of the users table */
	Jsonb	   *doc;
	List	   *written;		/* columns that engines write */
	List	   *writers;		/* and whose they are */
	Fields		fields;
	int			key;			/* which of the fields is the user's id; -1: none */
	bool		overriding;		/* an id that the table would generate itself */
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

static bool
is_users_key(const Upsert *upsert, const char *column)
{
	return strcmp(quote_identifier(column), upsert->users_key) == 0;
}

/* The engine that writes a column; NULL when there is none. */
static char *
writer_of(const Upsert *upsert, const char *column)
{
	ListCell   *name;
	ListCell   *writer;

	forboth(name, upsert->written, writer, upsert->writers)
	{
		if (strcmp(lfirst(name), column) == 0)
			return lfirst(writer);
	}
	return NULL;
}

/* Finds which columns of the users table engines write: cached and rank columns. */
static void
find_written_columns(Upsert *upsert)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(upsert->users)};
	uint64		count = spi_exec("SELECT c.name, e.name FROM reputation.engine e CROSS JOIN LATERAL "
								 "(VALUES (e.cached_column), (e.rank_column)) AS c(name) "
								 "WHERE e.users = $1 AND c.name IS NOT NULL ORDER BY e.id",
								 1, types, values, NULL);

	for (uint64 row = 0; row < count; row++)
	{
		upsert->written = lappend(upsert->written, spi_text(row, 1));
		upsert->writers = lappend(upsert->writers, spi_text(row, 2));
	}
}

/*
 * The columns of the users table that can be written, as a list of names. Ids
 * may be GENERATED ALWAYS AS IDENTITY, other columns not, and none is an engine's.
 */
static List *
writable_columns(const Upsert *upsert)
{
	Relation	users = table_open(upsert->users, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(users);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && attribute->attgenerated == '\0' &&
			writer_of(upsert, NameStr(attribute->attname)) == NULL &&
			(attribute->attidentity != ATTRIBUTE_IDENTITY_ALWAYS ||
			 is_users_key(upsert, NameStr(attribute->attname))))
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
		char	   *name;
		char	   *column;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(value.val.string.val, value.val.string.len);
		column = json_string(upsert->inputs, name);
		if (column == NULL || !is_listed(columns, column))
			continue;
		meant = lappend(meant, column);
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", name);
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

static void
fields_init(Fields *fields, int room)
{
	*fields = (Fields)
	{
		.keys = palloc(sizeof(char *) * room),
			.columns = palloc(sizeof(char *) * room),
			.types = palloc(sizeof(Oid) * room),
			.typmods = palloc(sizeof(int32) * room),
			.values = palloc(sizeof(Datum) * room),
			.nulls = palloc(sizeof(bool) * room)
	};
}

/* Adds a field; 22023 when its column has one. */
static void
add_field(Upsert *upsert, List *columns, char *key, char *column)
{
	Fields	   *fields = &upsert->fields;
	AttrNumber	attnum = get_attnum(upsert->users, column);
	Oid			collation;
	int			n = fields->count;

	for (int i = 0; i < n; i++)
	{
		if (strcmp(fields->columns[i], column) == 0)
			bad_keys(upsert, columns, psprintf("the keys \"%s\" and \"%s\" are the same column",
											   fields->keys[i], key));
	}
	fields->keys[n] = key;
	fields->columns[n] = column;
	get_atttypetypmodcoll(upsert->users, attnum, &fields->types[n], &fields->typmods[n],
						  &collation);
	if (is_users_key(upsert, column))
	{
		HeapTuple	tuple = SearchSysCacheAttNum(upsert->users, attnum);

		upsert->key = n;
		upsert->overriding = HeapTupleIsValid(tuple) &&
			((Form_pg_attribute) GETSTRUCT(tuple))->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
	}
	fields->count++;
}

/*
 * Finds the columns that the document's keys mean; 22023 naming all that mean
 * none, or one that nobody or only an engine can write.
 */
static void
resolve_keys(Upsert *upsert)
{
	List	   *columns = writable_columns(upsert);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData unknown;

	if (!JB_ROOT_IS_OBJECT(upsert->doc) || JB_ROOT_COUNT(upsert->doc) == 0)
		bad_keys(upsert, columns, "the document must be an object with a user's columns");
	initStringInfo(&unknown);
	fields_init(&upsert->fields, JB_ROOT_COUNT(upsert->doc));
	upsert->key = -1;
	iterator = JsonbIteratorInit(&upsert->doc->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *key;
		char	   *column;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		column = json_string(upsert->inputs, key);
		if (column == NULL)
			column = key;
		if (writer_of(upsert, column) != NULL)
			bad_keys(upsert, columns,
					 psprintf("key \"%s\": the column %s is written by the engine \"%s\"", key,
							  quote_identifier(column), writer_of(upsert, column)));
		else if (is_listed(columns, column))
			add_field(upsert, columns, key, column);
		else if (get_attnum(upsert->users, column) > 0)
			bad_keys(upsert, columns, psprintf("key \"%s\": the column %s is generated", key,
											   quote_identifier(column)));
		else
			appendStringInfo(&unknown, "%s\"%s\"", unknown.len > 0 ? ", " : "", key);
	}
	if (unknown.len > 0)
		bad_keys(upsert, columns, psprintf("unknown key %s", unknown.data));
}

typedef struct Conversion
{
	Upsert	   *upsert;
	int			first;			/* of the fields */
	int			count;
} Conversion;

/*
 * Converts the values of some fields: makes a record of them alone, under the
 * document's keys, so that a domain's constraints are asked about no other column.
 */
static void
convert(void *arg)
{
	Conversion *this = arg;
	const Fields *fields = &this->upsert->fields;
	TupleDesc	desc = CreateTemplateTupleDesc(this->count);
	Oid			types[] = {RECORDOID, JSONBOID};
	Datum		arguments[2];
	bool		isnull;
	HeapTupleHeader header;
	HeapTupleData tuple = {0};

	for (int i = 0; i < this->count; i++)
	{
		int			n = this->first + i;

		TupleDescInitEntry(desc, (AttrNumber) (i + 1), fields->keys[n], fields->types[n],
						   fields->typmods[n], 0);
		fields->nulls[n] = true;
		fields->values[n] = (Datum) 0;
	}
	desc = BlessTupleDesc(desc);
	arguments[0] = HeapTupleGetDatum(heap_form_tuple(desc, fields->values + this->first,
													 fields->nulls + this->first));
	arguments[1] = JsonbPGetDatum(this->upsert->doc);
	spi_exec("SELECT pg_catalog.jsonb_populate_record($1, $2)", 2, types, arguments, NULL);
	header = DatumGetHeapTupleHeader(spi_datum(0, 1, &isnull));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, fields->values + this->first, fields->nulls + this->first);
}

/* Raises what is wrong with a field's value, with its key. */
static void
bad_value(const Upsert *upsert, int n, int sqlstate, const char *message)
{
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("key \"%s\": %s", upsert->fields.keys[n], message),
			 errdetail("The column %s of %s is of type %s.", upsert->fields.columns[n],
					   upsert->users_name, format_type_be(upsert->fields.types[n]))));
}

/* 22P02 when a text is to be what JSON would make a text of, but nobody meant as one. */
static void
check_texts(const Upsert *upsert)
{
	for (int i = 0; i < upsert->fields.count; i++)
	{
		const char *key = upsert->fields.keys[i];
		Oid			type = getBaseType(upsert->fields.types[i]);
		JsonbValue	value;

		if (type != BYTEAOID && TypeCategory(type) != TYPCATEGORY_STRING)
			continue;
		if (getKeyJsonValueFromContainer(&upsert->doc->root, key, strlen(key), &value) != NULL &&
			(value.type == jbvBool || value.type == jbvBinary))
			bad_value(upsert, i, ERRCODE_INVALID_TEXT_REPRESENTATION,
					  value.type == jbvBool ? "a boolean is no text" :
					  "an array or object is no text");
	}
}

/*
 * Converts the values; 22P02 naming the key whose value is not of its column's
 * type, and what a domain's constraint raises, with the key, too.
 */
static void
convert_values(Upsert *upsert)
{
	Conversion	all = {upsert, 0, upsert->fields.count};
	ErrorData  *error;

	check_texts(upsert);
	error = subxact_try(convert, &all);
	if (error == NULL)
		return;
	for (int i = 0; i < upsert->fields.count; i++)
	{
		Conversion	one = {upsert, i, 1};
		ErrorData  *its = subxact_try(convert, &one);
		int			category = its == NULL ? 0 : ERRCODE_TO_CATEGORY(its->sqlerrcode);

		if (category == ERRCODE_DATA_EXCEPTION)
			bad_value(upsert, i, ERRCODE_INVALID_TEXT_REPRESENTATION, its->message);
		if (category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
			bad_value(upsert, i, its->sqlerrcode, its->message);
	}
	ReThrowError(error);
}

/* Runs a statement in which $n is the nth field. */
static uint64
run_with_fields(const Upsert *upsert, const char *sql)
{
	const Fields *fields = &upsert->fields;
	char	   *nulls = palloc(fields->count);

	for (int i = 0; i < fields->count; i++)
		nulls[i] = fields->nulls[i] ? 'n' : ' ';
	return spi_once(sql, fields->count, fields->types, fields->values, nulls);
}

/* "column = $n, ..." of all fields but the id. */
static char *
assignments(const Upsert *upsert)
{
	StringInfoData sets;

	initStringInfo(&sets);
	for (int i = 0; i < upsert->fields.count; i++)
	{
		if (i != upsert->key)
			appendStringInfo(&sets, "%s%s = $%d", sets.len > 0 ? ", " : "",
							 quote_identifier(upsert->fields.columns[i]), i + 1);
	}
	return sets.data;
}

/* " WHERE id = $n". */
static char *
where_id(const Upsert *upsert)
{
	return psprintf(" WHERE %s OPERATOR(pg_catalog.=) $%d", upsert->users_key,
					upsert->key + 1);
}

/* Is the user's row there? If so it is locked, when there is something to write to it. */
static bool
find_row(const Upsert *upsert, bool lock)
{
	return run_with_fields(upsert, psprintf("SELECT 1 FROM %s%s%s", upsert->users_name,
											where_id(upsert), lock ? " FOR NO KEY UPDATE" : "")) > 0;
}

/* Updates the row; the id, or NULL when a trigger kept it as it was. */
static char *
update_row(const Upsert *upsert, const char *sets)
{
	if (run_with_fields(upsert, psprintf("UPDATE %s SET %s%s RETURNING %s::pg_catalog.text",
										 upsert->users_name, sets, where_id(upsert),
										 upsert->users_key)) == 0)
		return NULL;
	return spi_text(0, 1);
}

/*
 * Inserts the row, or updates the one that was inserted meanwhile; the id, or
 * NULL when a trigger kept it away or there was nothing to update.
 */
static char *
insert_row(const Upsert *upsert, const char *sets, bool has_id)
{
	StringInfoData names;
	StringInfoData values;
	char	   *conflict = "";

	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < upsert->fields.count; i++)
	{
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(upsert->fields.columns[i]));
		appendStringInfo(&values, "%s$%d", i > 0 ? ", " : "", i + 1);
	}
	if (has_id)
		conflict = psprintf(" ON CONFLICT (%s) DO %s%s", upsert->users_key,
							*sets != '\0' ? "UPDATE SET " : "NOTHING", sets);
	if (run_with_fields(upsert, psprintf("INSERT INTO %s (%s)%s VALUES (%s)%s RETURNING %s::pg_catalog.text",
										 upsert->users_name, names.data,
										 upsert->overriding ? " OVERRIDING SYSTEM VALUE" : "", values.data,
										 conflict, upsert->users_key)) == 0)
		return NULL;
	return spi_text(0, 1);
}

/* The document's id as text; NULL when it has none. */
static char *
document_id(const Upsert *upsert)
{
	Oid			output;
	bool		varlena;

	if (upsert->key < 0 || upsert->fields.nulls[upsert->key])
		return NULL;
	getTypeOutputInfo(upsert->fields.types[upsert->key], &output, &varlena);
	return OidOutputFunctionCall(output, upsert->fields.values[upsert->key]);
}

/*
 * Writes the row; returns the user's id as text, NULL when a trigger kept it from
 * being written.
 */
static char *
write_row(const Upsert *upsert)
{
	char	   *id = document_id(upsert);
	char	   *sets = assignments(upsert);
	bool		writes = *sets != '\0';
	char	   *written;

	if (id != NULL && find_row(upsert, writes))
		return writes ? update_row(upsert, sets) : id;
	written = insert_row(upsert, sets, id != NULL);
	if (written == NULL && id != NULL && !writes && find_row(upsert, false))
		return id;
	return written;
}

/*
 * upsert_write -- writes a document to the users table of the engine that an argument
 * names; returns the user's id as text, in the memory
 * context given, NULL when a trigger kept the row away.
 */
char *
upsert_write(FunctionCallInfo fcinfo, int engine_arg, Jsonb *doc, MemoryContext context)
{
	Upsert		upsert = {.doc = doc};
	char	   *name = args_required_text(fcinfo, engine_arg, "engine");
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	EngineContext caller;
	Engine	   *engine;
	bool		isnull;
	char	   *id;

	spi_begin();
	owner_enter(fcinfo, &caller);
	/* What the write calls may have the cached one freed. */
	engine = api_require_class(engine_cached(name), &trust_class);
	upsert.users = engine->users;
	upsert.users_name = pstrdup(engine->users_name);
	upsert.users_key = pstrdup(engine->users_key);
	spi_exec("SELECT inputs FROM reputation.engine WHERE name = $1", 1, types, values, NULL);
	upsert.inputs = DatumGetJsonbPCopy(spi_datum(0, 1, &isnull));
	find_written_columns(&upsert);
	owner_leave(&caller);
	resolve_keys(&upsert);
	convert_values(&upsert);
	id = write_row(&upsert);
	id = id == NULL ? NULL : MemoryContextStrdup(context, id);
	spi_end();
	return id;
}

/*
 * upsert_user(doc, engine) -- see sql/31-trust.sql. Null when a trigger kept the row away.
 */
Datum
reputation_upsert_user(PG_FUNCTION_ARGS)
{
	char	   *id = upsert_write(fcinfo, 1, PG_GETARG_JSONB_P(0), CurrentMemoryContext);

	if (id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

/*
 * attach_triggers.c
 *		The capture triggers of a source.
 *
 * They belong to a table, not to an engine: they are made from what all attached
 * engines want of it (reputation.capture, reputation.source_key).
 *
 * The row trigger is for UPDATE OF the watched columns, so that other updates
 * cost nothing. That list is about the columns a statement assigns to: a BEFORE
 * UPDATE row trigger can change others. A table that has one (or a partition of
 * which has one) gets the trigger without a list, which then looks at every
 * updated row. A generated column is in the list's reach when one that it is
 * computed from is assigned to.
 *
 * What becomes of them later is in source_check.c.
 *
 * Which trigger is reputation's, source.c says; as whom a table's triggers are made and
 * dropped, source_act.c.
 */
#include "postgres.h"

#include "attach/attach_steps.h"
#include "attach/source_act.h"
#include "base/compat.h"
#include "base/relations.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define ROW_TRIGGER			"reputation_capture"
#define TRUNCATE_TRIGGER	"reputation_capture_truncate"

/* Is a trigger of a source being made, or dropped? Event triggers are called meanwhile. */
static bool at_it = false;

/*
 * What capture is told about a source's columns: those that are watched, and by
 * which engines; the keys, with the engines that want them; and those that an engine
 * writes (mode v), each with its own key for it (c, r). Each is an
 * identifier "mode:key_no:engines:column", the engines as bits. After a key come
 * the ones that stand for a single engine, in upper case, if there are several.
 * All in one argument, for every statement copies the arguments of a table's
 * triggers.
 */
static char *
trigger_columns(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	StringInfoData list;
	uint64		count = spi_exec("WITH watched AS (SELECT w.name, bit_or(1::bigint << c.position) AS engines "
								 "FROM reputation.capture c CROSS JOIN LATERAL unnest(c.watched) "
								 "AS w(name) WHERE c.source = $1 GROUP BY w.name), "
								 "keys AS (SELECT k.key_no, k.column_name, k.mode, k.engine, "
								 "bit_or(1::bigint << p.position) AS engines, count(DISTINCT c.engine) AS n "
								 "FROM reputation.source_key k JOIN reputation.capture_key c "
								 "ON c.source = k.source AND c.key_no = k.key_no "
								 "JOIN reputation.capture p ON p.source = c.source AND p.engine = c.engine "
								 "WHERE k.source = $1 GROUP BY 1, 2, 3, 4) "
								 "SELECT 'w', 0, engines, name, 0 AS part FROM watched UNION ALL "
								 "SELECT CASE k.engine WHEN 0 THEN k.mode::text "
								 "ELSE upper(k.mode::text) END, k.key_no, k.engines, k.column_name, "
								 "1 + 2 * s.key_no + (k.engine > 0)::int "
								 "FROM keys k JOIN keys s ON s.column_name = k.column_name "
								 "AND s.mode = k.mode AND s.engine = 0 "
								 "WHERE k.engine = 0 OR s.n > 1 UNION ALL "
								 "SELECT m.mode, k.key_no, 1::bigint << p.position, m.name, 100 + k.key_no "
								 "FROM reputation.source s JOIN reputation.engine e "
								 "ON e.users = s.relation JOIN reputation.capture p "
								 "ON p.source = s.id AND p.engine = e.id JOIN reputation.source_key k "
								 "ON k.source = s.id AND k.engine = e.id AND k.mode IN ('c', 'r') "
								 "CROSS JOIN LATERAL (VALUES ('v', CASE k.mode WHEN 'c' "
								 "THEN e.cached_column ELSE e.rank_column END), "
								 "(k.mode::text, k.column_name)) AS m(mode, name) "
								 "WHERE s.id = $1 AND m.name IS NOT NULL ORDER BY part, 2, 4",
								 1, types, values, NULL);

	initStringInfo(&list);
	for (uint64 row = 0; row < count; row++)
		attach_add_name(&list, quote_identifier(psprintf("%s:%s:%s:%s", spi_text(row, 1),
														 spi_text(row, 2), spi_text(row, 3),
														 spi_text(row, 4))));
	return list.data;
}

/*
 * "OF" and the watched columns that there are; "" when a trigger may change what is not
 * assigned to, or all are gone.
 */
static char *
trigger_list(int32 source, Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};
	Oid			source_types[] = {INT4OID};
	Datum		source_values[] = {Int32GetDatum(source)};
	StringInfoData list;
	uint64		count;

	if (spi_exec("SELECT 1 FROM reputation.before_update_triggers($1)", 1, types, values,
				 NULL) > 0)
		return "";

	initStringInfo(&list);
	count = spi_exec("SELECT w.name COLLATE \"C\" FROM reputation.source_column w "
					 "JOIN reputation.source s ON s.id = w.source "
					 "JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relation "
					 "AND a.attname = w.name AND NOT a.attisdropped "
					 "WHERE w.source = $1 ORDER BY 1", 1, source_types, source_values, NULL);
	for (uint64 row = 0; row < count; row++)
		attach_add_name(&list, quote_identifier(spi_text(row, 1)));
	return count > 0 ? psprintf("OF %s", list.data) : "";
}

/*
 * Those triggers of the table, and of its partitions, that bear one of our names and are
 * not ours: a row for each, of its name and the table's.
 */
static uint64
foreign_triggers(Oid table)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table), ObjectIdGetDatum(source_capture_function())};

	return spi_exec("WITH RECURSIVE down (relation) AS (SELECT $1 UNION SELECT i.inhrelid "
					"FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.relation) "
					"SELECT t.tgname, t.tgrelid::regclass::text FROM pg_catalog.pg_trigger t "
					"JOIN down ON down.relation = t.tgrelid WHERE t.tgfoid <> $2 AND "
					"(t.tgname = '" ROW_TRIGGER "' OR (t.tgname = '" TRUNCATE_TRIGGER "' "
					"AND t.tgrelid = $1)) ORDER BY 2, 1", 2, types, values, NULL);
}

/* The names of the table's triggers that call reputation.capture(), but for those of a parent's. */
static List *
capture_triggers(Oid table)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table), ObjectIdGetDatum(source_capture_function())};
	uint64		count = spi_exec("SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = $1 "
								 "AND tgfoid = $2 AND tgparentid = 0 ORDER BY 1",
								 2, types, values, NULL);
	List	   *names = NIL;

	for (uint64 row = 0; row < count; row++)
		names = lappend(names, spi_text(row, 1));
	return names;
}

/*
 * The capture triggers as the registry wants them, and no others that call
 * reputation.capture(): one that was given another name would only warn. 42710 when one
 * that is not ours has the name.
 */
static void
make_triggers(void *arg)
{
	static const char *const names[] = {ROW_TRIGGER, TRUNCATE_TRIGGER};
	const TriggerSpec *spec = arg;
	const char *table = relation_name(spec->table);
	ListCell   *cell;

	if (foreign_triggers(spec->table) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("trigger \"%s\" of %s is not reputation's", spi_text(0, 1), spi_text(0, 2)),
				 errdetail("It bears the name of reputation's own, and calls another function."),
				 errhint("Give it another name: ALTER TRIGGER %s ON %s RENAME TO ...;",
						 spi_text(0, 1), spi_text(0, 2))));
	foreach(cell, capture_triggers(spec->table))
	{
		const char *name = lfirst(cell);

		if (strcmp(name, ROW_TRIGGER) != 0 && strcmp(name, TRUNCATE_TRIGGER) != 0)
			spi_utility(psprintf("DROP TRIGGER %s ON %s", quote_identifier(name), table));
	}
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER " ROW_TRIGGER " "
						 "AFTER INSERT OR DELETE OR UPDATE %s ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION reputation.capture('%d', %s)",
						 spec->list, table, spec->source, quote_literal_cstr(spec->columns)));
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER " TRUNCATE_TRIGGER " AFTER TRUNCATE "
						 "ON %s FOR EACH STATEMENT EXECUTE FUNCTION reputation.capture('%d')",
						 table, spec->source));
	/* Otherwise they are enabled, and ALTER TABLE wants no events to be pending. */
	for (int i = 0; i < lengthof(names) && spec->always; i++)
		spi_utility(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, names[i]));
}

/* Drops what calls reputation.capture(); of what merely bears the name it warns. */
static void
drop_triggers(void *arg)
{
	const TriggerSpec *spec = arg;
	const char *table = relation_name(spec->table);
	ListCell   *cell;
	uint64		count;

	foreach(cell, capture_triggers(spec->table))
		spi_utility(psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(cell)), table));
	count = foreign_triggers(spec->table);
	for (uint64 row = 0; row < count; row++)
		ereport(WARNING,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("trigger \"%s\" of %s is not reputation's; it is kept",
						spi_text(row, 1), spi_text(row, 2))));
}

/*
 * triggers_spec -- what the registry says of a table's triggers.
 */
TriggerSpec
triggers_spec(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};
	TriggerSpec spec = {.table = table};

	if (spi_exec("SELECT s.id, coalesce(bool_or(e.fire = 'always'), false) "
				 "FROM reputation.source s JOIN reputation.capture c ON c.source = s.id "
				 "JOIN reputation.engine e ON e.id = c.engine WHERE s.relation = $1 "
				 "GROUP BY s.id", 1, types, values, NULL) > 0)
	{
		bool		isnull;

		spec.source = (int32) spi_int(0, 1, NULL);
		spec.always = DatumGetBool(spi_datum(0, 2, &isnull));
		spec.columns = trigger_columns(spec.source);
		spec.list = trigger_list(spec.source, table);
	}
	return spec;
}

/*
 * triggers_register -- writes down what the row trigger's arguments are, in the
 * transaction that makes it.
 */
void
triggers_register(const TriggerSpec *spec)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(spec->source), CStringGetTextDatum(spec->columns)};

	spi_exec("UPDATE reputation.source SET trigger_arguments = $2 "
			 "WHERE id = $1 AND trigger_arguments IS DISTINCT FROM $2", 2, types, values, NULL);
}

/*
 * triggers_act -- source_act() of what makes or drops a table's triggers.
 */
void
triggers_act(Oid table, SourceBody body, void *arg)
{
	bool		before = at_it;

	at_it = true;
	PG_TRY();
	{
		source_act(table, body, arg);
	}
	PG_FINALLY();
	{
		at_it = before;
	}
	PG_END_TRY();
}

/*
 * triggers_at_it -- is a command that the extension itself has given about the triggers
 * of a source under way?
 */
bool
triggers_at_it(void)
{
	return at_it;
}

/*
 * triggers_refresh -- makes or drops the triggers of a table as the registry says, as
 * the table's owner. 42501 unless the caller has that one's rights.
 */
void
triggers_refresh(FunctionCallInfo fcinfo, Oid table)
{
	EngineContext caller;
	TriggerSpec spec;

	if (get_rel_name(table) == NULL)
		return;					/* the table is gone, and its triggers with it */
	/* Before it is locked, and again when the owner can be another no more. */
	source_require_owner(table);
	owner_enter(fcinfo, &caller);
	(void) triggers_follow(table);
	spec = triggers_spec(table);
	if (spec.source != 0)
		triggers_register(&spec);
	owner_leave(&caller);
	/* To drop one is to keep readers out, too. */
	if (!source_lock(table, spec.source == 0 ? AccessExclusiveLock : ShareRowExclusiveLock,
					 false))
		return;
	source_require_owner(table);
	triggers_act(table, spec.source == 0 ? drop_triggers : make_triggers, &spec);
}

/*
 * triggers_number_columns -- finds the numbers of watched columns by their names, where
 * the relation is another than the one that they were numbered in: one that was restored
 * has no dropped columns, and those behind them other numbers. What has no column of its
 * name gets none, and is found missing. With the extension owner's rights.
 */
void
triggers_number_columns(void)
{
	spi_exec("UPDATE reputation.source_column w SET attnum = n.attnum, relation = n.relation FROM "
			 "(SELECT w.source, w.name, s.relation::oid AS relation, coalesce(a.attnum, 0) AS attnum "
			 "FROM reputation.source_column w JOIN reputation.source s ON s.id = w.source "
			 "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
			 "LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = s.relation "
			 "AND a.attname = w.name AND NOT a.attisdropped WHERE w.relation <> s.relation) n "
			 "WHERE n.source = w.source AND n.name = w.name", 0, NULL, NULL, NULL);
}

/*
 * triggers_follow -- has the registry call the columns of a table, if it is a source, by
 * the names that they have now; were there others? With the extension owner's rights.
 */
bool
triggers_follow(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};
	bool		isnull;

	return spi_exec("SELECT reputation.source_follow(s.id) FROM reputation.source s "
					"WHERE s.relation = $1", 1, types, values, NULL) > 0 &&
		DatumGetBool(spi_datum(0, 1, &isnull));
}

/*
 * triggers_make -- makes a source's triggers as the registry says, by its columns' names
 * as they are, whoever asks; with the extension owner's rights. An error is the caller's
 * to catch, in a subtransaction.
 */
void
triggers_make(Oid table, int lock_ms)
{
	int			settings = spi_settings_begin();
	TriggerSpec spec;

	spi_set("lock_timeout", psprintf("%d", lock_ms));
	if (source_lock(table, ShareRowExclusiveLock, false))
	{
		(void) triggers_follow(table);
		spec = triggers_spec(table);
		triggers_register(&spec);
		if (!source_is_own(table))
			source_grant(table);
		triggers_act(table, make_triggers, &spec);
	}
	spi_settings_end(settings);
}

static void
restore_own(void *arg)
{
	triggers_make(*(Oid *) arg, TRIGGER_LOCK_MS);
}

/*
 * triggers_restore_own -- makes the triggers of the extension's own tables, which a
 * dump does not carry; with its owner's rights. False when one could not be made
 * now, for somebody holds a lock.
 */
bool
triggers_restore_own(void)
{
	uint64		count = spi_exec("SELECT DISTINCT relation FROM reputation.source_findings() "
								 "WHERE own AND finding = 'trigger_missing'", 0, NULL, NULL, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		Oid			table = DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 1,
														   &isnull));
		ErrorData  *error = subxact_try(restore_own, &table);

		if (error != NULL && !error_is_transient(error))
			ReThrowError(error);
		if (error != NULL)
			return false;
	}
	return true;
}

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
 * When a BEFORE trigger comes later, triggers_check(), called by an event trigger
 * at the end of each CREATE TRIGGER and ALTER TABLE, takes the list away from the
 * table concerned and the tables it is a partition of. That is in the transaction
 * that makes the BEFORE trigger, which holds a lock against writers of that table
 * from then to its end: whoever writes it with the BEFORE trigger finds the list
 * gone. It needs nothing but the trigger itself, so it works with an old
 * snapshot, too. It gives up rather than wait long for a lock, or be the cause of
 * a deadlock: writers lock a partitioned table before its partition, it the
 * other way round. What it missed (or did not see: event triggers can be
 * disabled) a worker mends with triggers_heal(), and recomputes everybody.
 *
 * Which trigger is reputation's, source.c says; as whom a table's triggers are made and
 * dropped, source_act.c. What triggers_check() finds out before that runs with the rights
 * of the extension's owner: it reads catalogs and the registry, and nothing else.
 */
#include "postgres.h"

#include "access/table.h"
#include "attach/attach_steps.h"
#include "attach/home.h"
#include "attach/source_act.h"
#include "base/compat.h"
#include "base/relations.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_triggers_check);

#define ROW_TRIGGER			"reputation_capture"
#define TRUNCATE_TRIGGER	"reputation_capture_truncate"

/* What the triggers of a source are made of. */
typedef struct TriggerSpec
{
	Oid			table;
	int32		source;			/* 0: no engine wants anything of it */
	char	   *columns;		/* what reputation.capture() shall do with them */
	char	   *list;			/* "OF a, b", or "" */
	bool		always;			/* fire on logical apply too */
} TriggerSpec;

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

/* "OF" and the watched columns; "" when a trigger may change what is not assigned to. */
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
	count = spi_exec("SELECT w.name COLLATE \"C\" FROM (SELECT unnest(watched) AS name "
					 "FROM reputation.capture WHERE source = $1 UNION "
					 "SELECT unnest(ARRAY[e.cached_column, e.rank_column]) "
					 "FROM reputation.engine e JOIN reputation.source s ON s.relation = e.users "
					 "WHERE s.id = $1) w WHERE w.name IS NOT NULL ORDER BY 1",
					 1, source_types, source_values, NULL);
	for (uint64 row = 0; row < count; row++)
		attach_add_name(&list, quote_identifier(spi_text(row, 1)));
	return psprintf("OF %s", list.data);
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

/* What the registry says of a table's triggers. */
static TriggerSpec
trigger_spec(Oid table)
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

/* Writes down what the row trigger's arguments are, in the transaction that makes it. */
static void
register_arguments(const TriggerSpec *spec)
{
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(spec->source), CStringGetTextDatum(spec->columns)};

	spi_exec("UPDATE reputation.source SET trigger_arguments = $2 "
			 "WHERE id = $1 AND trigger_arguments IS DISTINCT FROM $2", 2, types, values, NULL);
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
	spec = trigger_spec(table);
	if (spec.source != 0)
		register_arguments(&spec);
	owner_leave(&caller);
	/* To drop one is to keep readers out, too. */
	if (!source_lock(table, spec.source == 0 ? AccessExclusiveLock : ShareRowExclusiveLock,
					 false))
		return;
	source_require_owner(table);
	source_act(table, spec.source == 0 ? drop_triggers : make_triggers, &spec);
}

static void
restore_own(void *arg)
{
	Oid			table = *(Oid *) arg;
	int			settings = spi_settings_begin();
	TriggerSpec spec = trigger_spec(table);

	spi_set("lock_timeout", "100ms");
	register_arguments(&spec);
	if (source_lock(table, ShareRowExclusiveLock, false))
		source_act(table, make_triggers, &spec);
	spi_settings_end(settings);
}

/*
 * triggers_restore_own -- makes the triggers of the extension's own tables, which a
 * dump does not carry; with its owner's rights. False when one could not be made
 * now, for somebody holds a lock.
 */
bool
triggers_restore_own(void)
{
	uint64		count = spi_exec("SELECT s.relation::oid FROM reputation.source s "
								 "JOIN pg_catalog.pg_class c ON c.oid = s.relation "
								 "WHERE c.relnamespace = 'reputation'::regnamespace "
								 "AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t "
								 "WHERE t.tgrelid = c.oid "
								 "AND t.tgfoid = 'reputation.capture()'::regprocedure)",
								 0, NULL, NULL, NULL);
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

/* A capture trigger that loses its list. */
typedef struct ListedTrigger
{
	Oid			table;
	char	   *name;
	char	   *source;			/* its arguments */
	char	   *columns;
	char		enabled;
} ListedTrigger;

/*
 * Finds a source's own row trigger, if it has a list. Building what is known of the
 * relation in memory evaluates nothing.
 */
static bool
find_listed(const Source *source, ListedTrigger *listed)
{
	Relation	relation = table_open(source->relation, AccessShareLock);
	TriggerDesc *desc = relation->trigdesc;
	bool		found = false;

	for (int i = 0; desc != NULL && i < desc->numtriggers && !found; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		found = source_is_row_trigger(source, trigger) && trigger->tgnattr > 0 &&
			!trigger_is_clone(relation, trigger);
		if (found)
			*listed = (ListedTrigger)
		{
			.table = source->relation, .name = pstrdup(trigger->tgname),
				.source = pstrdup(trigger->tgargs[0]), .columns = pstrdup(trigger->tgargs[1]),
				.enabled = trigger->tgenabled
		};
	}
	table_close(relation, NoLock);
	return found;
}

/* Makes it anew without a list. */
static void
unlist(void *arg)
{
	ListedTrigger *listed = arg;
	const char *table = relation_name(listed->table);
	const char *name = quote_identifier(listed->name);

	spi_utility(psprintf("CREATE OR REPLACE TRIGGER %s "
						 "AFTER INSERT OR DELETE OR UPDATE ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION reputation.capture(%s, %s)", name, table,
						 quote_literal_cstr(listed->source), quote_literal_cstr(listed->columns)));
	if (listed->enabled != TRIGGER_FIRES_ON_ORIGIN)
		spi_utility(psprintf("ALTER TABLE %s %s TRIGGER %s", table,
							 listed->enabled == TRIGGER_DISABLED ? "DISABLE" :
							 listed->enabled == TRIGGER_FIRES_ALWAYS ? "ENABLE ALWAYS" :
							 "ENABLE REPLICA", name));
}

/* Takes the list away from the trigger of a table, if that is a source and has one. */
static void
unlist_in_time(void *arg)
{
	Oid			table = *(Oid *) arg;
	int			settings = spi_settings_begin();
	ListedTrigger listed;
	Source		source;
	SourceAnswer answer;

	spi_set("lock_timeout", "100ms");
	answer = source_of_table(table, &source);
	if (answer == SOURCE_LOCKED)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("reputation.source is locked")));
	if (answer == SOURCE_FOUND && find_listed(&source, &listed) &&
		source_lock(table, ShareRowExclusiveLock, false))
	{
		/* Its owner may be another than at the attach. */
		source_grant(table);
		if (find_listed(&source, &listed))
			source_act(table, unlist, &listed);
	}
	spi_settings_end(settings);
}

/* Does it, or says why not: the statement is the application's. */
static bool
try_unlist(Oid table)
{
	ErrorData  *error = subxact_try(unlist_in_time, &table);

	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not adapt reputation's trigger on \"%s\": %s",
						get_rel_name(table), error->message),
				 errdetail("What a new BEFORE trigger changes is not captured yet."),
				 errhint("A worker tries again. Without one, see reputation_status().")));
	return error == NULL;
}

/*
 * The tables that the statement was about, and those they are a partition of,
 * which have a BEFORE UPDATE trigger on them or a partition.
 */
static uint64
tables_to_check(void)
{
	return spi_exec("WITH RECURSIVE up (relation) AS ("
					"SELECT CASE WHEN c.classid = 'pg_trigger'::regclass THEN "
					"(SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = c.objid) "
					"ELSE c.objid END FROM pg_event_trigger_ddl_commands() c "
					"WHERE c.classid IN ('pg_trigger'::regclass, 'pg_class'::regclass) "
					"UNION SELECT i.inhparent FROM up "
					"JOIN pg_class p ON p.oid = up.relation AND p.relispartition "
					"JOIN pg_inherits i ON i.inhrelid = up.relation) "
					"SELECT up.relation FROM up JOIN pg_class c ON c.oid = up.relation "
					"AND c.relkind IN ('r', 'p') WHERE up.relation IS NOT NULL "
					"AND EXISTS (SELECT FROM reputation.before_update_triggers(up.relation))",
					0, NULL, NULL, NULL);
}

/*
 * reputation.triggers_check() -- event trigger function: gives a table that has
 * got a BEFORE UPDATE trigger a capture trigger without a column list, if it has
 * one. 39P03 when it is called otherwise.
 */
Datum
reputation_triggers_check(PG_FUNCTION_ARGS)
{
	static bool at_it = false;
	uint64		count;
	SPITupleTable *rows;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) ||
		strcmp(((EventTriggerData *) fcinfo->context)->event, "ddl_command_end") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.triggers_check() must be called by an event trigger on ddl_command_end")));
	if (at_it)
		PG_RETURN_NULL();

	/* A restore's last commands: workers wait for them (home_move()). */
	if (((EventTriggerData *) fcinfo->context)->tag == CMDTAG_CREATE_TRIGGER)
		capture_wake_at_commit();

	at_it = true;
	PG_TRY();
	{
		spi_begin();
		count = tables_to_check();
		rows = SPI_tuptable;
		for (uint64 row = 0; row < count; row++)
		{
			bool		isnull;

			(void) try_unlist(DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 1,
															 &isnull)));
		}
		spi_end();
	}
	PG_FINALLY();
	{
		at_it = false;
	}
	PG_END_TRY();
	PG_RETURN_NULL();
}

/*
 * triggers_want_healing -- is there a source with a list that it must not have?
 */
bool
triggers_want_healing(void)
{
	return spi_exec("SELECT FROM reputation.listed_despite_trigger() LIMIT 1", 0, NULL, NULL,
					NULL) > 0;
}

/*
 * triggers_heal -- takes those lists away and has the engines concerned compute
 * everybody, for what was missed; in a transaction of its own.
 */
void
triggers_heal(List *engines)
{
	uint64		count = spi_exec("SELECT l.relation::oid, c.engine "
								 "FROM reputation.listed_despite_trigger() l "
								 "JOIN reputation.source s ON s.relation = l.relation "
								 "JOIN reputation.capture c ON c.source = s.id", 0, NULL, NULL,
								 NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		Oid			table = DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 1,
														   &isnull));
		int			id = DatumGetInt32(SPI_getbinval(rows->vals[row], rows->tupdesc, 2,
													 &isnull));
		ListCell   *cell;

		if (!try_unlist(table))
			continue;
		foreach(cell, engines)
		{
			if (((Engine *) lfirst(cell))->descriptor->id == id)
				sweep_start(lfirst(cell), "recompute", "resync");
		}
	}
}

/*
 * source_check.c
 *		What becomes of sources while engines are attached.
 *
 * The registry says which columns of a source are watched, by their numbers, and so what
 * its triggers must be. reputation.source_findings() (sql/21-sources.sql) is the one
 * place that compares it with the catalogs. What is done about a finding is here:
 *
 * - Two event triggers look at the sources that a command was about, in its transaction,
 *   where the command's own lock keeps writers out. When a column was renamed, or two
 *   exchanged their names, the capture trigger is made anew with the new names. When a
 *   BEFORE trigger came, that changes what an UPDATE does not name, the trigger loses its
 *   list of columns. Who writes the table next finds it done. When a trigger was dropped
 *   or disabled, that is noted (reputation.source_missed).
 * - Whoever drains looks when the relation cache was told of a change of a source or a
 *   partition of it, and once a minute (sources_look()). It has everybody computed where
 *   partitions or children came or went, and where changes were missed and the
 *   triggers fire again.
 * - A worker does, in a transaction of its own (sources_mend()), what the event triggers
 *   did not: they can be disabled, and wait for no lock. What was missed then is
 *   computed by a run over everybody.
 * - reputation_repair() makes the triggers as they must be (sources_repair()).
 *
 * What is not mended unasked is a finding, which reputation_status() shows with the call
 * that mends it.
 *
 * None of it is in a writer's way. A lock on a source is waited for TRIGGER_LOCK_MS at
 * most (a second by a repair), and given up rather than be the cause of a deadlock:
 * writers lock a partitioned table before its partition, an event trigger the other way
 * round. Event triggers raise no error; they warn. They run inside other people's
 * commands, with the rights of the extension's owner: they read the catalogs and the
 * registry, write the registry, and touch a source only by source_act().
 *
 * An event trigger adapts a column list with any snapshot, for that needs nothing but
 * the trigger itself. To follow a rename it must see the registry as it is; in a
 * transaction with a snapshot of its own it leaves that to a worker.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "attach/attach_steps.h"
#include "attach/source_act.h"
#include "attach/source_check.h"
#include "base/compat.h"
#include "base/relations.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "work/drain.h"

PG_FUNCTION_INFO_V1(reputation_triggers_check);
PG_FUNCTION_INFO_V1(reputation_source_dropped);

/* Between two looks when no relation has changed (s). */
#define LOOK_INTERVAL	60

/* How long a repair waits for the lock of a source (ms). */
#define REPAIR_LOCK_MS	1000

/* Of reputation.source_findings(): what a worker mends unasked; that changes are missed. */
#define MENDED_UNASKED \
	"f.here AND f.finding IN ('before_trigger', 'column_renamed', 'column_swapped') "
#define MISSED	"f.here AND f.stale AND starts_with(f.finding, 'trigger_') "

/* A source's own row trigger, as it is and as it is to be made anew. */
typedef struct OwnTrigger
{
	Oid			table;
	char	   *name;
	char	   *source;			/* its arguments */
	char	   *columns;
	const char *list;			/* "OF a, b", or "" */
	bool		listed;			/* it has one now */
	char		enabled;
} OwnTrigger;

/*
 * Finds a source's own row trigger, whatever its name. Building what is known of the
 * relation in memory evaluates nothing.
 */
static bool
find_own_trigger(const Source *source, OwnTrigger *own)
{
	Relation	relation = table_open(source->relation, AccessShareLock);
	TriggerDesc *desc = relation->trigdesc;
	bool		found = false;

	for (int i = 0; desc != NULL && i < desc->numtriggers && !found; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		found = source_is_row_trigger(source, trigger) && !trigger_is_clone(relation, trigger);
		if (found)
			*own = (OwnTrigger)
		{
			.table = source->relation, .name = pstrdup(trigger->tgname),
				.source = pstrdup(trigger->tgargs[0]), .columns = pstrdup(trigger->tgargs[1]),
				.list = "", .listed = trigger->tgnattr > 0, .enabled = trigger->tgenabled
		};
	}
	table_close(relation, NoLock);
	return found;
}

/* Makes it anew; it fires when it did. */
static void
remake(void *arg)
{
	OwnTrigger *own = arg;
	const char *table = relation_name(own->table);
	const char *name = quote_identifier(own->name);

	spi_utility(psprintf("CREATE OR REPLACE TRIGGER %s "
						 "AFTER INSERT OR DELETE OR UPDATE %s ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION reputation.capture(%s, %s)", name,
						 own->list, table, quote_literal_cstr(own->source),
						 quote_literal_cstr(own->columns)));
	if (own->enabled != TRIGGER_FIRES_ON_ORIGIN)
		spi_utility(psprintf("ALTER TABLE %s %s TRIGGER %s", table,
							 own->enabled == TRIGGER_DISABLED ? "DISABLE" :
							 own->enabled == TRIGGER_FIRES_ALWAYS ? "ENABLE ALWAYS" :
							 "ENABLE REPLICA", name));
}

/* The source that a table is, by the latest snapshot. 55P03 while that cannot be read. */
static bool
source_to_adapt(Oid table, Source *source)
{
	SourceAnswer answer = source_of_table(table, source);

	if (answer == SOURCE_LOCKED)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("reputation.source is locked")));
	return answer == SOURCE_FOUND;
}

/* Takes the list away from the trigger of a table, if that is a source and has one. */
static void
unlist_in_time(void *arg)
{
	Oid			table = *(Oid *) arg;
	int			settings = spi_settings_begin();
	OwnTrigger	own;
	Source		source;

	spi_set("lock_timeout", psprintf("%d", TRIGGER_LOCK_MS));
	if (source_to_adapt(table, &source) && find_own_trigger(&source, &own) && own.listed &&
		source_lock(table, ShareRowExclusiveLock, false))
	{
		/* Its owner may be another than at the attach. */
		source_grant(table);
		if (find_own_trigger(&source, &own) && own.listed)
			triggers_act(table, remake, &own);
	}
	spi_settings_end(settings);
}

/*
 * Has the registry and the trigger of a source call its columns by their new names. The
 * trigger is found by the arguments that it was made with.
 */
static void
follow_in_time(void *arg)
{
	Oid			table = *(Oid *) arg;
	int			settings = spi_settings_begin();
	OwnTrigger	own;
	Source		source;

	spi_set("lock_timeout", psprintf("%d", TRIGGER_LOCK_MS));
	if (source_lock(table, ShareRowExclusiveLock, false) && source_to_adapt(table, &source))
	{
		bool		there = find_own_trigger(&source, &own);

		if (triggers_follow(table))
		{
			TriggerSpec spec = triggers_spec(table);

			triggers_register(&spec);
			engine_forget_cached();
			own.columns = spec.columns;
			own.list = spec.list;
			if (there && !source_is_own(table))
				source_grant(table);
			if (there)
				triggers_act(table, remake, &own);
		}
	}
	spi_settings_end(settings);
}

/* Does it, or says why not: the statement may be the application's. */
static bool
try_to_adapt(Oid table, SubxactBody body, const char *missed)
{
	ErrorData  *error = subxact_try(body, &table);

	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not adapt reputation's trigger on \"%s\": %s",
						get_rel_name(table), error->message),
				 errdetail("%s", missed),
				 errhint("A worker tries again. Without one, see reputation_status().")));
	return error == NULL;
}

static bool
try_unlist(Oid table)
{
	return try_to_adapt(table, unlist_in_time, "What a new BEFORE trigger changes is not captured yet.");
}

static bool
try_follow(Oid table)
{
	return try_to_adapt(table, follow_in_time, "It goes by former names of columns.");
}

/*
 * The tables that the statement was about, and those they are a partition of,
 * which have a BEFORE UPDATE trigger on them or a partition, or are sources.
 */
#define TOUCHED \
	"WITH RECURSIVE up (relation) AS (" \
	"SELECT CASE WHEN c.classid = 'pg_trigger'::regclass THEN " \
	"(SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = c.objid) " \
	"ELSE c.objid END FROM pg_event_trigger_ddl_commands() c " \
	"WHERE c.classid IN ('pg_trigger'::regclass, 'pg_class'::regclass) " \
	"UNION SELECT i.inhparent FROM up " \
	"JOIN pg_class p ON p.oid = up.relation AND p.relispartition " \
	"JOIN pg_inherits i ON i.inhrelid = up.relation) "

static List *
tables_with_before_triggers(void)
{
	return spi_oids(spi_exec(TOUCHED "SELECT up.relation FROM up "
							 "JOIN pg_class c ON c.oid = up.relation "
							 "AND c.relkind IN ('r', 'p') WHERE up.relation IS NOT NULL "
							 "AND EXISTS (SELECT FROM reputation.before_update_triggers(up.relation))",
							 0, NULL, NULL, NULL));
}

static List *
touched_sources(void)
{
	return spi_oids(spi_exec(TOUCHED "SELECT s.relation::oid FROM up "
							 "JOIN reputation.source s ON s.relation = up.relation",
							 0, NULL, NULL, NULL));
}

/*
 * Notes of which sources changes are being missed: of a table, or of all. A worker sees
 * to it once they are not any more.
 */
static void
note_missed(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	if (spi_exec("INSERT INTO reputation.source_missed (source, since) "
				 "SELECT DISTINCT f.id, reputation.clock() FROM reputation.source_findings("
				 "(SELECT s.id FROM reputation.source s WHERE s.relation = $1)) f WHERE " MISSED
				 "AND NOT EXISTS (SELECT FROM reputation.source_missed m WHERE m.source = f.id)",
				 1, types, values, OidIsValid(table) ? NULL : "n") > 0)
		capture_wake_at_commit();
}

static bool
is_renamed(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	return spi_exec("SELECT 1 FROM reputation.source_findings("
					"(SELECT s.id FROM reputation.source s WHERE s.relation = $1)) f "
					"WHERE f.here AND f.finding IN ('column_renamed', 'column_swapped')",
					1, types, values, NULL) > 0;
}

/* What a command has done to sources. */
static void
check_touched(void *arg)
{
	ListCell   *cell;

	foreach(cell, touched_sources())
	{
		Oid			table = lfirst_oid(cell);

		if (is_renamed(table))
		{
			if (IsolationUsesXactSnapshot())
				capture_wake_at_commit();
			else
				(void) try_follow(table);
		}
		note_missed(table);
		/* The triggers may fire again. */
		capture_wake_at_commit();
	}
}

/* What was dropped may be a trigger of a source's. */
static void
check_dropped(void *arg)
{
	if (spi_exec("SELECT 1 FROM pg_catalog.pg_event_trigger_dropped_objects() d "
				 "WHERE NOT d.is_temporary AND d.classid = 'pg_catalog.pg_trigger'::regclass "
				 "LIMIT 1", 0, NULL, NULL, NULL) > 0)
		note_missed(InvalidOid);
}

/* Runs a part of an event trigger, and waits for no lock on the registry for long. */
static void
check_in_time(void *arg)
{
	int			settings = spi_settings_begin();

	spi_set("lock_timeout", psprintf("%d", TRIGGER_LOCK_MS));
	(*(SubxactBody *) arg) (NULL);
	spi_settings_end(settings);
}

/* The same; what goes wrong is no error of the command's. */
static void
try_check(SubxactBody body)
{
	ErrorData  *error = subxact_try(check_in_time, &body);

	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not look at reputation's triggers: %s", error->message),
				 errhint("A worker looks again. Without one, see reputation_status().")));
}

static void
require_event(FunctionCallInfo fcinfo, const char *function, const char *event)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) ||
		strcmp(((EventTriggerData *) fcinfo->context)->event, event) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.%s() must be called by an event trigger on %s", function,
						event)));
}

/*
 * reputation.triggers_check() -- event trigger function: gives a table that has
 * got a BEFORE UPDATE trigger a capture trigger without a column list, and one whose
 * columns were renamed one with their new names, if it has one; notes triggers that do
 * not fire. 39P03 when it is called otherwise.
 */
Datum
reputation_triggers_check(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	require_event(fcinfo, "triggers_check", "ddl_command_end");
	if (triggers_at_it())
		PG_RETURN_NULL();

	/* A restore's last commands: workers wait for them (home_move()). */
	if (((EventTriggerData *) fcinfo->context)->tag == CMDTAG_CREATE_TRIGGER)
		capture_wake_at_commit();

	spi_begin();
	foreach(cell, tables_with_before_triggers())
		(void) try_unlist(lfirst_oid(cell));
	try_check(check_touched);
	spi_end();
	PG_RETURN_NULL();
}

/*
 * reputation.source_dropped() -- event trigger function: notes sources that have lost a
 * trigger. 39P03 when it is called otherwise.
 */
Datum
reputation_source_dropped(PG_FUNCTION_ARGS)
{
	require_event(fcinfo, "source_dropped", "sql_drop");
	if (triggers_at_it())
		PG_RETURN_NULL();
	spi_begin();
	try_check(check_dropped);
	spi_end();
	PG_RETURN_NULL();
}

/* Was there a look in this transaction? */
static bool looked = false;

/* The sources, and their partitions and children, as of the last look. */
static Oid *watched = NULL;
static int	nwatched = 0;
static bool look_again = true;
static instr_time last_look;

static void
look_at_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT && looked)
		look_again = true;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		looked = false;
}

/*
 * source_check_init -- called when the library is loaded.
 */
void
source_check_init(void)
{
	RegisterXactCallback(look_at_transaction, NULL);
}

static void
note_source_change(Datum arg, Oid relation)
{
	for (int i = 0; i < nwatched && !look_again; i++)
		look_again = watched[i] == relation;
	look_again |= !OidIsValid(relation);
}

/* Which relations' changes are worth another look; reputation.engine for attaches. */
static void
watch_sources(void)
{
	static bool registered = false;
	uint64		count = spi_exec("WITH RECURSIVE down (relation) AS ("
								 "SELECT s.relation::oid FROM reputation.source s UNION "
								 "SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i "
								 "ON i.inhparent = down.relation) "
								 "SELECT relation FROM down "
								 "UNION ALL SELECT 'reputation.engine'::regclass::oid",
								 0, NULL, NULL, NULL);

	if (!registered)
		CacheRegisterRelcacheCallback(note_source_change, (Datum) 0);
	registered = true;
	nwatched = 0;
	if (watched != NULL)
		pfree(watched);
	watched = MemoryContextAlloc(TopMemoryContext, sizeof(Oid) * count);
	for (uint64 row = 0; row < count; row++)
		watched[row] = (Oid) spi_int(row, 1, NULL);
	nwatched = (int) count;
}

static bool
look_is_due(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, last_look);
	return look_again || INSTR_TIME_GET_DOUBLE(now) >= LOOK_INTERVAL;
}

/* Has those of the engines computed whose ids are in the first column of the result. */
static void
sweep_found(List *engines, uint64 count, const char *trigger)
{
	List	   *ids = spi_oids(count);
	ListCell   *cell;

	foreach(cell, engines)
	{
		if (list_member_oid(ids, (Oid) ((Engine *) lfirst(cell))->descriptor->id))
			sweep_start(lfirst(cell), "recompute", trigger);
	}
}

/*
 * Sources whose partitions or children came, went or were truncated: none of that fires
 * a trigger of the table. Only those all of whose engines are here to be computed.
 */
static void
sweep_reshaped(List *engines)
{
	Oid			types[] = {INT4ARRAYOID};
	Datum		values[] = {engine_ids(engines)};

	sweep_found(engines,
				spi_exec("WITH reshaped AS (UPDATE reputation.source s SET shape = n.shape FROM "
						 "(SELECT x.id, reputation.partition_shape(x.relation) AS shape "
						 "FROM reputation.source x "
						 "WHERE x.shape IS DISTINCT FROM reputation.partition_shape(x.relation) "
						 "AND NOT EXISTS (SELECT FROM reputation.capture c "
						 "WHERE c.source = x.id AND c.engine <> ALL ($1)) "
						 "FOR NO KEY UPDATE SKIP LOCKED) n "
						 "WHERE n.id = s.id RETURNING s.id) "
						 "SELECT DISTINCT c.engine FROM reshaped r "
						 "JOIN reputation.capture c ON c.source = r.id", 1, types, values, NULL),
				"truncate");
}

/* Sources whose triggers did not fire for a while, and do again. */
static void
sweep_missed(List *engines)
{
	Oid			types[] = {INT4ARRAYOID};
	Datum		values[] = {engine_ids(engines)};

	if (spi_exec("SELECT 1 FROM reputation.source_missed LIMIT 1", 0, NULL, NULL, NULL) == 0)
		return;
	sweep_found(engines,
				spi_exec("WITH mended AS (DELETE FROM reputation.source_missed m "
						 "WHERE NOT EXISTS (SELECT FROM reputation.source_findings(m.source) f "
						 "WHERE f.stale AND (starts_with(f.finding, 'trigger_') "
						 "OR f.finding = 'relation_gone')) "
						 "AND NOT EXISTS (SELECT FROM reputation.capture c "
						 "WHERE c.source = m.source AND c.engine <> ALL ($1)) "
						 "RETURNING m.source) SELECT DISTINCT c.engine FROM mended m "
						 "JOIN reputation.capture c ON c.source = m.source",
						 1, types, values, NULL),
				"resync");
}

/*
 * sources_look -- has everybody computed of the engines whose sources have changed by
 * what fires no trigger, and notes sources whose triggers do not fire. Looks when told to
 * (now), when a relation concerned was changed since, or once a minute. True when there
 * is something for sources_mend().
 */
bool
sources_look(List *engines, bool now)
{
	bool		missed;
	bool		mend;
	bool		isnull;

	if (!now && !look_is_due())
		return false;
	look_again = false;
	looked = true;
	INSTR_TIME_SET_CURRENT(last_look);
	watch_sources();
	triggers_number_columns();
	sweep_reshaped(engines);
	spi_exec("SELECT coalesce(bool_or(" MISSED "), false), "
			 "coalesce(bool_or(" MENDED_UNASKED "), false) FROM reputation.source_findings() f",
			 0, NULL, NULL, NULL);
	missed = DatumGetBool(spi_datum(0, 1, &isnull));
	mend = DatumGetBool(spi_datum(0, 2, &isnull));
	if (missed)
		note_missed(InvalidOid);
	sweep_missed(engines);
	return mend;
}

/* A source to be mended. */
typedef struct Mend
{
	int32		source;
	Oid			table;
	bool		follow;			/* a column was renamed */
} Mend;

static List *
sources_to_mend(void)
{
	List	   *list = NIL;
	uint64		count = spi_exec("SELECT f.id, f.relation, bool_or(f.finding <> 'before_trigger') "
								 "FROM reputation.source_findings() f WHERE " MENDED_UNASKED
								 " GROUP BY 1, 2", 0, NULL, NULL, NULL);

	for (uint64 row = 0; row < count; row++)
	{
		Mend	   *mend = palloc(sizeof(Mend));
		bool		isnull;

		mend->source = (int32) spi_int(row, 1, NULL);
		mend->table = (Oid) spi_int(row, 2, NULL);
		mend->follow = DatumGetBool(spi_datum(row, 3, &isnull));
		list = lappend(list, mend);
	}
	return list;
}

static uint64
engines_of_source(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};

	return spi_exec("SELECT engine FROM reputation.capture WHERE source = $1", 1, types, values,
					NULL);
}

/*
 * sources_mend -- takes lists away that miss what a BEFORE trigger changes, has triggers
 * call columns by their new names, and has the engines concerned compute everybody, for
 * what was missed; in a transaction of its own. What cannot be done now is tried again
 * with the next look.
 */
void
sources_mend(List *engines)
{
	ListCell   *cell;

	foreach(cell, sources_to_mend())
	{
		Mend	   *mend = lfirst(cell);

		if (mend->follow ? try_follow(mend->table) : try_unlist(mend->table))
			sweep_found(engines, engines_of_source(mend->source), "resync");
	}
}

static void
make_in_time(void *arg)
{
	triggers_make(*(Oid *) arg, REPAIR_LOCK_MS);
}

/* Makes the triggers of a source as they must be; a warning when that does not work. */
static bool
try_repair(Oid table)
{
	ErrorData  *error = subxact_try(make_in_time, &table);

	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not make reputation's triggers on %s: %s", relation_name(table),
						error->message),
				 error->detail ? errdetail("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) :
				 errhint("Changes of it may not be captured: see reputation_status().")));
	return error == NULL;
}

/* Has everybody of a source's engines computed, and nobody need note what it missed. */
static void
recompute_source(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	List	   *names = NIL;
	ListCell   *cell;
	uint64		count;

	spi_exec("DELETE FROM reputation.source_missed WHERE source = $1", 1, types, values, NULL);
	count = spi_exec("SELECT e.name FROM reputation.capture c JOIN reputation.engine e "
					 "ON e.id = c.engine JOIN pg_catalog.pg_class u ON u.oid = e.users "
					 "WHERE c.source = $1 ORDER BY e.id", 1, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
		names = lappend(names, spi_text(row, 1));
	foreach(cell, names)
		sweep_start(engine_attached(lfirst(cell)), "recompute", "resync");
}

/*
 * sources_repair -- makes the triggers of an engine's sources as they must be, where they
 * are not, as the owners of the tables; then everybody of the engines concerned is
 * computed. With the extension owner's rights.
 */
void
sources_repair(const Engine *engine)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(engine->descriptor->id)};
	uint64		count = spi_exec("SELECT f.id, f.relation FROM reputation.source_findings() f "
								 "JOIN reputation.capture c ON c.source = f.id AND c.engine = $1 "
								 "WHERE " MENDED_UNASKED " OR " MISSED "GROUP BY 1, 2",
								 1, types, values, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		int32		source = DatumGetInt32(SPI_getbinval(rows->vals[row], rows->tupdesc, 1, &isnull));
		Oid			table = DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));

		if (try_repair(table))
			recompute_source(source);
	}
}

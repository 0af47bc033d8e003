/*
 * attach_triggers.c
 *		The capture triggers of a source.
 *
 * They belong to a table, not to an engine: they are made from what all attached
 * engines want of it (reputation.capture, reputation.source_key).
 */
#include "postgres.h"

#include "attach_steps.h"
#include "catalog/pg_type.h"
#include "spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* The triggers' arguments; NULL when no engine wants anything of the source. */
static char *
trigger_arguments(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	StringInfoData list;
	uint64		count = spi_exec("SELECT mode, key_no, column_name FROM reputation.source_key "
								 "WHERE source = $1 ORDER BY key_no", 1, types, values, NULL);

	if (count == 0)
		return NULL;
	initStringInfo(&list);
	appendStringInfo(&list, "'%d'", source);
	for (uint64 row = 0; row < count; row++)
		appendStringInfo(&list, ", %s",
						 quote_literal_cstr(psprintf("%s:%s:%s", spi_text(row, 1),
													 spi_text(row, 2), spi_text(row, 3))));
	return list.data;
}

/*
 * Whether a watched column changed. A function, not its operator *<>: between
 * two ROW(...) a dump would have that compare column by column.
 */
static char *
trigger_condition(int32 source)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source)};
	StringInfoData old_row;
	StringInfoData new_row;
	uint64		count = spi_exec("SELECT DISTINCT unnest(watched) COLLATE \"C\" "
								 "FROM reputation.capture WHERE source = $1 ORDER BY 1",
								 1, types, values, NULL);

	initStringInfo(&old_row);
	initStringInfo(&new_row);
	for (uint64 row = 0; row < count; row++)
	{
		const char *column = quote_identifier(spi_text(row, 1));

		attach_add_name(&old_row, psprintf("OLD.%s", column));
		attach_add_name(&new_row, psprintf("NEW.%s", column));
	}
	return psprintf("pg_catalog.record_image_ne(ROW(%s), ROW(%s))", old_row.data, new_row.data);
}

/* With the caller's rights: the capture triggers as the registry wants them. */
static void
make_triggers(const char *table, const char *arguments, const char *condition, bool always)
{
	static const char *const names[] = {"reputation_capture", "reputation_capture_update",
	"reputation_capture_truncate"};

	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT OR DELETE ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION reputation.capture(%s)",
						 table, arguments));
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture_update AFTER UPDATE ON %s "
						 "FOR EACH ROW WHEN (%s) EXECUTE FUNCTION reputation.capture(%s)",
						 table, condition, arguments));
	spi_utility(psprintf("CREATE OR REPLACE TRIGGER reputation_capture_truncate AFTER TRUNCATE "
						 "ON %s FOR EACH STATEMENT EXECUTE FUNCTION reputation.capture(%s)",
						 table, arguments));
	for (int i = 0; i < lengthof(names); i++)
		spi_utility(psprintf("ALTER TABLE %s ENABLE %s TRIGGER %s", table,
							 always ? "ALWAYS" : "", names[i]));
}

static void
drop_triggers(const char *table, Oid oid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(oid)};
	uint64		count = spi_exec("SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = $1 "
								 "AND tgname IN ('reputation_capture', "
								 "'reputation_capture_update', 'reputation_capture_truncate')",
								 1, types, values, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
		spi_utility(psprintf("DROP TRIGGER %s ON %s",
							 SPI_getvalue(rows->vals[row], rows->tupdesc, 1), table));
}

/* Makes or drops the triggers of a table as the registry says. */
void
triggers_refresh(FunctionCallInfo fcinfo, Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};
	EngineContext caller;
	char	   *arguments = NULL;
	char	   *condition = NULL;
	bool		always = false;
	char	   *name = get_rel_name(table);

	if (name == NULL)
		return;					/* the table is gone, and its triggers with it */
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), name);

	owner_enter(fcinfo, &caller);
	if (spi_exec("SELECT s.id, coalesce(bool_or(e.fire = 'always'), false) "
				 "FROM reputation.source s JOIN reputation.capture c ON c.source = s.id "
				 "JOIN reputation.engine e ON e.id = c.engine WHERE s.relation = $1 "
				 "GROUP BY s.id", 1, types, values, NULL) > 0)
	{
		int32		source = (int32) spi_int(0, 1, NULL);
		bool		isnull;

		always = DatumGetBool(spi_datum(0, 2, &isnull));
		arguments = trigger_arguments(source);
		condition = trigger_condition(source);
	}
	owner_leave(&caller);

	if (arguments == NULL)
		drop_triggers(name, table);
	else
		make_triggers(name, arguments, condition, always);
}

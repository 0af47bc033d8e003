/*
 * badges_due.c
 *		Which badges a user has, and which it shall have: two of the signals.
 *
 * They are functions, and run with the rights of the extension's owner, for an engine's role
 * may not look into a ledger. Which set of badges they are about says the computation that is
 * on, so that a role gets to see what its own engine computes, and nothing else.
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engines/badges/badges.h"
#include "utils/builtins.h"
#include "utils/datum.h"

PG_FUNCTION_INFO_V1(reputation_badges_held);
PG_FUNCTION_INFO_V1(reputation_badges_due);

/* The set that is being computed. 55000 when none is. */
static BadgeTables
computed_tables(void)
{
	const Engine *engine = engine_computing();

	if (engine == NULL || engine->descriptor->class != &badges_class)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no set of badges is being computed"),
				 errhint("get_user_badges() and badges_explain() show a user's badges.")));
	return badges_tables(engine);
}

/* The array that a query gives, in the caller's memory. */
static Datum
read_slugs(FunctionCallInfo fcinfo, const char *sql, int nargs, const Oid *types,
		   const Datum *values, const char *nulls, MemoryContext caller)
{
	EngineContext context;
	Datum		slugs;
	bool		isnull;

	owner_enter(fcinfo, &context);
	(void) spi_read(sql, nargs, types, values, nulls);
	owner_leave(&context);
	slugs = spi_datum(0, 1, &isnull);
	MemoryContextSwitchTo(caller);
	return datumCopy(slugs, false, -1);
}

/*
 * reputation.badges_held(user_id) -- the slugs of a user's badges; with a ! where the bonus
 * is not in the ledger, or was taken back. 55000 outside of a computation.
 */
Datum
reputation_badges_held(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	BadgeTables tables = computed_tables();
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	Datum		slugs;

	spi_begin();
	slugs = read_slugs(fcinfo,
					   psprintf("SELECT ARRAY(SELECT h.slug || CASE WHEN h.source_key IS NULL OR EXISTS "
								"(SELECT FROM reputation.%2$s l WHERE l.user_id = h.user_id "
								"AND l.source_key = h.source_key AND NOT EXISTS "
								"(SELECT FROM reputation.%2$s r WHERE r.revokes = l.id)) "
								"THEN '' ELSE '!' END FROM reputation.%1$s h "
								"WHERE h.user_id = $1 ORDER BY h.slug)",
								tables.user_badge, tables.ledger), 1, types, values, NULL, caller);
	spi_end();
	return slugs;
}

/*
 * reputation.badges_due(user_id, wins, top_arguments, participations, votes, beta, wallet) --
 * the slugs of the badges that a user with these metrics shall have. 55000 outside of a
 * computation.
 */
Datum
reputation_badges_due(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	BadgeTables tables = computed_tables();
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, BOOLOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1] = {0};
	Datum		slugs;

	for (int i = 0; i < lengthof(types); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	spi_begin();
	slugs = read_slugs(fcinfo,
					   psprintf("SELECT ARRAY(SELECT b.slug FROM reputation.%1$s b "
								"LEFT JOIN reputation.%2$s h ON h.user_id = $1 AND h.slug = b.slug "
								"WHERE reputation.badge_value(b.metric, $2, $3, $4, $5, $6, $7) >= b.threshold "
								"OR (h.slug IS NOT NULL AND NOT b.revocable) ORDER BY b.slug)",
								tables.badge, tables.user_badge), lengthof(types), types, values,
					   nulls, caller);
	spi_end();
	return slugs;
}

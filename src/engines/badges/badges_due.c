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

/* With $1 a user id; %1$s badge, %2$s user_badge, %3$s ledger: all are named (see pay_sql). */
static const char *const held_sql =
"%1$.0sSELECT ARRAY(SELECT h.slug || CASE WHEN h.source_key IS NULL OR EXISTS "
"(SELECT FROM reputation.%3$s l WHERE l.user_id = h.user_id AND l.source_key = h.source_key "
"AND NOT EXISTS (SELECT FROM reputation.%3$s r WHERE r.revokes = l.id)) THEN '' ELSE '!' END "
"FROM reputation.%2$s h WHERE h.user_id = $1 ORDER BY h.slug)";

static const char *const due_sql =
"SELECT ARRAY(SELECT b.slug FROM reputation.%1$s b "
"LEFT JOIN reputation.%2$s h ON h.user_id = $1 AND h.slug = b.slug "
"WHERE reputation.badge_value(b.metric, $2, $3, $4, $5, $6, $7) >= b.threshold "
"OR (h.slug IS NOT NULL AND NOT b.revocable) ORDER BY b.slug)";

/* What a call has left to the next one of the same expression. */
typedef struct KeptStatement
{
	const EngineDescriptor *engine;
	char	   *pays_into;
	char	   *sql;
} KeptStatement;

/*
 * The statement for the set that is being computed. An expression of the application's code
 * may outlive a computation, so what is kept says for which set it is. 55000 when none is
 * being computed.
 */
static const char *
statement(FunctionCallInfo fcinfo, const char *sql)
{
	const Engine *engine = engine_computing();
	KeptStatement *kept = fcinfo->flinfo->fn_extra;
	MemoryContext caller;
	BadgeTables tables;

	if (engine == NULL || engine->descriptor->class != &badges_class)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no set of badges is being computed"),
				 errhint("get_user_badges() and badges_explain() show a user's badges.")));
	if (kept != NULL && kept->engine == engine->descriptor &&
		strcmp(kept->pays_into, engine->pays_into) == 0)
		return kept->sql;
	tables = badges_tables(engine);
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	kept = palloc(sizeof(KeptStatement));
	kept->engine = engine->descriptor;
	kept->pays_into = pstrdup(engine->pays_into);
	kept->sql = psprintf(sql, tables.badge, tables.user_badge, tables.ledger);
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = kept;
	return kept->sql;
}

/* The array that a statement gives, in the caller's memory. */
static Datum
read_slugs(FunctionCallInfo fcinfo, const char *sql, int nargs, const Oid *types,
		   const Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	EngineContext context;
	Datum		slugs;
	bool		isnull;

	spi_begin();
	owner_enter_computation(fcinfo, &context);
	(void) spi_read(sql, nargs, types, values, nulls);
	owner_leave(&context);
	MemoryContextSwitchTo(caller);
	slugs = datumCopy(spi_datum(0, 1, &isnull), false, -1);
	spi_end();
	return slugs;
}

/*
 * reputation.badges_held(user_id) -- the slugs of a user's badges; with a ! where the bonus
 * is not in the ledger, or was taken back. 55000 outside of a computation.
 */
Datum
reputation_badges_held(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};

	return read_slugs(fcinfo, statement(fcinfo, held_sql), 1, types, values, NULL);
}

/*
 * reputation.badges_due(user_id, wins, top_arguments, participations, votes, beta, wallet) --
 * the slugs of the badges that a user with these metrics shall have. 55000 outside of a
 * computation.
 */
Datum
reputation_badges_due(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, BOOLOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];

	for (int i = 0; i < lengthof(types); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	return read_slugs(fcinfo, statement(fcinfo, due_sql), lengthof(types), types, values, nulls);
}

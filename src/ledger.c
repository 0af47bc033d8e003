/*
 * ledger.c
 *		The ledger's rows, and the badges, of a user whose row goes, or whose id changes.
 *
 * The ledger is what was paid, a badge was earned at a time: nothing can compute them
 * again. So they go when the user's row is deleted, and with a changed id they
 * follow, in the transaction of the DELETE or UPDATE, as they would by a foreign key
 * with CASCADE; and nowhere else is it concluded that a user is gone. A TRUNCATE
 * of the users, a view that leaves a user out, a restore that has not come to the
 * users yet: all leave them as they are.
 *
 * It is the capture trigger that calls this, after the statement, only for the
 * users table of the points engine or the badges engine. It waits for nobody but who has the same rows
 * of the ledger: another one that forgets that user. award_points() and
 * revoke_points() hold the user's row (FOR KEY SHARE) to their commit, so a DELETE
 * comes before them, and there is no such user any more, or after them, and sees
 * their row: in READ COMMITTED, for the statements here take new snapshots. So do units
 * that give badges. A transaction whose snapshot is older than such a row cannot take it
 * along: it fails (40001), as with a foreign key, and has to be tried again.
 *
 * A row that moves to another partition is deleted here and inserted there. When
 * the statement is over there is such a user, so the ledger stays.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "engine.h"
#include "engines.h"
#include "ledger.h"
#include "spi.h"
#include "utils/builtins.h"

/* Is there a row of the engine's users table with the key? */
static bool
user_exists(const EngineDescriptor *descriptor, const char *key)
{
	Engine	   *engine = engine_cached(descriptor->name);
	Oid			type = engine->key_type;
	Datum		id = engine_key_datum(engine, key);

	return engine_exec(engine, false, psprintf("SELECT 1 FROM %s WHERE %s = $1",
											   engine->users_name, engine->users_key),
					   1, &type, &id) > 0;
}

/*
 * How many rows there are of a user, told apart from others as many: those of the ledger go
 * all at once, and the ids of later ones are other ones.
 */
static const char count_rows[] =
"SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.max(l.id), "
"(SELECT pg_catalog.count(*) FROM reputation.user_badge h WHERE h.user_id = $1)) "
"FROM reputation.point_ledger l WHERE l.user_id = $1";

/* 40001 when the transaction's snapshot does not show the user's rows as they are. */
static void
require_latest_rows(const char *key)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(key)};
	char	   *seen;

	spi_exec(count_rows, 1, types, values, NULL);
	seen = spi_text(0, 1);
	spi_latest(count_rows, 1, types, values);
	if (strcmp(seen, spi_text(0, 1)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The ledger or the badges of user \"%s\" were changed after the transaction's snapshot was taken.",
						   key),
				 errhint("The transaction might succeed if retried.")));
}

/*
 * ledger_follow -- the user's row was deleted (new_key NULL), or has another id;
 * users: the engine whose users table that is; partition: from a partition. 40001 as above. fcinfo is
 * the trigger function's, whose owner has the right to change the ledger.
 */
void
ledger_follow(FunctionCallInfo fcinfo, const EngineDescriptor *users, const char *old_key,
			  const char *new_key, bool partition)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(old_key),
	new_key == NULL ? (Datum) 0 : CStringGetTextDatum(new_key)};
	char		nulls[] = {' ', new_key == NULL ? 'n' : ' ', '\0'};
	EngineContext outside;

	spi_begin();
	owner_enter(fcinfo, &outside);
	if ((IsolationUsesXactSnapshot() ||
		 spi_exec("SELECT 1 FROM reputation.point_ledger WHERE user_id = $1 UNION ALL "
				  "SELECT 1 FROM reputation.user_badge WHERE user_id = $1 LIMIT 1", 1, types,
				  values, NULL) > 0) &&
		(new_key != NULL || !partition || !user_exists(users, old_key)))
	{
		if (IsolationUsesXactSnapshot())
			require_latest_rows(old_key);
		spi_exec("SELECT reputation.follow_user($1, $2)", 2, types, values, nulls);
	}
	owner_leave(&outside);
	spi_end();
}

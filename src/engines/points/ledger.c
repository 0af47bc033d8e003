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
 * It is the capture trigger that calls this, after the statement, when its arguments
 * say that a column is the users' key of the points engine or the badges engine. What
 * is done here has the rights of the extension's owner, while the owner of any source
 * may have that trigger function on a table of his with arguments of his own. So whose
 * rows follow is told by the registry alone: the ledger's those of the users that the
 * points engine is attached to, user_badge's those of the badges engine's, and what
 * that one has paid with them while no points engine is attached. (An attach sees
 * to it that the two have the same users.) The registry is read with the latest
 * snapshot: an attach or detach locks the users table against writers until it is
 * committed, so a writer finds the registry as it is, and as it stays to the end of his
 * transaction, however old his own snapshot is.
 *
 * The statements here wait for whoever else is changing the same user's rows: somebody
 * who forgets the user, or settles the user's badges. award_points(), revoke_points()
 * and who settles hold the user's row (FOR KEY SHARE) to their commit. So a DELETE
 * comes before them, and there is no such user any more; or it waits, and comes after
 * them. In READ COMMITTED it sees their rows then, for the statements take new
 * snapshots. In a REPEATABLE READ or SERIALIZABLE transaction they do not, and would
 * leave the rows to whoever gets the id next. There the latest snapshot must not have
 * more rows than the transaction's; of those that it has a deleted or changed one fails
 * the statements themselves. Either way it is 40001. Rows that somebody adds by hand
 * without holding the user come whenever they come.
 *
 * A row that moves to another partition is deleted here and inserted there. Nobody
 * tells that from a deletion, so it is one. (A table of users is partitioned by its
 * ids, for they are unique: who moves has another id.)
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/spi.h"
#include "capture/capture.h"
#include "capture/source.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "engines/points/points_engine.h"
#include "engines/points/ledger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of reputation.engine. */
enum
{
	ENGINE_CLASS = 3,
	ENGINE_USERS = 5,
	ENGINE_USERS_KEY
};

/* What a column is the users' key of. */
typedef struct Keepers
{
	bool		points;
	bool		others;			/* another engine that keeps what cannot be computed again */
} Keepers;

/* Is the column that of an engine's row, and what does that keep? */
static void
add_keeper(HeapTuple row, TupleDesc desc, Relation relation, AttrNumber attnum, Keepers *keepers)
{
	bool		isnull;
	char	   *name = TextDatumGetCString(heap_getattr(row, ENGINE_CLASS, desc, &isnull));
	const EngineClass *class = engine_class(name);
	Oid			users = DatumGetObjectId(heap_getattr(row, ENGINE_USERS, desc, &isnull));
	Name		key = DatumGetName(heap_getattr(row, ENGINE_USERS_KEY, desc, &isnull));

	if (class == NULL || !class->keeps || !source_has_relation(users, relation) ||
		get_attnum(RelationGetRelid(relation), NameStr(*key)) != attnum)
		return;
	keepers->points |= class == &points_class;
	keepers->others |= class != &points_class;
}

/*
 * Who has this column of the relation, or of the table it is a partition of, as the users'
 * key.
 */
static Keepers
ledger_keepers(Relation relation, AttrNumber attnum)
{
	Oid			table = get_relname_relid("engine", get_namespace_oid("reputation", false));
	Relation	registry = table_open(table, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(registry, snapshot, 0, NULL);
	HeapTuple	row;
	Keepers		keepers = {false, false};

	while ((row = heap_getnext(scan, ForwardScanDirection)) != NULL)
		add_keeper(row, RelationGetDescr(registry), relation, attnum, &keepers);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return keepers;
}

static bool
ledger_is_wanted(Relation relation, AttrNumber attnum)
{
	Keepers		keepers = ledger_keepers(relation, attnum);

	return keepers.points || keepers.others;
}

/* 40001 when there are rows of the user's that the transaction's snapshot does not have. */
static void
require_same_rows(const Oid *types, const Datum *values, const char *nulls)
{
	static const char *const sql =
	"SELECT (SELECT count(*) FROM reputation.point_ledger WHERE user_id = $1), "
	"(SELECT count(*) FROM reputation.point_ledger WHERE user_id = $2), "
	"(SELECT count(*) FROM reputation.user_badge WHERE user_id = $1), "
	"(SELECT count(*) FROM reputation.user_badge WHERE user_id = $2)";
	int64		mine[4];
	bool		more = false;

	if (!IsolationUsesXactSnapshot())
		return;
	spi_exec(sql, 2, types, values, nulls);
	for (int i = 0; i < lengthof(mine); i++)
		mine[i] = spi_int(0, i + 1, NULL);
	spi_read_latest(sql, 2, types, values, nulls);
	/* Each by itself: one that went must not hide one that came. */
	for (int i = 0; i < lengthof(mine); i++)
		more |= spi_int(0, i + 1, NULL) > mine[i];
	if (more)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("User \"%s\" was given points or badges since the transaction's "
						   "snapshot was taken.", TextDatumGetCString(values[0])),
				 errhint("The transaction might succeed if retried.")));
}

/*
 * The user's row was deleted (new_key NULL), or has another id. fcinfo is the trigger
 * function's, whose owner has the right to change the ledger. 40001, see above.
 */
static void
ledger_follow(FunctionCallInfo fcinfo, Relation relation, AttrNumber attnum, const char *old_key,
			  const char *new_key)
{
	Keepers		keepers = ledger_keepers(relation, attnum);
	Oid			types[] = {TEXTOID, TEXTOID, BOOLOID, BOOLOID};
	Datum		values[] = {CStringGetTextDatum(old_key),
		new_key == NULL ? (Datum) 0 : CStringGetTextDatum(new_key),
	BoolGetDatum(keepers.points), BoolGetDatum(keepers.others)};
	char		nulls[] = {' ', new_key == NULL ? 'n' : ' ', ' ', ' ', '\0'};
	EngineContext outside;

	spi_begin();
	owner_enter(fcinfo, &outside);
	require_same_rows(types, values, nulls);
	if (spi_exec("SELECT 1 FROM reputation.point_ledger WHERE user_id = $1 UNION ALL "
				 "SELECT 1 FROM reputation.user_badge WHERE user_id = $1 LIMIT 1", 1, types,
				 values, NULL) > 0)
		spi_exec("SELECT reputation.follow_user($1, $2, $3, $4)", 4, types, values, nulls);
	owner_leave(&outside);
	spi_end();
}

/*
 * ledger_init -- called when the library is loaded.
 */
void
ledger_init(void)
{
	static const CaptureFollower follower = {ledger_is_wanted, ledger_follow};

	capture_register_follower(&follower);
}

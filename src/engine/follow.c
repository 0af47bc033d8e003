/*
 * follow.c
 *		What is earned, of a user whose row goes, or whose id changes.
 *
 * The ledger is what was paid, a badge was earned at a time: nothing can compute such
 * outputs again (OUTPUT_EARNED). So their rows go when the user's row is deleted, and with a
 * changed id they follow, in the transaction of the DELETE or UPDATE, as they would by a
 * foreign key with CASCADE; and nowhere else is it concluded that a user is gone. A TRUNCATE
 * of the users, a view that leaves a user out, a restore that has not come to the
 * users yet: all leave them as they are.
 *
 * It is the capture trigger that calls this, after the statement, when its arguments
 * say that a column is the users' key of an engine that has such an output. What
 * is done here has the rights of the extension's owner, while the owner of any source
 * may have that trigger function on a table of his with arguments of his own. So whose
 * rows follow is told by the registry alone: of each engine whose users' key that column is,
 * its earned outputs; and what it wrote into another engine's, as a set of badges does into a
 * ledger, while that engine is not attached. (An attach sees to it that those who write
 * one output have the same users.) The registry is read with the latest
 * snapshot: an attach or detach locks the users table against writers until it is
 * committed, so a writer finds the registry as it is, and as it stays to the end of his
 * transaction, however old his own snapshot is.
 *
 * The statements here wait for whoever else is changing the same user's rows: somebody
 * who forgets the user, or settles the user's badges. award_points(), revoke_points()
 * and who settles hold the user's row (FOR KEY SHARE) to their commit. So a DELETE
 * comes before them, and there is no such user any more; or it waits, and comes after
 * them. In READ COMMITTED it sees their rows then, for the statements take new
 * snapshots. Outputs that are settled come first: by those statements whoever is just
 * settling is waited for, and the others see what that one wrote along with them. In a
 * REPEATABLE READ or SERIALIZABLE transaction they do not, and would
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
#include "engine/engine.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of reputation.engine. */
enum
{
	ENGINE_ID = 1,
	ENGINE_NAME,
	ENGINE_CLASS,
	ENGINE_USERS = 5,
	ENGINE_USERS_KEY,
	ENGINE_PAYS_INTO = 19
};

/* An attached engine. */
typedef struct Attached
{
	const EngineDescriptor *engine;
	char	   *pays_into;		/* or NULL */
	bool		concerned;		/* the column is the key of its users */
} Attached;

/* What follows: the rows of an output, or some of them. */
typedef struct Followed
{
	const EngineOutput *output;
	const char *table;
	const char *condition;		/* on a row l of $1's or $2's, or "" */
} Followed;

static char *
text_attribute(HeapTuple row, TupleDesc desc, int attribute)
{
	bool		isnull;
	Datum		value = heap_getattr(row, attribute, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* Adds the engine of a row of the registry; one whose class is not loaded is left out. */
static List *
add_attached(List *attached, HeapTuple row, TupleDesc desc, Relation relation, AttrNumber attnum)
{
	bool		isnull;
	Attached   *this = palloc(sizeof(Attached));
	Oid			users = DatumGetObjectId(heap_getattr(row, ENGINE_USERS, desc, &isnull));
	Name		key = DatumGetName(heap_getattr(row, ENGINE_USERS_KEY, desc, &isnull));

	this->engine = engine_descriptor_of(DatumGetInt32(heap_getattr(row, ENGINE_ID, desc, &isnull)),
										text_attribute(row, desc, ENGINE_NAME),
										text_attribute(row, desc, ENGINE_CLASS));
	if (this->engine == NULL)
		return attached;
	this->pays_into = text_attribute(row, desc, ENGINE_PAYS_INTO);
	this->concerned = source_has_relation(users, relation) &&
		get_attnum(RelationGetRelid(relation), NameStr(*key)) == attnum;
	return lappend(attached, this);
}

/*
 * The attached engines; and which have this column of the relation, or of the table it is a
 * partition of, as the users' key.
 */
static List *
attached_engines(Relation relation, AttrNumber attnum)
{
	Oid			table = get_relname_relid("engine", get_namespace_oid("reputation", false));
	Relation	registry = table_open(table, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(registry, snapshot, 0, NULL);
	HeapTuple	row;
	List	   *attached = NIL;

	while ((row = heap_getnext(scan, ForwardScanDirection)) != NULL)
		attached = add_attached(attached, row, RelationGetDescr(registry), relation, attnum);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return attached;
}

static bool
follow_is_wanted(Relation relation, AttrNumber attnum)
{
	ListCell   *cell;

	foreach(cell, attached_engines(relation, attnum))
	{
		Attached   *this = lfirst(cell);

		if (this->concerned && engine_earned(this->engine->class) >= 0)
			return true;
	}
	return false;
}

static bool
is_attached(List *attached, const char *name)
{
	ListCell   *cell;

	foreach(cell, attached)
	{
		if (strcmp(((Attached *) lfirst(cell))->engine->name, name) == 0)
			return true;
	}
	return false;
}

/* The output of another engine's that one is a part of. */
static const EngineOutput *
whole_output(const EngineClass *class, const EngineOutput *part)
{
	const EngineClass *paid = engine_class(class->pays);

	for (int i = 0; i < paid->noutputs; i++)
	{
		if (strcmp(paid->outputs[i].table, part->table) == 0)
			return &paid->outputs[i];
	}
	elog(ERROR, "the class %s has no output %s", paid->name, part->table);
}

/* An output's rows, if they follow the users of the engine; else NULL. */
static Followed *
followed_output(List *attached, const Attached *of, int number)
{
	const EngineOutput *output = &of->engine->class->outputs[number];
	Followed   *followed;

	if (output->origin != OUTPUT_EARNED ||
		(output->part != NULL && is_attached(attached, of->pays_into)))
		return NULL;
	followed = palloc(sizeof(Followed));
	followed->output = output;
	followed->table = of->engine->tables[number];
	followed->condition = "";
	if (output->part != NULL)
	{
		followed->output = whole_output(of->engine->class, output);
		followed->table = engine_paid_table(of->engine->class, of->pays_into, output->table);
		followed->condition = psprintf(" AND %s", output->part(of->engine, followed->table));
	}
	return followed;
}

/* What follows the users of the column, those outputs first that are settled. */
static List *
followed_outputs(Relation relation, AttrNumber attnum)
{
	List	   *attached = attached_engines(relation, attnum);
	List	   *followed = NIL;

	for (int settled = 1; settled >= 0; settled--)
	{
		ListCell   *cell;

		foreach(cell, attached)
		{
			Attached   *of = lfirst(cell);

			for (int i = 0; of->concerned && i < of->engine->class->noutputs; i++)
			{
				Followed   *this = (of->engine->class->outputs[i].settle != NULL) == settled ?
				followed_output(attached, of, i) : NULL;

				if (this != NULL)
					followed = lappend(followed, this);
			}
		}
	}
	return followed;
}

/* 40001 when there are rows of the user's that the transaction's snapshot does not have. */
static void
require_same_rows(List *followed, const Oid *types, const Datum *values, const char *nulls)
{
	int			count = 2 * list_length(followed);
	int64	   *mine = palloc(sizeof(int64) * count);
	bool		more = false;
	StringInfoData sql;
	ListCell   *cell;

	if (!IsolationUsesXactSnapshot())
		return;
	initStringInfo(&sql);
	foreach(cell, followed)
	{
		Followed   *this = lfirst(cell);

		appendStringInfo(&sql, "%3$s (SELECT count(*) FROM reputation.%1$s l WHERE l.user_id = $1%2$s), "
						 "(SELECT count(*) FROM reputation.%1$s l WHERE l.user_id = $2%2$s)",
						 this->table, this->condition, sql.len == 0 ? "SELECT" : ",");
	}
	spi_exec(sql.data, 2, types, values, nulls);
	for (int i = 0; i < count; i++)
		mine[i] = spi_int(0, i + 1, NULL);
	spi_read_latest(sql.data, 2, types, values, nulls);
	/* Each by itself: one that went must not hide one that came. */
	for (int i = 0; i < count; i++)
		more |= spi_int(0, i + 1, NULL) > mine[i];
	if (more)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("User \"%s\" was given points or badges since the transaction's "
						   "snapshot was taken.", TextDatumGetCString(values[0])),
				 errhint("The transaction might succeed if retried.")));
}

/* Is there anything that follows the user? */
static bool
has_rows(List *followed, const Datum *values)
{
	Oid			types[] = {TEXTOID};
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, followed)
	{
		Followed   *this = lfirst(cell);

		appendStringInfo(&sql, "%sSELECT 1 FROM reputation.%s l WHERE l.user_id = $1%s",
						 sql.len == 0 ? "" : " UNION ALL ", this->table, this->condition);
	}
	appendStringInfoString(&sql, " LIMIT 1");
	return spi_exec(sql.data, 1, types, values, NULL) > 0;
}

/* Removes the rows of $1, or gives them to $2. */
static void
follow(const Followed *this, const Oid *types, const Datum *values, bool moves)
{
	const char *moved = this->output->moved;

	if (!moves)
	{
		spi_exec(psprintf("DELETE FROM reputation.%s l WHERE l.user_id = $1%s", this->table,
						  this->condition), 1, types, values, NULL);
		return;
	}
	if (moved == NULL)
		spi_exec(psprintf("DELETE FROM reputation.%s l WHERE l.user_id = $1%s", this->table,
						  this->condition), 1, &types[1], &values[1], NULL);
	spi_exec(psprintf("UPDATE reputation.%s l SET user_id = $2%s%s WHERE l.user_id = $1%s", this->table,
					  moved != NULL ? ", " : "", moved != NULL ? psprintf(moved, this->table) : "",
					  this->condition), 2, types, values, NULL);
}

/*
 * The user's row was deleted (new_key NULL), or has another id. fcinfo is the trigger
 * function's, whose owner has the right to change the outputs. 40001, see above.
 */
static void
follow_user_row(FunctionCallInfo fcinfo, Relation relation, AttrNumber attnum, const char *old_key,
				const char *new_key)
{
	List	   *followed = followed_outputs(relation, attnum);
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(old_key),
	new_key == NULL ? (Datum) 0 : CStringGetTextDatum(new_key)};
	char		nulls[] = {' ', new_key == NULL ? 'n' : ' ', '\0'};
	EngineContext outside;
	ListCell   *cell;

	if (followed == NIL)
		return;
	spi_begin();
	owner_enter(fcinfo, &outside);
	require_same_rows(followed, types, values, nulls);
	if (has_rows(followed, values))
	{
		/* What the guard of an append-only output asks (ledger_guard()). */
		spi_set("reputation_ledger.forgets", old_key);
		foreach(cell, followed)
			follow(lfirst(cell), types, values, new_key != NULL);
	}
	owner_leave(&outside);
	spi_end();
}

/*
 * follow_init -- called when the library is loaded.
 */
void
follow_init(void)
{
	static const CaptureFollower follower = {follow_is_wanted, follow_user_row};

	capture_register_follower(&follower);
}

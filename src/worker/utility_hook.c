/*
 * utility_hook.c
 *		Keeps workers out of the way of statements on whole databases.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE ... TEMPLATE fail while anybody is connected to the database. So
 * before the server runs such a statement, the database is marked as blocked
 * and its workers are terminated; afterwards the launcher brings them back.
 *
 * Why none slips in: mark and slots are under one lock. A worker that took its
 * slot before the mark is seen and terminated. One that comes later sees the
 * mark and leaves. The launcher starts none while the mark is set, nor, when
 * it is not any more but the transaction goes on, while the statement's lock
 * on the database is held. The mark goes with the statement's end, its error
 * or the end of the process.
 *
 * The server itself waits five seconds for others to leave, with one
 * exception: DROP DATABASE ... WITH (FORCE) checks at once whether the caller
 * may terminate them, and nobody but a superuser may terminate a worker. That
 * is why the hook waits until they are out of the process array. If that takes
 * too long it lets the server decide.
 *
 * Only the owner of the database, or a superuser, gets workers terminated: the
 * others' statements will fail for lack of privilege, save for copying a
 * template database, which has no workers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "shmem/shmem.h"
#include "worker/utility_hook.h"

#define LEAVE_POLL		10		/* ms */
#define LEAVE_TIMEOUT	5000	/* ms */

static ProcessUtility_hook_type next_hook = NULL;

/* The transaction changes which databases there are, or their workers. */
static bool wake_launcher_at_end = false;

/*
 * owns_database -- may the user do to the database what an owner may?
 */
static bool
owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

/*
 * find_option -- the value of an option of the statement, or NULL.
 */
static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return option;
	}
	return NULL;
}

/*
 * name_of_database -- the database that the statement needs free of others;
 * NULL when it is no such statement.
 */
static const char *
name_of_database(Node *statement)
{
	DefElem    *option;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return castNode(DropdbStmt, statement)->dbname;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType != OBJECT_DATABASE)
				return NULL;
			return castNode(RenameStmt, statement)->subname;
		case T_AlterDatabaseStmt:
			if (find_option(castNode(AlterDatabaseStmt, statement)->options, "tablespace") == NULL)
				return NULL;
			return castNode(AlterDatabaseStmt, statement)->dbname;
		case T_CreatedbStmt:
			option = find_option(castNode(CreatedbStmt, statement)->options, "template");
			return option == NULL ? "template1" : defGetString(option);
		default:
			return NULL;
	}
}

/*
 * is_present -- is one of these processes still there?
 */
static bool
is_present(const int *pids)
{
	for (int i = 0; i < MAX_WORKER_SLOTS; i++)
	{
		if (pids[i] != 0 && BackendPidGetProc(pids[i]) != NULL)
			return true;
	}
	return false;
}

/*
 * send_workers_away -- terminates the database's workers and waits, for a
 * while, until they are gone.
 */
static void
send_workers_away(Oid database)
{
	int			pids[MAX_WORKER_SLOTS] = {0};

	for (int waited = 0; waited < LEAVE_TIMEOUT; waited += LEAVE_POLL)
	{
		if (shmem_send_away(database, pids) == 0 && !is_present(pids))
			break;
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LEAVE_POLL,
						 PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * run_next -- the statement itself.
 */
static void
run_next(PlannedStmt *pstmt, const char *query, bool read_only_tree,
		 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
		 DestReceiver *destination, QueryCompletion *completion)
{
	if (next_hook != NULL)
		next_hook(pstmt, query, read_only_tree, context, params, environment,
				  destination, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment,
								destination, completion);
}

/*
 * process_utility -- the hook: the statement, with the workers out of its way.
 */
static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	const char *name = name_of_database(pstmt->utilityStmt);
	Oid			database = name == NULL ? InvalidOid : get_database_oid(name, true);

	/* Any ALTER DATABASE: it may forbid connections or make a template. */
	if (name != NULL || IsA(pstmt->utilityStmt, AlterDatabaseStmt))
		wake_launcher_at_end = true;
	if (!OidIsValid(database) || !owns_database(database))
	{
		run_next(pstmt, query, read_only_tree, context, params, environment,
				 destination, completion);
		return;
	}

	shmem_block_database(database);
	PG_TRY();
	{
		send_workers_away(database);
		run_next(pstmt, query, read_only_tree, context, params, environment,
				 destination, completion);
	}
	PG_FINALLY();
	{
		shmem_unblock_database();
	}
	PG_END_TRY();
}

/*
 * at_transaction_end -- the launcher looks at the databases as they are now.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (wake_launcher_at_end && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT))
	{
		wake_launcher_at_end = false;
		shmem_wake_launcher();
	}
}

/*
 * utility_hook_init -- installs the hook; only while the server preloads,
 * since without the preload there are no workers.
 */
void
utility_hook_init(void)
{
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(at_transaction_end, NULL);
}

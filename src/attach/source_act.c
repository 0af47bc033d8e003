/*
 * source_act.c
 *		The one way to do something to an application's table.
 *
 * Whatever is done to an application's table is done as its owner, in a
 * security-restricted operation, with settings of its own (source_act()): PostgreSQL
 * evaluates expressions of the table's, like those of a partition key, when the table
 * is merely altered, and functions in them are its owner's choice. What is only read
 * of such a table is read from the catalogs, without PostgreSQL's functions that
 * simplify expressions (RelationGetIndexExpressions(), RelationGetPartitionKey() and
 * what they are called by).
 *
 * A table is locked first, which evaluates nothing, and then its owner looked up: the
 * owner cannot change until the transaction ends.
 */
#include "postgres.h"

#include "attach/source_act.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "engine/bound.h"
#include "engine/engine.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * source_is_own -- is it a table of the extension's?
 */
bool
source_is_own(Oid table)
{
	return get_rel_namespace(table) == get_namespace_oid("reputation", false);
}

/*
 * source_owner -- who owns a table that there is.
 */
Oid
source_owner(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * source_lock -- locks a table, and whatever inherits from it if it shall, to the end of
 * the transaction; false when it is gone. Resolves no name and evaluates nothing, so it
 * needs no source_act().
 */
bool
source_lock(Oid table, LOCKMODE mode, bool inheritors)
{
	LockRelationOid(table, mode);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
	{
		UnlockRelationOid(table, mode);
		return false;
	}
	if (inheritors)
		list_free(find_all_inheritors(table, mode, NULL));
	return true;
}

/*
 * source_require_owner -- 42501 unless the current user has the rights of the
 * table's owner, or it is the extension's own.
 */
void
source_require_owner(Oid table)
{
	if (!source_is_own(table) && !object_ownercheck_class(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(table));
}

/*
 * source_grant -- lets a table's owner make triggers that call reputation.capture(): who
 * makes a partition clones them. With the rights of the extension's owner.
 */
void
source_grant(Oid table)
{
	Oid			owner = source_owner(table);
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(owner)};
	const char *name = quote_identifier(GetUserNameFromId(owner, false));

	if (spi_exec("SELECT 1 WHERE pg_catalog.has_schema_privilege($1, 'reputation', 'USAGE') "
				 "AND pg_catalog.has_function_privilege($1, 'reputation.capture()', 'EXECUTE')",
				 1, types, values, NULL) > 0)
		return;
	spi_utility(psprintf("GRANT USAGE ON SCHEMA reputation TO %s", name));
	spi_utility(psprintf("GRANT EXECUTE ON FUNCTION reputation.capture() TO %s", name));
}

/*
 * source_act -- has the body act on a locked table as its owner, restricted, with a
 * pinned search_path, and in a worker for a bounded time (bound.c). An error undoes that
 * with the (sub)transaction.
 */
void
source_act(Oid table, SourceBody body, void *arg)
{
	EngineContext caller;
	bool		bounded = bound_begin(0, 0);

	GetUserIdAndSecContext(&caller.user, &caller.security);
	SetUserIdAndSecContext(source_owner(table),
						   caller.security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	caller.settings = spi_settings_begin();
	spi_set("search_path", "pg_catalog, pg_temp");
	body(arg);
	spi_settings_end(caller.settings);
	SetUserIdAndSecContext(caller.user, caller.security);
	bound_end(bounded);
}

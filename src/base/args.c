/*
 * args.c
 *		What SQL functions ask of their arguments and their transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/args.h"
#include "utils/builtins.h"

/*
 * args_text -- a text argument, NULL when it is null.
 */
char *
args_text(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * args_require -- 22004 when an argument is null.
 */
void
args_require(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

/*
 * args_required_bool -- a boolean argument. 22004 when it is null.
 */
bool
args_required_bool(FunctionCallInfo fcinfo, int argno, const char *name)
{
	args_require(fcinfo, argno, name);
	return PG_GETARG_BOOL(argno);
}

/*
 * args_required_text -- a text argument. 22004 when it is null.
 */
char *
args_required_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	args_require(fcinfo, argno, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * args_require_read_committed -- 25001 in any other transaction.
 */
void
args_require_read_committed(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s() needs a READ COMMITTED transaction", function),
				 errhint("It must see what others commit while it runs.")));
}

/*
 * clock.c
 *		The time all code goes by: the system's, or in tests the setting
 *		reputation.clock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "clock.h"
#include "fmgr.h"
#include "guc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(reputation_clock);

/*
 * clock_is_set -- does a test stand in for the system's clock?
 */
bool
clock_is_set(void)
{
	return guc_clock != NULL && guc_clock[0] != '\0';
}

static TimestampTz
parse(const char *text)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/*
 * clock_now -- the time now. 22007 when reputation.clock is no time.
 */
TimestampTz
clock_now(void)
{
	return clock_is_set() ? parse(guc_clock) : GetCurrentTimestamp();
}

/*
 * clock_check -- the check hook of reputation.clock: false when it is no time.
 * Where no time can be read (outside of a transaction) it is taken as it is.
 */
bool
clock_check(char **text, void **extra, GucSource source)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	if ((*text)[0] == '\0' || !IsTransactionState())
		return true;
	PG_TRY();
	{
		(void) parse(*text);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		good = false;
	}
	PG_END_TRY();
	return good;
}

/*
 * reputation.clock() -- clock_now() for SQL.
 */
Datum
reputation_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(clock_now());
}

/*
 * clock.c
 *		The time all code goes by: the system's, or in tests the setting
 *		reputation.clock.
 *
 * That may be any time from 1970 to 9999: what is added to and taken from it, windows and
 * backoffs, then stays a time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/clock.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(reputation_clock);

#define CLOCK_HINT	"It is a time from 1970-01-01 to 9999-12-31, or empty for the system's."

/* reputation.clock */
static char *clock_setting;

/*
 * clock_is_set -- does a test stand in for the system's clock?
 */
bool
clock_is_set(void)
{
	return clock_setting != NULL && clock_setting[0] != '\0';
}

static TimestampTz
parse_clock(const char *text)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

static bool
in_range(TimestampTz time)
{
	return time >= (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY &&
		time < (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

/*
 * clock_now -- the time now. 22007 when reputation.clock is no time, 22023 when it is
 * not in range.
 */
TimestampTz
clock_now(void)
{
	TimestampTz now;

	if (!clock_is_set())
		return GetCurrentTimestamp();
	now = parse_clock(clock_setting);
	/* It may come from a file, which is not checked. */
	if (!in_range(now))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reputation.clock is out of range: \"%s\"", clock_setting),
				 errhint(CLOCK_HINT)));
	return now;
}

/*
 * The check hook of reputation.clock: false when it is no time in range. Where no time can be read (outside of a transaction) it is taken as it is.
 */
static bool
clock_check(char **text, void **extra, GucSource source)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	if ((*text)[0] == '\0' || !IsTransactionState())
		return true;
	PG_TRY();
	{
		good = in_range(parse_clock(*text));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		good = false;
	}
	PG_END_TRY();
	if (!good)
		GUC_check_errhint(CLOCK_HINT);
	return good;
}

/*
 * clock_init -- makes the setting; while the library is loaded.
 */
void
clock_init(void)
{
	DefineCustomStringVariable("reputation.clock",
							   "For tests: the time the extension goes by.",
							   "Empty: the system's.",
							   &clock_setting, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   clock_check, NULL, NULL);
}

/*
 * reputation.clock() -- clock_now() for SQL.
 */
Datum
reputation_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(clock_now());
}

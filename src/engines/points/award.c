/*
 * award.c
 *		Writing a ledger, and its sum: what the application does with points.
 *
 * Who gives or takes points holds the user's row (FOR KEY SHARE) to the end of the
 * transaction, so that the user cannot go meanwhile and leave them behind (follow.c).
 */
#include "postgres.h"

#include "api/api.h"
#include "base/args.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engines/points/points_engine.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(award_points);
PG_FUNCTION_INFO_V1(revoke_points);
PG_FUNCTION_INFO_V1(total_points);

/* What award_points() takes, or gives: the check of the ledger's column. */
#define MAX_POINTS	INT64CONST(1000000000000)

/* A user of a points engine, and its ledger. */
typedef struct Account
{
	Datum		user;			/* as text */
	const char *ledger;
} Account;

/* The argument uid's, of the engine in another argument. P0002, 22P02, 55000. */
static Account
find_account(FunctionCallInfo fcinfo, int engine_argument, bool hold)
{
	Engine	   *engine = api_require_class(engine_cached(args_required_text(fcinfo, engine_argument,
																			"engine")),
										   &points_class);
	char	   *key = engine_key_from_argument(fcinfo, 0, engine);

	api_require_user(engine, key, hold);
	return (Account)
	{
		CStringGetTextDatum(key), engine_object(engine->descriptor, "point_ledger")
	};
}

/*
 * award_points(uid, points, reason, source_key, engine) -- see sql/33-points.sql.
 */
Datum
award_points(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {0, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};
	char		nulls[] = {' ', ' ', PG_ARGISNULL(2) ? 'n' : ' ', PG_ARGISNULL(3) ? 'n' : ' ', '\0'};
	Account		account;
	bool		awarded;

	args_require(fcinfo, 0, "uid");
	spi_begin();
	account = find_account(fcinfo, 4, true);
	if (PG_ARGISNULL(1) || PG_GETARG_INT64(1) < -MAX_POINTS || PG_GETARG_INT64(1) > MAX_POINTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"points\" must be a number from " INT64_FORMAT " to " INT64_FORMAT,
						-MAX_POINTS, MAX_POINTS)));
	values[0] = account.user;
	awarded = spi_exec(psprintf("INSERT INTO reputation.%s (user_id, points, reason, source_key) "
								"VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, source_key) DO NOTHING",
								account.ledger), 4, types, values, nulls) > 0;
	spi_end();
	PG_RETURN_BOOL(awarded);
}

/*
 * revoke_points(uid, source_key, reason, engine) -- see sql/33-points.sql.
 */
Datum
revoke_points(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {0, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2)};
	char		nulls[] = {' ', ' ', PG_ARGISNULL(2) ? 'n' : ' ', '\0'};
	Oid			award_types[] = {TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID, INT8OID};
	Datum		award[5];
	char		award_nulls[] = {' ', ' ', nulls[2], ' ', ' ', '\0'};
	Account		account;
	bool		revoked;
	bool		isnull;

	args_require(fcinfo, 0, "uid");
	args_require(fcinfo, 1, "source_key");
	spi_begin();
	account = find_account(fcinfo, 3, true);
	values[0] = account.user;
	if (spi_exec(psprintf("SELECT id, points, created_at FROM reputation.%s "
						  "WHERE user_id = $1 AND source_key = $2", account.ledger), 2, types,
				 values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("user \"%s\" was not awarded points for \"%s\"",
						TextDatumGetCString(account.user), text_to_cstring(PG_GETARG_TEXT_PP(1)))));
	award[0] = account.user;
	award[1] = Int64GetDatum(-spi_int(0, 2, NULL));
	award[2] = values[2];
	award[3] = spi_datum(0, 3, &isnull);
	award[4] = Int64GetDatum(spi_int(0, 1, NULL));
	revoked = spi_exec(psprintf("INSERT INTO reputation.%s (user_id, points, reason, created_at, revokes) "
								"VALUES ($1, $2, $3, $4, $5) ON CONFLICT (revokes) DO NOTHING",
								account.ledger), 5, award_types, award, award_nulls) > 0;
	spi_end();
	PG_RETURN_BOOL(revoked);
}

/*
 * total_points(uid, engine) -- see sql/33-points.sql.
 */
Datum
total_points(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {0, TimestampTzGetDatum(engine_view_time())};
	SpiReader	reader;
	Account		account;
	int64		total;

	spi_reader_begin(&reader);
	account = find_account(fcinfo, 1, false);
	values[0] = account.user;
	spi_read(psprintf("SELECT least(greatest(coalesce(sum(points), 0), -9223372036854775808), "
					  "9223372036854775807)::bigint FROM reputation.%s "
					  "WHERE user_id = $1 AND created_at <= $2", account.ledger), 2, types, values,
			 NULL);
	total = spi_int(0, 1, NULL);
	spi_reader_end(&reader);
	PG_RETURN_INT64(total);
}

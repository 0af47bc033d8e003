/*
 * badges_show.c
 *		What a user is shown: the badges, and how far the others are.
 */
#include "postgres.h"

#include "api/api.h"
#include "base/args.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "engines/badges/badges.h"
#include "utils/builtins.h"
#include "utils/datum.h"

PG_FUNCTION_INFO_V1(get_user_badges);
PG_FUNCTION_INFO_V1(get_badge_progress);

/*
 * The object that a query gives of the user in the first argument ($1; $2 is the same as
 * JSON), with the names of the tables of the engine in the second one. P0002, 22P02, 55000.
 */
static Datum
show_user(FunctionCallInfo fcinfo, const char *sql)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];
	StringInfoData json;
	SpiReader	reader;
	Engine	   *engine;
	BadgeTables tables;
	char	   *key;
	MemoryContext query;
	Datum		object;
	bool		isnull;

	spi_reader_begin(&reader);
	engine = api_require_class(engine_cached(args_required_text(fcinfo, 1, "engine")), &badges_class);
	tables = badges_tables(engine);
	key = engine_key_from_argument(fcinfo, 0, engine);
	initStringInfo(&json);
	engine_append_json_key(&json, engine, key);
	api_require_user(engine, key, false);
	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(json.data);
	(void) spi_read(psprintf(sql, tables.badge, tables.user_badge, tables.scores), 2, types, values,
					NULL);
	query = MemoryContextSwitchTo(caller);
	object = datumCopy(spi_datum(0, 1, &isnull), false, -1);
	MemoryContextSwitchTo(query);
	spi_reader_end(&reader);
	return object;
}

/*
 * get_user_badges(uid, engine) -- see sql/35-badges.sql.
 */
Datum
get_user_badges(PG_FUNCTION_ARGS)
{
	return show_user(fcinfo,
					 "SELECT jsonb_build_object('user_id', $2::jsonb, 'total_badges', count(b.id), "
					 "'badges', coalesce(jsonb_agg(jsonb_build_object('id', b.id, 'name', b.name, "
					 "'description', b.description, 'icon', b.icon, 'earned_at', "
					 "to_char(h.earned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
					 "'bonus_points', h.bonus_points) ORDER BY h.earned_at, b.id), '[]')) "
					 "FROM reputation.%2$s h JOIN reputation.%1$s b ON b.slug = h.slug "
					 "WHERE h.user_id = $1");
}

/*
 * get_badge_progress(uid, engine) -- see sql/35-badges.sql.
 */
Datum
get_badge_progress(PG_FUNCTION_ARGS)
{
	return show_user(fcinfo,
					 "SELECT jsonb_build_object('user_id', $2::jsonb, 'progress', jsonb_build_object("
					 "'earned', count(h.slug), 'total', count(b.id), "
					 "'progress_details', coalesce(jsonb_agg(jsonb_build_object("
					 "'badge_name', b.slug, 'name', b.name, 'earned', h.slug IS NOT NULL, "
					 "'progress', format('%%s/%%s %%s', greatest(0, least(v.value, b.threshold)), "
					 "b.threshold, replace(b.metric, '_', ' '))) ORDER BY b.id), '[]'))) "
					 "FROM reputation.%1$s b "
					 "LEFT JOIN reputation.%2$s h ON h.user_id = $1 AND h.slug = b.slug "
					 "LEFT JOIN reputation.%3$s s ON s.user_id = $1 "
					 "CROSS JOIN LATERAL (SELECT reputation.badge_value(b.metric, s.wins, "
					 "s.top_arguments, s.participations, s.votes, s.beta, s.wallet) AS value) v");
}

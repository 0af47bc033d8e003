/*
 * rank.c
 *		The rank column of an engine's users table.
 */
#include "postgres.h"

#include "engine.h"
#include "spi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(reputation_rank_refresh);

/*
 * reputation.rank_refresh(engine) -- writes the rank column where it changed.
 */
Datum
reputation_rank_refresh(PG_FUNCTION_ARGS)
{
	Engine	   *engine;
	int64		changed = 0;

	spi_begin();
	engine = engine_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (engine->rank_column != NULL)
		changed = (int64)
			engine_exec(engine, true,
						psprintf("WITH ranked AS MATERIALIZED ("
								 "SELECT %2$s AS id, rank() OVER (ORDER BY %3$s DESC) AS rank "
								 "FROM %1$s), free AS ("
								 "SELECT t.%2$s AS id, r.rank FROM %1$s t "
								 "JOIN ranked r ON r.id = t.%2$s "
								 "WHERE t.%4$s IS DISTINCT FROM r.rank "
								 "FOR NO KEY UPDATE OF t SKIP LOCKED) "
								 "UPDATE %1$s t SET %4$s = free.rank FROM free "
								 "WHERE t.%2$s = free.id",
								 engine->users_name, engine->users_key, engine->cached_column,
								 engine->rank_column), 0, NULL, NULL);
	spi_end();
	PG_RETURN_INT64(changed);
}

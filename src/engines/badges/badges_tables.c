/*
 * badges_tables.c
 *		What a set of badges works with.
 */
#include "postgres.h"

#include "engines/badges/badges.h"

/*
 * badges_key_prefix -- what the keys of an engine's bonuses begin with, before the slug.
 */
char *
badges_key_prefix(const EngineDescriptor *engine)
{
	return engine_bears_class(engine) ? pstrdup("badge:") :
		psprintf("badge:@%s:", engine->name);
}

/*
 * badges_tables -- the tables of a set of badges, and what the keys of its bonuses begin
 * with. No slug begins with "@", so nobody's keys are another set's.
 */
BadgeTables
badges_tables(const Engine *engine)
{
	const EngineDescriptor *d = engine->descriptor;

	return (BadgeTables)
	{
		.badge = engine_object(d, "badge"),
			.user_badge = engine_object(d, "user_badge"),
			.scores = d->score_table,
			.ledger = engine_paid_table(d->class, engine->pays_into, "point_ledger"),
			.prefix = badges_key_prefix(d)
	};
}

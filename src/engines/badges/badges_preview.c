/*
 * badges_preview.c
 *		Who would gain a badge, and who would lose it.
 */
#include "postgres.h"

#include "api/api.h"
#include "engines/badges/badges.h"
#include "base/spi.h"
#include "base/srf.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(badge_preview);

/* Who asks, and for what. */
typedef struct Preview
{
	Tuplestorestate *rows;
	TupleDesc	desc;
	const char *slug;
} Preview;

static void
preview_changes(const Preview *to, const BadgeChanges *changes, const char *change)
{
	for (int i = 0; i < changes->count; i++)
	{
		Datum		values[] = {CStringGetTextDatum(changes->users[i]), CStringGetTextDatum(change)};
		bool		nulls[] = {false, false};

		if (strcmp(changes->slugs[i], to->slug) == 0)
			tuplestore_putvalues(to->rows, to->desc, values, nulls);
	}
}

/* Whose bonus alone is missing has the badge already. */
static void
preview_badges(Engine *engine, Score *scores, int count, void *arg)
{
	BadgeChanges gained = {0};
	BadgeChanges unpaid = {0};
	BadgeChanges lost = {0};

	for (int i = 0; i < count; i++)
	{
		if (score_output_differs(&scores[i], BADGE_OUTPUT_USER_BADGE))
			badges_compare(&scores[i], &gained, &unpaid, &lost);
	}
	preview_changes(arg, &gained, "gain");
	preview_changes(arg, &lost, "lose");
}

/* 22023 unless there is such a badge, or somebody still has it. */
static void
require_badge(const Engine *engine, const char *slug)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(slug)};
	BadgeTables tables = badges_tables(engine);

	if (spi_read(psprintf("SELECT 1 FROM reputation.%s WHERE slug = $1 UNION ALL "
						  "SELECT 1 FROM reputation.%s WHERE slug = $1 LIMIT 1", tables.badge,
						  tables.user_badge), 1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no badge \"%s\"", slug),
				 errhint("The badges are in reputation.%s.", tables.badge)));
}

/*
 * badge_preview(slug, engine) -- who would gain the badge or lose it if everybody was
 * computed now; stores nothing. 22023 when there is no such badge and nobody has it, 55000
 * when the engine is not attached.
 */
Datum
badge_preview(PG_FUNCTION_ARGS)
{
	Preview		to = {.slug = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	Engine	   *engine;

	to.rows = srf_begin(fcinfo, &to.desc);
	spi_begin();
	engine = api_engine_get(fcinfo, &badges_class, 1);
	require_badge(engine, to.slug);
	engine_scan(engine, preview_badges, &to);
	spi_end();
	return (Datum) 0;
}

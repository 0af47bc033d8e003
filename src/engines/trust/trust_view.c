/*
 * trust_view.c
 *		The trust engine's signals view: its query over the application's tables.
 *
 * The view says of each input whether it counts (null: the application has none),
 * and of the activity how many events there were in the window that ends at the
 * computation's time, the oldest of them and the next one to come: enough to
 * tell when time alone changes the score; and whether the users table says when
 * its users were active. A time without a zone is taken as UTC, whatever the
 * session's zone is.
 *
 * One user's data must not fail a query over all of them, so no expression here
 * raises an error, whatever is in a column. A value of type json may be none of
 * jsonb's (\u0000, 1e999999): it is only ever looked at as json and as text. A
 * date may be beyond any timestamp: that is infinity.
 *
 * Nor must one user's data hold up all of them, so no expression looks at more of a
 * value than a person could mean: of a text at its beginning, which is all that is fetched
 * of it, of a list at its first elements. What is returned in the target list comes one by one;
 * in FROM it would be stored first.
 *
 * The activity takes three lookups for each user (the window, the first after it,
 * the last), each of which an index on (user_id, created_at) serves as long as the
 * conditions and min() and max() are over the column as it is; what they give is
 * converted. So a user's events of years ago cost nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "engines/trust/trust_view.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define MOST_ELEMENTS	"10000"
#define LAST_ELEMENT	"9999"
#define JSON_LENGTH		"1000000"

/* The same of an input; null when the table has no such column. */
static char *
presence(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);

	return column->actual == NULL ? "NULL::boolean" : attach_presence(column);
}

/* How many characters it has, but for spaces around them. */
static char *
text_length(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);

	if (column->actual == NULL)
		return "NULL::bigint";
	return psprintf("coalesce(length(btrim(left(u.%s::text, " TEXT_PREFIX "))), 0)::bigint",
					column->actual);
}

/*
 * How many elements of an array, a JSON array or a comma list are not empty, among the
 * first MOST_ELEMENTS. Those of a value of type json are JSON themselves, texts in quotes;
 * it can only be read as a whole, so one longer than JSON_LENGTH is not.
 */
static char *
element_count(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);
	const char *elements;
	const char *filled = "btrim(left(e.e::text, " TEXT_PREFIX ")) <> ''";

	if (column->actual == NULL)
		return "NULL::bigint";
	if (OidIsValid(get_element_type(column->type)))
		elements = "unnest(u.%1$s)";
	else if (column->type == JSONBOID)
	{
		elements = "jsonb_path_query(CASE jsonb_typeof(u.%1$s) WHEN 'array' THEN u.%1$s END, "
			"'$[0 to " LAST_ELEMENT "]')";
		filled = "CASE jsonb_typeof(e.e) WHEN 'string' "
			"THEN btrim(left(e.e #>> '{}', " TEXT_PREFIX ")) <> '' ELSE e.e <> 'null' END";
	}
	else if (column->type == JSONOID)
	{
		elements = "json_array_elements(CASE WHEN octet_length(u.%1$s::text) <= " JSON_LENGTH " "
			"THEN CASE json_typeof(u.%1$s) WHEN 'array' THEN u.%1$s END END)";
		filled = "e.e::text <> 'null' AND "
			"btrim(replace(e.e::text, E'\\\\u0020', ''), ' \"') <> ''";
	}
	else if (TypeCategory(column->type) == TYPCATEGORY_STRING)
		elements = "string_to_table(left(u.%1$s::text, " TEXT_PREFIX "), ',')";
	else
		attach_wrong_type(table, column, "an array, a JSON array or a comma list");
	return psprintf("(SELECT count(*) FROM (SELECT %s AS e LIMIT " MOST_ELEMENTS ") AS e(e) "
					"WHERE %s)", psprintf(elements, column->actual), filled);
}

/* Is it true, or a time that is set? */
static char *
verified(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);

	if (column->actual == NULL)
		return "NULL::boolean";
	if (column->type == BOOLOID)
		return psprintf("coalesce(u.%s, false)", column->actual);
	if (TypeCategory(column->type) != TYPCATEGORY_DATETIME)
		attach_wrong_type(table, column, "a boolean, or a time that counts when it is set");
	return psprintf("u.%s IS NOT NULL", column->actual);
}

/*
 * An expression of the column's type as a timestamptz. A date that is later than
 * any timestamp never comes.
 */
static char *
as_time(AttachTable *table, AttachColumn *column, const char *expression)
{
	if (column->type == TIMESTAMPTZOID)
		return pstrdup(expression);
	if (column->type == TIMESTAMPOID)
		return psprintf("(%s AT TIME ZONE 'UTC')", expression);
	if (column->type != DATEOID)
		attach_wrong_type(table, column, "a time");
	return psprintf("CASE WHEN %1$s > make_date(294276, 12, 31) THEN 'infinity'::timestamptz "
					"ELSE (%1$s::timestamp AT TIME ZONE 'UTC') END", expression);
}

/* A time of the users table as a timestamptz. */
static char *
time_of(AttachTable *users, const char *name)
{
	AttachColumn *column = attach_column(users, name);

	if (column->actual == NULL)
		return "NULL::timestamptz";
	return as_time(users, column, psprintf("u.%s", column->actual));
}

/* A condition on an event's time. */
static char *
event_time_is(const AttachColumn *column, const char *operator, const char *bound)
{
	if (column->type == TIMESTAMPTZOID)
		return psprintf("a.%s %s %s", column->actual, operator, bound);
	return psprintf("a.%s %s (%s AT TIME ZONE 'UTC')", column->actual, operator, bound);
}

/* What the view takes of the activity source: one row for each user, of w, n and l. */
static char *
activity_join(const char *engine, AttachTable *users, AttachTable *activity)
{
	const char *now = "reputation.computation_time()";
	AttachColumn *time = attach_column(activity, "created_at");
	char	   *of_user = psprintf("%s a WHERE a.%s = u.%s", activity->qualified,
								   attach_column(activity, "user_id")->actual,
								   attach_column(users, "id")->actual);

	return psprintf(" CROSS JOIN LATERAL (SELECT count(*) AS events, min(a.%2$s) AS oldest "
					"FROM %1$s AND %3$s AND %4$s) w "
					"CROSS JOIN LATERAL (SELECT min(a.%2$s) AS next FROM %1$s AND %5$s) n "
					"CROSS JOIN LATERAL (SELECT max(a.%2$s) AS last FROM %1$s AND %4$s) l",
					of_user, time->actual,
					event_time_is(time, ">", psprintf("reputation.window_start(%s, 'activity_days')",
													  quote_literal_cstr(engine))),
					event_time_is(time, "<=", now), event_time_is(time, ">", now));
}

/* A column of activity_join() as a timestamptz; null without an activity source. */
static char *
event_time(AttachTable *activity, const char *expression)
{
	return activity == NULL ? "NULL::timestamptz" :
		as_time(activity, attach_column(activity, "created_at"), expression);
}

/*
 * trust_signals_query -- the signals view over the users table and, unless it is
 * NULL, the activity source. 42804 when a column is of a type its input cannot be.
 */
char *
trust_signals_query(const char *engine, AttachTable *users, AttachTable *activity)
{
	static const char *const verifications[] = {
		"email_verified", "phone_verified", "photo_verified", "id_verified"
	};
	StringInfoData sql;
	char	   *last_active = time_of(users, "last_active_at");

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT u.%s AS user_id, %s AS photo, %s AS bio, %s AS interests, "
					 "%s AS name, %s AS birthdate, %s AS location, %s AS job",
					 attach_column(users, "id")->actual, presence(users, "photo"),
					 text_length(users, "bio"), element_count(users, "interests"),
					 presence(users, "name"), presence(users, "birthdate"),
					 presence(users, "location"), presence(users, "job"));
	for (int i = 0; i < lengthof(verifications); i++)
		appendStringInfo(&sql, ", %s AS %s", verified(users, verifications[i]), verifications[i]);
	appendStringInfo(&sql, ", %s AS activity, %s AS activity_oldest, %s AS activity_next, "
					 "%s AS last_active_at, %s AS created_at, %s AS last_active_tracked "
					 "FROM %s u%s",
					 activity ? "w.events" : "NULL::bigint",
					 event_time(activity, "w.oldest"), event_time(activity, "n.next"),
					 activity ? psprintf("greatest(%s, %s)", last_active,
										 event_time(activity, "l.last")) : last_active,
					 time_of(users, "created_at"),
					 attach_column(users, "last_active_at")->actual ? "true" : "false",
					 users->qualified,
					 activity ? activity_join(engine, users, activity) : "");
	return sql.data;
}

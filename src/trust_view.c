/*
 * trust_view.c
 *		The trust engine's signals view: its query over the application's tables.
 *
 * The view says of each input whether it counts (null: the application has none),
 * and of the activity how many events there were in the window that ends at the
 * computation's time, the oldest of them and the next one to come: enough to
 * tell when time alone changes the score; and whether the application says
 * anything of it at all. A time without a zone is taken as UTC, whatever the
 * session's zone is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "trust_view.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* 42804: the column is of a type that its input cannot be. */
static void
wrong_type(AttachTable *table, AttachColumn *column, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column %s of %s is of type %s", column->actual, table->qualified,
					format_type_be(column->type)),
			 errdetail("As the input \"%s\" it must be %s.", column->name, wanted),
			 errhint("Name another column in \"columns\", or null for none.")));
}

/* Is the column there, neither null nor empty? */
static char *
presence(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);

	if (column->actual == NULL)
		return "NULL::boolean";
	if (column->type == BOOLOID)
		return psprintf("coalesce(u.%s, false)", column->actual);
	if (column->type == BYTEAOID)
		return psprintf("coalesce(octet_length(u.%s) > 0, false)", column->actual);
	if (TypeCategory(column->type) == TYPCATEGORY_STRING)
		return psprintf("coalesce(btrim(u.%s::text) <> '', false)", column->actual);
	return psprintf("coalesce(u.%s::text NOT IN ('', '{}', '[]', '\"\"', 'null'), false)",
					column->actual);
}

/* How many characters it has, but for spaces around them. */
static char *
text_length(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);

	if (column->actual == NULL)
		return "NULL::bigint";
	return psprintf("coalesce(length(btrim(u.%s::text)), 0)::bigint", column->actual);
}

/* How many elements of an array, a JSON array or a comma list are not empty. */
static char *
element_count(AttachTable *table, const char *name)
{
	AttachColumn *column = attach_column(table, name);
	const char *elements;

	if (column->actual == NULL)
		return "NULL::bigint";
	if (OidIsValid(get_element_type(column->type)))
		elements = "unnest(u.%1$s)";
	else if (column->type == JSONBOID || column->type == JSONOID)
		elements = "jsonb_array_elements_text(CASE jsonb_typeof(u.%1$s::jsonb) "
			"WHEN 'array' THEN u.%1$s::jsonb END)";
	else if (TypeCategory(column->type) == TYPCATEGORY_STRING)
		elements = "string_to_table(u.%1$s::text, ',')";
	else
		wrong_type(table, column, "an array, a JSON array or a comma list");
	return psprintf("(SELECT count(*) FROM %s AS e(e) WHERE btrim(e.e::text) <> '')",
					psprintf(elements, column->actual));
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
		wrong_type(table, column, "a boolean, or a time that counts when it is set");
	return psprintf("u.%s IS NOT NULL", column->actual);
}

/* A time as a timestamptz. */
static char *
time_of(AttachTable *table, const char *name, const char *alias)
{
	AttachColumn *column = attach_column(table, name);

	if (column->actual == NULL)
		return "NULL::timestamptz";
	if (column->type == TIMESTAMPTZOID)
		return psprintf("%s.%s", alias, column->actual);
	if (column->type != TIMESTAMPOID && column->type != DATEOID)
		wrong_type(table, column, "a time");
	return psprintf("(%s.%s::timestamp AT TIME ZONE 'UTC')", alias, column->actual);
}

/* A condition on an event's time, such that an index on the column serves it. */
static char *
event_time_is(AttachTable *activity, const char *operator, const char *bound)
{
	AttachColumn *column = attach_column(activity, "created_at");

	if (column->type == TIMESTAMPTZOID)
		return psprintf("a.%s %s %s", column->actual, operator, bound);
	return psprintf("a.%s::timestamp %s (%s AT TIME ZONE 'UTC')", column->actual, operator, bound);
}

/* What the view takes of the activity source: one row, w, for each user. */
static char *
activity_join(AttachTable *users, AttachTable *activity)
{
	const char *now = "reputation.computation_time()";
	char	   *of_user = psprintf("%s a WHERE a.%s = u.%s", activity->qualified,
								   attach_column(activity, "user_id")->actual,
								   attach_column(users, "id")->actual);
	char	   *time = time_of(activity, "created_at", "a");

	return psprintf(" CROSS JOIN LATERAL (SELECT count(*) AS events, min(%2$s) AS oldest "
					"FROM %1$s AND %3$s AND %4$s) w "
					"CROSS JOIN LATERAL (SELECT min(%2$s) AS next FROM %1$s AND %5$s) n "
					"CROSS JOIN LATERAL (SELECT max(%2$s) AS last FROM %1$s AND %4$s) l",
					of_user, time,
					event_time_is(activity, ">",
								  "reputation.window_start('trust', 'activity_days')"),
					event_time_is(activity, "<=", now), event_time_is(activity, ">", now));
}

/*
 * trust_signals_query -- the signals view over the users table and, unless it is
 * NULL, the activity source. 42804 when a column is of a type its input cannot be.
 */
char *
trust_signals_query(AttachTable *users, AttachTable *activity)
{
	static const char *const verifications[] = {
		"email_verified", "phone_verified", "photo_verified", "id_verified"
	};
	StringInfoData sql;
	char	   *last_active = time_of(users, "last_active_at", "u");

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
					 "%s AS last_active_at, %s AS created_at, %s AS activity_tracked "
					 "FROM %s u%s",
					 activity ? "w.events" : "NULL::bigint",
					 activity ? "w.oldest" : "NULL::timestamptz",
					 activity ? "n.next" : "NULL::timestamptz",
					 activity ? psprintf("greatest(%s, l.last)", last_active) : last_active,
					 time_of(users, "created_at", "u"),
					 activity || attach_column(users, "last_active_at")->actual ? "true" : "false",
					 users->qualified,
					 activity ? activity_join(users, activity) : "");
	return sql.data;
}

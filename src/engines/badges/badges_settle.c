/*
 * badges_settle.c
 *		Giving badges and taking them, with their bonuses.
 *
 * Why nobody gets a badge or its bonus twice, nor keeps one that is lost. Rows of
 * user_badge are written where a unit stores its scores (badges_settle()), and nowhere else: in
 * the unit's transaction, with the ledger's rows, by who holds the user's lane and
 * has computed after getting it. So units that want to give a user the same badge, or
 * one to give and another to take it, come one after the other, and the later one
 * sees what the earlier one did: what is due and what is held are read in one
 * snapshot, and what they come to is written before another unit reads. A session's recalc
 * or repair may have an older snapshot; it only stores the score row, and leaves a job
 * (queue.c) to whoever settles.
 *
 * Those who are no units, and change what a unit reads or writes:
 *
 * - Who deletes a user or gives it another id. Their trigger (follow.c) takes badges and
 *	 ledger along, as far as its snapshot has them. So a unit holds the rows of all to whom
 *	 it gives or from whom it takes (FOR KEY SHARE), to its commit: the DELETE waits, and the
 *	 trigger's statements come after the commit, with snapshots that see the unit's rows,
 *	 the one that revokes a bonus included. Was the DELETE first, the unit does not wait: it
 *	 passes over the user, whose job comes back, like that of anybody whose row is locked
 *	 (FOR UPDATE); then the user is gone, or has another id, or it was rolled back. Who
 *	 is gone has lost the badges already: nothing is taken, either.
 *
 * - Who had deleted the user, and made another of the same id, before the unit held the
 *	 row. What was computed may be of the one who is gone. So those who are held are
 *	 computed once more, with a snapshot that is taken when nobody can exchange them any
 *	 more, and what that says is done. It may also say other metrics than the score row
 *	 that was just stored; the change that made them so has its own job. In the
 *	 common case nobody gains or loses anything, and nothing of this is done.
 *
 * - Who forgets a user (forget_user()), whose row stays, and need not be locked. A badge
 *	 that a unit has given and not committed it neither sees nor waits for: the user has
 *	 that, by what is still true. For one that is being taken it waits: it deletes the rows
 *	 of user_badge first and those of the ledger after that, so that the second statement
 *	 sees the row that revokes; so does who follows a user (follow.c). A unit that comes second waits
 *	 for the row of user_badge, and takes nothing when it is gone. If it gives, by a bonus
 *	 that is just being forgotten, the badge is left without it; the job that the removal
 *	 left brings the user again, and then that is seen (badges_held()).
 *
 * - Who writes a key of a bonus into the ledger by hand. The row of the ledger is
 *	 inserted first, and what the badge says was paid, and under what key, is read after it
 *	 with a new snapshot: that row, or the one that was in the way. Was that taken back at
 *	 once, the next free key is tried.
 *
 * A changed row of reputation.badge concerns everybody: its capture trigger leaves a
 * mark, which the fold turns into a run. A unit that computed with the row as it was
 * before holds its lanes until it commits; the run's jobs are claimed after that.
 *
 * A bonus is paid under the key "badge:SLUG", of a set by another name under
 * "badge:@NAME:SLUG": several sets may pay into one ledger. When a revocable badge is lost the
 * row is taken back by one that revokes it, and the next time it is earned the key
 * has ":2" after it, then ":3"; if somebody has used that, the next lower one that is free. As
 * long as a row is not taken back none is paid for the same slug, also if the badge was
 * deleted and made again; and who has a badge whose row was taken back by hand is paid again.
 */
#include "postgres.h"

#include "engines/badges/badges.h"
#include "base/clock.h"
#include "base/spi.h"
#include "catalog/pg_type.h"
#include "shmem/shmem.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/*
 * badges_slugs -- the slugs of a signal, in their order as bytes; returns how many.
 */
int
badges_slugs(Datum array, char ***slugs)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &count);
	*slugs = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
		(*slugs)[i] = TextDatumGetCString(elements[i]);
	return count;
}

static void
add_badge_change(BadgeChanges *to, char *user, char *slug)
{
	if (to->count == to->size)
	{
		to->size = Max(to->size * 2, 64);
		to->users = to->users ? repalloc(to->users, sizeof(char *) * to->size) :
			palloc(sizeof(char *) * to->size);
		to->slugs = to->slugs ? repalloc(to->slugs, sizeof(char *) * to->size) :
			palloc(sizeof(char *) * to->size);
	}
	to->users[to->count] = user;
	to->slugs[to->count++] = slug;
}

/* Takes the mark of a badge without its bonus from its slug; was there one? */
static bool
take_mark(char *slug)
{
	size_t		length = strlen(slug);

	if (length == 0 || slug[length - 1] != '!')
		return false;
	slug[length - 1] = '\0';
	return true;
}

/*
 * badges_compare -- what a user gains and loses, and which badges lack nothing but their bonus.
 */
void
badges_compare(const Score *score, BadgeChanges *gained, BadgeChanges *unpaid,
			   BadgeChanges *lost)
{
	char	  **due;
	char	  **held;
	int			ndue = badges_slugs(score->signals[BADGE_SIGNAL_DUE], &due);
	int			nheld = badges_slugs(score->signals[BADGE_SIGNAL_HELD], &held);
	bool	   *without_bonus = palloc(sizeof(bool) * Max(nheld, 1));
	int			i = 0;
	int			j = 0;

	for (int k = 0; k < nheld; k++)
		without_bonus[k] = take_mark(held[k]);
	while (i < ndue || j < nheld)
	{
		int			order = i == ndue ? 1 : j == nheld ? -1 : strcmp(due[i], held[j]);

		if (order < 0)
			add_badge_change(gained, score->user, due[i]);
		if (order == 0 && without_bonus[j])
			add_badge_change(unpaid, score->user, due[i]);
		if (order > 0)
			add_badge_change(lost, score->user, held[j]);
		i += order <= 0;
		j += order >= 0;
	}
}

/*
 * For statements over some users. A worker does not wait for somebody who has a lock on
 * the table, or writes the same key into the ledger: it comes again.
 */
static int
begin_settings(void)
{
	int			settings = spi_settings_begin();

	spi_prefer_indexes();
	if (shmem_is_worker())
		spi_set("lock_timeout", "1ms");
	return settings;
}

/*
 * Keeps users from being deleted and from getting another id until the transaction
 * ends, and passes over those whose rows others hold, or who are gone. The keys of those
 * held, and how many.
 */
static int
hold_users(Engine *engine, char **users, int count, char ***held)
{
	Oid			types[] = {get_array_type(engine->key_type)};
	Datum		values[] = {typed_array(engine->key_type, users, count)};
	int			settings = begin_settings();
	uint64		found = engine_exec(engine, false,
									psprintf("SELECT t.%1$s::text FROM %2$s t WHERE t.%1$s = ANY ($1) "
											 "FOR KEY SHARE SKIP LOCKED", engine->users_key,
											 engine->users_name),
									1, types, values);

	spi_settings_end(settings);
	*held = palloc(sizeof(char *) * Max(found, 1));
	for (uint64 row = 0; row < found; row++)
		(*held)[row] = spi_text(row, 1);
	return (int) found;
}

/* Is a row's key one of the bonuses of a badge? */
#define HAS_KEY(slug) \
	"l.source_key LIKE 'badge:%%' AND (l.source_key = %4$s || " slug " " \
	"OR starts_with(l.source_key, %4$s || " slug " || ':'))"

/* What a user was paid for a badge that was not taken back, and under what key. */
#define PAID(user, slug) \
	"SELECT l.points, l.source_key FROM reputation.%3$s l WHERE l.user_id = " user \
	" AND " HAS_KEY(slug) " AND NOT EXISTS (SELECT FROM reputation.%3$s r WHERE r.revokes = l.id) " \
	"ORDER BY l.id LIMIT 1"

/*
 * The key of the next bonus. Of as many keys as are used and one more, one is free, whatever
 * the others are.
 */
#define NEXT_KEY(user, slug) \
	"(SELECT k.key FROM (SELECT count(*) AS used FROM reputation.%3$s l WHERE l.user_id = " user \
	" AND " HAS_KEY(slug) ") t CROSS JOIN LATERAL generate_series(1, t.used + 1) AS n (n) " \
	"CROSS JOIN LATERAL (SELECT %4$s || " slug " || coalesce(':' || nullif(n.n, 1), '') AS key) k " \
	"WHERE NOT EXISTS (SELECT FROM reputation.%3$s o WHERE o.user_id = " user \
	" AND o.source_key = k.key) ORDER BY n.n DESC LIMIT 1)"

/* Takes the badges lost with their bonuses. */
static const char *const take_sql =
"WITH taken AS (DELETE FROM reputation.%1$s h USING unnest($1, $2) AS l (user_id, slug) "
"WHERE h.user_id = l.user_id AND h.slug = l.slug "
"AND NOT EXISTS (SELECT FROM reputation.%2$s b WHERE b.slug = h.slug AND NOT b.revocable) "
"RETURNING h.user_id, h.slug, h.source_key) "
"INSERT INTO reputation.%3$s (user_id, points, reason, created_at, recorded_at, revokes) "
"SELECT p.user_id, -p.points, format('badge lost: %%s', b.name), p.created_at, $3, p.id "
"FROM taken t JOIN reputation.%2$s b ON b.slug = t.slug "
"JOIN reputation.%3$s p ON p.user_id = t.user_id AND p.source_key = t.source_key "
"ON CONFLICT (revokes) DO NOTHING";

/*
 * Pays the bonuses of those gained; have all been paid? A bonus that was paid and not taken
 * back is not paid again, whoever paid it. (A format may leave out no argument but the last.)
 */
static const char *const pay_sql =
"%1$.0sWITH unpaid AS (SELECT g.user_id, b.slug, b.name, b.bonus_points "
"FROM unnest($1, $2) AS g (user_id, slug) JOIN reputation.%2$s b ON b.slug = g.slug "
"WHERE b.bonus_points > 0 AND NOT EXISTS (" PAID("g.user_id", "b.slug") ")), "
"bonus AS (INSERT INTO reputation.%3$s (user_id, points, reason, source_key, created_at, recorded_at) "
"SELECT u.user_id, u.bonus_points, format('badge: %%s', u.name), " NEXT_KEY("u.user_id", "u.slug") ", "
"$3, $3 FROM unpaid u ON CONFLICT (user_id, source_key) DO NOTHING RETURNING id) "
"SELECT ((SELECT count(*) FROM unpaid) = (SELECT count(*) FROM bonus))::int";

/*
 * Gives the badges gained. One that is there already was without its bonus; so is, until
 * the next time, one whose bonus was taken back this moment.
 */
static const char *const give_sql =
"INSERT INTO reputation.%1$s AS h (user_id, slug, earned_at, bonus_points, source_key) "
"SELECT g.user_id, b.slug, $3, coalesce(p.points, 0), coalesce(p.source_key, "
"CASE WHEN b.bonus_points > 0 THEN " NEXT_KEY("g.user_id", "b.slug") " END) "
"FROM unnest($1, $2) AS g (user_id, slug) JOIN reputation.%2$s b ON b.slug = g.slug "
"LEFT JOIN LATERAL (" PAID("g.user_id", "b.slug") ") p ON true "
"ON CONFLICT (user_id, slug) DO UPDATE SET bonus_points = excluded.bonus_points, "
"source_key = excluded.source_key";

/* Runs one of these for users with a badge each; how many rows. */
static uint64
settle_changes(const Engine *engine, const char *sql, const BadgeChanges *changes, TimestampTz now)
{
	BadgeTables tables = badges_tables(engine);
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		values[] = {text_array(changes->users, changes->count),
	text_array(changes->slugs, changes->count), TimestampTzGetDatum(now)};

	return spi_exec(psprintf(sql, tables.user_badge, tables.badge, tables.ledger,
							 quote_literal_cstr(tables.prefix)), 3, types, values, NULL);
}

/*
 * Gives and takes what users gain and lose who are held. Where somebody just took the key
 * of a bonus, the next snapshot has that row. Who is not paid in the end (a trigger may
 * refuse the row) comes again.
 */
static void
write_changes(const Engine *engine, const BadgeChanges *gained, const BadgeChanges *lost)
{
	TimestampTz now = clock_now();
	int			settings = begin_settings();

	if (lost->count > 0)
		settle_changes(engine, take_sql, lost, now);
	for (int i = 0; i < 10 && gained->count > 0; i++)
	{
		settle_changes(engine, pay_sql, gained, now);
		if (spi_int(0, 1, NULL) != 0)
			break;
	}
	if (gained->count > 0)
		settle_changes(engine, give_sql, gained, now);
	spi_settings_end(settings);
}

/*
 * badges_bonuses -- a condition on a ledger's rows l: the bonuses of a set of badges, and
 * what takes them back.
 */
char *
badges_bonuses(const EngineDescriptor *engine, const char *ledger)
{
	const char *prefix = quote_literal_cstr(badges_key_prefix(engine));
	const char *own = engine_bears_class(engine) ?
	"%1$s.source_key LIKE 'badge:%%' AND NOT starts_with(%1$s.source_key, 'badge:@')" :
	"starts_with(%1$s.source_key, %2$s)";

	return psprintf("(%s OR EXISTS (SELECT FROM reputation.%s p WHERE p.id = l.revokes AND %s))",
					psprintf(own, "l", prefix), ledger, psprintf(own, "p", prefix));
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool
is_to_settle(const Score *score)
{
	return score->stored && score_output_differs(score, BADGE_OUTPUT_USER_BADGE);
}

/*
 * badges_settle -- gives and takes what the users gain and lose, whose lanes are held. Those
 * who cannot be held are not stored.
 */
void
badges_settle(Engine *engine, Score *scores, int count)
{
	char	  **users = palloc(sizeof(char *) * Max(count, 1));
	int			nusers = 0;
	char	  **held;
	int			nheld;
	Score	   *again;
	int			nagain;
	BadgeChanges gained = {0};
	BadgeChanges lost = {0};

	for (int i = 0; i < count; i++)
	{
		if (is_to_settle(&scores[i]))
			users[nusers++] = scores[i].user;
	}
	if (nusers == 0 && count > 0)
		return;

	nheld = hold_users(engine, users, nusers, &held);
	qsort(held, nheld, sizeof(char *), compare_texts);
	for (int i = 0; i < count; i++)
	{
		if (is_to_settle(&scores[i]))
			scores[i].stored = scores[i].changed =
				bsearch(&scores[i].user, held, nheld, sizeof(char *), compare_texts) != NULL;
	}

	nagain = engine_compute(engine, held, nheld, &again);
	for (int i = 0; i < nagain; i++)
	{
		if (score_output_differs(&again[i], BADGE_OUTPUT_USER_BADGE))
			badges_compare(&again[i], &gained, &gained, &lost);
	}
	write_changes(engine, &gained, &lost);
}

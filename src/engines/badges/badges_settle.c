/*
 * badges_settle.c
 *		Giving badges and taking them, with their bonuses.
 *
 * Why nobody gets a badge or its bonus twice, nor keeps one that is lost. Rows of
 * user_badge are written where a unit stores its scores (badges_do_settle()), and nowhere else: in
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
 * - Who deletes a user or gives it another id. Their trigger (ledger.c) takes badges and
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
 *	 sees the row that revokes; follow_user() does the same. A unit that comes second waits
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
 * A bonus is paid under the key "badge:SLUG". When a revocable badge is lost the
 * row is taken back by one that revokes it, and the next time it is earned the key
 * is "badge:SLUG:2", then 3; if somebody has used that, the next lower one that is free. As
 * long as a row is not taken back none is paid for the same slug, also if the badge was
 * deleted and made again; and who has a badge whose row was taken back by hand is paid again.
 */
#include "postgres.h"

#include "engines/badges/badges.h"
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

/* Gives and takes what users gain and lose who are held. */
static void
write_changes(const BadgeChanges *gained, const BadgeChanges *lost)
{
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[] = {text_array(gained->users, gained->count),
		text_array(gained->slugs, gained->count), text_array(lost->users, lost->count),
	text_array(lost->slugs, lost->count)};
	int			settings;

	if (gained->count == 0 && lost->count == 0)
		return;
	settings = begin_settings();
	spi_exec("SELECT reputation.badges_settle($1, $2, $3, $4)", 4, types, values, NULL);
	spi_settings_end(settings);
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool
is_to_settle(const Score *score)
{
	return score->stored && score_apart_differs(score);
}

/*
 * Gives and takes what the users gain and lose, whose lanes are held. Those who cannot be
 * held are not stored.
 */
static void
badges_do_settle(Engine *engine, Score *scores, int count)
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
		if (score_apart_differs(&again[i]))
			badges_compare(&again[i], &gained, &gained, &lost);
	}
	write_changes(&gained, &lost);
}

const EngineApart badges_apart = {
	.name = "user_badge",
	.shown = "array_agg(s.slug ORDER BY s.slug)",
	.settle = badges_do_settle
};

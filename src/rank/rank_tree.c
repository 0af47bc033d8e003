/*
 * rank_tree.c
 *		Keeping the rank trees in step with the score tables.
 *
 * A tree (core/ranktree.c) counts the users of a score table by their score; a
 * rank is read from it in a few index lookups (rank_read.c). A row trigger on the
 * score table, rank_track(), notes for each changed row the old score and the new
 * one, in memory. Before the transaction commits the differences go into the
 * tree's nodes, in the same transaction: a snapshot shows a score row and what it
 * counts for, or neither. So a rank is exact and of one moment in every isolation
 * level and on a standby, and it makes no difference who writes the score row:
 * a worker, a session, forget, a restore.
 *
 * Nobody waits. Who changes the nodes has the tree's lock (RANK), from its commit's
 * beginning to its end. When that is not to be had at once the changes are
 * inserted into reputation.rank_delta instead. Readers add these to what the nodes
 * say; who has the lock next moves them into the nodes.
 *
 * Why the sum is right in every snapshot. A transaction adds its own changes, to
 * nodes or deltas, exactly once, and moving a delta deletes it in the transaction
 * that changes the nodes. Nodes are changed by one at a time, who has seen what
 * its predecessor committed, for the lock is released after that became visible.
 * No count gets below zero in the nodes: who took a user away from a score had
 * locked the user's row, after whoever had put it there committed; so the
 * snapshot that is taken with the lock shows that one's delta, if that is where it
 * is, and all that it shows is moved first.
 *
 * A rolled back subtransaction takes its notes with it: each carries its nesting
 * level, the notes of a level are the last ones, and become the parent's when it
 * commits. A repair notes that the tree is to be made anew; that is done at the
 * commit from the rows as they are then (rank_build.c), under the lock, for which it
 * waits. So is a tree that turns out to be spoilt.
 *
 * A TRUNCATE, a new board over a table with rows, and a dropped one change the whole
 * tree at once, under the lock, for which they wait: who reads in the same
 * transaction finds it as the table is, and no node outlives its table. What the
 * transaction had noted before is in such a tree, or went with the table, so it is
 * taken back by notes of the opposite. Nodes and notes are rolled back together.
 *
 * A reader adds the notes of its own transaction, too, of commands that its
 * snapshot shows the rows of. (Where very many notes were added up that is the last
 * command that changed a score.) When the notes would take more than
 * maintenance_work_mem the trees are made anew at the commit instead, and the
 * transaction cannot read ranks any more.
 *
 * Who changes scores cannot be in a deadlock over it: the lock is only tried. It is
 * waited for at the commit, in ascending order, by who makes a tree anew, and has locked
 * the score table since it said so: a TRUNCATE waits for that before it has the lock.
 * Whoever has it is in its commit, where it waits for later trees at most; or has
 * changed a whole tree at once in a transaction that goes on. If that one then waits for
 * the score table of another tree, which who waits for the first at its commit has
 * locked - leaderboard_create() and then a drop or a TRUNCATE, against a repair of both -
 * that is a deadlock. PostgreSQL finds it and rolls one of them back as a whole, scores,
 * nodes, notes and locks; nothing is lost but that one's work.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/locks.h"
#include "base/relations.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "rank/rank_top.h"
#include "rank/rank_tree.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(reputation_rank_track);

/* What the transaction will change in a tree. */
typedef struct Note
{
	RankSource	source;
	uint64		key;
	int64		users;			/* more with this score */
	int			level;			/* of the (sub)transaction */
	CommandId	command;		/* that changed the row; later ones see it */
	bool		rebuild;		/* make the tree anew */
	bool		given_up;		/* because there were too many notes */
} Note;

/* Notes that are kept until those of a score are added up. */
#define MANY_NOTES	65536

/* In TopTransactionContext. */
static Note *notes = NULL;
static size_t nnotes = 0;
static size_t room = 0;
static size_t many = MANY_NOTES;

static int
compare_notes(const void *a, const void *b)
{
	const Note *x = a;
	const Note *y = b;

	if (x->source.tree != y->source.tree)
		return x->source.tree < y->source.tree ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (int) y->rebuild - (int) x->rebuild;
}

/* Adds up the notes of the present level, the last ones. */
static void
add_up_notes(void)
{
	size_t		first = nnotes;
	size_t		kept;

	while (first > 0 && notes[first - 1].level == notes[nnotes - 1].level)
		first--;
	qsort(notes + first, nnotes - first, sizeof(Note), compare_notes);
	kept = first;
	for (size_t i = first + 1; i < nnotes; i++)
	{
		if (notes[i].source.tree == notes[kept].source.tree && notes[i].key == notes[kept].key)
		{
			notes[kept].users += notes[i].users;
			notes[kept].command = Max(notes[kept].command, notes[i].command);
			notes[kept].rebuild |= notes[i].rebuild;
			notes[kept].given_up |= notes[i].given_up;
		}
		else
			notes[++kept] = notes[i];
	}
	nnotes = kept + 1;
	many = Max(MANY_NOTES, 2 * nnotes);
}

/*
 * Where the notes are too many, one for each tree and level takes their place: the tree is
 * made anew. Those of a level go with it if it is rolled back, and no others.
 */
static void
give_up_notes(void)
{
	size_t		kept = 0;

	for (size_t i = 0; i < nnotes; i++)
	{
		Note		note = notes[i];
		size_t		at = kept;

		while (at > 0 && notes[at - 1].level == note.level &&
			   notes[at - 1].source.tree != note.source.tree)
			at--;
		note.key = 0;
		note.users = 0;
		note.rebuild = note.given_up = true;
		if (at == 0 || notes[at - 1].level != note.level)
			notes[kept++] = note;
		else
			notes[at - 1].command = Max(notes[at - 1].command, note.command);
	}
	nnotes = kept;
	many = MANY_NOTES;
}

/* Has fewer notes, since there are many: as many would have to come again to be more than allowed. */
static void
reduce_notes(void)
{
	size_t		allowed = (size_t) maintenance_work_mem * 1024 / sizeof(Note);

	add_up_notes();
	if (nnotes > allowed / 2)
		give_up_notes();
}

static void
add_note(const RankSource *source, uint64 key, int64 users, bool rebuild)
{
	if (notes == NULL)
	{
		room = 64;
		many = MANY_NOTES;
		notes = MemoryContextAlloc(TopTransactionContext, room * sizeof(Note));
	}
	else if (nnotes >= many)
		reduce_notes();
	if (nnotes == room)
		notes = repalloc_huge(notes, (room *= 2) * sizeof(Note));
	notes[nnotes++] = (Note)
	{
		*source, key, users, GetCurrentTransactionNestLevel(), GetCurrentCommandId(true), rebuild,
			false
	};
}

/*
 * rank_request_rebuild -- has the tree made anew when the transaction commits.
 */
void
rank_request_rebuild(const RankSource *source)
{
	LockRelationOid(source->relation, AccessShareLock);
	add_note(source, 0, 0, true);
}

/* Takes back what this transaction noted of a tree. */
static void
take_back_notes(int tree)
{
	RankChange *changes = MemoryContextAllocHuge(CurrentMemoryContext,
												 sizeof(RankChange) * Max(nnotes, 1));
	RankSource	source = {.tree = tree};
	size_t		count = 0;

	for (size_t i = 0; i < nnotes; i++)
	{
		if (notes[i].source.tree != tree)
			continue;
		source = notes[i].source;
		changes[count++] = (RankChange)
		{
			notes[i].key, notes[i].users, 0
		};
	}
	count = rank_combine(changes, count);
	for (size_t i = 0; i < count; i++)
		add_note(&source, changes[i].key, -changes[i].users, false);
	pfree(changes);
}

/*
 * rank_make -- makes the tree anew at once; waits for its lock.
 */
void
rank_make(const RankSource *source)
{
	LockRelationOid(source->relation, AccessShareLock);
	(void) lock_rank(source->tree, true);
	CommandCounterIncrement();
	take_back_notes(source->tree);
	rank_rebuild(source);
	rank_top_note(source->tree, RANK_TOP_ANY);
}

/*
 * rank_drop -- removes a tree whose score table is gone, or not tracked any more, at
 * once; waits for its lock.
 */
void
rank_drop(int tree)
{
	(void) lock_rank(tree, true);
	CommandCounterIncrement();
	take_back_notes(tree);
	rank_remove(tree);
	rank_top_note(tree, RANK_TOP_ANY);
}

/* Notes one of the scores of a row that came, went, or changed otherwise. */
static void
note_score(const RankSource *source, TupleTableSlot *slot, Oid type, int64 users)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, source->column, &isnull);
	int64		score;

	if (isnull)
		return;
	score = rank_value(value, type);
	if (score > 0 || !source->positive)
		add_note(source, rank_key(score), users, false);
}

/* Have both rows of an update the same in a column? */
static bool
same_column(const TriggerData *data, AttrNumber column)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(data->tg_relation), column - 1);
	bool		old_null;
	bool		new_null;
	Datum		old = slot_getattr(data->tg_trigslot, column, &old_null);
	Datum		new = slot_getattr(data->tg_newslot, column, &new_null);

	return old_null == new_null &&
		(old_null || datumIsEqual(old, new, attribute->attbyval, attribute->attlen));
}

/* Notes what an update does to a tree: the same score, reached at another time, is a note of nobody. */
static void
note_update(const TriggerData *data, const RankSource *source, Oid type)
{
	int			reached;

	if (!same_column(data, source->column))
	{
		note_score(source, data->tg_trigslot, type, -1);
		note_score(source, data->tg_newslot, type, 1);
		return;
	}
	reached = SPI_fnumber(RelationGetDescr(data->tg_relation), "reached_at");
	if (reached > 0 && !same_column(data, (AttrNumber) reached))
		note_score(source, data->tg_newslot, type, 0);
}

/* What the trigger has to note of one of its columns. */
static void
track_column(const TriggerData *data, const RankSource *source)
{
	TriggerEvent event = data->tg_event;
	Oid			type = TupleDescAttr(RelationGetDescr(data->tg_relation),
									 source->column - 1)->atttypid;

	if (TRIGGER_FIRED_BY_TRUNCATE(event))
		rank_make(source);
	else if (TRIGGER_FIRED_BY_INSERT(event))
		note_score(source, data->tg_trigslot, type, 1);
	else if (TRIGGER_FIRED_BY_DELETE(event))
		note_score(source, data->tg_trigslot, type, -1);
	else
		note_update(data, source, type);
}

/* Does the name end with an underscore and that? */
static bool
has_suffix(const char *name, const char *suffix)
{
	size_t		start = strlen(name) - Min(strlen(suffix), strlen(name));

	return start > 0 && name[start - 1] == '_' && strcmp(name + start, suffix) == 0;
}

/* May it be the score table of an engine of which there is no row yet? */
static bool
may_be_score_table(const char *name)
{
	const EngineClass *class;

	for (int i = 0; (class = engine_class_number(i)) != NULL; i++)
	{
		if (has_suffix(name, class->outputs[0].table))
			return true;
	}
	return false;
}

/* Is it the score table of the engine of that id? A restore may bring the engine later. */
static bool
is_score_table(Relation relation, int id)
{
	static Oid	known[MAX_ENGINE_ID + 1];	/* of each engine, once it was looked up */
	const char *name = RelationGetRelationName(relation);
	const EngineDescriptor *engine;

	if (id < 1 || id > MAX_ENGINE_ID || !relation_is_own(relation, NULL))
		return false;
	if (known[id] == RelationGetRelid(relation))
		return true;
	engine = engine_registered(id, NULL);
	if (engine == NULL)
		return may_be_score_table(name);
	if (strcmp(engine->score_table, name) != 0)
		return false;
	known[id] = RelationGetRelid(relation);
	return true;
}

/* 39P01 unless the trigger is one that keeps the trees of a score table. */
static void
require_rank_trigger(const TriggerData *data)
{
	const Trigger *trigger = data->tg_trigger;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) == TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || trigger->tgnargs < 2 ||
		trigger->tgnargs > 1 + RANK_TREES_OF_ENGINE ||
		!is_score_table(data->tg_relation, atoi(trigger->tgargs[0])))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.rank_track() must be an AFTER trigger of a score table"),
				 errdetail("It is a trigger of \"%s\".",
						   RelationGetRelationName(data->tg_relation))));
	for (int i = 1; i < trigger->tgnargs; i++)
	{
		int			column = SPI_fnumber(desc, trigger->tgargs[i]);

		if (column <= 0 || (SPI_gettypeid(desc, column) != INT4OID &&
							SPI_gettypeid(desc, column) != INT8OID))
			ereport(ERROR,
					(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					 errmsg("table \"%s\" has no integer column \"%s\"",
							RelationGetRelationName(data->tg_relation), trigger->tgargs[i])));
	}
}

/* The same, once for a trigger until a relation changes. */
static void
check_rank_trigger(const TriggerData *data)
{
	static Oid	checked = InvalidOid;
	static uint64 checked_changes = 0;

	if (checked == data->tg_trigger->tgoid && checked_changes == relation_changes())
		return;
	require_rank_trigger(data);
	checked_changes = relation_changes();
	checked = data->tg_trigger->tgoid;
}

/*
 * reputation.rank_track(engine, column...) -- AFTER trigger on a score table: notes
 * what changes in the trees of its columns, one for each period. 39P01 when it is
 * called otherwise.
 */
Datum
reputation_rank_track(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	int			engine;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.rank_track() must be a trigger")));
	check_rank_trigger(data);
	engine = atoi(data->tg_trigger->tgargs[0]);
	for (int i = 1; i < data->tg_trigger->tgnargs; i++)
	{
		RankSource	source = {
			.tree = rank_tree_of(engine, i - 1),
			.relation = RelationGetRelid(data->tg_relation),
			.column = (AttrNumber) SPI_fnumber(RelationGetDescr(data->tg_relation),
											   data->tg_trigger->tgargs[i]),
			.positive = i > 1
		};

		track_column(data, &source);
	}
	return PointerGetDatum(NULL);
}

/* Moves the tree's deltas and the changes into its nodes; under its lock. */
static void
change_nodes(const RankSource *source, RankChange *changes, size_t count)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	RankChange *all;
	size_t		ndeltas = rank_deltas_read(source->tree, snapshot, true, &all);
	RankNodes  *nodes;
	bool		good;

	UnregisterSnapshot(snapshot);
	if (ndeltas > 0)
	{
		all = repalloc_huge(all, sizeof(RankChange) * (ndeltas + count));
		memcpy(all + ndeltas, changes, sizeof(RankChange) * count);
		changes = all;
		count = rank_combine(all, ndeltas + count);
	}
	if (count == 0)
		return;
	nodes = rank_nodes_open(source->tree, SnapshotSelf, true);
	if (nodes == NULL)
		return;
	good = rank_apply(rank_nodes_storage(nodes), changes, count);
	if (good)
		rank_nodes_finish(nodes);
	rank_nodes_close(nodes);
	if (good)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the rank tree %d does not fit table \"%s\"; it is made anew", source->tree,
					get_rel_name(source->relation))));
	rank_rebuild(source);
}

/* The source that notes of a tree are of; not a table that was dropped meanwhile. */
static const RankSource *
present_source(const Note *first, size_t count)
{
	const RankSource *source = &first->source;

	for (size_t i = 1; i < count; i++)
	{
		if (first[i].source.relation != source->relation && get_rel_name(source->relation) == NULL)
			source = &first[i].source;
	}
	return source;
}

/* Writes what was noted of a tree. */
static void
flush_tree(const Note *first, size_t count)
{
	const RankSource *source = present_source(first, count);
	RankChange *changes = MemoryContextAllocHuge(CurrentMemoryContext,
												 sizeof(RankChange) * count);
	bool		rebuild = false;
	bool		fold = false;

	for (size_t i = 0; i < count; i++)
	{
		changes[i] = (RankChange)
		{
			first[i].key, first[i].users, 0
		};
		rebuild |= first[i].rebuild;
		/* Also where others took the place: their names are cached. */
		if (first[i].key != 0)
			rank_top_note(source->tree, first[i].key);
		else
			fold = true;
	}
	count = rank_combine(changes, count);
	if (rebuild)
		rank_top_note(source->tree, RANK_TOP_ANY);
	if (rebuild)
	{
		(void) lock_rank(source->tree, true);
		if (get_rel_name(source->relation) != NULL && rank_is_tracked(source->relation))
			rank_rebuild(source);
	}
	else if (count == 0 && !fold)
		;						/* only who comes first among equals has changed */
	else if (lock_rank(source->tree, false))
		change_nodes(source, changes, count);
	else
		rank_deltas_insert(source->tree, changes, count);
	pfree(changes);
}

/* Writes all that was noted. */
static void
flush_notes(void)
{
	size_t		next = 0;

	if (nnotes > 0)
	{
		/* Making a tree anew must see what this transaction wrote. */
		CommandCounterIncrement();
		qsort(notes, nnotes, sizeof(Note), compare_notes);
	}
	while (next < nnotes)
	{
		size_t		first = next;

		while (next < nnotes && notes[next].source.tree == notes[first].source.tree)
			next++;
		flush_tree(&notes[first], next - first);
	}
	nnotes = 0;
}

/* The array goes with its transaction, also when a rollback emptied it before. */
static void
forget_notes(void)
{
	notes = NULL;
	nnotes = 0;
	room = 0;
}

static void
trees_at_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			flush_notes();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			forget_notes();
			break;
		default:
			break;
	}
}

static void
trees_at_subtransaction(SubXactEvent event, SubTransactionId id, SubTransactionId parent,
						void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (nnotes > 0 && notes[nnotes - 1].level >= level)
			nnotes--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (size_t i = nnotes; i > 0 && notes[i - 1].level >= level; i--)
			notes[i - 1].level = level - 1;
	}
}

/*
 * rank_init -- called when the library is loaded.
 */
void
rank_init(void)
{
	rank_top_init();
	RegisterXactCallback(trees_at_transaction, NULL);
	RegisterSubXactCallback(trees_at_subtransaction, NULL);
}

/* 54000 when the note was given up. */
static void
require_noted(const Note *note)
{
	if (note->given_up)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("this transaction has changed too many scores to read ranks"),
				 errdetail("What it changed takes more than maintenance_work_mem; the ranks of \"%s\" are made anew when it commits.",
						   get_rel_name(note->source.relation)),
				 errhint("Read them afterwards, or change fewer scores in a transaction.")));
}

/*
 * rank_pending -- what the nodes of a tree do not have yet: deltas that the snapshot
 * shows, and what this transaction has changed itself; returns how many changes. 54000
 * when it has changed too many.
 */
size_t
rank_pending(int tree, Snapshot snapshot, RankChange **changes)
{
	size_t		count = rank_deltas_read(tree, snapshot, false, changes);
	size_t		own = 0;

	for (size_t i = 0; i < nnotes; i++)
	{
		if (notes[i].source.tree != tree)
			continue;
		require_noted(&notes[i]);
		own++;
	}
	if (own == 0)
		return rank_combine(*changes, count);
	*changes = *changes == NULL ? palloc(sizeof(RankChange) * own) :
		repalloc_huge(*changes, sizeof(RankChange) * (count + own));
	for (size_t i = 0; i < nnotes; i++)
	{
		if (notes[i].source.tree == tree && notes[i].command < snapshot->curcid)
			(*changes)[count++] = (RankChange)
		{
			notes[i].key, notes[i].users, 0
		};
	}
	return rank_combine(*changes, count);
}

/*
 * rank_request_fold -- has the deltas of a tree moved into its nodes when the
 * transaction commits, if the lock is to be had then.
 */
void
rank_request_fold(const RankSource *source)
{
	if (ConditionalLockRelationOid(source->relation, AccessShareLock))
		add_note(source, 0, 0, false);
}

/*
 * capture_plan.c
 *		What a capture trigger does, from its arguments.
 *
 * A trigger fires once a row, so what its arguments and its relation's columns come
 * to is kept per trigger, until the relation changes: an invalidation of the relation
 * cache marks it. A trigger is of one relation; an OID that another one has got since
 * is told by that.
 *
 * The event trigger has the arguments follow a renamed column (source_check.c). A key
 * column that the relation does not have (it was renamed unseen) makes the plan broken:
 * whoever changes the relation marks everybody. A column that is only
 * compared makes it unsure: every update counts as a change. A column that an engine
 * writes and that is gone can be given no false value: it is left out.
 *
 * The arguments are what whoever made the trigger wrote, and anybody who may use the
 * function can make one. So a plan is made only of a trigger that the registry knows:
 * on a source, or a partition of it, and with the source's arguments (source.c, which
 * says why a writer finds both as they belong together). Any other captures nothing
 * and says so, once in a transaction. While the registry cannot be read, for its
 * owner has it locked (DROP EXTENSION), a trigger's word is taken, and the plan not kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "capture/capture.h"
#include "capture/capture_plan.h"
#include "capture/source.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"

static HTAB *trigger_plans = NULL;

/* Registered while the library is loaded, by a module above. */
static const CaptureFollower *follower = NULL;

/*
 * capture_register_follower -- takes in what follows users; there is one at most.
 */
void
capture_register_follower(const CaptureFollower *of_users)
{
	Assert(follower == NULL);
	follower = of_users;
}

/*
 * capture_follower -- what follows users; NULL when nothing does.
 */
const CaptureFollower *
capture_follower(void)
{
	return follower;
}

static void
forget_plans(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	TriggerPlan *plan;

	hash_seq_init(&scan, trigger_plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relation) || plan->relation == relation)
			plan->valid = false;
	}
}

/* What a description of a column is. */
typedef enum PlannedColumn
{
	COLUMN_PLANNED,
	COLUMN_GONE,				/* the relation has no such column */
	COLUMN_MALFORMED
} PlannedColumn;

/* Fills in a column from its description "mode:key_no:engines:column". */
static PlannedColumn
plan_column(TriggerColumn *column, const char *description, Relation relation)
{
	const char *number = NULL;
	const char *engines = NULL;
	const char *name = NULL;
	Oid			output;
	bool		varlena;
	Form_pg_attribute attribute;

	if (description[0] != '\0' && strchr("aoewvcrAOE", description[0]) != NULL && description[1] == ':')
		number = description + 2;
	if (number != NULL)
		engines = strchr(number, ':');
	if (engines != NULL)
		name = strchr(engines + 1, ':');
	if (name == NULL)
		return COLUMN_MALFORMED;

	column->mode = pg_tolower((unsigned char) description[0]);
	column->single = description[0] != column->mode;
	column->key = strchr("aoe", column->mode) != NULL;
	column->key_no = (int16) atoi(number);
	column->engines = (uint32) strtoul(engines + 1, NULL, 10);
	column->attnum = get_attnum(RelationGetRelid(relation), name + 1);
	if (column->attnum <= 0)
		return COLUMN_GONE;

	attribute = TupleDescAttr(RelationGetDescr(relation), column->attnum - 1);
	column->type = attribute->atttypid;
	column->byval = attribute->attbyval;
	column->length = attribute->attlen;
	getTypeOutputInfo(column->type, &output, &varlena);
	fmgr_info_cxt(output, &column->output, CacheMemoryContext);
	/* The key that stands for all engines is there for each column. */
	column->follows = column->mode == 'o' && !column->single && capture_follower() != NULL;
	column->followed_as_of = 0;
	return COLUMN_PLANNED;
}

/* Finds the key to capture when a column that an engine writes gets a value of somebody else's. */
static void
find_written_keys(TriggerPlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		TriggerColumn *written = &plan->columns[i];

		written->written_key = -1;
		for (int k = 0; k < plan->ncolumns && written->mode == 'v' && written->written_key < 0; k++)
		{
			TriggerColumn *column = &plan->columns[k];

			if ((column->mode == 'c' || column->mode == 'r') && column->key_no == written->key_no)
				written->written_key = k;
		}
	}
}

/* Fills in the columns from the list of their descriptions; false when it is malformed. */
static bool
plan_columns(TriggerPlan *plan, const char *argument, Relation relation)
{
	List	   *descriptions;
	ListCell   *cell;

	plan->broken = plan->unsure = false;
	plan->engines = 0;
	plan->follows = plan->written = false;
	plan->ncolumns = 0;
	if (!SplitGUCList(pstrdup(argument), ',', &descriptions) ||
		list_length(descriptions) > MAX_TRIGGER_COLUMNS)
		return false;
	foreach(cell, descriptions)
	{
		TriggerColumn *column = &plan->columns[plan->ncolumns];
		PlannedColumn planned = plan_column(column, lfirst(cell), relation);

		if (planned == COLUMN_MALFORMED)
			return false;
		if (planned == COLUMN_PLANNED)
		{
			plan->follows |= column->follows;
			plan->ncolumns++;
			plan->written |= column->mode == 'v';
			/* Those that an update may concern. */
			if (strchr("vcr", column->mode) == NULL)
				plan->engines |= column->engines;
		}
		else if (column->mode == 'w')
			plan->unsure = true;
		else if (column->mode != 'v')
			plan->broken = true;
	}
	find_written_keys(plan);
	return true;
}

/* Is it a trigger that the registry knows? *sure: that could be looked up. */
static bool
is_registered(TriggerData *data, bool *sure)
{
	Trigger    *trigger = data->tg_trigger;
	bool		for_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	SourceAnswer answer;
	Source		source;

	*sure = true;
	if (trigger->tgnargs != (for_row ? 2 : 1))
		return false;
	answer = source_named(trigger->tgargs[0], &source);
	if (answer != SOURCE_FOUND)
	{
		*sure = answer != SOURCE_LOCKED;
		return !*sure;
	}
	return source_has_relation(source.relation, data->tg_relation) &&
		(!for_row || source_is_row_trigger(&source, trigger));
}

static void
warn_of_refused(TriggerData *data)
{
	ereport(WARNING,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" of table \"%s\" captures nothing for reputation",
					data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
			 errdetail("reputation.source has no such table with these arguments of "
					   "reputation.capture()."),
			 errhint("Drop the trigger, or if it is one that reputation made, attach the "
					 "engine again.")));
}

/* Makes the plan of the fired trigger; false when it is good for now only. */
static bool
make_plan(TriggerPlan *plan, TriggerData *data)
{
	Trigger    *trigger = data->tg_trigger;
	bool		sure;

	plan->relation = RelationGetRelid(data->tg_relation);
	plan->refused = !is_registered(data, &sure) ||
		!plan_columns(plan, trigger->tgnargs > 1 ? trigger->tgargs[1] : "", data->tg_relation);
	if (plan->refused)
	{
		plan->refused_in = GetCurrentTransactionStartTimestamp();
		warn_of_refused(data);
		return true;
	}
	plan->source = atoi(trigger->tgargs[0]);
	if (plan->broken)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("a column that reputation captures is gone from table \"%s\"",
						RelationGetRelationName(data->tg_relation)),
				 errdetail("Every change of the table now leads to a recomputation of all users."),
				 errhint("If it was renamed a worker adapts the trigger; if it was dropped attach "
						 "the engine again. See reputation_status().")));
	return sure;
}

/* The plans, by the OIDs of the triggers. */
static void
make_plans(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(TriggerPlan),
		.hcxt = CacheMemoryContext
	};

	trigger_plans = hash_create("reputation trigger plans", 16, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(forget_plans, (Datum) 0);
}

/*
 * capture_plan -- the plan of the fired trigger, made anew when its relation has
 * changed. Of one that captures nothing it is refused.
 */
TriggerPlan *
capture_plan(TriggerData *data)
{
	TriggerPlan *plan;
	bool		found;

	if (trigger_plans == NULL)
		make_plans();
	plan = hash_search(trigger_plans, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (found && plan->valid && plan->relation == RelationGetRelid(data->tg_relation) &&
		(!plan->refused || plan->refused_in == GetCurrentTransactionStartTimestamp()))
		return plan;
	plan->valid = false;
	plan->valid = make_plan(plan, data);
	return plan;
}

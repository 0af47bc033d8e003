/*
 * capture_plan.c
 *		What a capture trigger does, from its arguments.
 *
 * A trigger fires once a row, so what its arguments and its relation's columns come
 * to is kept per trigger, until the relation changes: an invalidation of the relation
 * cache marks it. A trigger is of one relation; an OID that another one has got since
 * is told by that.
 *
 * A key column that the relation does not have any more (it was renamed) makes the
 * plan broken: whoever changes the relation marks everybody. A column that is only
 * compared makes it unsure: every update counts as a change.
 *
 * The arguments are what whoever made the trigger wrote. The worst that comes of
 * false ones is that somebody is computed who need not be: what is more than that
 * asks the registry (CaptureFollower).
 */
#include "postgres.h"

#include "capture.h"
#include "capture_plan.h"
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

static void
malformed_argument(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("malformed argument \"%s\" of a reputation.capture() trigger", argument),
			 errhint("Attach the engine again.")));
}

/*
 * Fills in a column from its description "mode:key_no:engines:column"; false when
 * the relation has no such column.
 */
static bool
plan_column(TriggerColumn *column, const char *description, Relation relation)
{
	const char *number = NULL;
	const char *engines = NULL;
	const char *name = NULL;
	Oid			output;
	bool		varlena;
	Form_pg_attribute attribute;

	if (description[0] != '\0' && strchr("aoewAOE", description[0]) != NULL && description[1] == ':')
		number = description + 2;
	if (number != NULL)
		engines = strchr(number, ':');
	if (engines != NULL)
		name = strchr(engines + 1, ':');
	if (name == NULL)
	{
		malformed_argument(description);
		return false;			/* not reached */
	}

	column->mode = pg_tolower((unsigned char) description[0]);
	column->single = description[0] != column->mode;
	column->key_no = (int16) atoi(number);
	column->engines = (uint32) strtoul(engines + 1, NULL, 10);
	column->attnum = get_attnum(RelationGetRelid(relation), name + 1);
	if (column->attnum <= 0)
		return false;

	attribute = TupleDescAttr(RelationGetDescr(relation), column->attnum - 1);
	column->type = attribute->atttypid;
	column->byval = attribute->attbyval;
	column->length = attribute->attlen;
	getTypeOutputInfo(column->type, &output, &varlena);
	fmgr_info_cxt(output, &column->output, CacheMemoryContext);
	/* The key that stands for all engines is there for each column. */
	column->follows = column->mode == 'o' && !column->single &&
		capture_follower() != NULL && (column->engines & capture_follower()->engines()) != 0;
	column->followed_as_of = 0;
	return true;
}

/* Fills in the columns from the list of their descriptions. */
static void
plan_columns(TriggerPlan *plan, const char *argument, Relation relation)
{
	List	   *descriptions;
	ListCell   *cell;

	if (!SplitGUCList(pstrdup(argument), ',', &descriptions) ||
		list_length(descriptions) > MAX_TRIGGER_COLUMNS)
		malformed_argument(argument);

	plan->broken = plan->unsure = false;
	plan->engines = 0;
	plan->follows = false;
	plan->ncolumns = 0;
	foreach(cell, descriptions)
	{
		TriggerColumn *column = &plan->columns[plan->ncolumns];

		if (plan_column(column, lfirst(cell), relation))
		{
			plan->follows |= column->follows;
			plan->ncolumns++;
			plan->engines |= column->engines;
		}
		else if (column->mode == 'w')
			plan->unsure = true;
		else
			plan->broken = true;
	}
}

/* Makes the plan of the fired trigger. 39P01 when its arguments are malformed. */
static void
make_plan(TriggerPlan *plan, TriggerData *data)
{
	Trigger    *trigger = data->tg_trigger;

	plan->relation = RelationGetRelid(data->tg_relation);
	if (trigger->tgnargs < 1 || trigger->tgnargs > 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("reputation.capture() trigger has %d arguments", trigger->tgnargs),
				 errhint("Attach the engine again.")));
	plan->source = atoi(trigger->tgargs[0]);
	plan_columns(plan, trigger->tgnargs > 1 ? trigger->tgargs[1] : "", data->tg_relation);
	if (plan->broken)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("a column that reputation captures is gone from table \"%s\"",
						RelationGetRelationName(data->tg_relation)),
				 errdetail("Every change of the table now leads to a recomputation of all users."),
				 errhint("Attach the engine again with the new column in \"columns\".")));
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
 * changed. 39P01 when its arguments are malformed.
 */
TriggerPlan *
capture_plan(TriggerData *data)
{
	TriggerPlan *plan;
	bool		found;

	if (trigger_plans == NULL)
		make_plans();
	plan = hash_search(trigger_plans, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (found && plan->valid && plan->relation == RelationGetRelid(data->tg_relation))
		return plan;
	plan->valid = false;
	make_plan(plan, data);
	plan->valid = true;
	return plan;
}

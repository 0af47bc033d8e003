/*
 * engine_parameters.c
 *		Reading an engine's parameters, as reputation.algorithm has them: what
 *		a parse function of an engine is made of.
 *
 * A parameter that is not given has its default. One that cannot be read raises
 * 22023, when it is written (reputation.check_algorithm) or previewed.
 */
#include "postgres.h"

#include "base/guc.h"
#include "engine/engine.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* 22023: the parameter is not what it must be. */
static void
bad_parameter(const char *engine, const char *name, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("parameter \"%s\" of the engine \"%s\" must %s", name,
					engine, wanted)));
}

/*
 * engine_signed_number -- a number of an engine's parameters; the default when it
 * is not given. 22023 when it is none, or beyond MAX_PARAMETER either way.
 */
double
engine_signed_number(const char *engine, Jsonb *parameters, const char *name,
					 double otherwise)
{
	JsonbValue	value;
	double		number;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), &value) == NULL)
		return otherwise;
	if (value.type != jbvNumeric)
		bad_parameter(engine, name, "be a number");
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value.val.numeric)));
	if (number > MAX_PARAMETER)
		bad_parameter(engine, name, psprintf("not be greater than %.0f", MAX_PARAMETER));
	if (number < -MAX_PARAMETER)
		bad_parameter(engine, name, psprintf("not be less than %.0f", -MAX_PARAMETER));
	return number;
}

/*
 * engine_number -- the same; 22023 when it is negative, too.
 */
double
engine_number(const char *engine, Jsonb *parameters, const char *name,
			  double otherwise)
{
	double		number = engine_signed_number(engine, parameters, name, otherwise);

	if (number < 0)
		bad_parameter(engine, name, "not be negative");
	return number;
}

/*
 * engine_check_list -- 22023 unless a list parameter, if it is given, is an array
 * of strings.
 */
void
engine_check_list(const char *engine, Jsonb *parameters, const char *name)
{
	JsonbValue	value;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	bool		good;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), &value) == NULL)
		return;
	good = value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data);
	if (good)
	{
		iterator = JsonbIteratorInit(value.val.binary.data);
		while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
			good &= token != WJB_ELEM || value.type == jbvString;
	}
	if (!good)
		bad_parameter(engine, name, "be an array of strings");
}

/*
 * engine_string -- a string of an engine's parameters; NULL when it is not given.
 * 22023 when it is none.
 */
char *
engine_string(const char *engine, Jsonb *parameters, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), &value) == NULL)
		return NULL;
	if (value.type != jbvString)
		bad_parameter(engine, name, "be a string");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * engine_debounce -- the debounce window in ms: the parameter, else the setting.
 * 22023 unless that is a string with an interval from 0 to 1 day, 22007 when it is none.
 */
int
engine_debounce(Jsonb *parameters)
{
	JsonbValue	value;
	Interval   *interval;
	char	   *text;

	if (getKeyJsonValueFromContainer(&parameters->root, "debounce", 8, &value) == NULL ||
		value.type == jbvNull)
		return guc_debounce;
	if (value.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"debounce\" must be a string with an interval")));
	text = pnstrdup(value.val.string.val, value.val.string.len);
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	if (interval->month != 0 || interval->day < 0 || interval->time < 0 ||
		interval->time + interval->day * USECS_PER_DAY > USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"debounce\" must be an interval from 0 to 1 day, not \"%s\"",
						text)));
	return (int) ((interval->time + interval->day * USECS_PER_DAY) / 1000);
}

/* Appends the keys of an object that are not among another's; of all when that is NULL. */
static char *
names_but(Jsonb *object, Jsonb *known)
{
	StringInfoData list;
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	initStringInfo(&list);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY && (known == NULL ||
								 findJsonbValueFromContainer(&known->root, JB_FOBJECT,
															 &value) == NULL))
			appendStringInfo(&list, "%s%.*s", list.len > 0 ? ", " : "", value.val.string.len,
							 value.val.string.val);
	}
	return list.data;
}

/*
 * engine_parse_parameters -- the weights of parameters that somebody writes or
 * tries out: an object. 22023 on a bad value, and naming all that the engine does
 * not have.
 */
void *
engine_parse_parameters(const EngineDescriptor *descriptor, Jsonb *parameters)
{
	Datum		own = DirectFunctionCall1(jsonb_in, CStringGetDatum(descriptor->class->default_parameters));
	Datum		common = DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"debounce\": null}"));
	Jsonb	   *known = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, own, common));
	char	   *unknown = names_but(parameters, known);

	if (*unknown != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the engine \"%s\" has no such parameters: %s", descriptor->name, unknown),
				 errhint("Its parameters are: %s.", names_but(known, NULL))));
	(void) engine_debounce(parameters);
	return descriptor->class->parse(descriptor->name, parameters);
}

/*
 * engine_parameters.c
 *		Reading an engine's parameters, as reputation.algorithm has them: what
 *		a parse function of an engine is made of.
 *
 * A parameter that is not given has its default. One that cannot be read raises
 * 22023, when it is written (reputation.check_algorithm) or previewed.
 */
#include "postgres.h"

#include "engine.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* 22023: the parameter is not what it must be. */
static void
bad_parameter(const EngineDescriptor *descriptor, const char *name, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("parameter \"%s\" of the engine \"%s\" must %s", name,
					descriptor->name, wanted)));
}

/*
 * engine_signed_number -- a number of an engine's parameters; the default when it
 * is not given. 22023 when it is none, or beyond MAX_PARAMETER either way.
 */
double
engine_signed_number(const EngineDescriptor *descriptor, Jsonb *parameters, const char *name,
					 double otherwise)
{
	JsonbValue	value;
	double		number;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), &value) == NULL)
		return otherwise;
	if (value.type != jbvNumeric)
		bad_parameter(descriptor, name, "be a number");
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value.val.numeric)));
	if (number > MAX_PARAMETER)
		bad_parameter(descriptor, name, psprintf("not be greater than %.0f", MAX_PARAMETER));
	if (number < -MAX_PARAMETER)
		bad_parameter(descriptor, name, psprintf("not be less than %.0f", -MAX_PARAMETER));
	return number;
}

/*
 * engine_number -- the same; 22023 when it is negative, too.
 */
double
engine_number(const EngineDescriptor *descriptor, Jsonb *parameters, const char *name,
			  double otherwise)
{
	double		number = engine_signed_number(descriptor, parameters, name, otherwise);

	if (number < 0)
		bad_parameter(descriptor, name, "not be negative");
	return number;
}

/*
 * engine_check_list -- 22023 unless a list parameter, if it is given, is an array
 * of strings.
 */
void
engine_check_list(const EngineDescriptor *descriptor, Jsonb *parameters, const char *name)
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
		bad_parameter(descriptor, name, "be an array of strings");
}

/*
 * engine_string -- a string of an engine's parameters; NULL when it is not given.
 * 22023 when it is none.
 */
char *
engine_string(const EngineDescriptor *descriptor, Jsonb *parameters, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&parameters->root, name, strlen(name), &value) == NULL)
		return NULL;
	if (value.type != jbvString)
		bad_parameter(descriptor, name, "be a string");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

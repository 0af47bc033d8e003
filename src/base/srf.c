/*
 * srf.c
 *		The beginning of every set-returning function.
 *
 * PostgreSQL 15 has InitMaterializedSRF() for this, 14 has nothing; these are
 * its few lines for all versions. Shares nothing, locks nothing.
 */
#include "postgres.h"

#include "base/srf.h"
#include "funcapi.h"
#include "miscadmin.h"

/*
 * srf_begin -- makes the tuplestore that the function fills and returns, and
 * gives the row type it is declared with. Both live as long as the query.
 * 0A000 when the caller cannot take a set.
 */
Tuplestorestate *
srf_begin(FunctionCallInfo fcinfo, TupleDesc *tupdesc)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext before;
	Tuplestorestate *store;

	if (result == NULL || !IsA(result, ReturnSetInfo) ||
		(result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	before = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	/* FROM knows it already; to make it from the catalog takes long. */
	if (result->expectedDesc != NULL)
		*tupdesc = CreateTupleDescCopy(result->expectedDesc);
	else if (get_call_result_type(fcinfo, NULL, tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	store = tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0,
								  false, work_mem);
	result->returnMode = SFRM_Materialize;
	result->setResult = store;
	result->setDesc = *tupdesc;
	MemoryContextSwitchTo(before);

	return store;
}

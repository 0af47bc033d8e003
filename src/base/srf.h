/*
 * srf.h
 *		The beginning of every set-returning function.
 */
#ifndef REPUTATION_SRF_H
#define REPUTATION_SRF_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/tuplestore.h"

extern Tuplestorestate *srf_begin(FunctionCallInfo fcinfo, TupleDesc *tupdesc);

#endif							/* REPUTATION_SRF_H */

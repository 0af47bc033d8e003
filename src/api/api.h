/*
 * api.h
 *		What the SQL functions of all engines do.
 */
#ifndef REPUTATION_API_H
#define REPUTATION_API_H

#include "postgres.h"

#include "engine/engine.h"

extern Engine *api_engine(FunctionCallInfo fcinfo, const char *name);
extern Datum api_score(FunctionCallInfo fcinfo, const char *engine);
extern Datum api_recalc(FunctionCallInfo fcinfo, const char *engine);
extern Datum api_recalc_all(FunctionCallInfo fcinfo, const char *engine);
extern Datum api_explain(FunctionCallInfo fcinfo, const char *engine);

extern void api_store_scanned(Engine *engine, Score *scores, int count, void *arg);

#endif							/* REPUTATION_API_H */

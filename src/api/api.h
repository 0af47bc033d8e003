/*
 * api.h
 *		What the SQL functions of all engines do.
 */
#ifndef REPUTATION_API_H
#define REPUTATION_API_H

#include "postgres.h"

#include "engine/engine.h"

extern PGDLLEXPORT Engine *api_require_class(Engine *engine, const EngineClass *class);
extern PGDLLEXPORT Engine *api_engine(FunctionCallInfo fcinfo, const EngineClass *class, int argno);
extern PGDLLEXPORT Engine *api_engine_get(FunctionCallInfo fcinfo, const EngineClass *class, int argno);
extern PGDLLEXPORT void api_require_user(const Engine *engine, const char *key, bool hold);
extern PGDLLEXPORT Datum api_score(FunctionCallInfo fcinfo, const EngineClass *class);
extern PGDLLEXPORT Datum api_recalc(FunctionCallInfo fcinfo, const EngineClass *class);
extern PGDLLEXPORT Datum api_recalc_all(FunctionCallInfo fcinfo, const EngineClass *class);
extern PGDLLEXPORT Datum api_explain(FunctionCallInfo fcinfo, const EngineClass *class);

extern PGDLLEXPORT void api_store_scanned(Engine *engine, Score *scores, int count, void *arg);

#endif							/* REPUTATION_API_H */

/*
 * points_engine.h
 *		What the points engine and the boards over tables have in common.
 */
#ifndef REPUTATION_POINTS_ENGINE_H
#define REPUTATION_POINTS_ENGINE_H

#include "attach/attach.h"

extern const EngineDescriptor points_engine;

extern int64 points_attach_source(FunctionCallInfo fcinfo, const EngineDescriptor *engine,
								  const char *users, const char *source, Jsonb *columns,
								  const char *rank_column, const char *fire);

#endif							/* REPUTATION_POINTS_ENGINE_H */

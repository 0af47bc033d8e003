/*
 * points_engine.h
 *		What the points engine and the boards over tables have in common.
 */
#ifndef REPUTATION_POINTS_ENGINE_H
#define REPUTATION_POINTS_ENGINE_H

#include "attach/attach.h"

extern const EngineClass points_class;

extern int64 points_attach_source(FunctionCallInfo fcinfo, const EngineDescriptor *engine,
								  bool replace, const char *users, const char *source, Jsonb *columns,
								  const char *rank_column, const char *fire);

#endif							/* REPUTATION_POINTS_ENGINE_H */

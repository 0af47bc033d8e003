/*
 * args.h
 *		What SQL functions ask of their arguments and their transaction.
 */
#ifndef REPUTATION_ARGS_H
#define REPUTATION_ARGS_H

#include "postgres.h"

#include "fmgr.h"

extern PGDLLEXPORT void args_require(FunctionCallInfo fcinfo, int argno, const char *name);
extern PGDLLEXPORT char *args_text(FunctionCallInfo fcinfo, int argno);
extern PGDLLEXPORT bool args_required_bool(FunctionCallInfo fcinfo, int argno, const char *name);
extern PGDLLEXPORT char *args_required_text(FunctionCallInfo fcinfo, int argno, const char *name);
extern PGDLLEXPORT void args_require_read_committed(const char *function);

#endif							/* REPUTATION_ARGS_H */

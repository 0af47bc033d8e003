/*
 * subxact.h
 *		Doing something that may fail.
 */
#ifndef REPUTATION_SUBXACT_H
#define REPUTATION_SUBXACT_H

#include "postgres.h"

typedef void (*SubxactBody) (void *arg);

extern ErrorData *subxact_try(SubxactBody body, void *arg);
extern char *context_function(const char *context, const char *outer);
extern bool error_is_transient(const ErrorData *error);

#endif							/* REPUTATION_SUBXACT_H */

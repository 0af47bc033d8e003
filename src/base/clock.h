/*
 * clock.h
 *		The time all code goes by.
 */
#ifndef REPUTATION_CLOCK_H
#define REPUTATION_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/guc.h"

extern TimestampTz clock_now(void);
extern bool clock_is_set(void);
extern void clock_init(void);

#endif							/* REPUTATION_CLOCK_H */

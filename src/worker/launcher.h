/*
 * launcher.h
 *		The static background worker that keeps workers in every database.
 */
#ifndef REPUTATION_LAUNCHER_H
#define REPUTATION_LAUNCHER_H

#include "postgres.h"

extern void launcher_init(void);
extern PGDLLEXPORT void reputation_launcher_main(Datum main_arg);

#endif							/* REPUTATION_LAUNCHER_H */

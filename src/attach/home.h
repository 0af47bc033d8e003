/*
 * home.h
 *		Where a database is: what comes out of a dump or a copy is recomputed.
 */
#ifndef REPUTATION_HOME_H
#define REPUTATION_HOME_H

#include "engine/engine.h"

extern List *home_engines(List *engines);
extern List *home_move(List *engines);

#endif							/* REPUTATION_HOME_H */

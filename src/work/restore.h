/*
 * restore.h
 *		What somebody else wrote to a column that an engine writes is undone.
 */
#ifndef REPUTATION_RESTORE_H
#define REPUTATION_RESTORE_H

#include "engine/engine.h"

/* What became of a user. */
typedef enum Restored
{
	RESTORE_RIGHT,				/* has the right value, or is gone */
	RESTORE_LOCKED,				/* somebody holds the row, or a trigger kept it as it was */
	RESTORE_REFUSED,			/* a trigger changed the value again */
	RESTORE_NO_SCORE			/* was never computed */
} Restored;

extern const char *restore_column(const Engine *engine, int16 kind);
extern void restore_users(Engine *engine, int16 kind, char **keys, int count,
						  Restored *results);

#endif							/* REPUTATION_RESTORE_H */

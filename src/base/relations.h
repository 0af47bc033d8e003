/*
 * relations.h
 *		Which relations changed, and the extension's own.
 */
#ifndef REPUTATION_RELATIONS_H
#define REPUTATION_RELATIONS_H

#include "postgres.h"

#include "utils/relcache.h"

/* A relation in the schema reputation; the rest is relation_own()'s. */
typedef struct OwnRelation
{
	const char *name;
	Oid			oid;
	uint64		changes;
} OwnRelation;

extern uint64 relation_changes(void);
extern Oid	relation_own(OwnRelation *relation);
extern char *relation_name(Oid relation);
extern bool relation_is_own(Relation relation, const char *name);

#endif							/* REPUTATION_RELATIONS_H */

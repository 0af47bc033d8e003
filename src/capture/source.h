/*
 * source.h
 *		Sources: an application's tables that have capture triggers.
 */
#ifndef REPUTATION_SOURCE_H
#define REPUTATION_SOURCE_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

/* What the registry says of a source. */
typedef struct Source
{
	int32		id;
	Oid			relation;
	char	   *arguments;		/* the row trigger's second one; NULL: it has none yet */
} Source;

typedef enum SourceAnswer
{
	SOURCE_NONE,
	SOURCE_FOUND,
	SOURCE_LOCKED				/* the registry cannot be read now */
} SourceAnswer;

extern SourceAnswer source_of_table(Oid table, Source *source);
extern SourceAnswer source_named(const char *id, Source *source);
extern bool source_has_relation(Oid source, Relation relation);
extern Oid	source_capture_function(void);
extern bool source_is_row_trigger(const Source *source, const Trigger *trigger);

#endif							/* REPUTATION_SOURCE_H */

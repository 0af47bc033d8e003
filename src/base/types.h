/*
 * types.h
 *		What a column's type is.
 */
#ifndef REPUTATION_TYPES_H
#define REPUTATION_TYPES_H

#include "postgres.h"

#include "catalog/pg_type.h"

/*
 * type_is_integer -- smallint, integer or bigint?
 */
static inline bool
type_is_integer(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

#endif							/* REPUTATION_TYPES_H */

/*
 * compat.h
 *		What differs between the supported PostgreSQL versions, 14 to 18.
 */
#ifndef REPUTATION_COMPAT_H
#define REPUTATION_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_attribute.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 140000 || PG_VERSION_NUM >= 190000
#error "reputation supports PostgreSQL 14 to 18"
#endif

/* PostgreSQL 15 moved shared memory requests into a hook. */
#if PG_VERSION_NUM >= 150000
#define HAVE_SHMEM_REQUEST_HOOK 1
#endif

/* PostgreSQL 16 moved what deals with varlena out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* PostgreSQL 16 calls what says where a relation is stored a locator. */
#if PG_VERSION_NUM >= 160000
#define relation_file(relation) ((relation)->rd_locator)
#else
#define relation_file(relation) ((relation)->rd_node)
#endif

/* PostgreSQL 16 replaced the ownership checks by kind of object by one. */
#if PG_VERSION_NUM >= 160000
#define object_ownercheck_class(relid, roleid) \
	object_ownercheck(RelationRelationId, (relid), (roleid))
#else
#define object_ownercheck_class(relid, roleid) \
	pg_class_ownercheck((relid), (roleid))
#endif

/* PostgreSQL 17 has a function that copies keys among a dshash table's parameters. */
#if PG_VERSION_NUM >= 170000
#define DSHASH_COPY_BYTES .copy_function = dshash_memcpy,
#else
#define DSHASH_COPY_BYTES
#endif

/* PostgreSQL 16 gives an abbreviation's type, UNKNOWN_FIELD when it is none, in an argument. */
#if PG_VERSION_NUM >= 160000
#define timezone_abbrev_type(token, type, offset, tz, extra) \
	((void) DecodeTimezoneAbbrev(0, (token), &(type), (offset), (tz), (extra)), (type))
#else
typedef int DateTimeErrorExtra;
#define timezone_abbrev_type(token, type, offset, tz, extra) \
	((void) (extra), (type) = DecodeTimezoneAbbrev(0, (token), (offset), (tz)))
#endif

/* PostgreSQL 18 has virtual generated columns. */
#ifndef ATTRIBUTE_GENERATED_VIRTUAL
#define ATTRIBUTE_GENERATED_VIRTUAL 'v'
#endif

/* PostgreSQL 18 counts what an index scan does. */
#if PG_VERSION_NUM >= 180000
#define index_begin(table, index, snapshot, nkeys) \
	index_beginscan((table), (index), (snapshot), NULL, (nkeys), 0)
#else
#define index_begin(table, index, snapshot, nkeys) \
	index_beginscan((table), (index), (snapshot), (nkeys), 0)
#endif

/* PostgreSQL 15 says of a trigger whether it belongs to a parent's. */
#if PG_VERSION_NUM >= 150000
#define trigger_is_clone(relation, trigger) ((trigger)->tgisclone)
#else
#define trigger_is_clone(relation, trigger) ((relation)->rd_rel->relispartition)
#endif

/* PostgreSQL 18 knows deferrable primary keys. */
#if PG_VERSION_NUM >= 180000
#define primary_key_index(relation) RelationGetPrimaryKeyIndex((relation), false)
#else
#define primary_key_index(relation) RelationGetPrimaryKeyIndex(relation)
#endif

#endif							/* REPUTATION_COMPAT_H */

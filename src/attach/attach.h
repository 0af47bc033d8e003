/*
 * attach.h
 *		Attaching an engine to an application's tables.
 */
#ifndef REPUTATION_ATTACH_H
#define REPUTATION_ATTACH_H

#include "engine/engine.h"

/* A column of an application table that an engine uses. */
typedef struct AttachColumn
{
	const char *name;			/* the engine's name for it */
	bool		optional;		/* may be given as null in "columns" */
	bool		may_lack;		/* is left out when the table has no such column */
	bool		on_request;		/* is left out unless it is given */
	bool		given;			/* in "columns" */
	char	   *actual;			/* the table's, quoted; NULL when given as null */
	char	   *raw;			/* the same, not quoted */
	Oid			type;
} AttachColumn;

/* What a capture trigger of a table shall remember. */
typedef struct AttachKey
{
	const char *column;			/* the engine's name */
	char		mode;			/* 'a', 'o' or 'e', see capture.c */
	int16		kind;			/* 0: a user; else a lookup */
	int16		priority;
} AttachKey;

#define MAX_ATTACH_COLUMNS 16
#define MAX_ATTACH_KEYS 8
#define MAX_ATTACH_TABLES 16

/* An application table an engine reads; the first one is the users table. */
typedef struct AttachTable
{
	const char *argument;		/* the attach function's name for it */
	const char *name;			/* as given */
	AttachColumn columns[MAX_ATTACH_COLUMNS];	/* ends with a NULL name */
	AttachKey	keys[MAX_ATTACH_KEYS];	/* ends with a NULL column */
	bool		own;			/* is the extension's */
	Oid			oid;
	char	   *qualified;
} AttachTable;

/*
 * A column that refers to a user, in a signals view. A condition on user_id
 * must get to the column's index. It does not through a conversion, but a
 * comparison with the users' key does, whichever integers the two are.
 */
typedef struct UserColumn
{
	char	   *user_id;		/* in the type of the users' key */
	char	   *plain;			/* the same, maybe in its own type */
	char	   *join;			/* what that takes in FROM */
} UserColumn;

typedef struct AttachLookup
{
	int16		kind;
	const char *view;			/* of the class, in the schema reputation */
	char	   *query;			/* of key, user_id */
	Oid			key_type;
} AttachLookup;

typedef struct AttachSpec
{
	const EngineDescriptor *engine;
	bool		replace;		/* it may be attached to other tables */
	AttachTable *tables;
	int			ntables;
	const char *users_key;		/* the engine's name of the key column */
	const char *cached_column;	/* or NULL */
	const char *rank_column;	/* or NULL */
	const char *pays_into;		/* an engine of the class that it pays, or NULL */
	const char *fire;
	Jsonb	   *columns;
	char	   *parameters;		/* JSON the algorithm shall have, or NULL */
	/* filled in by the engine after attach_resolve() */
	char	   *view_query;
	AttachLookup *lookups;
	int			nlookups;
} AttachSpec;

extern PGDLLEXPORT const EngineDescriptor *attach_engine(FunctionCallInfo fcinfo, int argno,
														 const EngineClass *class);
extern PGDLLEXPORT const EngineDescriptor *attach_engine_named(FunctionCallInfo fcinfo, int argno,
															   const EngineClass *class);
extern PGDLLEXPORT void attach_detach(FunctionCallInfo fcinfo, const EngineClass *class);
extern PGDLLEXPORT void attach_resolve(FunctionCallInfo fcinfo, AttachSpec *spec);
extern PGDLLEXPORT void attach_wrong_type(const AttachTable *table, const AttachColumn *column,
										  const char *wanted) pg_attribute_noreturn();

/* How much of a value is looked at: characters, elements, bytes; docs/LIMITS.md has them. */
#define TEXT_PREFIX		"100000"
extern PGDLLEXPORT char *attach_presence(const AttachColumn *column);
extern PGDLLEXPORT AttachColumn *attach_column(AttachTable *table, const char *name);
extern PGDLLEXPORT void attach_require_comparable(AttachTable *table, const char *name,
												  AttachTable *other_table, const char *other_name);
extern PGDLLEXPORT bool attach_converts(const AttachColumn *column, Oid type);
extern PGDLLEXPORT Oid attach_wider_type(const AttachColumn *a, const AttachColumn *b);
extern PGDLLEXPORT char *attach_as(const AttachColumn *column, const char *alias, Oid type);
extern PGDLLEXPORT UserColumn attach_user_column(AttachTable *users, AttachTable *table, const char *name,
												 const char *alias);
extern PGDLLEXPORT int64 attach_install(FunctionCallInfo fcinfo, AttachSpec *spec);
extern PGDLLEXPORT void attach_advise_index(AttachTable *table, const char *name);
extern PGDLLEXPORT void attach_advise_ordered_index(AttachTable *table, const char *name,
													const char *next_name);
extern PGDLLEXPORT void attach_advise_covering_index(AttachTable *table, const char *name,
													 const char *const *others);
extern PGDLLEXPORT void attach_advise_index_as(AttachTable *table, const char *name, Oid type);
extern PGDLLEXPORT void attach_remove(FunctionCallInfo fcinfo, const EngineDescriptor *engine);

#endif							/* REPUTATION_ATTACH_H */

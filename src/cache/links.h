/*
 * links.h
 *		From a captured key to the users it leads to, without a query.
 */
#ifndef REPUTATION_LINKS_H
#define REPUTATION_LINKS_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "fmgr.h"

#define MAX_LINKS	4

/* The users that rows of a table, found by an index, are linked to. */
typedef struct Links
{
	Oid			view;			/* the lookup view it was made from */
	Oid			table;
	Oid			index;
	Oid			type;			/* that the index compares */
	Oid			collation;
	RegProcedure equal;
	int			count;
	AttrNumber	users[MAX_LINKS];	/* columns */
	FmgrInfo	outputs[MAX_LINKS];
} Links;

typedef struct LinkScan
{
	const Links *links;
	Relation	table;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} LinkScan;

typedef enum LinkResult
{
	LINK_FOUND,
	LINK_NONE,					/* to no user, now */
	LINK_UNKNOWN				/* the key cannot be looked for */
} LinkResult;

typedef void (*LinkConsumer) (const char *user, void *arg);

extern bool links_make(Oid view, Links *links);
extern bool links_begin(const Links *links, LinkScan *scan);
extern LinkResult links_find(LinkScan *scan, const char *key, int length,
							 LinkConsumer consumer, void *arg);
extern void links_end(LinkScan *scan);

#endif							/* REPUTATION_LINKS_H */

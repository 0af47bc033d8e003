/*
 * capture_plan.h
 *		What a capture trigger does, from its arguments.
 */
#ifndef REPUTATION_CAPTURE_PLAN_H
#define REPUTATION_CAPTURE_PLAN_H

#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"

#define MAX_TRIGGER_COLUMNS 128

/* A column of a trigger, as its argument and the relation's columns say. */
typedef struct TriggerColumn
{
	char		mode;			/* a, o, e, w, v, c or r, see capture.c */
	bool		single;			/* a key that stands for one engine, not for all of them */
	bool		key;			/* of mode a, o or e: a change of the row may capture it */
	int16		key_no;			/* not in mode w; in mode v that of a key c or r */
	int16		written_key;	/* in mode v: which column is that key; -1: none */
	uint32		engines;		/* that watch the column, or want the key; as bits */
	AttrNumber	attnum;
	Oid			type;
	bool		byval;
	int16		length;
	FmgrInfo	output;
	bool		follows;		/* it may be a users' key */
	bool		followed;		/* the registry says it is one that is followed */
	uint64		followed_as_of; /* relation_changes() then; 0: not known */
} TriggerColumn;

/* What a trigger does, kept per trigger OID until its relation changes. */
typedef struct TriggerPlan
{
	Oid			trigger;		/* hash key */
	Oid			relation;
	bool		valid;
	bool		refused;		/* it is not of the registry's: capture nothing */
	TimestampTz refused_in;		/* the transaction, by its start: the next one looks again */
	bool		broken;			/* a key column is gone: mark everybody */
	bool		unsure;			/* another one is: take every update for a change */
	int32		source;
	uint32		engines;		/* all that watch something */
	bool		follows;		/* a column does */
	bool		written;		/* an engine writes one, of mode v */
	int			ncolumns;
	TriggerColumn columns[MAX_TRIGGER_COLUMNS];
} TriggerPlan;

extern TriggerPlan *capture_plan(TriggerData *data);

#endif							/* REPUTATION_CAPTURE_PLAN_H */

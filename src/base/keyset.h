/*
 * keyset.h
 *		A set of captured keys (source, key number, text).
 */
#ifndef REPUTATION_KEYSET_H
#define REPUTATION_KEYSET_H

#include "postgres.h"

/* Longer ids are not kept as keys; see docs/LIMITS.md. */
#define MAX_KEY_LENGTH	1024

/* The key number that means: every user of the source's engines. */
#define KEY_EVERYONE	0

typedef struct CapturedKey
{
	int32		source;
	int16		key_no;
	const char *text;			/* not terminated */
	int			length;
} CapturedKey;

typedef struct KeysetEntry
{
	CapturedKey key;
	uint32		hash;
	char		status;
} KeysetEntry;

#define SH_PREFIX keyset
#define SH_ELEMENT_TYPE KeysetEntry
#define SH_KEY_TYPE CapturedKey
#define SH_SCOPE extern
#define SH_DECLARE
#include "lib/simplehash.h"

extern bool keyset_has(keyset_hash *set, int32 source, int16 key_no,
					   const char *text, int length);
extern void keyset_add(keyset_hash *set, int32 source, int16 key_no,
					   const char *text, int length);

#endif							/* REPUTATION_KEYSET_H */

/*
 * read_cache_key.c
 *		The read cache's keys: a user's id in a few bytes.
 */
#include "postgres.h"

#include "base/compat.h"
#include "cache/read_cache_state.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#define UUID_TEXT		36		/* characters of a UUID as text */

/* How a key has a user's id. */
#define FORM_TEXT		1		/* as it is, filled up with zeros */
#define FORM_UUID		2		/* the bytes of a UUID */
#define FORM_DIGEST		3		/* of a longer text: the beginning of its SHA-256 */

/*
 * read_cache_pack_uuid -- is the text a UUID as PostgreSQL writes them? Then its
 * bytes.
 */
bool
read_cache_pack_uuid(const char *text, int length, char *bytes)
{
	int			digits = 0;

	if (length != UUID_TEXT)
		return false;
	memset(bytes, 0, UUID_LEN);
	for (int i = 0; i < UUID_TEXT; i++)
	{
		char		c = text[i];
		int			digit;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (c != '-')
				return false;
			continue;
		}
		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else
			return false;
		bytes[digits / 2] |= (char) (digits % 2 == 0 ? digit << 4 : digit);
		digits++;
	}
	return true;
}

/* A key of this database without an id yet; false when there is no cache. */
static bool
start_key(CacheKey *key, int engine)
{
	int			place = read_cache == NULL ? -1 : shmem_my_place(true);

	if (place < 0)
		return false;
	memset(key, 0, sizeof(CacheKey));
	key->database = MyDatabaseId;
	key->place = (uint16) place;
	key->engine = (uint8) engine;
	key->form = FORM_TEXT;
	return true;
}

/*
 * read_cache_mark -- a key that is no user's and has no entry, for a mark of that
 * short name. Raises no error.
 */
bool
read_cache_mark(CacheKey *key, const char *name)
{
	if (!start_key(key, 0))
		return false;
	memcpy(key->id, name, strlen(name));
	return true;
}

/*
 * read_cache_key -- the key of a user's id, as the text the key's type puts out,
 * in this database. False when there is no cache. A text that does not fit goes by
 * its digest, which no two texts have in common that anybody could find. Whoever has
 * a key can look it up without an error: the first one a process makes attaches it to
 * the table, which may raise one for lack of memory.
 */
bool
read_cache_key(CacheKey *key, int engine, const char *user, int length)
{
	if (!start_key(key, engine))
		return false;
	cache_attach();
	if (length <= CACHE_ID_LENGTH)
		memcpy(key->id, user, length);
	else if (read_cache_pack_uuid(user, length, key->id))
		key->form = FORM_UUID;
	else
	{
		Datum		text = PointerGetDatum(cstring_to_text_with_len(user, length));
		bytea	   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, text));

		key->form = FORM_DIGEST;
		memcpy(key->id, VARDATA_ANY(digest), CACHE_ID_LENGTH);
		pfree(digest);
		pfree(DatumGetPointer(text));
	}
	return true;
}

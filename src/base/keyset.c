/*
 * keyset.c
 *		A set of captured keys: what capture gathers in a transaction.
 *
 * The set and the copies of its texts live in the memory context it was made
 * in.
 */
#include "postgres.h"

#include "base/keyset.h"
#include "common/hashfn.h"

static inline uint32
hash_key(const CapturedKey *key)
{
	uint32		tag = ((uint32) key->source << 8) ^ (uint32) key->key_no;

	return hash_combine(hash_bytes((const unsigned char *) key->text, key->length),
						murmurhash32(tag));
}

static inline bool
same_key(const CapturedKey *a, const CapturedKey *b)
{
	return a->source == b->source && a->key_no == b->key_no &&
		a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

#define SH_PREFIX keyset
#define SH_ELEMENT_TYPE KeysetEntry
#define SH_KEY_TYPE CapturedKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) hash_key(&(k))
#define SH_EQUAL(tb, a, b) same_key(&(a), &(b))
#define SH_SCOPE extern
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_DEFINE
#include "lib/simplehash.h"

/*
 * keyset_has -- is the key there?
 */
bool
keyset_has(keyset_hash *set, int32 source, int16 key_no, const char *text, int length)
{
	CapturedKey key = {source, key_no, text, length};

	return keyset_lookup(set, key) != NULL;
}

/*
 * keyset_add -- adds a key unless it is there; copies the text.
 */
void
keyset_add(keyset_hash *set, int32 source, int16 key_no, const char *text, int length)
{
	CapturedKey key = {source, key_no, text, length};
	bool		found;
	char	   *copy;

	if (keyset_has(set, source, key_no, text, length))
		return;
	/* The copy first: a failure must not leave an entry without its text. */
	copy = MemoryContextAlloc(set->ctx, Max(length, 1));
	memcpy(copy, text, length);
	key.text = copy;
	(void) keyset_insert(set, key, &found);
}

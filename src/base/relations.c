/*
 * relations.c
 *		What was looked up of relations, and how long that is good.
 *
 * A read as short as a rank cannot look up names and columns in the catalog each
 * time. What it found is good until relation_changes() has advanced, which it does
 * with every relation cache message, whichever relation that is about: they are rare,
 * and looking up again costs little. A message can come whenever a lock is taken; so
 * whoever opens a table by what is kept compares once more after it has the lock, and
 * after that nothing can change.
 */
#include "base/relations.h"

#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static uint64 changes = 0;		/* 0: nobody has asked yet */

static void
count_change(Datum arg, Oid relation)
{
	changes++;
}

/*
 * relation_changes -- how often a relation may have changed in this process's view;
 * never 0.
 */
uint64
relation_changes(void)
{
	if (changes == 0)
	{
		CacheRegisterRelcacheCallback(count_change, (Datum) 0);
		changes = 1;
	}
	return changes;
}

/*
 * relation_own -- the OID of one of the extension's relations; invalid when there is
 * none any more.
 */
Oid
relation_own(OwnRelation *relation)
{
	uint64		now = relation_changes();

	if (relation->changes != now || !OidIsValid(relation->oid))
	{
		Oid			schema = get_namespace_oid("reputation", true);

		relation->oid = OidIsValid(schema) ? get_relname_relid(relation->name, schema) :
			InvalidOid;
		relation->changes = now;
	}
	return relation->oid;
}

/*
 * relation_name -- a relation's name, qualified and quoted; NULL when it is gone.
 */
char *
relation_name(Oid relation)
{
	char	   *name = get_rel_name(relation);

	return name == NULL ? NULL :
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

/*
 * relation_is_own -- is it the extension's relation of that name (null: any of
 * them)? Nobody but its owner can make one in its schema.
 */
bool
relation_is_own(Relation relation, const char *name)
{
	return RelationGetNamespace(relation) == get_namespace_oid("reputation", true) &&
		(name == NULL || strcmp(RelationGetRelationName(relation), name) == 0);
}

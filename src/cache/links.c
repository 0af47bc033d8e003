/*
 * links.c
 *		From a captured key to the users it leads to, without a query.
 *
 * A writer that is about to commit must learn whom its keys concern (invalidate.c),
 * and may neither fail nor wait for that. So this is no query: no planner, no
 * privileges, no policy, nobody's functions; an index is looked into with a lock
 * that is only tried. It can be done where the lookup view is what an attach makes
 * of an ordinary table: branches of UNION ALL, each a key column and a column with
 * a user. Otherwise the caller hears that it cannot.
 *
 * Rows are seen as they are right then, with what this transaction has done itself.
 * SnapshotSelf gives that without a conflict for a serializable transaction to fail
 * of. It is no snapshot of one moment: of a row that somebody updates meanwhile both
 * versions may be seen, or none; invalidate.c says why that does no harm.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "base/compat.h"
#include "base/locks.h"
#include "base/types.h"
#include "cache/links.h"
#include "cache/read_cache.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* The column that an expression is, maybe converted to a type with the same texts. */
static AttrNumber
column_of(Node *expression, Index relation)
{
	Node	   *inside = expression;

	if (IsA(expression, RelabelType))
		inside = (Node *) ((RelabelType *) expression)->arg;
	else if (IsA(expression, FuncExpr))
	{
		FuncExpr   *call = (FuncExpr *) expression;

		if (list_length(call->args) != 1 || !type_is_integer(call->funcresulttype) ||
			!type_is_integer(exprType(linitial(call->args))))
			return InvalidAttrNumber;
		inside = linitial(call->args);
	}
	if (!IsA(inside, Var) || ((Var *) inside)->varno != relation ||
		((Var *) inside)->varlevelsup != 0)
		return InvalidAttrNumber;
	return ((Var *) inside)->varattno;
}

/* Is it a plain SELECT of columns, of all rows of one table? */
static bool
is_plain(const Query *query)
{
	return query->commandType == CMD_SELECT && query->setOperations == NULL &&
		query->cteList == NIL && !query->hasAggs && !query->hasWindowFuncs &&
		!query->hasTargetSRFs && !query->hasSubLinks && query->groupClause == NIL &&
		query->groupingSets == NIL && query->havingQual == NULL &&
		query->distinctClause == NIL && query->limitCount == NULL &&
		query->limitOffset == NULL && query->jointree->quals == NULL &&
		list_length(query->jointree->fromlist) == 1 &&
		IsA(linitial(query->jointree->fromlist), RangeTblRef) &&
		list_length(query->targetList) == 2;
}

/* Adds a branch "SELECT key, user FROM table"; they must agree on table and key. */
static bool
add_branch(Query *query, Links *links, AttrNumber *key)
{
	Index		number;
	RangeTblEntry *table;
	AttrNumber	columns[2];

	if (!is_plain(query) || links->count == MAX_LINKS)
		return false;
	number = ((RangeTblRef *) linitial(query->jointree->fromlist))->rtindex;
	table = rt_fetch(number, query->rtable);
	for (int i = 0; i < 2; i++)
		columns[i] = column_of((Node *) ((TargetEntry *) list_nth(query->targetList, i))->expr,
							   number);
	if (table->rtekind != RTE_RELATION || table->relkind != RELKIND_RELATION ||
		columns[0] <= 0 || columns[1] <= 0 ||
		(links->count > 0 && (links->table != table->relid || *key != columns[0])))
		return false;
	links->table = table->relid;
	*key = columns[0];
	links->users[links->count++] = columns[1];
	return true;
}

/* Adds the branches of a UNION ALL. */
static bool
add_branches(Query *query, Node *node, Links *links, AttrNumber *key)
{
	SetOperationStmt *operation;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *branch = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		return branch->rtekind == RTE_SUBQUERY && add_branch(branch->subquery, links, key);
	}
	operation = castNode(SetOperationStmt, node);
	return operation->op == SETOP_UNION && operation->all &&
		add_branches(query, operation->larg, links, key) &&
		add_branches(query, operation->rarg, links, key);
}

/* What the view's query says; false when it is another kind of view. */
static bool
read_view(Oid oid, Links *links, AttrNumber *key)
{
	Relation	view = lock_try_open(oid, AccessShareLock);
	Query	   *query;
	bool		good;

	if (view == NULL)
		return false;
	query = view->rd_rel->relkind == RELKIND_VIEW ? get_view_query(view) : NULL;
	if (query == NULL)
		good = false;
	else if (query->setOperations == NULL)
		good = add_branch(query, links, key);
	else
		good = query->limitCount == NULL && query->limitOffset == NULL &&
			add_branches(query, query->setOperations, links, key);
	relation_close(view, AccessShareLock);
	return good;
}

/* Can rows be found by the column with this index? Then how. */
static bool
use_index(Relation index, AttrNumber key, Links *links)
{
	Oid			type = index->rd_opcintype[0];
	Oid			operator;

	if (index->rd_rel->relam != BTREE_AM_OID || !index->rd_index->indisvalid ||
		!index->rd_index->indisready || index->rd_index->indkey.values[0] != key ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) ||
		!(type_is_integer(type) || type == UUIDOID || type == TEXTOID))
		return false;
	operator = get_opfamily_member(index->rd_opfamily[0], type, type, BTEqualStrategyNumber);
	if (!OidIsValid(operator))
		return false;
	links->index = RelationGetRelid(index);
	links->type = type;
	links->collation = index->rd_indcollation[0];
	links->equal = get_opcode(operator);
	return true;
}

static bool
find_link_index(Relation table, AttrNumber key, Links *links)
{
	ListCell   *cell;
	bool		found = false;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = found ? NULL : lock_try_open(lfirst_oid(cell), AccessShareLock);

		if (index == NULL)
			continue;
		found = use_index(index, key, links);
		relation_close(index, AccessShareLock);
	}
	return found;
}

/*
 * links_make -- how to find the users of a lookup view's keys; false when that is
 * not possible, or a lock is not to be had. What the functions of the users' types
 * take lives in the current memory context.
 */
bool
links_make(Oid view, Links *links)
{
	AttrNumber	key = InvalidAttrNumber;
	Relation	table;
	bool		found;

	memset(links, 0, sizeof(Links));
	if (!read_view(view, links, &key))
		return false;
	table = lock_try_open(links->table, AccessShareLock);
	if (table == NULL)
		return false;
	links->view = view;
	found = find_link_index(table, key, links);
	for (int i = 0; i < links->count; i++)
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(TupleDescAttr(RelationGetDescr(table), links->users[i] - 1)->atttypid,
						  &output, &varlena);
		fmgr_info_cxt(output, &links->outputs[i], CurrentMemoryContext);
	}
	relation_close(table, AccessShareLock);
	return found;
}

/*
 * links_begin -- gets ready to look for keys; false when a lock is not to be had, a
 * relation is gone, or the table has children. Needs an active snapshot.
 */
bool
links_begin(const Links *links, LinkScan *scan)
{
	scan->links = links;
	scan->table = lock_try_open(links->table, AccessShareLock);
	if (scan->table == NULL)
		return false;
	/* An index has no row of a child. */
	scan->index = scan->table->rd_rel->relhassubclass ? NULL :
		lock_try_open(links->index, AccessShareLock);
	if (scan->index == NULL)
	{
		relation_close(scan->table, AccessShareLock);
		return false;
	}
	scan->slot = table_slot_create(scan->table, NULL);
	scan->scan = index_begin(scan->table, scan->index, SnapshotSelf, 1);
	return true;
}

/* A key's text in the type that the index compares; LINK_FOUND when it is one. */
static LinkResult
key_datum(Oid type, const char *key, int length, Datum *datum)
{
	char		number[32];
	char	   *end;
	int64		value;

	if (type == TEXTOID)
	{
		*datum = PointerGetDatum(cstring_to_text_with_len(key, length));
		return LINK_FOUND;
	}
	if (type == UUIDOID)
	{
		pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

		*datum = UUIDPGetDatum(uuid);
		return read_cache_pack_uuid(key, length, (char *) uuid->data) ? LINK_FOUND : LINK_UNKNOWN;
	}
	if (length == 0 || length >= sizeof(number))
		return LINK_UNKNOWN;
	memcpy(number, key, length);
	number[length] = '\0';
	errno = 0;
	value = strtoll(number, &end, 10);
	if (errno != 0 || *end != '\0')
		return LINK_UNKNOWN;
	*datum = type == INT2OID ? Int16GetDatum((int16) value) :
		type == INT4OID ? Int32GetDatum((int32) value) : Int64GetDatum(value);
	if ((type == INT2OID && value != (int16) value) || (type == INT4OID && value != (int32) value))
		return LINK_NONE;
	return LINK_FOUND;
}

/*
 * links_find -- hands the users that a key leads to now to the consumer. LINK_NONE
 * when it leads to no user, be there a row or not.
 */
LinkResult
links_find(LinkScan *scan, const char *key, int length, LinkConsumer consumer, void *arg)
{
	const Links *links = scan->links;
	LinkResult	result;
	ScanKeyData condition;
	Datum		value;

	result = key_datum(links->type, key, length, &value);
	if (result != LINK_FOUND)
		return result;

	ScanKeyEntryInitialize(&condition, 0, 1, BTEqualStrategyNumber, links->type,
						   links->collation, links->equal, value);
	index_rescan(scan->scan, &condition, 1, NULL, 0);
	result = LINK_NONE;
	while (index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
	{
		for (int i = 0; i < links->count; i++)
		{
			bool		isnull;
			Datum		user = slot_getattr(scan->slot, links->users[i], &isnull);

			if (isnull)
				continue;
			result = LINK_FOUND;
			consumer(OutputFunctionCall((FmgrInfo *) &links->outputs[i], user), arg);
		}
	}
	return result;
}

/*
 * links_end -- after links_begin().
 */
void
links_end(LinkScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	relation_close(scan->index, AccessShareLock);
	relation_close(scan->table, AccessShareLock);
}

/*
 * attach_trigger_advice.c
 *		Triggers of the application that will not find what they name.
 *
 * A worker writes the users table with the search_path pg_catalog, pg_temp, whatever
 * the application's is. A trigger function that sets none of its own and names a
 * table, a sequence or a function without its schema works for the application and
 * fails there. What it names is guessed from its text, so this is advice: a word
 * after FROM, INTO and the like is a table, one before a parenthesis is a function, and
 * there must be one of that name, but none in pg_catalog. What is in string
 * literals is not looked at, but for the name of a sequence.
 */
#include "postgres.h"

#include <ctype.h>

#include "attach/attach_steps.h"
#include "base/spi.h"
#include "capture/source.h"
#include "catalog/pg_type.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

typedef enum TokenKind
{
	TOKEN_END,
	TOKEN_WORD,
	TOKEN_LITERAL,
	TOKEN_OTHER
} TokenKind;

typedef struct Token
{
	TokenKind	kind;
	char	   *text;			/* a word as the catalogs have it; a literal's content */
} Token;

/* What a function's text names without a schema. */
typedef struct NamedObjects
{
	char	  **names;
	bool	   *calls;			/* is it called, as functions are? */
	int			count;
} NamedObjects;

static bool
is_word_character(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '$' || IS_HIGHBIT_SET(c);
}

/* Skips spaces and comments. */
static const char *
skip_spaces(const char *at)
{
	for (;;)
	{
		if (isspace((unsigned char) *at))
			at++;
		else if (at[0] == '-' && at[1] == '-')
			at += strcspn(at, "\n");
		else if (at[0] == '/' && at[1] == '*')
		{
			const char *end = strstr(at + 2, "*/");

			at = end == NULL ? at + strlen(at) : end + 2;
		}
		else
			return at;
	}
}

/* The next token; *at is then behind it. */
static Token
next_token(const char **at)
{
	const char *start = skip_spaces(*at);
	const char *end;
	Token		token = {TOKEN_OTHER, NULL};

	if (*start == '\0')
	{
		*at = start;
		token.kind = TOKEN_END;
	}
	else if (*start == '\'' || *start == '"')
	{
		end = strchr(start + 1, *start);
		if (end == NULL)
			end = start + strlen(start) - 1;
		token.kind = *start == '"' ? TOKEN_WORD : TOKEN_LITERAL;
		token.text = pnstrdup(start + 1, Max(end - start - 1, 0));
		*at = end + 1;
	}
	else if (is_word_character(*start) && !isdigit((unsigned char) *start))
	{
		for (end = start; is_word_character(*end); end++)
			;
		token.kind = TOKEN_WORD;
		token.text = downcase_identifier(start, end - start, false, true);
		*at = end;
	}
	else
	{
		token.text = pnstrdup(start, 1);
		*at = start + 1;
	}
	return token;
}

static bool
is_listed_word(const Token *token, const char *const *words)
{
	for (; token->kind == TOKEN_WORD && *words != NULL; words++)
	{
		if (strcmp(token->text, *words) == 0)
			return true;
	}
	return false;
}

static bool
is_sign(const Token *token, char sign)
{
	return token->kind == TOKEN_OTHER && token->text[0] == sign;
}

static void
add_name_once(NamedObjects *objects, char *name, bool call)
{
	for (int i = 0; i < objects->count; i++)
	{
		if (strcmp(objects->names[i], name) == 0 && objects->calls[i] == call)
			return;
	}
	objects->names = objects->names == NULL ? palloc(sizeof(char *)) :
		repalloc(objects->names, (objects->count + 1) * sizeof(char *));
	objects->calls = objects->calls == NULL ? palloc(sizeof(bool)) :
		repalloc(objects->calls, (objects->count + 1) * sizeof(bool));
	objects->names[objects->count] = name;
	objects->calls[objects->count++] = call;
}

/* What may be the name of a table, a sequence or a function in a function's text. */
static void
read_names(const char *source, NamedObjects *objects)
{
	static const char *const before_table[] = {"from", "join", "into", "update", "only", "table",
	"using", NULL};
	static const char *const of_sequences[] = {"nextval", "currval", "setval", NULL};
	const char *at = source;
	Token		third = {TOKEN_END};	/* the one before the one before */
	Token		before = {TOKEN_END};
	Token		token = next_token(&at);

	while (token.kind != TOKEN_END)
	{
		Token		after = next_token(&at);

		if (token.kind == TOKEN_WORD && !is_sign(&before, '.') && !is_sign(&after, '.'))
		{
			if (is_listed_word(&before, before_table) || is_sign(&after, '%'))
				add_name_once(objects, token.text, false);
			else if (is_sign(&after, '('))
				add_name_once(objects, token.text, true);
		}
		else if (token.kind == TOKEN_LITERAL && is_sign(&before, '(') &&
				 is_listed_word(&third, of_sequences) && strchr(token.text, '.') == NULL)
			add_name_once(objects, token.text, false);
		third = before;
		before = token;
		token = after;
	}
}

/*
 * Those of the names that are something, and not in pg_catalog: of each the name and a
 * schema that has it, which is the users table's if that has. Returns how many.
 */
static uint64
find_objects(const NamedObjects *objects, Oid users)
{
	Oid			types[] = {TEXTARRAYOID, BOOLARRAYOID, OIDOID};
	Datum		values[] = {text_array(objects->names, objects->count),
	bool_array(objects->calls, objects->count), ObjectIdGetDatum(get_rel_namespace(users))};

	return spi_exec("SELECT pg_catalog.quote_ident(w.name), (SELECT "
					"pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n "
					"WHERE n.oid = ANY (o.schemas) ORDER BY n.oid <> $3, n.nspname LIMIT 1) "
					"FROM unnest($1, $2) WITH ORDINALITY AS w (name, call, no) "
					"CROSS JOIN LATERAL (SELECT array_agg(s.schema) AS schemas FROM ("
					"SELECT p.pronamespace AS schema FROM pg_catalog.pg_proc p "
					"WHERE w.call AND p.proname = w.name UNION ALL "
					"SELECT c.relnamespace FROM pg_catalog.pg_class c WHERE NOT w.call "
					"AND c.relname = w.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) s) o "
					"WHERE o.schemas IS NOT NULL "
					"AND 'pg_catalog'::regnamespace::oid <> ALL (o.schemas) ORDER BY w.no",
					3, types, values, NULL);
}

/* Warns of a trigger whose function's text names something without its schema. */
static void
advise_trigger(Oid users, const char *trigger, const char *table, const char *function,
			   const char *source)
{
	NamedObjects objects = {NULL};
	NamedObjects found = {NULL};	/* the schemas */
	StringInfoData names;
	StringInfoData schemas;
	uint64		count;

	read_names(source, &objects);
	count = find_objects(&objects, users);
	if (count == 0)
		return;
	initStringInfo(&names);
	initStringInfo(&schemas);
	for (uint64 row = 0; row < count; row++)
	{
		attach_add_name(&names, spi_text(row, 1));
		add_name_once(&found, spi_text(row, 2), false);
	}
	for (int i = 0; i < found.count; i++)
		attach_add_name(&schemas, found.names[i]);
	ereport(WARNING,
			(errcode(ERRCODE_INVALID_SCHEMA_NAME),
			 errmsg("trigger \"%s\" of %s calls %s, which names %s without a schema", trigger,
					table, function, names.data),
			 errdetail("When a worker writes the table it runs with search_path = pg_catalog, "
					   "pg_temp, and finds none of it."),
			 errhint("ALTER FUNCTION %s SET search_path = %s, pg_temp;", function, schemas.data)));
}

/*
 * attach_advise_triggers -- warns of triggers that fire when the engine writes its
 * columns of the users table, or of a partition, and whose functions will not find what
 * they name. In SPI.
 */
void
attach_advise_triggers(AttachSpec *spec)
{
	Oid			users = spec->tables[0].oid;
	Oid			types[] = {OIDOID, TEXTOID, TEXTOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(users),
		spec->cached_column ? CStringGetTextDatum(spec->cached_column) : (Datum) 0,
		spec->rank_column ? CStringGetTextDatum(spec->rank_column) : (Datum) 0,
	ObjectIdGetDatum(source_capture_function())};
	const char	nulls[] = {' ', spec->cached_column ? ' ' : 'n', spec->rank_column ? ' ' : 'n', ' '};
	uint64		count;
	SPITupleTable *rows;

	if (spec->cached_column == NULL && spec->rank_column == NULL)
		return;
	/* tgtype: 16 on update. A clone is told of by its parent. */
	count = spi_exec("WITH RECURSIVE down (relation) AS (SELECT $1 UNION SELECT i.inhrelid "
					 "FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.relation) "
					 "SELECT t.tgname, t.tgrelid::regclass::text, p.oid::regprocedure::text, p.prosrc "
					 "FROM pg_catalog.pg_trigger t JOIN down ON down.relation = t.tgrelid "
					 "JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid "
					 "JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql' "
					 "WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A') "
					 "AND t.tgtype & 16 = 16 AND p.oid <> $4 "
					 "AND (cardinality(t.tgattr::int2[]) = 0 OR EXISTS (SELECT "
					 "FROM pg_catalog.pg_attribute a "
					 "WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[]) "
					 "AND a.attname IN ($2, $3))) "
					 "AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c (setting) "
					 "WHERE c.setting LIKE 'search_path=%') ORDER BY 2, 1", 4, types, values, nulls);
	rows = SPI_tuptable;
	for (uint64 row = 0; row < count; row++)
		advise_trigger(users, SPI_getvalue(rows->vals[row], rows->tupdesc, 1),
					   SPI_getvalue(rows->vals[row], rows->tupdesc, 2),
					   SPI_getvalue(rows->vals[row], rows->tupdesc, 3),
					   SPI_getvalue(rows->vals[row], rows->tupdesc, 4));
}

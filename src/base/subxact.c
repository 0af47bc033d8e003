/*
 * subxact.c
 *		Doing something that may fail, in a subtransaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/subxact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * subxact_try -- runs the body in a subtransaction; NULL when it succeeded,
 * else the error, which left nothing behind.
 */
ErrorData *
subxact_try(SubxactBody body, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		body(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * context_function -- the innermost function of an error's context, as that names it
 * ("PL/pgSQL function app.f() line 3 at RAISE"); NULL when it has none. Outer is what
 * the context ends with, of whoever called: GetErrorContextStack().
 */
char *
context_function(const char *context, const char *outer)
{
	const char *line = context;
	size_t		length = context ? strlen(context) : 0;
	size_t		cut = outer ? strlen(outer) : 0;
	const char *end = context + length;

	if (cut <= length && cut > 0 && strcmp(end - cut, outer) == 0)
		end -= cut;
	while (line < end)
	{
		size_t		width = Min(strcspn(line, "\n"), end - line);
		char	   *text = pnstrdup(line, width);

		if (strstr(text, " function ") != NULL &&
			(strncmp(text, "PL/", 3) == 0 || strncmp(text, "SQL function ", 13) == 0))
			return text;
		line += width + 1;
	}
	return NULL;
}

/*
 * error_is_transient -- does the error say nothing about what was tried (a
 * cancel, a lock, a lack of resources), so that it may work the next time?
 */
bool
error_is_transient(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_QUERY_CANCELED) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

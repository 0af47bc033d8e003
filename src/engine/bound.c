/*
 * bound.c
 *		How long a worker stays in code of the application's.
 *
 * A worker works for every engine of its database. What it runs for one of them may
 * be anybody's: triggers on the users table, functions in the views over it. So
 * between bound_begin() and bound_end() PostgreSQL's own statement timeout runs,
 * set to reputation.application_timeout, and shared memory says whose code the
 * process is in. Sessions have their caller's statement_timeout.
 *
 * 1. Nobody else sets that timeout off in a worker, or stops it: SET statement_timeout
 *	  arms nothing, only the main loop of a session does that. So between the two
 *	  functions it is active, or it has fired.
 * 2. The bound ends with the (sub)transaction that it began in, however that ends. So
 *	  no error leaves the timeout on, and whoever calls bound_begin() catches nothing.
 * 3. What was cancelled stays cancelled. Code that catches query_canceled has its
 *	  subtransaction rolled back first; the callback below sees that, and the next check
 *	  for interrupts, which is in the handler, raises the cancel again, one level further
 *	  out. Whoever catches it there, too, and again, has the process end (a process is
 *	  not caught), which counts as a crash over the user (worker_careful.c), and the engine
 *	  is suspended by the worker that comes next.
 *
 * Code that never checks for interrupts is beyond this: docs/LIMITS.md.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/guc.h"
#include "base/subxact.h"
#include "engine/bound.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "storage/ipc.h"
#include "utils/timeout.h"

#define US_FOR_EACH_ROW	20		/* of a statement over all users, beyond the bound */
#define LONGEST_BOUND	INT_MAX /* ms */
#define CANCELS_TO_END	3		/* that were caught: then the process ends */
#define SUSPENSIONS		10		/* times the bound is an engine suspended that exceeds it */

/* An error has it as its message's id when the bound was exceeded. */
static const char exceeded_message[] = "reputation: application_timeout";

/* The bound that is on; began_at is the nesting level of its (sub)transaction. */
typedef struct Bound
{
	int			began_at;		/* 0: none is on */
	int			engine;
	long		limit;			/* ms; 0: none */
	int			caught;			/* cancels */
} Bound;

static Bound bound;

/* Has the timeout fired? Invariant 1. */
static bool
has_fired(void)
{
	return bound.began_at > 0 && bound.limit > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
}

static void
turn_off(void)
{
	if (has_fired())
		QueryCancelPending = false; /* of a statement that is over */
	if (bound.limit > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	bound.began_at = 0;

	shmem_worker_code(0, false);
}

/* Invariant 3: a subtransaction inside was rolled back after the timeout fired. */
static void
cancel_again(void)
{
	/* If it is pending nobody has caught it yet. */
	if (QueryCancelPending || proc_exit_inprogress)
		return;
	if (++bound.caught == CANCELS_TO_END)
	{
		ereport(LOG,
				(errmsg("code of the application's catches every cancel; the worker ends"),
				 errdetail("It ran longer than reputation.application_timeout (%d ms).",
						   guc_application_timeout)));
		shmem_worker_uncancellable(bound.engine, context_function(GetErrorContextStack(), NULL));
		ProcDiePending = true;
	}
	QueryCancelPending = true;
	InterruptPending = true;
}

static void
bound_at_subtransaction(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent,
						void *arg)
{
	if (bound.began_at == 0 || event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (GetCurrentTransactionNestLevel() <= bound.began_at)
		turn_off();
	else if (has_fired())
		cancel_again();
}

static void
bound_at_transaction(XactEvent event, void *arg)
{
	if (bound.began_at > 0 && (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT))
		turn_off();
}

/*
 * bound_init -- called when the library is loaded.
 */
void
bound_init(void)
{
	RegisterSubXactCallback(bound_at_subtransaction, NULL);
	RegisterXactCallback(bound_at_transaction, NULL);
}

/*
 * bound_begin -- what follows is code of the application's, run for an engine (0: for
 * none in particular), over so many rows beyond a batch. In a worker it is cancelled
 * (57014) when it takes longer than reputation.application_timeout. Gives what
 * bound_end() wants: one that is on already goes on.
 */
bool
bound_begin(int engine, double rows)
{
	double		limit = guc_application_timeout;

	if (bound.began_at > 0 || !shmem_is_worker())
		return false;
	bound.began_at = GetCurrentTransactionNestLevel();
	bound.engine = engine;
	bound.caught = 0;

	if (limit > 0)
		limit = Min(limit + rows * US_FOR_EACH_ROW / 1000, LONGEST_BOUND);
	bound.limit = (long) limit;

	shmem_worker_code(engine, true);
	if (bound.limit > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, (int) bound.limit);
	return true;
}

/*
 * bound_end -- the application's code is over. An error ends it, too.
 */
void
bound_end(bool began)
{
	if (began && bound.began_at > 0)
		turn_off();
}

/*
 * bound_explain -- if the error that was caught is that the bound which is on was
 * exceeded, it says so from now on. To be called before the (sub)transaction ends.
 */
void
bound_explain(ErrorData *error)
{
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED || !has_fired())
		return;
	error->message_id = exceeded_message;
	error->message = psprintf("the application's code took longer than "
							  "reputation.application_timeout (%ld ms)", bound.limit);
}

/*
 * bound_exceeded -- is it such an error?
 */
bool
bound_exceeded(const ErrorData *error)
{
	return error->message_id != NULL && strcmp(error->message_id, exceeded_message) == 0;
}

/*
 * bound_suspension -- how long, in ms, whatever exceeded the bound is left alone: so
 * long that it takes a tenth of the worker's time at most, if that is bearable.
 */
long
bound_suspension(void)
{
	return Min((long) guc_application_timeout * SUSPENSIONS, LONGEST_SUSPENSION);
}

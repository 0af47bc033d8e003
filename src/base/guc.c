/*
 * guc.c
 *		The settings, all named reputation.*; docs/SETTINGS.md lists them.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/guc.h"
#include "miscadmin.h"
#include "utils/guc.h"

#define MAX_CACHE_SIZE	(4 * 1024 * 1024)	/* kB; dshash allocates at most 1 GB at once */
#define MAX_ROW_HINTS	(16 * 1024 * 1024)	/* kB; a hint for each of two billion users */

int			guc_workers;
int			guc_debounce;
int			guc_batch_size;
int			guc_drain_interval;
int			guc_application_timeout;
int			guc_max_attempts;
int			guc_job_run_retention;
int			guc_audit_retention;
int			guc_notify;
int			guc_cache_size;
int			guc_cache_ttl;
int			guc_row_hints;

static const struct config_enum_entry notify_modes[] = {
	{"off", NOTIFY_OFF, false},
	{"worker", NOTIFY_WORKER, false},
	{"writer", NOTIFY_WRITER, false},
	{NULL, 0, false}
};

/*
 * guc_init -- defines the settings; called when the library is loaded.
 */
void
guc_init(void)
{
	DefineCustomIntVariable("reputation.workers",
							"Background workers in each database that has the extension.",
							"0 starts none; reputation_process() then drains the work.",
							&guc_workers, 1, 0, 16, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.debounce",
							"Shortest time between two event-driven computations of one user.",
							"0 computes at every event. An engine's parameter \"debounce\" takes precedence.",
							&guc_debounce, 300000, 0, 86400000, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.batch_size",
							"Users computed in one transaction of a worker.",
							NULL,
							&guc_batch_size, 1000, 1, 100000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.drain_interval",
							"Under sustained load, shortest time between two drains of a worker.",
							"The first change after a pause is drained at once.",
							&guc_drain_interval, 100, 0, 60000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.application_timeout",
							"How long a worker lets a statement run or wait in code of the application's.",
							"Then its batch is put back, and an engine that hangs is suspended; 0 waits for ever.",
							&guc_application_timeout, 30000, 0, 86400000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.max_attempts",
							"Failures of one user until it becomes a dead letter.",
							NULL,
							&guc_max_attempts, 5, 1, 100, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.job_run_retention",
							"Days that finished runs stay in reputation.job_runs.",
							"A run over everybody removes older ones; 0 keeps them.",
							&guc_job_run_retention, 90, 0, 36500, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.audit_retention",
							"Days that audit rows are kept; a user's last one always is.",
							"A batch job removes older ones; 0 keeps them.",
							&guc_audit_retention, 365, 0, 36500, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("reputation.notify",
							 "Who sends notifications.",
							 "worker: NOTIFY reputation_scores after a computation; "
							 "writer: also NOTIFY reputation_work at each commit that changes a source; off: nobody.",
							 &guc_notify, NOTIFY_WORKER, notify_modes, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.cache_size",
							"Shared memory for the values that user_reputation() gives.",
							"0 computes them at every call, as without the preload.",
							&guc_cache_size, 16384, 0, MAX_CACHE_SIZE,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.cache_ttl",
							"How long a cached value is served before it is computed anew.",
							"A change that this server commits makes it forgotten at once.",
							&guc_cache_ttl, 300000, 1, 86400000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("reputation.row_hints",
							"Shared memory that remembers where score rows are.",
							"8 bytes for each; 0 has ranks look all of them up.",
							&guc_row_hints, 8192, 0, MAX_ROW_HINTS,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	clock_init();
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("reputation");
#else
	EmitWarningsOnPlaceholders("reputation");
#endif
}

/*
 * reputation.c
 *		Loading the library.
 *
 * Preloaded it has shared memory, a launcher and workers; loaded on demand
 * everything else works, and reputation_process() drains.
 */
#include "postgres.h"

#include "board_engine.h"
#include "bound.h"
#include "capture.h"
#include "drain.h"
#include "engines.h"
#include "fmgr.h"
#include "guc.h"
#include "invalidate.h"
#include "launcher.h"
#include "ledger.h"
#include "lost.h"
#include "miscadmin.h"
#include "rank_tree.h"
#include "read_cache.h"
#include "row_hint.h"
#include "shmem.h"
#include "utility_hook.h"
#include "utils/builtins.h"
#include "version.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(reputation_library_version);

/*
 * _PG_init -- called when the library is loaded.
 */
void
_PG_init(void)
{
	guc_init();
	bound_init();
	engine_register(&builder_engine);
	engine_register(&trust_engine);
	engine_register(&session_engine);
	engine_register(&points_engine);
	engine_register(&badges_engine);
	board_engine_init();
	capture_init();
	invalidate_init();
	ledger_init();
	notify_init();
	sweep_init();
	lost_init();
	rank_init();
	row_hint_init();
	read_cache_init();
	if (process_shared_preload_libraries_in_progress)
	{
		shmem_init();
		launcher_init();
		utility_hook_init();
	}
}

/*
 * reputation.library_version() -- the version of the loaded library.
 */
Datum
reputation_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(REPUTATION_VERSION));
}

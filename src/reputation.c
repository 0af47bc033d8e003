/*
 * reputation.c
 *		Loading the library.
 *
 * Preloaded it has shared memory, a launcher and workers; loaded on demand
 * everything else works, and reputation_process() drains.
 */
#include "postgres.h"

#include "attach/source_check.h"
#include "base/guc.h"
#include "base/version.h"
#include "cache/invalidate.h"
#include "cache/read_cache.h"
#include "capture/capture.h"
#include "capture/lost.h"
#include "engine/bound.h"
#include "engines/badges/badges.h"
#include "engines/builder/builder_engine.h"
#include "engines/points/points_engine.h"
#include "engines/session/session_engine.h"
#include "engines/trust/trust_engine.h"
#include "engines/points/board_engine.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "rank/rank_tree.h"
#include "rank/row_hint.h"
#include "shmem/shmem.h"
#include "utils/builtins.h"
#include "work/drain.h"
#include "worker/launcher.h"
#include "worker/utility_hook.h"

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
	engine_register(&builder_class);
	engine_register(&trust_class);
	engine_register(&session_class);
	engine_register(&points_class);
	engine_register(&badges_class);
	board_engine_init();
	capture_init();
	invalidate_init();
	follow_init();
	notify_init();
	source_check_init();
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

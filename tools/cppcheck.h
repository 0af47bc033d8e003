/*
 * cppcheck.h
 *		What cppcheck must know of PostgreSQL, whose headers it does not read.
 */
#define PG_VERSION_NUM 150000
#define PG_FUNCTION_INFO_V1(function)
#define PG_MODULE_MAGIC
#define PGDLLEXPORT

#define DEBUG1 14
#define LOG 15
#define INFO 17
#define NOTICE 18
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define ereport(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) do { if ((level) >= ERROR) abort(); } while (0)

#define foreach(cell, list) \
	for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))

#define PG_TRY() if (1) {
#define PG_CATCH() } else {
#define PG_FINALLY() } if (1) {
#define PG_END_TRY() } do {} while (0)

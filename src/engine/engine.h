/*
 * engine.h
 *		Engines: from user ids to stored scores.
 */
#ifndef REPUTATION_ENGINE_H
#define REPUTATION_ENGINE_H

#include "postgres.h"

#include "base/locks.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/portal.h"
#include "utils/timestamp.h"

#define MAX_ENGINE_CLASSES 32
#define MAX_SIGNALS 24
#define MAX_SCORE_COLUMNS 8

/*
 * The greatest number that is a parameter: whatever a formula makes of some of
 * these is finite, and fits JSON.
 */
#define MAX_PARAMETER 1e9

/* How the values of a column are kept in memory. */
typedef enum ColumnKind
{
	COLUMN_TEXT,				/* as the type's text */
	COLUMN_NUMBER,				/* a bigint, NOT NULL */
	COLUMN_TIME					/* a timestamptz, NOT NULL */
} ColumnKind;

typedef union ScoreValue
{
	char	   *text;			/* NULL: none */
	int64		number;			/* or the time */
} ScoreValue;

/*
 * A column of an engine's score table beside user_id, score, reached_at,
 * algorithm_version, computed_at and next_due_at. One that is named reached_at is the
 * engine's own idea of since when a user has the score.
 */
typedef struct ScoreColumn
{
	const char *name;
	const char *type;
	ColumnKind	kind;
	bool		exact;			/* the same until next_due_at: compared and verified */
	bool		audited;		/* is in the audit table, too */
} ScoreColumn;

#define MAX_ENGINE_OUTPUTS 4

/* What an output shall have of a user, and what it has; NULL: that is not compared. */
typedef struct OutputState
{
	char	   *due;
	char	   *held;
} OutputState;

/* What a user's signals come to. */
typedef struct ScoreResult
{
	int32		score;
	TimestampTz next_due_at;	/* DT_NOEND unless time alone will change it */
	ScoreValue *columns;		/* of the score table; room for them is there */
	OutputState outputs[MAX_ENGINE_OUTPUTS];	/* of those that are settled */
} ScoreResult;

struct Engine;
struct EngineDescriptor;
struct Score;

/* How many rows of an output are a user's. */
typedef enum OutputRows
{
	ROWS_NONE, ROWS_ONE, ROWS_MANY
} OutputRows;

/* Where the rows of an output come from, and so what becomes of them. */
typedef enum OutputOrigin
{
	OUTPUT_GIVEN,				/* administrators write them; computations go by them */
	OUTPUT_COMPUTED,			/* can be made again: verified, and removed when the user is gone */
	OUTPUT_AUDIT,				/* tell how the score rows came about, and go with them */
	OUTPUT_EARNED				/* cannot be computed again: they follow the user (follow.c) */
} OutputOrigin;

/*
 * A table that an engine writes, or goes by. Whatever is done to all tables that know a
 * user, or to all of an engine's, goes by the list of them: making and dropping, grants,
 * dump, store, verify, following, forgetting.
 */
typedef struct EngineOutput
{
	const char *table;			/* in the schema reputation, as engine_object() takes it */
	const char *pattern;		/* what an engine's own is made like; NULL: table */
	const char *key;			/* what a row is known by */
	OutputRows	rows;
	OutputOrigin origin;
	const char *shown;			/* what verify shows of users that do not exist: an aggregate of
								 * their rows s; NULL: there may be such */
	const char *anonymous;		/* what is set, beside user_id, of rows that are left to nobody
								 * when a user is forgotten so; NULL: they are removed */
	const char *moved;			/* what is set, beside user_id, of a row l that goes from the id
								 * $1 to $2 (%1$s: the table); NULL: those that $2 has are removed */

	/*
	 * Of an output that is a part of another engine's (EngineClass.pays), which says the rest: a
	 * condition on its rows l of the table. They follow the users while that engine is not
	 * attached.
	 */
	char	   *(*part) (const struct EngineDescriptor *engine, const char *table);

	/*
	 * Makes it as it shall be, of computed users whose lanes are held; says who is changed. Of
	 * nobody raises what it would of somebody. The score function tells what there shall be and
	 * what there is (OutputState).
	 */
	void		(*settle) (struct Engine *engine, struct Score *scores, int count);
} EngineOutput;

/*
 * What engines of a kind have in common: their code, fixed at compile time. The signals
 * view has user_id and the signals; score turns one row of them into a score, as of a
 * time, which is also what reputation.computation_time() gives to the view. The objects
 * are those of the engine that bears the class's name; another engine has its own, called
 * after it (engine_object()).
 */
typedef struct EngineClass
{
	const char *name;
	const char *signals_view;	/* in the schema reputation */
	const EngineOutput *outputs;	/* the score table is the first one */
	int			noutputs;
	const char *pays;			/* the class of engines of which one's outputs are written, too,
								 * or NULL */
	const char *attach_function;	/* takes the name of another engine as "name" */
	const char *signals;		/* select list over the view as v, with casts */
	int			nsignals;
	const char *default_parameters; /* JSON of algorithm version 1 */
	void	   *(*parse) (const char *engine, Jsonb *parameters);	/* 22023 */
	void		(*score) (const void *weights, TimestampTz now, const Datum *signals,
						  const bool *nulls, ScoreResult *result);

	/*
	 * Appends "signals": {...}, "terms": {...}, and what else there is to say.
	 * Next is the user at the score's next_due_at if nothing is written; NULL: never due.
	 */
	void		(*explain) (StringInfo json, const void *weights, TimestampTz now,
							const struct Score *score, const struct Score *next);
	bool		read_cached;	/* reads of it go through the cache (read_cache.c) */
	bool		timed;			/* the score table has next_due_at, with an index */
	const ScoreColumn *columns;
	int			ncolumns;
	bool		windows;		/* has a column for each of BOARD_PERIODS; else score alone */
} EngineClass;

/*
 * Which engine: a row of reputation.instance, attached or not, and what its objects in
 * the schema reputation are called. Never freed, for nothing in it changes.
 */
typedef struct EngineDescriptor
{
	int			id;
	const char *name;
	const EngineClass *class;
	const char *signals_view;
	const char *score_table;
	const char *audit_table;	/* or NULL */
	const char *attach_call;	/* how it is attached again, for hints */
	const char *tables[MAX_ENGINE_OUTPUTS]; /* of its outputs, but for parts of another's */
} EngineDescriptor;

/* The periods of a board are columns of a score table that has windows. */
#define BOARD_PERIODS 3
extern const char *const board_periods[BOARD_PERIODS];

/* How many of the periods an engine's scores have. */
static inline int
engine_periods(const EngineDescriptor *engine)
{
	return engine->class->windows ? BOARD_PERIODS : 1;
}

/* The column of the score table for one of them. */
static inline const char *
engine_period_column(const EngineDescriptor *engine, int period)
{
	return engine->class->windows ? board_periods[period] : "score";
}

/* An attached engine: its descriptor, its row, its active algorithm. */
typedef struct Engine
{
	const EngineDescriptor *descriptor;
	Oid			role;
	Oid			users;			/* the users table */
	char	   *users_name;		/* qualified and quoted */
	List	   *sources;		/* the tables it captures from */
	char	   *given_away;		/* those that got an owner it may not work for, or NULL */
	char	   *users_key;		/* quoted */
	char	   *key_name;		/* as it is */
	Oid			key_type;
	char	   *key_type_name;
	FmgrInfo	key_input;
	Oid			key_ioparam;
	FmgrInfo	key_output;
	char	   *cached_column;	/* quoted; NULL: there is none in the users table */
	char	   *cached_name;	/* as it is */
	char	   *rank_column;	/* quoted, or NULL */
	char	   *pays_into;		/* the engine whose outputs it writes as well, or NULL */
	char	   *home;
	char	   *suspended_error;
	TimestampTz retry_at;		/* 0: not suspended */
	TimestampTz computed_until; /* of a timed engine (due.c); 0: not known */
	int32		version;		/* of the active algorithm; 0: there is none */
	Jsonb	   *parameters;
	void	   *weights;		/* what descriptor->parse made of them, or NULL */
	int			debounce;		/* ms */
	TimestampTz now;			/* the time of the computation that is on */
} Engine;

/* Why a user was computed, in an audit table; a batch job may have a cause of its own. */
#define CAUSE_EVENT		"event"
#define CAUSE_TIME		"time"
#define CAUSE_MANUAL	"manual"
#define CAUSE_ALGORITHM "algorithm"

/* A computed user: the score, and what is stored. */
typedef struct Score
{
	char	   *user;
	int32		score;
	int32		cached;
	bool		cached_null;
	bool		has_row;		/* in the score table */
	int32		row_score;
	int32		row_version;
	TimestampTz next_due_at;	/* DT_NOEND: never */
	TimestampTz row_due_at;
	ScoreValue *columns;		/* of the score table; NULL when it has none */
	ScoreValue *row_columns;	/* the exact ones among them, as stored, if it has a row */
	OutputState outputs[MAX_ENGINE_OUTPUTS];
	const char *cause;
	bool		audit;			/* written down even when nothing changed */
	bool		stored;			/* set by engine_store: no longer differs */
	bool		changed;		/* set by engine_store: the cached value was written */
	Datum		signals[MAX_SIGNALS];
	bool		nulls[MAX_SIGNALS];
} Score;

/* Who stores scores. */
typedef enum StoreMode
{
	STORE_CLAIMED,				/* holds the users' lanes (queue.c) */
	STORE_SESSION,				/* does not: adds no score rows, and has somebody look again */
	STORE_SESSION_ADDING		/* the same, but adds rows, which others' units pass over */
} StoreMode;

typedef void (*ScoreConsumer) (Engine *engine, Score *scores, int count, void *arg);

extern PGDLLEXPORT void engine_register(const EngineClass *class);
extern const EngineClass *engine_class(const char *name);
extern const EngineClass *engine_class_number(int number);
extern void engine_on_change(void (*changed) (void));
extern Datum reputation_home(PG_FUNCTION_ARGS);
extern const EngineDescriptor *engine_descriptor_of(int id, const char *name, const char *class);
extern const EngineDescriptor *engine_registered(int id, const char *name);
extern const EngineDescriptor *engine_descriptor(const char *name);
extern const EngineDescriptor *engine_of_class(const char *name, const EngineClass *class);
extern PGDLLEXPORT char *engine_object(const EngineDescriptor *engine, const char *of_class);
extern char *engine_paid_table(const EngineClass *class, const char *name, const char *of_class);
extern bool engine_bears_class(const EngineDescriptor *engine);
extern Datum engine_ids(const List *engines);
extern int	engine_earned(const EngineClass *class);
extern List *engine_list(bool wait, bool *skipped);
extern List *engine_chosen(const char *name);
extern Engine *engine_attached(const char *name);
extern Engine *engine_get(const char *name);
extern Engine *engine_remembered(const char *name);
extern Engine *engine_cached(const char *name);
extern uint64 engine_cache_generation(void);
extern void engine_require_users(const Engine *engine);
extern void engine_require_objects(const Engine *engine);
extern void engine_unknown_user(const Engine *engine, const char *key);
extern void engine_require_algorithm(const Engine *engine);
extern void engine_not_attached(const EngineDescriptor *descriptor);
extern void engine_forget_cached(void);

extern PGDLLEXPORT char *engine_key_from_argument(FunctionCallInfo fcinfo, int argno, const Engine *engine);
extern Datum engine_key_datum(const Engine *engine, const char *key);
extern PGDLLEXPORT void engine_append_json_key(StringInfo json, const Engine *engine, const char *key);

typedef struct EngineContext
{
	Oid			user;
	int			security;
	int			settings;
	Jsonb	   *parameters;
	const Engine *engine;
	TimestampTz now;
	bool		bounded;		/* what bound_begin() gave */
} EngineContext;

extern Jsonb *engine_view_parameters(FunctionCallInfo fcinfo, const char *engine);
extern TimestampTz engine_view_time(void);
extern const Engine *engine_computing(void);
extern void engine_enter(const Engine *engine, bool everybody, EngineContext *context);
extern void engine_leave(const EngineContext *context);
extern void engine_failed(const Engine *engine, const EngineContext *context,
						  MemoryContext memory);
extern void owner_enter(FunctionCallInfo fcinfo, EngineContext *context);
extern void owner_enter_computation(FunctionCallInfo fcinfo, EngineContext *context);
extern void owner_leave(const EngineContext *context);

extern uint64 engine_exec(const Engine *engine, bool uncaptured, const char *sql, int nargs,
						  const Oid *types, const Datum *values);
extern uint64 engine_read(const Engine *engine, const char *sql, int nargs, const Oid *types,
						  const Datum *values);
extern uint64 engine_update(const Engine *engine, bool hasty, const char *sql, int nargs,
							const Oid *types, const Datum *values);
extern uint64 engine_exec_all(const Engine *engine, const char *sql);
extern double engine_users_estimate(const Engine *engine);
extern uint64 engine_fetch(const Engine *engine, const char *sql, int rows, Portal *portal);
extern Datum typed_array(Oid type, char **texts, int count);
extern int	engine_compute(Engine *engine, char **keys, int count, Score **scores);
extern int	engine_compute_in_snapshot(Engine *engine, char **keys, int count, Score **scores);
extern Score *engine_foresee(Engine *engine, char *key, TimestampTz when);
extern void engine_scan(Engine *engine, ScoreConsumer consumer, void *arg);
extern void engine_store(Engine *engine, Score *scores, int count, StoreMode mode);
extern void engine_remove_users(Engine *engine, char **keys, int count);
extern void engine_probe(Engine *engine);
extern const char *engine_usable_keys(const Engine *engine, const char *column);
extern bool engine_row_is_free(Engine *engine, const char *key);
extern bool score_output_differs(const Score *score, int output);
extern bool score_outputs_differ(const Score *score);
extern bool score_cached_differs(const Engine *engine, const Score *score);
extern bool score_column_differs(const Engine *engine, const Score *score, int column);
extern bool score_changed(const Engine *engine, const Score *score);
extern bool score_differs(const Engine *engine, const Score *score);

/* engine_parameters.c */
extern void *engine_parse_parameters(const EngineDescriptor *descriptor, Jsonb *parameters);
extern int	engine_debounce(Jsonb *parameters);
extern PGDLLEXPORT double engine_number(const char *engine, Jsonb *parameters,
										const char *name, double otherwise);
extern PGDLLEXPORT double engine_signed_number(const char *engine, Jsonb *parameters,
											   const char *name, double otherwise);
extern PGDLLEXPORT void engine_check_list(const char *engine, Jsonb *parameters,
										  const char *name);
extern PGDLLEXPORT char *engine_string(const char *engine, Jsonb *parameters,
									   const char *name);

/* suspend.c */
extern char *failure_text(const Engine *engine, const ErrorData *error);
extern void engine_suspend(Engine *engine, const ErrorData *error);
extern void engine_suspend_for(Engine *engine, const char *text, int sqlerrcode, long ms);
extern void engine_resume(Engine *engine);

/* follow.c */
extern void follow_init(void);

/* engine_rows.c */
extern void engine_sort_scores(Score **scores, int count, char ***keys, int32 **numbers);
extern void engine_mark_returned(Score **scores, int count, uint64 returned, bool changed);
extern void engine_write_rows(Engine *engine, Score **scores, int count, bool missing,
							  bool hasty);

#endif							/* REPUTATION_ENGINE_H */

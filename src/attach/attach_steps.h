/*
 * attach_steps.h
 *		The steps of an attach, which is spread over attach*.c.
 */
#ifndef REPUTATION_ATTACH_STEPS_H
#define REPUTATION_ATTACH_STEPS_H

#include "attach/attach.h"
#include "attach/source_act.h"

/*
 * A view as it is: the text of its definition, which survives a dump, and a
 * digest of its rule, which survives a renamed column.
 */
typedef struct ViewState
{
	char	   *definition;		/* NULL: there is none */
	char	   *rule;
} ViewState;

extern bool attach_is_text(Oid type);
extern char *attach_detach_call(const char *name, const char *class);
extern void attach_add_name(StringInfo list, const char *name);
extern void attach_check_ids(AttachSpec *spec);
extern void attach_check_privileges(AttachSpec *spec);
extern Oid	attach_role(AttachSpec *spec);
extern void attach_advise_triggers(AttachSpec *spec);
extern bool attach_has_index(Oid table, const char *column);

extern void registry_cancel_work(const EngineDescriptor *engine, const char *why);
extern void registry_require_same_users(AttachSpec *spec);
extern void registry_require_same_tables(AttachSpec *spec);
extern void registry_require_free_columns(AttachSpec *spec);
extern void registry_add_engine(AttachSpec *spec, Oid role, ViewState view);
extern void registry_remove_engine(const EngineDescriptor *engine);
extern int32 registry_add_source(Oid table);
extern void registry_add_capture(AttachSpec *spec, AttachTable *table, int32 source);
extern void registry_computed(const EngineDescriptor *engine);
extern void registry_remove_unused(void);
extern List *registry_captured_tables(const EngineDescriptor *engine);

/* What the triggers of a source are made of. */
typedef struct TriggerSpec
{
	Oid			table;
	int32		source;			/* 0: no engine wants anything of it */
	char	   *columns;		/* what reputation.capture() shall do with them */
	char	   *list;			/* "OF a, b", or "" */
	bool		always;			/* fire on logical apply too */
} TriggerSpec;

/* How long the lock of a source is waited for, by whoever is not asked to (ms). */
#define TRIGGER_LOCK_MS	100

extern TriggerSpec triggers_spec(Oid table);
extern void triggers_register(const TriggerSpec *spec);
extern void triggers_act(Oid table, SourceBody body, void *arg);
extern bool triggers_at_it(void);
extern void triggers_number_columns(void);
extern bool triggers_follow(Oid table);
extern void triggers_make(Oid table, int lock_ms);
extern bool triggers_restore_own(void);
extern void triggers_refresh(FunctionCallInfo fcinfo, Oid table);

#endif							/* REPUTATION_ATTACH_STEPS_H */

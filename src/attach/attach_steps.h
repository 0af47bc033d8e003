/*
 * attach_steps.h
 *		The steps of an attach, which is spread over attach*.c.
 */
#ifndef REPUTATION_ATTACH_STEPS_H
#define REPUTATION_ATTACH_STEPS_H

#include "attach/attach.h"

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
extern void registry_remove_unused(void);
extern List *registry_captured_tables(const EngineDescriptor *engine);

extern void triggers_refresh(FunctionCallInfo fcinfo, Oid table);

#endif							/* REPUTATION_ATTACH_STEPS_H */

/*
 * trust_view.h
 *		The query of the trust engine's signals view.
 */
#ifndef REPUTATION_TRUST_VIEW_H
#define REPUTATION_TRUST_VIEW_H

#include "attach/attach.h"

extern char *trust_signals_query(const char *engine, AttachTable *users,
								 AttachTable *activity);

#endif							/* REPUTATION_TRUST_VIEW_H */

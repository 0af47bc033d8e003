/*
 * guc.h
 *		The settings.
 */
#ifndef REPUTATION_GUC_H
#define REPUTATION_GUC_H

#include "postgres.h"

typedef enum NotifyMode
{
	NOTIFY_OFF,
	NOTIFY_WORKER,
	NOTIFY_WRITER
} NotifyMode;

extern int	guc_workers;		/* workers per database */
extern int	guc_debounce;		/* ms */
extern int	guc_batch_size;		/* users per unit of work */
extern int	guc_drain_interval; /* ms between two drains under load */
extern int	guc_application_timeout;	/* ms */
extern int	guc_max_attempts;	/* failures until a dead letter */
extern int	guc_job_run_retention;
extern int	guc_audit_retention;	/* days */
extern int	guc_notify;			/* NotifyMode */
extern int	guc_cache_size;		/* kB */
extern int	guc_cache_ttl;		/* ms */
extern int	guc_row_hints;		/* kB */

extern void guc_init(void);

#endif							/* REPUTATION_GUC_H */

/*
 * badges.h
 *		What the files of the badges engine share.
 */
#ifndef REPUTATION_BADGES_H
#define REPUTATION_BADGES_H

#include "engine/engine.h"

/* The signals: the metrics, in the order of the view, and two arrays of slugs. */
enum
{
	BADGE_METRICS = 6,
	BADGE_SIGNAL_HELD = BADGE_METRICS, BADGE_SIGNAL_DUE, BADGE_SIGNALS
};

/* Users with a badge each. */
typedef struct BadgeChanges
{
	char	  **users;
	char	  **slugs;
	int			count;
	int			size;
} BadgeChanges;

/* badges_engine.c */
extern const EngineClass badges_class;

/* badges_settle.c */
extern const EngineApart badges_apart;
extern int	badges_slugs(Datum array, char ***slugs);
extern void badges_compare(const Score *score, BadgeChanges *gained, BadgeChanges *unpaid,
						   BadgeChanges *lost);

#endif							/* REPUTATION_BADGES_H */

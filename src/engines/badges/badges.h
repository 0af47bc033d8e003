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

/* The outputs of the class. */
enum
{
	BADGE_OUTPUT_SCORES, BADGE_OUTPUT_BADGE, BADGE_OUTPUT_USER_BADGE, BADGE_OUTPUT_BONUS,
	BADGE_OUTPUTS
};

/* What a set of badges works with. */
typedef struct BadgeTables
{
	const char *badge;
	const char *user_badge;
	const char *scores;
	const char *ledger;			/* of the points engine that it pays into */
	const char *prefix;			/* of its keys in there */
} BadgeTables;

/* badges_engine.c */
extern const EngineClass badges_class;

/* badges_tables.c */
extern BadgeTables badges_tables(const Engine *engine);
extern char *badges_key_prefix(const EngineDescriptor *engine);

/* badges_settle.c */
extern void badges_settle(Engine *engine, Score *scores, int count);
extern char *badges_bonuses(const EngineDescriptor *engine, const char *ledger);
extern int	badges_slugs(Datum array, char ***slugs);
extern void badges_compare(const Score *score, BadgeChanges *gained, BadgeChanges *unpaid,
						   BadgeChanges *lost);

#endif							/* REPUTATION_BADGES_H */

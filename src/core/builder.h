/*
 * builder.h
 *		The builder score's formula. Pure C.
 */
#ifndef REPUTATION_CORE_BUILDER_H
#define REPUTATION_CORE_BUILDER_H

#include <stdint.h>

/* The weights; the defaults are builder_default_weights(). */
typedef struct BuilderWeights
{
	double		own;			/* points per own shipped project */
	double		collab;			/* points per shipped collaboration */
	double		vouch;			/* points per vouch up to vouch_full */
	double		vouch_full;		/* vouches that count in full */
	double		vouch_more;		/* points per vouch beyond */
	double		impact;			/* factor of log10(1 + impact) */
	double		impact_max;		/* upper bound of the impact term */
} BuilderWeights;

typedef struct BuilderSignals
{
	int64_t		own_shipped;
	int64_t		collab_shipped;
	int64_t		vouches;
	double		impact;
} BuilderSignals;

/* The terms whose sum is the score, before the final clamp. */
typedef struct BuilderTerms
{
	double		own;
	double		collab;
	double		vouches;
	double		impact;
} BuilderTerms;

extern BuilderWeights builder_default_weights(void);
extern BuilderTerms builder_terms(const BuilderWeights *weights, const BuilderSignals *signals);
extern int32_t builder_total(const BuilderTerms *terms);

#endif							/* REPUTATION_CORE_BUILDER_H */

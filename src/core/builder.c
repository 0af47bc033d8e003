/*
 * builder.c
 *		The builder score: what somebody shipped, alone and with others, who
 *		vouches for it, and how many depend on it.
 *
 * own * own_shipped + collab * collab_shipped
 *	 + vouch * min(vouches, vouch_full) + vouch_more * max(vouches - vouch_full, 0)
 *	 + min(impact_max, round(impact * log10(1 + impact)))
 *
 * Source: docs/SPEC.md, section "Builder score".
 */
#include "builder.h"

#include <math.h>

/*
 * builder_default_weights -- the weights of algorithm version 1.
 */
BuilderWeights
builder_default_weights(void)
{
	BuilderWeights weights = {
		.own = 10,
		.collab = 6,
		.vouch = 5,
		.vouch_full = 10,
		.vouch_more = 1,
		.impact = 10,
		.impact_max = 50
	};

	return weights;
}

/*
 * builder_terms -- the four terms of the score, in points.
 *
 * A negative or undefined impact counts as 0, an infinite one as impact_max.
 */
BuilderTerms
builder_terms(const BuilderWeights *weights, const BuilderSignals *signals)
{
	double		vouches = (double) signals->vouches;
	BuilderTerms terms;

	terms.own = weights->own * (double) signals->own_shipped;
	terms.collab = weights->collab * (double) signals->collab_shipped;
	terms.vouches = weights->vouch * fmin(vouches, weights->vouch_full) +
		weights->vouch_more * fmax(vouches - weights->vouch_full, 0);
	terms.impact = 0;
	if (signals->impact > 0)
		terms.impact = fmin(weights->impact_max,
							round(weights->impact * log10(1 + signals->impact)));
	return terms;
}

/*
 * builder_total -- the score: the sum of the terms, rounded half away from
 * zero, clamped to 0 .. INT32_MAX.
 */
int32_t
builder_total(const BuilderTerms *terms)
{
	double		sum = round(terms->own + terms->collab + terms->vouches + terms->impact);

	if (!(sum > 0))
		return 0;
	if (sum >= (double) INT32_MAX)
		return INT32_MAX;
	return (int32_t) sum;
}

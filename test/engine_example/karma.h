/*
 * karma.h
 *		The formula of karma.
 */
#ifndef KARMA_H
#define KARMA_H

#include <stdint.h>

typedef struct KarmaWeights
{
	double		helpful;		/* points for a helpful answer */
	double		flagged;		/* points off for a flagged one */
} KarmaWeights;

extern int32_t karma_score_of(const KarmaWeights *weights, int64_t helpful, int64_t flagged);

#endif							/* KARMA_H */

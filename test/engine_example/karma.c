/*
 * karma.c
 *		The formula of karma: pure C, no PostgreSQL.
 */
#include "karma.h"

#include <math.h>

/*
 * karma_score_of -- helpful answers less flagged ones, weighted, rounded half away from
 * zero; at least 0.
 */
int32_t
karma_score_of(const KarmaWeights *weights, int64_t helpful, int64_t flagged)
{
	double		score = round(weights->helpful * helpful - weights->flagged * flagged);

	if (score < 0)
		return 0;
	return score > INT32_MAX ? INT32_MAX : (int32_t) score;
}

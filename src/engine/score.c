/*
 * score.c
 *		What of a computed user differs from what is stored.
 */
#include "postgres.h"

#include "engine/engine.h"

/*
 * score_output_differs -- is an output compared, and not as it shall be?
 */
bool
score_output_differs(const Score *score, int output)
{
	const OutputState *state = &score->outputs[output];

	return state->due != NULL && strcmp(state->due, state->held) != 0;
}

/*
 * score_outputs_differ -- is any?
 */
bool
score_outputs_differ(const Score *score)
{
	for (int i = 0; i < MAX_ENGINE_OUTPUTS; i++)
	{
		if (score_output_differs(score, i))
			return true;
	}
	return false;
}

/*
 * score_cached_differs -- is there a cached column, and not with the score?
 */
bool
score_cached_differs(const Engine *engine, const Score *score)
{
	return engine->cached_column != NULL &&
		(score->cached_null || score->cached != score->score);
}

/*
 * score_column_differs -- is one of the engine's own columns to be compared, and
 * another in the score row, which is there?
 */
bool
score_column_differs(const Engine *engine, const Score *score, int column)
{
	const ScoreColumn *c = &engine->descriptor->class->columns[column];
	ScoreValue	stored = score->row_columns[column];
	ScoreValue	value = score->columns[column];

	if (!c->exact)
		return false;
	if (c->kind != COLUMN_TEXT)
		return stored.number != value.number;
	return stored.text == NULL || strcmp(stored.text, value.text) != 0;
}

/*
 * score_changed -- does the stored score row, as far as it says the same until
 * next_due_at, differ from the score?
 */
bool
score_changed(const Engine *engine, const Score *score)
{
	const EngineDescriptor *d = engine->descriptor;

	if (!score->has_row || score->row_score != score->score ||
		score->row_version != engine->version)
		return true;
	for (int i = 0; i < d->class->ncolumns; i++)
	{
		if (score_column_differs(engine, score, i))
			return true;
	}
	return false;
}

/*
 * score_differs -- is anything stored for the user that is not the score?
 */
bool
score_differs(const Engine *engine, const Score *score)
{
	return score_cached_differs(engine, score) || score->row_due_at != score->next_due_at ||
		score_outputs_differ(score) || score_changed(engine, score);
}

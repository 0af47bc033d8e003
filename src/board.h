/*
 * board.h
 *		Leaderboards.
 */
#ifndef REPUTATION_BOARD_H
#define REPUTATION_BOARD_H

#include "engine.h"
#include "rank_tree.h"

typedef enum BoardTies
{
	TIES_RANK,					/* 1, 1, 3 */
	TIES_DENSE,					/* 1, 1, 2 */
	TIES_ROW					/* 1, 2, 3 */
} BoardTies;

/* A period of a board. */
typedef struct Board
{
	char	   *name;
	BoardTies	ties;
	const Engine *engine;
	int			period;
	RankSource	source;
} Board;

extern Board board_find(FunctionCallInfo fcinfo, int board_arg, int period_arg);
extern const char *board_column(const Board *board);
extern void board_refresh_caches(List *engines, bool all);
extern bool board_caches_are_stale(const List *engines);
extern bool board_fold_deltas(List *engines);

#endif							/* REPUTATION_BOARD_H */

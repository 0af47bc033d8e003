/*
 * board.h
 *		Leaderboards.
 */
#ifndef REPUTATION_BOARD_H
#define REPUTATION_BOARD_H

#include "engine/engine.h"
#include "rank/rank_tree.h"

typedef enum BoardTies
{
	TIES_RANK,					/* 1, 1, 3 */
	TIES_DENSE,					/* 1, 1, 2 */
	TIES_ROW					/* 1, 2, 3 */
} BoardTies;

/* A period of a board, opened. */
typedef struct Board
{
	char		name[NAMEDATALEN];
	BoardTies	ties;
	const Engine *engine;
	int			period;
	RankSource	source;
	bool		tracked;		/* the tree is kept */
	Oid			score_type;		/* int or bigint */
	AttrNumber	user;			/* the column of the user */
	AttrNumber	reached;		/* the column that says since when */
	Oid			key_index;		/* the primary key */
	Oid			order_index;	/* the rows in the board's order; invalid: there is none */
	Relation	table;			/* the score table */
} Board;

/* Where a user is on a board. */
typedef struct Standing
{
	int64		score;
	TimestampTz reached;
	RankPlace	place;
} Standing;

/* board.c */
extern void board_refresh_caches(List *engines, bool all);
extern bool board_caches_are_stale(const List *engines);
extern bool board_fold_deltas(List *engines);

/* board_lookup.c */
extern void board_open(FunctionCallInfo fcinfo, int board_arg, int period_arg, Board *board);
extern void board_close(Board *board);
extern const char *board_column(const Board *board);
extern const char *board_score_argument(const Board *board);
extern char *board_equals(const Board *board, const char *sign);

/* rank_read.c */
extern bool rank_find_user(FunctionCallInfo fcinfo, const Board *board, bool all, char **key,
						   Standing *standing);
extern RankPlace rank_find_place(const Board *board, int64 score, bool all);
extern int64 rank_count_before(FunctionCallInfo fcinfo, const Board *board, const char *key,
							   const Standing *standing);

#endif							/* REPUTATION_BOARD_H */

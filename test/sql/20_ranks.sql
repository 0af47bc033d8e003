-- Ranks where trees come and go: rollbacks, dropped boards, restores, replicas.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('ranks');
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 300) i;
SELECT points_attach() IS NOT NULL AS attached;
SELECT reputation_process();

-- All that a transaction noted is rolled back; the next one does not go by its memory.
BEGIN;
SAVEPOINT s;
SELECT award_points(1, 5), points_recalc(1);
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT award_points(2, 5), points_recalc(2);
SELECT count(*) FROM pg_class a, pg_class b WHERE a.oid = 0 OR b.relname > a.relname HAVING count(*) < 0;
SELECT calculate_user_rank(2), calculate_user_rank(1);
COMMIT;
SELECT calculate_user_rank(2), calculate_user_rank(1);
SELECT * FROM reputation_verify('points');

-- Whose rank is not that of a count; for each board a row, if it is wrong.
CREATE FUNCTION test.wrong_ranks(board text, scores regclass, score text DEFAULT 'all_time', OUT users bigint, OUT wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT count(*), count(*) FILTER (WHERE calculate_user_rank(user_id, board => $1) IS DISTINCT FROM rank)
		FROM (SELECT user_id, rank() OVER (ORDER BY %s DESC) AS rank FROM %s) s', score, scores) INTO users, wrong USING board;
END $$;

-- Made, filled and dropped in one transaction: nothing stays that the next board of its number would count.
SET ROLE regress_app;
CREATE TABLE likes (user_id int, points int, created_at timestamptz);
CREATE INDEX ON likes (user_id);
RESET ROLE;
INSERT INTO likes SELECT i, i % 50, '2025-12-31' FROM generate_series(1, 300) i;
BEGIN;
SELECT leaderboard_create('gone', 'likes') > 0 AS created;
SELECT reputation_process('gone');
SELECT leaderboard_drop('gone');
COMMIT;
SELECT * FROM reputation.rank_node WHERE tree / 4 = 16;
SELECT leaderboard_create('kept', 'likes') > 0 AS created;
SELECT reputation_process('kept');
SELECT * FROM test.wrong_ranks('kept', 'reputation.board_kept_scores');
-- The next one of the same number in the transaction that drops it; and rolled back.
BEGIN;
UPDATE likes SET points = 1000 WHERE user_id = 7;
SAVEPOINT s;
SELECT leaderboard_drop('kept');
SELECT leaderboard_create('next', 'likes') > 0 AS created;
SELECT reputation_process('next');
SELECT * FROM test.wrong_ranks('next', 'reputation.board_next_scores');
ROLLBACK TO s;
SELECT * FROM test.wrong_ranks('kept', 'reputation.board_kept_scores');
COMMIT;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.wrong_ranks('kept', 'reputation.board_kept_scores');
BEGIN;
SELECT reputation.rank_rebuild('kept');
SELECT leaderboard_drop('kept');
SELECT leaderboard_create('next', 'likes') > 0 AS created;
SELECT reputation_process('next');
COMMIT;
SELECT * FROM test.wrong_ranks('next', 'reputation.board_next_scores');
SELECT * FROM reputation_verify();
SELECT leaderboard_drop('next');

-- A board over scores that are there has its ranks at once; a table that is emptied has others at once.
SELECT builder_score_attach() IS NOT NULL AS attached;
INSERT INTO projects SELECT i, i % 50 * 2 + 1, 'shipped' FROM generate_series(1, 120) i;
SELECT reputation_process() > 0 AS computed;
BEGIN;
UPDATE reputation.builder_scores SET score = score + 7 WHERE user_id = '200';
SELECT leaderboard_create('builders', 'builder');
SELECT * FROM test.wrong_ranks('builders', 'reputation.builder_scores', 'score');
UPDATE reputation.builder_scores SET score = score + 7 WHERE user_id = '199';
SELECT * FROM test.wrong_ranks('builders', 'reputation.builder_scores', 'score');
ROLLBACK;
SELECT leaderboard_create('builders', 'builder');
SELECT * FROM test.wrong_ranks('builders', 'reputation.builder_scores', 'score');
BEGIN;
SELECT award_points(3, 50), points_recalc(3);
SAVEPOINT s;
SELECT award_points(4, 60), points_recalc(4);
TRUNCATE reputation.points_scores;
INSERT INTO reputation.points_scores VALUES ('1', 5, 5, 0, 0, '-infinity', 1, '2026-01-01', NULL), ('2', 6, 6, 0, 0, '-infinity', 1, '2026-01-01', NULL);
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
ROLLBACK TO s;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
SELECT calculate_user_rank(3);
COMMIT;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
SELECT * FROM reputation_verify();
-- As between a restore and the first drain.
DELETE FROM reputation.rank_node WHERE tree = 16;
SELECT calculate_user_rank(5);
SELECT * FROM leaderboard("limit" => 1);
SELECT reputation.rank_make('points');
SELECT calculate_user_rank(3), calculate_user_rank(2);
SELECT leaderboard_drop('builders');
DROP FUNCTION test.wrong_ranks;
DROP TABLE likes;
CALL test.clean('ranks');

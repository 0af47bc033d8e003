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
SELECT * FROM test.wrong_ranks('kept', 'reputation.kept_board_scores');
-- The next one of the same number in the transaction that drops it; and rolled back.
BEGIN;
UPDATE likes SET points = 1000 WHERE user_id = 7;
SAVEPOINT s;
SELECT leaderboard_drop('kept');
SELECT leaderboard_create('next', 'likes') > 0 AS created;
SELECT reputation_process('next');
SELECT * FROM test.wrong_ranks('next', 'reputation.next_board_scores');
ROLLBACK TO s;
SELECT * FROM test.wrong_ranks('kept', 'reputation.kept_board_scores');
COMMIT;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.wrong_ranks('kept', 'reputation.kept_board_scores');
BEGIN;
SELECT reputation.rank_rebuild('kept');
SELECT leaderboard_drop('kept');
SELECT leaderboard_create('next', 'likes') > 0 AS created;
SELECT reputation_process('next');
COMMIT;
SELECT * FROM test.wrong_ranks('next', 'reputation.next_board_scores');
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
-- A score that is the same when it is computed anew was reached when it was.
BEGIN;
SET LOCAL reputation.clock = '2026-01-02 00:00:00+00';
INSERT INTO reputation.algorithm (engine, version, parameters) SELECT engine, 2, parameters FROM reputation.algorithm WHERE engine = 'builder';
SELECT algorithm_activate('builder', 2) > 0 AS activated;
UPDATE projects SET status = 'draft' WHERE id = 1;
SELECT builder_score_recalc_all() AS changed;
SELECT count(*) > 1 AS computed, count(*) FILTER (WHERE reached_at = computed_at) AS reached FROM reputation.builder_scores WHERE computed_at = '2026-01-02 00:00:00+00';
ROLLBACK;
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

-- Where a row was seen is a hint and no more: rows move, others take their places, the table is written anew.
UPDATE reputation.points_scores SET score = all_time + user_id::int, all_time = all_time + user_id::int;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
DELETE FROM reputation.points_scores WHERE user_id::int % 2 = 0;
VACUUM reputation.points_scores;
INSERT INTO reputation.points_scores SELECT i::text, i, i, 0, 0, '-infinity', 1, '2026-01-01', NULL FROM generate_series(600, 2, -2) i;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
DELETE FROM reputation.points_scores WHERE user_id::int > 300;
SELECT calculate_user_rank(600);
VACUUM FULL reputation.points_scores;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE reputation.points_scores SET all_time = all_time + 1000 WHERE user_id = '5';
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
ROLLBACK;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
SELECT reputation_repair('points') > 0 AS repaired;

-- The triggers fire on a replica, too; a board whose trigger does not says so.
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO reputation.points_scores SELECT i::text, i, i, 0, 0, '-infinity', 1, '2026-01-01', NULL FROM generate_series(1001, 1009) i;
COMMIT;
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');
SELECT check_name FROM reputation_status() WHERE check_name LIKE 'rank%';
ALTER TABLE reputation.points_scores ENABLE TRIGGER rank_track, DISABLE TRIGGER rank_track_truncate;
SELECT * FROM reputation_status() WHERE check_name LIKE 'rank%';
SELECT calculate_user_rank(3);
SELECT engine_name, user_id, item, cached, expected FROM reputation_verify('points') WHERE item LIKE 'trigger%' ORDER BY item;
-- Nobody is kept from computing by a cache that cannot be made.
SELECT award_points(8, 1);
SET client_min_messages = error;
SELECT reputation_process();
RESET client_min_messages;
DELETE FROM reputation.points_scores WHERE user_id > '1000' AND length(user_id) = 4;
SELECT reputation_repair('points') > 0 AS repaired;
SELECT calculate_user_rank(3);
SELECT count(*) FROM reputation_verify('points');
DROP TRIGGER rank_track ON reputation.points_scores;
SELECT item, cached, expected FROM reputation_verify('points');
SELECT reputation_repair('points') > 0 AS repaired;
SELECT check_name FROM reputation_status() WHERE check_name LIKE 'rank%';
SELECT * FROM test.wrong_ranks('points', 'reputation.points_scores');

-- Ids of every length, by the index and by a query: the list is the table's.
BEGIN;
INSERT INTO reputation.points_scores
SELECT left(translate(string_agg(md5(n::text || i), ''), '0123456789', 'ghijklmnop'), n), 0, 5000 + n % 7, 0, 0, timestamptz '2026-01-01' - n * interval '1 s', 1, '2026-01-01', NULL
FROM unnest('{1,2,3,4,5,6,7,8,9,15,16,17,125,126,127,128,129,1023,1024}'::int[]) n, generate_series(1, 32) i GROUP BY n;
CREATE FUNCTION test.wrong_rows(OUT rows bigint, OUT wrong bigint) LANGUAGE sql AS $$
	SELECT count(l.user_id), count(*) FILTER (WHERE listed IS DISTINCT FROM stored)
	FROM (SELECT row_number() OVER () AS n, row (rank, user_id, score, reached_at)::text AS listed, user_id FROM leaderboard('points', 'all_time', 1000)) l
	FULL JOIN (SELECT row_number() OVER (ORDER BY all_time DESC, reached_at, user_id) AS n, row (rank() OVER (ORDER BY all_time DESC), user_id, all_time, reached_at)::text AS stored
		FROM reputation.points_scores) t USING (n)
$$;
SELECT wrong, rows >= 319 AS all FROM test.wrong_rows();
SELECT count(*), max(length(a.user_id)) FROM leaderboard_around(1, 400) a;
DROP INDEX reputation.points_scores_all_time;
SELECT wrong, rows >= 319 AS all FROM test.wrong_rows();
ROLLBACK;

-- What is for a board over a table.
SELECT leaderboard_create('more', 'builder', rank_column => 'nonsense');
SELECT leaderboard_create('more', 'builder', users => 'nowhere');
SELECT leaderboard_create('more', 'builder', columns => '{"x": 1}');
SELECT leaderboard_create('more', 'builder', fire => 'bogus');
SELECT leaderboard_create('more', 'builders', zone => 'UTC');
SELECT leaderboard_create('more', 'likes', zone => 'CET');
SELECT leaderboard_create('more', 'likes', zone => 'UTC+2');
SELECT leaderboard_create('more', 'likes', zone => 'Berlin1');
SELECT leaderboard_create('more', 'likes', zone => 'Etc/Nowhere+2');
SELECT leaderboard_create('more', 'likes', zone => 'Etc/GMT-2') > 0 AS created;
SELECT leaderboard_drop('more');
SELECT leaderboard_create('more', 'likes', zone => 'EST') > 0 AS created;
SELECT leaderboard_drop('more');
-- Another board for a source.
SELECT leaderboard_create('more', 'builders', ties => 'dense');
SELECT leaderboard_create('yet_more', 'more');
SELECT name, engine, ties FROM reputation.board ORDER BY 1;
SELECT leaderboard_drop('more'), leaderboard_drop('yet_more');
SELECT leaderboard_create('trust', 'points');
SELECT leaderboard_create('builder', 'builder');
SELECT leaderboard_drop('builder');
-- Numbers that are no engine's.
SELECT reputation.board_touch(100000000);
SELECT reputation.rank_drop(-1);

-- The job of a board over scores; with it goes what nobody refreshes, whatever is attached.
DELETE FROM reputation.schedule;
SELECT leaderboard_drop('builders');
SELECT leaderboard_create('builders', 'builder');
SELECT job_name, every, started_by FROM reputation.schedule;
SELECT DISTINCT board FROM reputation.leaderboard_cache ORDER BY 1;
SELECT points_detach();
SET reputation.clock = '2026-01-01 02:00:00+00';
CALL reputation_run('leaderboards');
SELECT DISTINCT board FROM reputation.leaderboard_cache ORDER BY 1;
SELECT points_attach() IS NOT NULL AS attached;
-- So it does when the builder is detached from under its board, and of a board that is nobody's; not before the hour
-- is over; and of an engine that is attached, if nobody refreshes it.
SELECT reputation_process() >= 0 AS computed;
SELECT builder_score_detach();
INSERT INTO reputation.leaderboard_cache SELECT 'nobodys', period, position, rank, user_id, score, reached_at, refreshed_at
FROM reputation.leaderboard_cache WHERE board = 'points' AND position = 1;
SET reputation.clock = '2026-01-01 03:00:00+00';
CALL reputation_run('leaderboards');
SELECT board, min(refreshed_at) AS refreshed_at FROM reputation.leaderboard_cache GROUP BY 1 ORDER BY 1;
UPDATE reputation.leaderboard_cache SET refreshed_at = '2025-12-31' WHERE board = 'points';
SET reputation.clock = '2026-01-01 03:00:00.000001+00';
SELECT reputation.board_clean_cache();
SELECT board, min(refreshed_at) AS refreshed_at FROM reputation.leaderboard_cache GROUP BY 1 ORDER BY 1;
CALL reputation_run('leaderboards');
-- A score's last board that is dropped takes its own at once; when no engine is left the job does it.
INSERT INTO reputation.leaderboard_cache SELECT 'builders', period, position, rank, user_id, score, reached_at, '2026-01-01 03:00:00+00'
FROM reputation.leaderboard_cache WHERE board = 'points' AND position = 1;
SELECT leaderboard_drop('builders');
SELECT DISTINCT board FROM reputation.leaderboard_cache ORDER BY 1;
SELECT points_detach();
SELECT count(*) FROM reputation.engine;
SELECT reputation.run_job('leaderboards', 'worker');
SELECT DISTINCT board FROM reputation.leaderboard_cache ORDER BY 1;
SELECT points_attach() IS NOT NULL AS attached;

-- The application's role awards; a reader sees the cache.
CREATE ROLE regress_writer NOLOGIN IN ROLE reputation_writer;
CREATE ROLE regress_reader NOLOGIN IN ROLE reputation_reader;
SET ROLE regress_writer;
SELECT award_points(9, 1, 'w', 'w'), revoke_points(9, 'w');
RESET ROLE;
SET ROLE regress_reader;
SELECT count(*) >= 0 AS seen FROM reputation.leaderboard_cache;
SELECT award_points(9, 1);
RESET ROLE;
DROP ROLE regress_writer, regress_reader;
DROP FUNCTION test.wrong_ranks;
DROP TABLE likes;
CALL test.clean('ranks');

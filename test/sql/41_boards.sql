-- Boards: exact ranks of everybody, over points, scores and tables; ties, periods, neighbours, the cache.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('boards');
SELECT calculate_user_rank(1);
SELECT * FROM leaderboard();
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 300) i;
SELECT points_attach() IS NOT NULL AS attached;
SELECT reputation_process();

-- Everybody's rank against rank() over the ledger, for each period; and by the other rules for ties.
CREATE FUNCTION test.rank_drift(board text DEFAULT 'points', source text DEFAULT 'reputation.point_ledger', OUT period text, OUT listed bigint, OUT wrong bigint, OUT wrong_dense bigint, OUT wrong_row bigint)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	since timestamptz;
BEGIN
	FOR period, since IN VALUES ('all_time', '-infinity'::timestamptz), ('weekly', reputation.clock() - interval '168 h'), ('daily', reputation.clock() - interval '24 h') LOOP
		EXECUTE format($q$
			WITH sums AS (
				SELECT u.id, coalesce(sum(l.points), 0) AS points, max(l.created_at) AS reached
				FROM users u LEFT JOIN %2$s l ON l.user_id = u.id::text AND l.created_at <= reputation.clock() AND l.created_at > $2
				GROUP BY 1
			), ranks AS (
				SELECT id, rank() OVER (ORDER BY points DESC) AS rank, dense_rank() OVER (ORDER BY points DESC) AS dense,
					row_number() OVER (ORDER BY points DESC, coalesce(reached, '-infinity'), id::text COLLATE "C") AS row
				FROM sums WHERE $1 = 'all_time' OR points > 0
			)
			SELECT count(r.id), count(*) FILTER (WHERE calculate_user_rank(u.id, $1, %1$L) IS DISTINCT FROM r.rank),
				count(*) FILTER (WHERE calculate_user_rank(u.id, $1, %1$L || '_dense') IS DISTINCT FROM r.dense),
				count(*) FILTER (WHERE calculate_user_rank(u.id, $1, %1$L || '_row') IS DISTINCT FROM r.row)
			FROM users u LEFT JOIN ranks r USING (id)$q$, board, source)
		INTO listed, wrong, wrong_dense, wrong_row USING period, since;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT leaderboard_create('points_dense', 'points', ties => 'dense'), leaderboard_create('points_row', 'points', ties => 'row');
SELECT * FROM test.rank_drift();
SELECT count(award_points(i % 200 + 1, i * i % 97, 'test', 'a' || i)) FROM generate_series(1, 500) i;
SELECT reputation_process();
SELECT * FROM test.rank_drift();
SET reputation.clock = '2026-01-01 18:00:00+00';
SELECT count(award_points(i, i % 7 - 3, 'test', 'b' || i)) FROM generate_series(1, 300) i;
SELECT count(award_points(i, 100000 * i, 'test', 'c' || i)) FROM generate_series(1, 10) i;
SELECT reputation_process();
SELECT * FROM test.rank_drift();
SET reputation.clock = '2026-01-02 00:00:00+00';
SELECT reputation_process();
SELECT * FROM test.rank_drift();
SELECT count(revoke_points(i % 200 + 1, 'a' || i)) FROM generate_series(1, 500, 3) i;
DELETE FROM users WHERE id % 10 = 0;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.rank_drift();
SET reputation.clock = '2026-01-08 12:00:00+00';
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.rank_drift();
SELECT * FROM reputation_verify();

-- What is asked for, and what is not there.
SELECT calculate_user_rank('1'), calculate_user_rank(1, 'weekly'), calculate_user_rank(1, 'daily'), calculate_user_rank(1, board => 'points_row');
SELECT calculate_user_rank(10);
SELECT calculate_user_rank(1, 'monthly');
SELECT calculate_user_rank(1, board => 'none');
SELECT calculate_user_rank(NULL::int);
SELECT calculate_user_rank(1, NULL);
SELECT calculate_user_rank('x');
SELECT * FROM leaderboard("limit" => 3);
SELECT * FROM leaderboard('points', 'weekly', 2, 1);
SELECT * FROM leaderboard('points', 'daily');
SELECT * FROM leaderboard("limit" => -1);
-- The list agrees with the ranks, wherever it begins.
SELECT b, o, count(*), count(*) FILTER (WHERE l.rank IS DISTINCT FROM calculate_user_rank(l.user_id, 'all_time', b)) AS wrong
FROM unnest('{points,points_dense,points_row}'::text[]) b, unnest('{0,7,150}'::int[]) o, leaderboard(b, 'all_time', 100, o) l GROUP BY 1, 2 ORDER BY 1, 2;
-- And so do everybody's neighbours.
SELECT b, p, count(*), count(*) FILTER (WHERE a.rank IS DISTINCT FROM l.rank OR a.user_id IS DISTINCT FROM l.user_id) AS wrong
FROM unnest('{points,points_dense,points_row}'::text[]) b, unnest('{all_time,weekly}'::text[]) p, users u
CROSS JOIN LATERAL (SELECT o.n FROM (SELECT user_id, row_number() OVER () AS n FROM leaderboard(b, p, 1000)) o WHERE o.user_id = u.id::text) me
CROSS JOIN LATERAL (SELECT *, row_number() OVER () AS i FROM leaderboard_around(u.id, 4, p, b)) a
LEFT JOIN LATERAL (SELECT * FROM leaderboard(b, p, 1, greatest(me.n - 5, 0) + a.i - 1)) l ON true GROUP BY 1, 2 ORDER BY 1, 2;
-- However the list is read: from rows, from the index alone, by a sort; an index of some of the rows is none.
CREATE VIEW test.lists AS SELECT p AS period, o, row_number() OVER (PARTITION BY p, o) AS n, l.*
FROM unnest('{all_time,weekly,daily}'::text[]) p, unnest('{0,90}'::int[]) o, leaderboard('points', p, 80, o) l;
CREATE TABLE test.list AS TABLE test.lists;
SELECT period, o, count(*) FROM test.list GROUP BY 1, 2 ORDER BY 1, 2;
VACUUM reputation.points_scores;
SELECT count(*) AS wrong FROM ((TABLE test.list EXCEPT TABLE test.lists) UNION ALL (TABLE test.lists EXCEPT TABLE test.list)) x;
BEGIN;
DELETE FROM reputation.points_scores WHERE user_id = '9';
SELECT rank, user_id FROM leaderboard("limit" => 2);
ROLLBACK;
SELECT rank, user_id FROM leaderboard("limit" => 2);
BEGIN;
DROP INDEX reputation.points_scores_all_time, reputation.points_scores_weekly, reputation.points_scores_daily;
CREATE INDEX ON reputation.points_scores (all_time DESC, reached_at, user_id) WHERE all_time > 100;
CREATE INDEX ON reputation.points_scores (weekly DESC, reached_at, user_id) WHERE weekly > 3;
CREATE INDEX ON reputation.points_scores (daily DESC, reached_at);
SELECT count(*) AS wrong FROM ((TABLE test.list EXCEPT TABLE test.lists) UNION ALL (TABLE test.lists EXCEPT TABLE test.list)) x;
ROLLBACK;
DROP VIEW test.lists;
DROP TABLE test.list;
SELECT * FROM leaderboard_around(1, 1, 'daily');
SELECT * FROM leaderboard_around(1, -1);
SELECT * FROM leaderboard_around(10);
SELECT leaderboard_percentile(u), leaderboard_percentile(u, 'weekly') FROM unnest('{10,1,2,299}'::int[]) u WHERE u <> 10;
SELECT count(*) FILTER (WHERE leaderboard_percentile(id) <> round(100 * share::numeric, 2)) AS wrong
FROM (SELECT u.id, (SELECT count(*) FROM reputation.points_scores o WHERE o.all_time < s.all_time)::float8 / (count(*) OVER () - 1) AS share
	FROM users u JOIN reputation.points_scores s ON s.user_id = u.id::text) x;

-- In the transaction that changes them, and rolled back in parts.
BEGIN;
SELECT award_points(299, 5000000);
SELECT points_recalc(299), calculate_user_rank(299), calculate_user_rank(9);
SAVEPOINT s;
SELECT award_points(298, 6000000);
SELECT points_recalc(298), calculate_user_rank(298), calculate_user_rank(299), calculate_user_rank(9, 'all_time', 'points_dense');
ROLLBACK TO s;
SELECT calculate_user_rank(298) > 100 AS back, calculate_user_rank(299);
SAVEPOINT t;
SELECT award_points(297, 7000000);
SELECT points_recalc(297);
RELEASE t;
COMMIT;
SELECT * FROM test.rank_drift();
SELECT * FROM reputation_verify();
BEGIN;
SELECT award_points(296, 8000000);
SELECT points_recalc(296);
ROLLBACK;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.rank_drift();

-- The cache has the first hundred; what nobody refreshes for an hour goes.
SELECT board, period, count(*), min(position), max(position) FROM reputation.leaderboard_cache GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) AS wrong FROM (
	(SELECT 'points', position::bigint, rank, user_id, score, reached_at FROM reputation.leaderboard_cache WHERE board = 'points' AND period = 'all_time'
	EXCEPT SELECT 'points', row_number() OVER (), l.* FROM leaderboard() l)
	UNION ALL (SELECT 'points', row_number() OVER (), l.* FROM leaderboard() l
	EXCEPT SELECT 'points', position::bigint, rank, user_id, score, reached_at FROM reputation.leaderboard_cache WHERE board = 'points' AND period = 'all_time')) x;
SET reputation.clock = '2026-01-16 00:00:00+00';
SELECT reputation_process() > 0 AS computed;
SELECT board, period, count(*) FROM reputation.leaderboard_cache GROUP BY 1, 2 ORDER BY 1, 2;

-- Over a score: an index and a trigger on the score table are made, and go with the last board.
SELECT leaderboard_create('builders', 'builder');
SELECT builder_score_attach() IS NOT NULL AS attached;
INSERT INTO projects SELECT i, i % 50 * 2 + 1, 'shipped' FROM generate_series(1, 120) i WHERE (i % 50 * 2 + 1) % 10 <> 0;
SELECT reputation_process() > 0 AS computed;
SELECT leaderboard_create('builders', 'builder');
SELECT leaderboard_create('top_builders', 'builder', ties => 'dense');
SELECT count(*), count(*) FILTER (WHERE calculate_user_rank(id, 'all_time', 'builders') IS DISTINCT FROM rank OR calculate_user_rank(id, 'all_time', 'top_builders') IS DISTINCT FROM dense) AS wrong
FROM (SELECT id, rank() OVER (ORDER BY builder_score DESC), dense_rank() OVER (ORDER BY builder_score DESC) AS dense FROM users) x;
UPDATE projects SET status = 'draft' WHERE id % 3 = 0;
SELECT reputation_process() > 0 AS computed;
SELECT count(*), count(*) FILTER (WHERE calculate_user_rank(id, 'all_time', 'builders') IS DISTINCT FROM rank OR calculate_user_rank(id, 'all_time', 'top_builders') IS DISTINCT FROM dense) AS wrong
FROM (SELECT id, rank() OVER (ORDER BY builder_score DESC), dense_rank() OVER (ORDER BY builder_score DESC) AS dense FROM users) x;
SELECT rank, user_id, score FROM leaderboard('builders', 'all_time', 3);
SELECT rank, user_id, score FROM leaderboard_around(1, 1, 'all_time', 'top_builders');
SELECT calculate_user_rank(1, 'weekly', 'builders');
SELECT * FROM reputation_verify();
SELECT leaderboard_drop('builders');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'reputation.builder_scores'::regclass AND tgname LIKE 'rank%';
SELECT leaderboard_drop('top_builders');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'reputation.builder_scores'::regclass AND tgname LIKE 'rank%';
SELECT count(*) FROM reputation.rank_node WHERE tree / 4 = 1;
SELECT leaderboard_drop('builders');
SELECT leaderboard_drop('points');

-- Over a table.
SET ROLE regress_app;
CREATE TABLE likes (user_id int, points int, created_at timestamp, note text);
CREATE INDEX ON likes (user_id);
RESET ROLE;
INSERT INTO likes SELECT i % 290 + 1, i % 5, timestamp '2026-01-16' - i * interval '7 min' FROM generate_series(1, 2000) i;
SELECT leaderboard_create('Bad name', 'likes');
SELECT leaderboard_create('points', 'likes');
SELECT leaderboard_create('trust', 'likes');
SELECT leaderboard_create('likes', 'nothing');
SELECT leaderboard_create('likes', 'likes', columns => '{"source": {"points": "note"}}');
SELECT leaderboard_create('likes', 'likes', ties => 'other');
SELECT leaderboard_create('likes', 'likes', zone => 'Nowhere/Town');
SELECT leaderboard_create('likes', 'likes') IS NOT NULL AS attached;
SELECT leaderboard_create('likes_dense', 'likes', ties => 'dense'), leaderboard_create('likes_row', 'likes', ties => 'row');
SELECT engine, scope, job_name, status FROM reputation.board JOIN reputation.job_runs ON scope = engine WHERE name = 'likes';
SELECT reputation_process('likes');
CREATE VIEW boards.likes_source AS SELECT user_id::text, points, created_at AT TIME ZONE 'UTC' AS created_at FROM likes;
SELECT * FROM test.rank_drift('likes', 'boards.likes_source');
UPDATE likes SET points = points + 3 WHERE user_id % 4 = 0;
DELETE FROM likes WHERE user_id % 7 = 0;
UPDATE likes SET user_id = 5 WHERE user_id = 6;
UPDATE likes SET note = 'not looked at';
SELECT captured FROM test.concerned();
SELECT * FROM test.rank_drift('likes', 'boards.likes_source');
SET reputation.clock = '2026-01-17 00:00:00+00';
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.rank_drift('likes', 'boards.likes_source');
TRUNCATE likes;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.rank_drift('likes', 'boards.likes_source');
SELECT rank, user_id, score FROM leaderboard('likes', 'all_time', 2);
SELECT * FROM reputation_verify('likes');
SELECT leaderboard_create('clicks', 'likes', zone => 'UTC');
SELECT leaderboard_create('clicks', 'boards.likes', columns => '{"source": {"points": null}}', zone => 'Europe/Berlin', rank_column => 'click_rank') IS NOT NULL AS attached;
INSERT INTO likes (user_id, created_at) SELECT i % 3 + 1, '2026-01-16 23:30:00' FROM generate_series(1, 7) i;
SELECT reputation_process() > 0 AS computed;
SELECT user_id, all_time, weekly, daily, next_due_at FROM reputation.clicks_board_scores WHERE all_time > 0 ORDER BY user_id;
CALL reputation_run('leaderboards');
SELECT id, click_rank FROM users ORDER BY click_rank, id LIMIT 4;
SELECT leaderboard_drop('likes');
SELECT leaderboard_drop('likes_dense'), leaderboard_drop('likes_row');
SELECT leaderboard_drop('likes'), leaderboard_drop('clicks');
SELECT * FROM test.triggers WHERE relation = 'likes'::regclass;
SELECT relname FROM pg_class WHERE relnamespace = 'reputation'::regnamespace AND relname LIKE 'board\_%\_%';
SELECT name, engine, ties FROM reputation.board ORDER BY 1;
SELECT DISTINCT tree / 4 AS engine FROM reputation.rank_node;

-- A row that no sum, or no time, has room for spoils nobody's points, not even its own user's: a sum ends at the
-- limits of bigint, a time that never comes does not count yet, and one that was always counts in all_time alone.
SET ROLE regress_app;
CREATE DOMAIN day AS date;
CREATE TABLE extremes (user_id int, points bigint, d day, t timestamp, tz timestamptz);
CREATE INDEX ON extremes (user_id);
RESET ROLE;
INSERT INTO extremes SELECT u, p, '2026-01-16', '2026-01-16', '2026-01-16'
FROM (VALUES (1, 9223372036854775807), (1, 9223372036854775807), (2, -9223372036854775808), (2, -9223372036854775808), (3, 3), (4, 4), (5, 5), (6, 6)) v (u, p);
INSERT INTO extremes VALUES (3, 100, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00'),
	(4, 100, 'infinity', 'infinity', 'infinity'), (5, 100, '-infinity', '-infinity', '-infinity'),
	(6, 100, '4714-11-24 BC', '4714-11-24 BC', '4714-11-24 00:00:00+00 BC'), (7, 100, '-infinity', '-infinity', '-infinity');
SELECT leaderboard_create('by_date', 'extremes', columns => '{"source": {"created_at": "d"}}', rank_column => 'extreme_rank') IS NOT NULL AS by_date,
	leaderboard_create('by_timestamp', 'extremes', columns => '{"source": {"created_at": "t"}}') IS NOT NULL AS by_timestamp,
	leaderboard_create('by_time', 'extremes', columns => '{"source": {"created_at": "tz"}}', zone => 'Pacific/Kiritimati') IS NOT NULL AS by_time;
SELECT sweeps, pending, drift FROM test.concerned();
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.by_date_board_scores WHERE user_id < '8' AND length(user_id) = 1 ORDER BY 1;
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.by_timestamp_board_scores WHERE user_id < '8' AND length(user_id) = 1 ORDER BY 1;
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.by_time_board_scores WHERE user_id < '8' AND length(user_id) = 1 ORDER BY 1;
SELECT b, calculate_user_rank(1, 'all_time', b), calculate_user_rank(1, 'daily', b), calculate_user_rank(2, 'all_time', b), calculate_user_rank(3, 'all_time', b), leaderboard_percentile(1, 'all_time', b), leaderboard_percentile(2, 'all_time', b)
FROM unnest('{by_date, by_timestamp, by_time}'::text[]) b;
SELECT * FROM leaderboard_around(1, 2, 'all_time', 'by_date');
SELECT * FROM leaderboard_around(2, 1, 'all_time', 'by_date');
CALL reputation_run('leaderboards');
SELECT id, extreme_rank FROM users WHERE id < 8 ORDER BY extreme_rank, id;
SELECT position, rank, user_id, score FROM reputation.leaderboard_cache WHERE board = 'by_date' AND period = 'weekly' ORDER BY position;
-- Verify and repair get past them, too; and find who is wrong.
SELECT * FROM reputation_verify();
UPDATE reputation.by_date_board_scores SET all_time = 0 WHERE user_id IN ('1', '4');
SELECT engine_name, user_id, item, cached, expected FROM reputation_verify() ORDER BY 1, 2, 3;
SELECT reputation_repair('by_date');
SELECT pending, drift FROM test.concerned();
SELECT * FROM reputation_verify();
-- Such a row that goes leaves no trace.
DELETE FROM extremes WHERE points > 1000 OR points < 0 OR isfinite(d) IS FALSE;
SELECT users, pending, drift FROM test.concerned();
SELECT user_id, all_time, weekly, daily FROM reputation.by_date_board_scores WHERE user_id < '8' AND length(user_id) = 1 ORDER BY 1;
SELECT leaderboard_drop('by_date'), leaderboard_drop('by_timestamp'), leaderboard_drop('by_time');

-- Nodes that moved, with others in their places, since this session saw them.
CREATE TEMP TABLE nodes AS TABLE reputation.rank_node;
DELETE FROM reputation.rank_node;
VACUUM (TRUNCATE false) reputation.rank_node;
INSERT INTO reputation.rank_node SELECT * FROM nodes ORDER BY tree, level, prefix;
SELECT * FROM test.rank_drift();
DELETE FROM reputation.rank_node;
VACUUM (TRUNCATE false) reputation.rank_node;
INSERT INTO reputation.rank_node SELECT * FROM nodes ORDER BY tree DESC, level DESC, prefix DESC;
SELECT * FROM test.rank_drift();
TRUNCATE reputation.rank_node;
INSERT INTO reputation.rank_node TABLE nodes;
SELECT * FROM test.rank_drift();
VACUUM FULL reputation.rank_node;
SELECT * FROM test.rank_drift();
DROP TABLE nodes;

-- A tree that was spoilt is found, and made anew; or when somebody comes across it.
UPDATE reputation.rank_node SET counts = '\x0101' WHERE level = 0 AND tree = 16;
SELECT DISTINCT engine_name, user_id, item FROM reputation_verify('points');
SELECT reputation_repair('points');
SELECT * FROM reputation_verify('points');
SELECT * FROM test.rank_drift();
DELETE FROM reputation.rank_node;
SELECT points_recalc(1) > 0 AS recalculated;
SELECT award_points(1, 1), points_recalc(1) > 0;
SELECT * FROM reputation_verify('points') WHERE item LIKE '%all_time';
SELECT reputation.rank_rebuild('points');
SELECT * FROM reputation_verify('points');
SELECT reputation_process();
BEGIN;
TRUNCATE reputation.points_scores;
SAVEPOINT s;
INSERT INTO reputation.points_scores VALUES ('1', 5, 5, 0, 0, '-infinity', 1, '2026-01-01', NULL), ('2', 6, 6, 0, 0, '-infinity', 1, '2026-01-01', NULL);
COMMIT;
SELECT calculate_user_rank(1), calculate_user_rank(2), calculate_user_rank(3);
SELECT count(*) FROM reputation_verify('points') WHERE item LIKE 'rank%';
-- Very many changes in a transaction: the tree is made anew at its commit, and cannot be read before.
SET maintenance_work_mem = '1MB';
BEGIN;
INSERT INTO reputation.points_scores VALUES ('many 0', 5, 5, 0, 0, '-infinity', 1, '2026-01-01', NULL);
SAVEPOINT s;
INSERT INTO reputation.points_scores SELECT 'many ' || i, i, i, 0, 0, '-infinity', 1, '2026-01-01', NULL FROM generate_series(1, 70000) i;
SELECT calculate_user_rank('1');
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM reputation_verify('points') WHERE item LIKE 'rank%';
INSERT INTO reputation.points_scores SELECT 'many ' || i, i, i, 0, 0, '-infinity', 1, '2026-01-01', NULL FROM generate_series(1, 70000) i;
SELECT count(*) FROM reputation_verify('points') WHERE item LIKE 'rank%';
DELETE FROM reputation.points_scores WHERE user_id LIKE 'many%';
SELECT count(*) FROM reputation_verify('points') WHERE item LIKE 'rank%';
RESET maintenance_work_mem;
SELECT leaderboard_drop('points_dense'), leaderboard_drop('points_row');
DROP FUNCTION test.rank_drift;
CALL test.clean('boards');

-- What somebody else writes to a cached or rank column is undone by the next drain, whatever the debounce window.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = '5min';
CALL test.make_tables('foreign_writes');
SET ROLE regress_app;
CREATE TABLE likes (id int, user_id int, created_at timestamptz DEFAULT '2025-12-31 00:00:00+00');
CREATE INDEX ON likes (user_id);
RESET ROLE;
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 8) i;
INSERT INTO projects SELECT i, i % 4 + 1, 'shipped', 0 FROM generate_series(1, 9) i;
INSERT INTO likes SELECT i, 1 + i % 3 FROM generate_series(1, 12) i;
INSERT INTO likes SELECT i, 1 FROM generate_series(13, 15) i;
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS builder,
	points_attach(rank_column => 'points_rank') IS NOT NULL AS points,
	leaderboard_create('likes', 'likes', columns => '{"source": {"points": null}}', rank_column => 'likes_rank') IS NOT NULL AS likes;
SELECT count(award_points(i, 10 * i)) FROM generate_series(1, 8) i;
CALL reputation_run('leaderboards');
SELECT reputation_process() >= 0 AS drained;
CALL reputation_run('leaderboards');
CREATE TABLE was AS TABLE users;
SELECT id, builder_score, place, points_rank, likes_rank FROM users ORDER BY id;
-- How the columns differ from what they were, what waits, and which windows are open.
CREATE FUNCTION differing(OUT users text, OUT waiting text, OUT windows text) LANGUAGE sql
RETURN ((SELECT string_agg(format('%s: %s %s %s %s', u.id, u.builder_score, u.place, u.points_rank, u.likes_rank), '; ' ORDER BY u.id)
	FROM users u JOIN was w USING (id) WHERE (u.builder_score, u.place, u.points_rank, u.likes_rank) IS DISTINCT FROM (w.builder_score, w.place, w.points_rank, w.likes_rank)),
	(SELECT string_agg(format('%s %s:%s in %s', engine, kind, key, due_at - reputation.clock()), '; ' ORDER BY engine, kind, key) FROM reputation.job),
	(SELECT string_agg(format('%s:%s', engine, key), ' ' ORDER BY engine, key) FROM reputation.recent_run WHERE closes_at > reputation.clock()));

-- The windows of 1 and 2 are open, and 2 has an event that waits for the end of it.
UPDATE projects SET impact = 1 WHERE id IN (4, 1);
SELECT reputation_process() > 0 AS drained;
UPDATE projects SET impact = 2 WHERE id = 1;
SELECT reputation_process();
SELECT * FROM differing();
TRUNCATE was;
INSERT INTO was TABLE users;

-- A stale copy of the row, by whoever saves all of it.
UPDATE users SET name = 'ann', builder_score = 0, place = 7, points_rank = 1, likes_rank = 9 WHERE id = 1;
UPDATE users SET builder_score = 999999, place = 1 WHERE id = 2;
UPDATE users SET builder_score = 999999 WHERE id = 2;
UPDATE users SET likes_rank = 1 WHERE id = 8;
SELECT count(*) FROM test.inbox;
SELECT count(*) > 0 AS seen FROM reputation_verify();
SELECT reputation_process();
SELECT * FROM differing();
SELECT id, builder_score, place, points_rank, likes_rank FROM users ORDER BY id;
SELECT * FROM reputation_verify();
SELECT count(*) FROM reputation.dead_letter;

-- What waited is computed when the window closes.
SET reputation.clock = '2026-01-01 00:05:00+00';
SELECT reputation_process() > 0 AS drained;
SELECT count(*) FROM reputation.job;
SELECT * FROM reputation_verify();

-- An update that leaves the columns alone, or writes what they have, is nobody's business.
TRUNCATE was;
INSERT INTO was TABLE users;
UPDATE users SET name = 'x', builder_score = builder_score, place = place, points_rank = points_rank, likes_rank = likes_rank;
SELECT count(*) FROM test.inbox;
-- Nor is what the engine itself writes.
UPDATE projects SET status = 'draft' WHERE id = 4;
SELECT reputation_process() > 0 AS drained;
CALL reputation_run('leaderboards');
SELECT builder_score_recalc(1) IS NOT NULL AS recalculated;
SELECT count(*) FROM test.inbox;
SELECT count(*) FROM reputation.job WHERE kind < 0;
SELECT reputation_process() >= 0 AS drained;
SELECT * FROM reputation_verify();

-- With an INSERT, ON CONFLICT, COPY; a rank by the job, for many.
INSERT INTO users (id, builder_score, place, points_rank, likes_rank) VALUES (11, 5, 1, 1, 1), (12, 0, NULL, NULL, NULL);
INSERT INTO users (id, builder_score, points_rank) VALUES (3, 5, 1) ON CONFLICT (id) DO UPDATE SET builder_score = excluded.builder_score, points_rank = excluded.points_rank;
COPY users (id, builder_score, place) FROM stdin;
13	77	2
14	0	0
\.
SELECT reputation_process() > 0 AS drained;
SELECT id, builder_score, place, points_rank, likes_rank FROM users WHERE id > 8 OR id = 3 ORDER BY id;
SELECT kind, key FROM reputation.job ORDER BY 1, 2;
SELECT * FROM reputation_verify();
INSERT INTO users (id, place) SELECT i, 1 FROM generate_series(101, 300) i;
SELECT reputation_process() > 0 AS drained;
SELECT job_name, trigger, scope, status FROM reputation.job_runs WHERE status = 'running';
CALL reputation_run('leaderboards');
SELECT DISTINCT place FROM users WHERE id > 100;
SELECT count(*) FROM reputation.job;
DELETE FROM users WHERE id > 8;
SELECT reputation_process() > 0 AS drained;

-- Who deletes the score row has the user computed.
DELETE FROM reputation.builder_scores WHERE user_id = '2';
DELETE FROM reputation.recent_run;
UPDATE users SET builder_score = 4 WHERE id = 2;
SELECT reputation_process() > 0 AS drained;
SELECT * FROM reputation_verify();

-- Of a row that somebody's row security lets him update, too.
CREATE ROLE regress_web NOLOGIN;
GRANT USAGE ON SCHEMA foreign_writes TO regress_web;
GRANT SELECT, UPDATE ON users TO regress_web;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON users TO regress_web USING (id = 4) WITH CHECK (id = 4);
SET ROLE regress_web;
UPDATE users SET builder_score = 999999;
RESET ROLE;
SELECT builder_score FROM users WHERE id = 4;
SELECT reputation_process();
SELECT * FROM reputation_verify();
-- As the documentation advises: columns, not the row.
REVOKE UPDATE ON users FROM regress_web;
GRANT UPDATE (name) ON users TO regress_web;
SET ROLE regress_web;
UPDATE users SET name = 'dan';
UPDATE users SET builder_score = 999999;
RESET ROLE;
-- What reads in the engine's name still does as the engine's role: a policy that hides rows from it is an error.
ALTER TABLE users FORCE ROW LEVEL SECURITY;
SELECT builder_score(4), builder_score(4);
\echo SQLSTATE :SQLSTATE
ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
ALTER TABLE users DISABLE ROW LEVEL SECURITY;
REVOKE SELECT ON users FROM regress_app;
SELECT builder_score(4);
\echo SQLSTATE :SQLSTATE
GRANT SELECT ON users TO regress_app;
SELECT builder_score(4), builder_score('4'), builder_score(4::bigint);
SELECT builder_score(99);
\echo SQLSTATE :SQLSTATE

-- An id that changes with the value.
UPDATE users SET id = 40, builder_score = 3, place = 1 WHERE id = 4;
SELECT reputation_process() > 0 AS drained;
SELECT id, builder_score FROM users WHERE id = 40;
SELECT * FROM reputation_verify();

-- A trigger of the application's that overwrites the column each time: refused, and given up in the end.
CREATE FUNCTION overwrite() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.builder_score := 555; RETURN NEW; END $$;
CREATE TRIGGER overwrite BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION overwrite();
UPDATE users SET name = 'cy' WHERE id = 3;
SELECT reputation_process();
SELECT kind, key, attempt, error FROM reputation.job;
SET client_min_messages = error;
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM reputation.job);
		PERFORM set_config('reputation.clock', (SELECT min(due_at)::text FROM reputation.job), false);
		PERFORM reputation_process();
	END LOOP;
END $$;
SET client_min_messages = warning;
SELECT count(*) FROM reputation.job;
SELECT engine, kind, key, attempts, error FROM reputation.dead_letter;
SELECT item, cached FROM reputation_verify();
SELECT * FROM test.raised($$SELECT reputation_wait(3, 'builder', '0')$$);
DROP TRIGGER overwrite ON users;
SELECT reputation_retry('builder', '3');
SELECT reputation_process();
SELECT count(*) FROM reputation.dead_letter;
SELECT * FROM reputation_verify();

-- upsert_user() refuses the columns of every engine of the table.
SELECT trust_score_attach() IS NOT NULL AS attached;
SELECT upsert_user('{"id": 1, "name": "a", "builder_score": 99999}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "points_rank": 1}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "likes_rank": null}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "name": "a"}');
SELECT leaderboard_drop('likes'), points_detach();
SELECT upsert_user('{"id": 1, "points_rank": 1}');
-- Nobody's column any more.
UPDATE users SET points_rank = 5, likes_rank = 6 WHERE id = 1;
SELECT reputation_process() >= 0 AS drained;
SELECT points_rank, likes_rank FROM users WHERE id = 1;
DROP OWNED BY regress_web;
DROP ROLE regress_web;
CALL test.clean('foreign_writes');

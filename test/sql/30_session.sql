-- Session reputation on data whose scores were worked out by hand.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00.25+00';
SET reputation.debounce = 0;
SELECT user_reputation(1);
\echo SQLSTATE :SQLSTATE
CALL test.make_session_tables('session');
INSERT INTO users SELECT i, 'user' FROM generate_series(1, 7) i;
-- 1 is a first and a second user; 4 is matched with itself, 5 with nobody yet; 7 is new.
INSERT INTO wingman_matches VALUES (1, 1, 2), (2, 3, 1), (3, 4, 4), (4, 5, NULL);
-- Completed: confirmed by both, by one, by the other, by none; null is not confirmed; other statuses do not count.
INSERT INTO wingman_sessions VALUES
	(1, 1, 'completed', true, true), (2, 1, 'completed', true, false), (3, 1, 'completed', false, true),
	(4, 1, 'completed', false, false), (5, 1, 'completed', NULL, true), (6, 1, 'completed', NULL, NULL),
	(7, 1, 'scheduled', true, true), (8, 1, 'Completed', true, true), (9, 1, NULL, true, true),
	(10, 2, 'completed', true, false), (11, 3, 'completed', true, false), (12, 4, 'completed', true, true),
	(13, NULL, 'completed', true, true);
-- No-shows: by the column 1, nobody, who is no participant, 4; by the flags 1, 1, 2, nobody, 4.
INSERT INTO wingman_sessions VALUES
	(20, 1, 'no_show', false, true, 1), (21, 1, 'no_show', NULL, true, NULL), (22, 1, 'no_show', true, false, 6),
	(23, 1, 'no_show', true, true, 2), (24, 3, 'no_show', false, true, 4), (25, 1, 'completed', false, false, 2);
-- Cancelled: by 2, 1, nobody, who is no participant. A no-show is none by who cancelled, nor the reverse.
INSERT INTO wingman_sessions VALUES
	(30, 1, 'cancelled', NULL, NULL, NULL, 2), (31, 2, 'cancelled', NULL, NULL, NULL, 1), (32, 1, 'cancelled', false, true, 1, NULL),
	(33, 1, 'cancelled', NULL, NULL, NULL, 6), (34, 1, 'no_show', true, true, NULL, 1);

CREATE VIEW test.reputations AS
SELECT u.id, r -> 'score' AS score, r ->> 'badge_color' AS badge, r -> 'completed_sessions' AS completed, r -> 'no_shows' AS no_shows
FROM users u, user_reputation(u.id) r ORDER BY u.id;
-- What the contract says, in SQL.
CREATE FUNCTION test.by_contract(policy text, OUT user_id int, OUT completed bigint, OUT no_shows bigint) RETURNS SETOF record
LANGUAGE sql AS $$
	WITH side AS (
		SELECT m.user1_id AS uid, s.status, coalesce(s.user1_completed_confirmed_by_user2, false) AS own, coalesce(s.user2_completed_confirmed_by_user1, false) AS partner, s.no_show_user_id, s.cancelled_by
		FROM wingman_matches m JOIN wingman_sessions s ON s.match_id = m.id
		UNION ALL
		SELECT m.user2_id, s.status, coalesce(s.user2_completed_confirmed_by_user1, false), coalesce(s.user1_completed_confirmed_by_user2, false), s.no_show_user_id, s.cancelled_by
		FROM wingman_matches m JOIN wingman_sessions s ON s.match_id = m.id WHERE m.user2_id IS DISTINCT FROM m.user1_id)
	SELECT u.id, count(*) FILTER (WHERE s.status = 'completed' AND CASE policy WHEN 'any' THEN own OR partner WHEN 'own' THEN own ELSE own AND partner END),
		count(*) FILTER (WHERE s.status = 'no_show' AND no_show_user_id = u.id OR s.status = 'cancelled' AND cancelled_by = u.id)
	FROM users u LEFT JOIN side s ON s.uid = u.id GROUP BY u.id ORDER BY u.id
$$;

SELECT session_reputation_attach() IS NOT NULL AS attached;
SELECT * FROM test.triggers ORDER BY 1, 2;
SELECT parameters FROM reputation.algorithm WHERE engine = 'session';
-- As of now, whether computed and stored yet or not.
TABLE test.reputations;
SELECT count(*) FROM reputation.session_scores;
SELECT reputation_process();
SELECT * FROM reputation.session_scores ORDER BY user_id;
SELECT * FROM reputation_verify();
SELECT c.* FROM test.by_contract('any') c JOIN reputation.session_scores s ON s.user_id = c.user_id::text
WHERE (c.completed, c.no_shows) IS DISTINCT FROM (s.completed_sessions, s.no_shows);

-- The document, exactly; its time in UTC whatever the session's zone and style.
SELECT user_reputation(1);
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
SELECT user_reputation('1');
SET reputation.clock = '2026-07-01 12:00:00+09';
SELECT user_reputation(1::bigint) ->> 'cache_timestamp' AS cache_timestamp;
SET reputation.clock = '2026-01-01 00:00:00.25+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
PREPARE untyped AS SELECT user_reputation($1) -> 'score' AS score;
EXECUTE untyped('1');
DEALLOCATE untyped;
SELECT array_agg(k ORDER BY k) AS keys FROM jsonb_object_keys(user_reputation(7)) k;
SELECT pg_typeof(user_reputation(7)), user_reputation(NULL::int) IS NULL AS of_null;
-- How it comes about.
SELECT jsonb_pretty(session_reputation_explain(1));

-- The policies: what another would change, then each for good. A policy is a parameter: a new version, unless it is the same.
SELECT * FROM algorithm_preview('session', '{"policy": "own"}') ORDER BY user_id;
SELECT * FROM algorithm_preview('session', '{"policy": "both"}') ORDER BY user_id;
SELECT * FROM algorithm_preview('session', '{}');
SELECT session_reputation_attach(policy => 'own') IS NOT NULL AS attached;
SELECT reputation_process();
TABLE test.reputations;
SELECT c.* FROM test.by_contract('own') c JOIN reputation.session_scores s ON s.user_id = c.user_id::text
WHERE (c.completed, c.no_shows) IS DISTINCT FROM (s.completed_sessions, s.no_shows);
SELECT session_reputation_explain(1) -> 'policy' AS policy;
SELECT session_reputation_attach(policy => 'both') IS NOT NULL AS attached;
SELECT reputation_process();
SELECT user_id, score, completed_sessions, no_shows, badge_color, algorithm_version FROM reputation.session_scores ORDER BY user_id;
SELECT c.* FROM test.by_contract('both') c JOIN reputation.session_scores s ON s.user_id = c.user_id::text
WHERE (c.completed, c.no_shows) IS DISTINCT FROM (s.completed_sessions, s.no_shows);
SELECT session_reputation_attach() IS NOT NULL AS attached;
SELECT version, parameters ->> 'policy' AS policy, active FROM reputation.algorithm WHERE engine = 'session' ORDER BY version;
SELECT algorithm_activate('session', 1) IS NOT NULL AS run;
SELECT session_reputation_attach(policy => 'any') IS NOT NULL AS attached;
SELECT version, parameters ->> 'policy' AS policy, active FROM reputation.algorithm WHERE engine = 'session' ORDER BY version;
SELECT reputation_process();

-- Who caused a no-show: by the columns alone, the flags alone, nobody; one column alone.
SELECT session_reputation_attach(cause => 'columns') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach(cause => 'flags') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach(cause => 'none') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": null}}') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": null}}', cause => 'columns') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach(columns => '{"sessions": {"cancelled_by": null}}') IS NOT NULL AS attached;
SELECT id, no_shows FROM test.reputations;
SELECT session_reputation_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT * FROM reputation_verify();

-- Bounds and badges, each at its edge.
INSERT INTO users SELECT i FROM generate_series(100, 110) i;
INSERT INTO wingman_matches SELECT i, i, NULL FROM generate_series(100, 110) i;
INSERT INTO wingman_sessions SELECT 1000 * m + i, m, 'completed', true, false
FROM (VALUES (100, 25), (101, 20), (102, 19), (103, 10), (104, 9), (105, 3)) v(m, n), generate_series(1, n) i;
INSERT INTO wingman_sessions SELECT 1000 * m + 500 + i, m, 'no_show', false, false, m
FROM (VALUES (105, 3), (106, 1), (107, 4), (108, 5), (109, 6), (110, 300)) v(m, n), generate_series(1, n) i;
SELECT reputation_process();
SELECT user_id, score, badge_color, completed_sessions, no_shows FROM reputation.session_scores WHERE user_id >= '100' AND user_id < '2' ORDER BY user_id;
SELECT * FROM test.reputations WHERE id >= 100;
INSERT INTO reputation.algorithm VALUES ('session', 9, '{"min": -2.5, "max": 1e6, "gold": 20, "green": -2, "completed": ["completed", "no_show"], "no_show": [], "cancelled": null}');
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('session', 9, '{"min": -2.5, "max": 1e6, "gold": 20, "green": -2, "completed": ["completed"], "no_show": ["no_show", "cancelled"]}');
SELECT algorithm_activate('session', 9) IS NOT NULL AS run;
SELECT reputation_process();
SELECT user_id, score, badge_color, no_shows FROM reputation.session_scores ORDER BY user_id::int;
SELECT * FROM reputation_verify();
SELECT algorithm_activate('session', 1) IS NOT NULL AS run;
SELECT reputation_process();
DELETE FROM users WHERE id >= 100;
SELECT reputation_process();

-- Parameters that cannot be read.
CREATE FUNCTION test.parameters(parameters jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO reputation.algorithm VALUES ('session', 10, parameters)
$$;
SELECT test.parameters('{"policy": "some"}');
\echo SQLSTATE :SQLSTATE
SELECT test.parameters('{"policy": 1}');
\echo SQLSTATE :SQLSTATE
SELECT test.parameters('{"min": 5, "max": 4}');
\echo SQLSTATE :SQLSTATE
SELECT test.parameters('{"gold": "much"}');
\echo SQLSTATE :SQLSTATE
SELECT test.parameters('{"no_show": "no_show"}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('session', '{"policy": "Own"}');
\echo SQLSTATE :SQLSTATE

-- Whom a change concerns: the users of the match, before and after.
UPDATE wingman_sessions SET status = 'no_show', no_show_user_id = 2 WHERE id = 7;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_sessions SET note = 'x';
UPDATE wingman_sessions SET status = status, cancelled_by = cancelled_by;
UPDATE wingman_matches SET note = 'x';
SELECT * FROM test.concerned();
INSERT INTO wingman_sessions VALUES (50, 2, 'scheduled'), (51, NULL, 'scheduled');
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_sessions SET user2_completed_confirmed_by_user1 = true WHERE id = 10;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_sessions SET match_id = 4 WHERE id = 1;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_sessions SET match_id = NULL WHERE id = 1;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_matches SET user2_id = 6 WHERE id = 1;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_matches SET user2_id = 7, user1_id = NULL WHERE id = 4;
SELECT users, pending, drift FROM test.concerned();
UPDATE wingman_matches SET id = 11 WHERE id = 1;
SELECT users, pending, drift FROM test.concerned();
DELETE FROM wingman_sessions WHERE id = 12;
SELECT users, pending, drift FROM test.concerned();
DELETE FROM wingman_matches WHERE id = 3;
SELECT users, pending, drift FROM test.concerned();
UPDATE users SET id = 77 WHERE id = 7;
SELECT users, pending, drift FROM test.concerned();
DELETE FROM users WHERE id = 6;
SELECT users, pending, drift FROM test.concerned();
TRUNCATE wingman_sessions;
SELECT sweeps, pending, drift FROM test.concerned();
TABLE test.reputations;

-- As of now: what is committed counts at once, one's own before; what is rolled back never. Stored is what was drained.
INSERT INTO wingman_sessions VALUES (60, 2, 'completed', true, true);
SELECT id, completed FROM test.reputations WHERE id = 3;
SELECT score, session_reputation_explain(3) -> 'score' AS now, session_reputation_explain(3) -> 'pending' AS pending FROM reputation.session_scores WHERE user_id = '3';
BEGIN;
INSERT INTO wingman_sessions VALUES (61, 2, 'completed', true, true);
SELECT id, completed FROM test.reputations WHERE id = 3;
ROLLBACK;
SELECT id, completed FROM test.reputations WHERE id = 3;
SELECT session_reputation_recalc(3);
SELECT score FROM reputation.session_scores WHERE user_id = '3';
SELECT reputation_process() > 0 AS computed;
-- By hand, everybody; what somebody changed is found and mended.
SET session_replication_role = replica;
INSERT INTO wingman_sessions VALUES (62, 2, 'completed', true, true);
RESET session_replication_role;
SELECT * FROM reputation_verify() ORDER BY user_id, item;
SELECT session_reputation_recalc_all();
UPDATE reputation.session_scores SET badge_color = 'gold', no_shows = 3 WHERE user_id = '2';
DELETE FROM reputation.session_scores WHERE user_id = '3';
SELECT * FROM reputation_verify('session') ORDER BY user_id, item;
SELECT reputation_repair('session');
SELECT reputation_process() > 0 AS rechecked;
SELECT * FROM reputation_verify();
CALL reputation_run('nightly');
SELECT changed, done, status FROM reputation.job_runs WHERE job_name = 'nightly';
-- Forgotten: scored anew while the user is there.
SELECT reputation_forget(3) > 0 AS forgotten;
SELECT count(*) FROM reputation.session_scores WHERE user_id = '3';
SELECT reputation_process() > 0 AS computed;
SELECT count(*) FROM reputation.session_scores WHERE user_id = '3';

-- Unknown users and malformed ids.
SELECT user_reputation(4711);
\echo SQLSTATE :SQLSTATE
SELECT user_reputation('seven');
\echo SQLSTATE :SQLSTATE
SELECT user_reputation(99999999999);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_recalc(4711);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_explain('x');
\echo SQLSTATE :SQLSTATE

-- Row security hides the rows from whoever asks, who is told aggregates of anybody, and no more without EXECUTE.
CREATE ROLE regress_asker NOLOGIN;
GRANT USAGE ON SCHEMA session TO regress_asker;
GRANT SELECT ON users, wingman_matches, wingman_sessions TO regress_asker;
ALTER TABLE wingman_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE wingman_matches ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON wingman_sessions TO regress_asker USING (id = 60);
SET ROLE regress_asker;
SELECT (SELECT count(*) FROM wingman_sessions) AS sessions, (SELECT count(*) FROM wingman_matches) AS matches;
SELECT user_reputation(3);
SELECT * FROM reputation.session_signals;
\echo SQLSTATE :SQLSTATE
SELECT * FROM reputation.session_scores;
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_explain(3);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_recalc(3);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach();
\echo SQLSTATE :SQLSTATE
-- The function leaves the caller as it was, after an error, too.
SELECT user_reputation(4711);
\echo SQLSTATE :SQLSTATE
SELECT current_user, (SELECT count(*) FROM wingman_sessions) AS sessions;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION user_reputation FROM PUBLIC;
SET ROLE regress_asker;
SELECT user_reputation(3);
\echo SQLSTATE :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION user_reputation TO PUBLIC;
-- Row security in the way of the engine is an error, not a lower score.
ALTER TABLE wingman_sessions FORCE ROW LEVEL SECURITY;
SELECT user_reputation_invalidate(3);
SELECT user_reputation(3);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach();
\echo SQLSTATE :SQLSTATE
DROP POLICY own ON wingman_sessions;
REVOKE ALL ON users, wingman_matches, wingman_sessions FROM regress_asker;
REVOKE ALL ON SCHEMA session FROM regress_asker;
DROP ROLE regress_asker;

DROP FUNCTION test.parameters, test.by_contract;
DROP VIEW test.reputations;
CALL test.clean('session');

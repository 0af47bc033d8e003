-- A long history is not counted again while its score row is known to be right.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
SET client_min_messages = warning;
CALL test.make_session_tables('long');
INSERT INTO users VALUES (1, 'user'), (2, 'user'), (3, 'user');
INSERT INTO wingman_matches VALUES (1, 1, 2), (2, 3, NULL);
INSERT INTO wingman_sessions SELECT i, 1, 'completed', true, true FROM generate_series(1, 100010) i;
INSERT INTO wingman_sessions SELECT i, 2, 'completed', true, true FROM generate_series(200001, 200010) i;
SELECT session_reputation_attach() IS NOT NULL AS attached;
CREATE VIEW test.completed AS
SELECT u.id, user_reputation(u.id) -> 'completed_sessions' AS completed FROM users u, user_reputation_invalidate(u.id) ORDER BY u.id;
-- Nothing is computed yet: counted.
TABLE test.completed;
SELECT reputation_process() > 0 AS worked;

-- What is not captured shows who is counted and who is not.
ALTER TABLE wingman_sessions DISABLE TRIGGER USER;
UPDATE wingman_sessions SET status = 'scheduled' WHERE id IN (1, 200001);
TABLE test.completed;
-- A change that is pending has everybody counted: not folded; folded; of this transaction.
ALTER TABLE wingman_sessions ENABLE TRIGGER USER;
UPDATE wingman_sessions SET status = 'scheduled' WHERE id = 200002;
TABLE test.completed;
SET reputation.debounce = '5min';
UPDATE wingman_sessions SET status = 'scheduled' WHERE id IN (2, 200003);
SELECT reputation_process() > 0 AS worked;
UPDATE wingman_sessions SET status = 'scheduled' WHERE id = 3;
SELECT reputation_process() >= 0 AS folded;
SELECT completed_sessions FROM reputation.session_scores WHERE user_id = '1';
TABLE test.completed;
SET reputation.clock = '2026-01-01 00:10:00+00';
SELECT reputation_process() > 0 AS worked;
BEGIN;
UPDATE wingman_sessions SET status = 'completed' WHERE id IN (1, 2, 3);
SELECT user_reputation(1) -> 'completed_sessions' AS completed;
ROLLBACK;
-- So has a dead letter, and another version of the algorithm.
ALTER TABLE wingman_sessions DISABLE TRIGGER USER;
UPDATE wingman_sessions SET status = 'completed' WHERE id IN (1, 2, 3);
TABLE test.completed;
INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) VALUES ('session', 1, '1', 5, 'test', now());
TABLE test.completed;
DELETE FROM reputation.dead_letter WHERE engine = 'session';
TABLE test.completed;
INSERT INTO reputation.algorithm VALUES ('session', 2, '{"policy": "own"}');
SELECT algorithm_activate('session', 2) IS NOT NULL AS activated;
TABLE test.completed;

DROP VIEW test.completed;
CALL test.clean('long');

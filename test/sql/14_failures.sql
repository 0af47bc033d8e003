-- One user's trouble holds up nobody else; the engine's trouble is told and loses nothing.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('failures');
INSERT INTO users SELECT i FROM generate_series(1, 9) i;
INSERT INTO projects SELECT i, i, 'idea', 0 FROM generate_series(1, 9) i;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();

-- What is left of the failing jobs; a delay within a quarter of what it should be.
CREATE FUNCTION test.failing() RETURNS TABLE (key text, attempt smallint, error text, backoff boolean)
LANGUAGE sql AS $$
	SELECT key, attempt, error, extract(epoch FROM due_in) BETWEEN 0.75 * 2 ^ attempt AND 1.25 * 2 ^ attempt
	FROM test.jobs ORDER BY key, attempt
$$;
-- Sets the clock to when the next job is due, and drains.
CREATE FUNCTION test.next_attempt() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('reputation.clock', (SELECT min(due_at)::text FROM reputation.job), false);
	RETURN reputation_process();
END
$$;

-- The view raises for 5 alone.
DROP VIEW reputation.builder_signals;
CREATE VIEW reputation.builder_signals AS
SELECT u.id AS user_id, count(p.*) / (u.id - 5) * (u.id - 5) AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact
FROM failures.users u LEFT JOIN failures.projects p ON p.owner_id = u.id AND p.status = 'shipped' GROUP BY u.id;
GRANT SELECT ON reputation.builder_signals TO regress_app;
UPDATE projects SET status = 'shipped';
SELECT reputation_process() >= 9 AS computed;
SELECT * FROM test.failing();
SELECT builder_score_recalc(5);
\echo SQLSTATE :SQLSTATE
SELECT test.next_attempt();
SELECT * FROM test.failing();
-- An event meanwhile does not reset it.
UPDATE projects SET impact = 1 WHERE id = 5;
SELECT reputation_process();
SELECT * FROM test.failing();
SELECT test.next_attempt();
SELECT * FROM test.failing();
SELECT test.next_attempt();
SELECT * FROM test.failing();
SELECT count(*) FROM reputation.dead_letter;
SELECT test.next_attempt();
SELECT * FROM test.failing();
SELECT engine, kind, key, attempts, error, failed_at = reputation.clock() AS now FROM reputation.dead_letter;
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'dead letters';
-- Not mended yet: it comes back. Then mended.
SELECT reputation_retry('builder', '4');
SELECT reputation_retry('builder', '5');
SELECT count(*) FROM reputation.dead_letter;
SELECT reputation_process();
SELECT * FROM test.failing();
DROP VIEW reputation.builder_signals;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT test.next_attempt() >= 9 AS computed;
SELECT count(*) FROM test.jobs;
SELECT id, builder_score FROM users ORDER BY id;
SELECT * FROM reputation_verify();

-- The users table raises for 5, and refuses 6 in silence.
CREATE FUNCTION protect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id = 5 THEN
		RAISE 'user % is protected', NEW.id;
	END IF;
	RETURN CASE WHEN NEW.id = 6 THEN NULL ELSE NEW END;
END
$$;
CREATE TRIGGER protect BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION protect();
UPDATE projects SET status = 'idea';
SELECT reputation_process() >= 9 AS computed;
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;
SELECT key, attempt > 0 AS failed, error FROM test.jobs ORDER BY key;
SET client_min_messages = error;
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM reputation.job);
		PERFORM test.next_attempt();
	END LOOP;
END
$$;
RESET client_min_messages;
SELECT count(*) FROM reputation.job;
SELECT key, attempts, error FROM reputation.dead_letter ORDER BY key;
SELECT * FROM reputation_verify() ORDER BY user_id, item;
DROP TRIGGER protect ON users;
-- Who waits is told. With the next event 5 is computed, and given up no longer.
SELECT reputation_wait(5, 'builder', '0');
\echo SQLSTATE :SQLSTATE
UPDATE projects SET impact = 2 WHERE id = 5;
SELECT reputation_process();
SELECT key FROM reputation.dead_letter;
SELECT reputation_wait(5, 'builder', '0'), reputation_wait(1, 'builder', '0');
SELECT reputation_wait(6, 'builder', '0');
\echo SQLSTATE :SQLSTATE
SELECT reputation_retry();
SELECT reputation_process();
SELECT * FROM reputation_verify();

-- The engine itself: told with a hint, and no job is lost or blamed.
CREATE FUNCTION test.waiting() RETURNS TABLE (jobs bigint, blamed bigint, dead bigint)
LANGUAGE sql AS $$
	SELECT (SELECT count(DISTINCT key) FROM reputation.job) + (SELECT count(DISTINCT key) FROM test.inbox),
		(SELECT count(*) FROM reputation.job WHERE attempt > 0), (SELECT count(*) FROM reputation.dead_letter)
$$;
-- The view is gone.
DROP VIEW reputation.builder_signals;
UPDATE projects SET status = 'shipped';
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT * FROM test.raised('SELECT builder_score_recalc(1)');
SELECT jobs >= 9 AS waiting, blamed, dead FROM test.waiting();
SELECT builder_score(1);
SELECT bool_or(status = 'ERROR') AS told FROM reputation_status() WHERE check_name LIKE '%builder';
-- It lacks a column.
CREATE VIEW reputation.builder_signals AS SELECT id AS user_id FROM failures.users;
GRANT SELECT ON reputation.builder_signals TO regress_app;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT jobs >= 9 AS waiting, blamed, dead FROM test.waiting();
-- A privilege is gone, for reading, then for writing.
DROP VIEW reputation.builder_signals;
SELECT builder_score_attach() IS NOT NULL AS attached;
REVOKE ALL ON projects FROM regress_app;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT jobs >= 9 AS waiting, blamed, dead FROM test.waiting();
GRANT ALL ON projects TO regress_app;
REVOKE UPDATE ON users FROM regress_app;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT jobs >= 9 AS waiting, blamed, dead FROM test.waiting();
GRANT ALL ON users TO regress_app;
-- All is well again.
SET reputation.clock = '2026-02-01 00:00:00+00';
SELECT reputation_process() >= 9 AS computed;
SELECT jobs, blamed, dead FROM test.waiting();
SELECT * FROM reputation_verify();

-- The lookup view is gone: the keys wait as jobs of their own.
DROP VIEW reputation.builder_project_users;
UPDATE projects SET status = 'idea' WHERE id = 1;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() >= 9 AS computed;
SELECT * FROM reputation_verify();

-- A table is gone.
DROP TABLE project_collaborators CASCADE;
UPDATE projects SET status = 'idea' WHERE id = 2;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT builder_score(2);
SET ROLE regress_app;
CREATE TABLE project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
RESET ROLE;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() >= 9 AS computed;
SELECT * FROM reputation_verify();
DROP TABLE users CASCADE;
SELECT * FROM test.raised('SELECT builder_score(2)');
SELECT * FROM test.raised('SELECT builder_score_recalc(2)');
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT * FROM test.raised('SELECT reputation_verify()');
SELECT bool_or(status = 'ERROR') AS told FROM reputation_status() WHERE check_name LIKE '%builder';
SELECT builder_score_detach();
DROP TABLE projects, project_collaborators CASCADE;
DROP FUNCTION protect();
CALL test.clean('failures');

-- The ids get another type: attached again in the same session.
CALL test.make_tables('retyped');
INSERT INTO users VALUES (1), (2);
INSERT INTO projects VALUES (1, 1, 'shipped', 0);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT builder_score(1), builder_score_recalc(1);
SELECT builder_score_detach();
ALTER TABLE users ALTER id TYPE bigint;
ALTER TABLE projects ALTER owner_id TYPE bigint;
ALTER TABLE project_collaborators ALTER user_id TYPE bigint;
INSERT INTO users VALUES (4294967297);
INSERT INTO projects VALUES (2, 4294967297, 'shipped', 9);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, builder_score FROM users ORDER BY id;
SELECT builder_score(4294967297), builder_score_recalc(4294967297), builder_score(1);
SELECT * FROM reputation_verify();
SELECT builder_score_detach();
ALTER TABLE projects DROP CONSTRAINT projects_owner_id_fkey;
ALTER TABLE project_collaborators DROP CONSTRAINT project_collaborators_user_id_fkey;
ALTER TABLE users ALTER id TYPE text;
ALTER TABLE projects ALTER owner_id TYPE text;
ALTER TABLE project_collaborators ALTER user_id TYPE text;
INSERT INTO users VALUES ('x');
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT builder_score('1'), builder_score_recalc('1'), builder_score('x');
SELECT * FROM reputation_verify();
CALL test.clean('retyped');
-- Keys that were captured before a detach mean nothing to what is attached later.
CALL test.make_tables('stale', 'text');
SELECT builder_score_attach() IS NOT NULL AS attached;
INSERT INTO users VALUES ('seven');
SELECT builder_score_detach();
DROP TABLE users, projects, project_collaborators;
DROP SCHEMA stale;
CALL test.make_tables('stale');
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT * FROM test.failing();
CALL test.clean('stale');
DROP FUNCTION test.failing(), test.next_attempt(), test.waiting();

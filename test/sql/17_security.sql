-- Who may do what, and as whom what is done.
\set SHOW_CONTEXT never
SET reputation.clock = '2026-01-01 00:00:00+00';
CREATE ROLE regress_nobody NOLOGIN;
CREATE ROLE regress_reader NOLOGIN IN ROLE reputation_reader;
CREATE ROLE regress_admin NOLOGIN IN ROLE reputation_admin;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CALL test.make_tables('security');
INSERT INTO users SELECT i FROM generate_series(1, 3) i;
INSERT INTO projects VALUES (1, 1, 'shipped', 0);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
-- A superuser attached: it works as the owner of the tables, who owns the views.
SELECT role FROM reputation.engine;
SELECT relname, relowner::regrole FROM pg_class WHERE relnamespace = 'reputation'::regnamespace AND relkind = 'v' AND relname LIKE 'builder%' ORDER BY 1;

CREATE TABLE test.attempt (no int, statement text);
INSERT INTO test.attempt
SELECT row_number() OVER (), s FROM unnest(ARRAY[
	'SELECT builder_score(1)', 'SELECT builder_score_explain(1)', 'SELECT reputation_verify()', 'SELECT reputation_status()',
	'SELECT reputation_wait(1)', 'SELECT builder_score_recalc(1)', 'SELECT builder_score_recalc_all()', 'SELECT reputation_process()', 'SELECT reputation_repair()',
	'SELECT reputation_retry()', 'SELECT reputation_forget(1)', 'SELECT reputation_unschedule()', 'SELECT builder_score_detach()', 'SELECT builder_score_attach()',
	'SELECT FROM reputation.engine', 'SELECT FROM reputation.builder_scores', 'SELECT FROM reputation.inbox_0', 'SELECT FROM reputation.job', 'SELECT FROM reputation.builder_signals',
	'SELECT FROM reputation.job_runs', 'SELECT FROM reputation.job_progress', 'UPDATE reputation.algorithm SET parameters = parameters',
	'DELETE FROM reputation.builder_scores', 'INSERT INTO reputation.inbox_0 VALUES (1, 1, 1)', 'UPDATE reputation.engine SET role = 10::oid::regrole',
	'SELECT reputation.lane(''1'')', 'SELECT reputation.sweep_start(''builder'', ''nightly'', ''manual'')', 'SELECT reputation.forget_user(''1'', ''erase'', NULL)', 'SELECT reputation.run_due_jobs()',
	'CREATE TABLE reputation.t ()', 'SET reputation.clock = ''2000-01-01''', 'SET reputation.debounce = 0', 'SELECT * FROM security.users']) s;
GRANT SELECT ON test.attempt TO PUBLIC;
CREATE PROCEDURE test.attempts(who regrole)
LANGUAGE plpgsql AS $$
DECLARE
	a record;
	allowed text := '';
	other text := '';
BEGIN
	FOR a IN SELECT * FROM test.attempt ORDER BY no LOOP
		BEGIN
			EXECUTE format('SET LOCAL ROLE %s', who);
			EXECUTE a.statement;
			RAISE 'undo' USING ERRCODE = 'UUUUU';
		EXCEPTION
			WHEN SQLSTATE 'UUUUU' THEN allowed := allowed || E'\n\t' || a.statement;
			WHEN insufficient_privilege THEN NULL;
			WHEN OTHERS THEN other := other || E'\n\t' || a.statement || ': ' || SQLSTATE || ' ' || SQLERRM;
		END;
	END LOOP;
	RAISE INFO E'% may%', who, allowed || other;
END
$$;
CALL test.attempts('regress_nobody');
CALL test.attempts('regress_reader');
CALL test.attempts('regress_admin');
SET ROLE regress_nobody;
CALL reputation_run('nightly');
\echo SQLSTATE :SQLSTATE
RESET ROLE;

-- An administrator attaches the tables it owns, and no others; nor can it detach those of others.
GRANT USAGE ON SCHEMA security TO regress_admin;
SET ROLE regress_admin;
SELECT builder_score_attach('security.users', 'security.projects', 'security.project_collaborators');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_detach();
\echo SQLSTATE :SQLSTATE
RESET ROLE;
SELECT role, users FROM reputation.engine;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal;
SELECT reputation_process() >= 0 AS done;
SELECT builder_score_detach();
CREATE SCHEMA own AUTHORIZATION regress_admin;
SET ROLE regress_admin;
SET search_path = own, public;
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int);
CREATE TABLE project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
INSERT INTO users VALUES (1), (2);
INSERT INTO projects VALUES (1, 1, 'shipped', 0);
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT role, users FROM reputation.engine;
SELECT reputation_process();
UPDATE reputation.algorithm SET parameters = parameters || '{"own": 7}';
CALL reputation_run('nightly');
CALL reputation_run('leaderboards');
SELECT * FROM users ORDER BY id;
SELECT builder_score_recalc(1), builder_score_recalc_all(), reputation_repair();
UPDATE reputation.algorithm SET parameters = parameters || '{"own": 10}';
-- It can make nothing in the extension's schema, where its owner's code looks; a superuser replaces the view.
CREATE OR REPLACE VIEW reputation.builder_signals AS SELECT id AS user_id, 3::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users;
RESET ROLE;
CREATE OR REPLACE VIEW reputation.builder_signals AS SELECT id AS user_id, 3::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users;
SET ROLE regress_admin;
SELECT builder_score_recalc(2);
DROP VIEW reputation.builder_signals;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() >= 2 AS computed;
SELECT * FROM reputation_verify();
SELECT builder_score_detach();
RESET ROLE;
-- Some of the tables are somebody else's.
SET ROLE regress_admin;
SELECT builder_score_attach('own.users', 'security.projects', 'own.project_collaborators');
\echo SQLSTATE :SQLSTATE
RESET ROLE;
SELECT builder_score_attach('own.users', 'security.projects', 'own.project_collaborators');
\echo SQLSTATE :SQLSTATE
DROP SCHEMA own CASCADE;

-- Row security that would hide rows from the engine: refused by attach, an error later.
SET search_path = security, public;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON projects USING (owner_id = 1);
-- The owner is not subject to it, unless it is forced.
SELECT builder_score_attach() IS NOT NULL AS attached;
INSERT INTO projects VALUES (2, 2, 'shipped', 0);
SELECT reputation_process() > 0 AS computed;
SELECT id, builder_score FROM users ORDER BY id;
ALTER TABLE projects FORCE ROW LEVEL SECURITY;
UPDATE projects SET impact = 9;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT * FROM test.raised('SELECT builder_score_recalc(1)');
SELECT id, builder_score FROM users ORDER BY id;
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
ALTER TABLE projects OWNER TO regress_nobody;
ALTER TABLE projects NO FORCE ROW LEVEL SECURITY;
GRANT SELECT ON projects TO regress_app;
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
ALTER ROLE regress_app BYPASSRLS;
-- What its owner has put into it would run as regress_app: with that one's rights the owner may.
GRANT regress_app TO regress_nobody;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT id, builder_score FROM users ORDER BY id;
ALTER ROLE regress_app NOBYPASSRLS;
REVOKE regress_app FROM regress_nobody;
ALTER TABLE projects OWNER TO regress_app;
ALTER TABLE projects DISABLE ROW LEVEL SECURITY;

-- Code of the application that the engine sets off runs as its role and cannot get out.
SET reputation.debounce = 0;
CREATE TABLE log (what text, who name);
ALTER TABLE log OWNER TO regress_app;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	s text;
BEGIN
	INSERT INTO security.log VALUES (TG_ARGV[0], current_user);
	FOREACH s IN ARRAY ARRAY['SET ROLE postgres', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET ROLE', 'CREATE ROLE regress_root SUPERUSER',
		'UPDATE reputation.builder_scores SET score = 1000', 'INSERT INTO reputation.inbox_0 VALUES (1, 1, 1)', 'CREATE TEMP TABLE users (id int)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
		'SET LOCAL reputation.clock = ''2000-01-01''']
	LOOP
		BEGIN
			EXECUTE s;
			INSERT INTO security.log VALUES (s, current_user);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	RETURN NEW;
END
$$;
ALTER FUNCTION spy() OWNER TO regress_app;
CREATE TRIGGER spy BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION spy('before');
CREATE TRIGGER spy_after AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION spy('after');
UPDATE projects SET impact = 99 WHERE id = 1;
SELECT reputation_process();
SELECT builder_score(1);
UPDATE projects SET impact = 9 WHERE id = 1;
SELECT builder_score_recalc(1);
UPDATE projects SET impact = 99 WHERE id = 1;
SELECT builder_score_recalc_all();
SELECT DISTINCT what, who FROM log ORDER BY 1, 2;
DROP TRIGGER spy ON users;
DROP TRIGGER spy_after ON users;
-- Nor later, at the end of the transaction.
TRUNCATE log;
SELECT reputation_process() >= 0 AS done;
CREATE CONSTRAINT TRIGGER spy_late AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy('late');
UPDATE projects SET impact = 0 WHERE id = 1;
SELECT reputation_process() > 0 AS done;
SELECT count(*) FROM log WHERE who <> 'regress_app';
DROP TRIGGER spy_late ON users;
-- A function in an index or a view of the application.
CREATE FUNCTION spy_view(int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	INSERT INTO security.log VALUES ('view', current_user);
	RETURN $1;
END
$$;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT spy_view(id) AS user_id, 1::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users;
TRUNCATE log;
SELECT builder_score_recalc(2), builder_score_recalc_all();
SELECT DISTINCT what, who FROM log ORDER BY 1, 2;
DROP VIEW reputation.builder_signals;
DROP FUNCTION spy_view(int);
SET client_min_messages = warning;
SELECT builder_score_attach() IS NOT NULL AS attached;
RESET client_min_messages;
SELECT reputation_process() > 0 AS done;

-- A caller's search_path changes nothing: its operators, functions and tables
-- are not seen by what runs with the rights of others. A new session each time,
-- in which no plan was made before.
CREATE SCHEMA evil;
CREATE TABLE evil.log (who name DEFAULT current_user);
GRANT INSERT ON evil.log TO PUBLIC;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
DO $$
DECLARE
	types text;
	operator text;
BEGIN
	FOREACH types IN ARRAY ARRAY['text, text', 'name, text', 'name, name', 'int4, int4', 'int2, int2', 'int4, int2', 'int8, int8',
		'int8, int4', 'oid, oid', 'bool, bool', 'timestamptz, timestamptz'] LOOP
		FOREACH operator IN ARRAY ARRAY['=', '<>', '<=', '>=', '<', '>'] LOOP
			EXECUTE format('CREATE FUNCTION evil."f%1$s"(%2$s) RETURNS bool LANGUAGE plpgsql AS
				''BEGIN INSERT INTO evil.log DEFAULT VALUES; RETURN $1 OPERATOR(pg_catalog.%1$s) $2; END''', operator, types);
			EXECUTE format('CREATE OPERATOR evil.%1$s (FUNCTION = evil."f%1$s", LEFTARG = %2$s, RIGHTARG = %3$s)', operator,
				split_part(types, ', ', 1), split_part(types, ', ', 2));
		END LOOP;
	END LOOP;
END
$$;
CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
'BEGIN INSERT INTO evil.log DEFAULT VALUES; RETURN pg_catalog.format($1, VARIADIC $2); END';
CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS
'BEGIN INSERT INTO evil.log DEFAULT VALUES; RETURN QUERY SELECT pg_catalog.unnest($1); END';
\c -
SET reputation.clock = '2026-01-01 00:00:00+00';
SET ROLE regress_nobody;
SET search_path = evil, pg_catalog, public;
SELECT builder_score(1);
RESET ROLE;
SELECT count(*) FROM evil.log;
\c -
SET reputation.clock = '2026-01-01 00:00:00+00';
SET ROLE regress_reader;
SET search_path = evil, pg_catalog, public;
SELECT builder_score_explain(1) ->> 'score' AS score;
SELECT * FROM reputation_verify();
SELECT reputation_wait(1);
SELECT bool_and(s.status <> 'ERROR') FROM reputation_status() s;
RESET ROLE;
SELECT count(*) FROM evil.log WHERE who OPERATOR(pg_catalog.<>) 'regress_reader';
\c -
SET reputation.clock = '2026-01-01 00:00:00+00';
UPDATE security.projects SET status = status || '' , impact = impact + 1;
SET ROLE regress_admin;
SET search_path = evil, pg_catalog, public;
SELECT builder_score_recalc(1) IS NOT NULL AS done;
SELECT builder_score_recalc_all() IS NOT NULL AS done;
SELECT reputation_process() IS NOT NULL AS done;
SELECT reputation_repair();
SELECT reputation_retry();
SELECT count(*) FROM reputation_schedule();
SELECT reputation_unschedule();
CALL reputation_run('nightly');
SELECT reputation_forget(3) IS NOT NULL AS done;
RESET ROLE;
SELECT DISTINCT who FROM evil.log WHERE who OPERATOR(pg_catalog.<>) ALL ('{regress_admin,regress_reader}'::name[]);
-- Attaching and detaching, with all of the caller's objects in the way.
RESET search_path;
SELECT builder_score_detach();
CREATE SCHEMA own AUTHORIZATION regress_admin;
\c -
SET reputation.clock = '2026-01-01 00:00:00+00';
SET ROLE regress_admin;
CREATE TABLE own.users (id int PRIMARY KEY);
CREATE TABLE own.projects (id int PRIMARY KEY, owner_id int, status text, impact int);
CREATE TABLE own.project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON own.projects (owner_id);
CREATE INDEX ON own.project_collaborators (project_id);
CREATE INDEX ON own.project_collaborators (user_id);
INSERT INTO own.users VALUES (1);
INSERT INTO own.projects VALUES (1, 1, 'shipped', 0);
SET search_path = evil, pg_catalog, public, own;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() IS NOT NULL AS done;
SELECT builder_score(1);
SELECT builder_score_detach();
RESET ROLE;
SELECT DISTINCT who FROM evil.log WHERE who OPERATOR(pg_catalog.<>) ALL ('{regress_admin,regress_reader}'::name[]);
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
DROP SCHEMA own CASCADE;
RESET client_min_messages;

-- Who owns the tables of another engine may use the trigger function, with any arguments, on any table of
-- theirs: that moves and removes nobody's points or badges.
CREATE SCHEMA theirs AUTHORIZATION regress_nobody;
SET ROLE regress_nobody;
SET search_path = theirs, public;
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int);
CREATE TABLE project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
RESET ROLE;
SELECT builder_score_attach() IS NOT NULL AS attached;
SET client_min_messages = warning;
SELECT points_attach('security.users') IS NOT NULL AND badges_attach('security.users') IS NOT NULL AS attached;
RESET client_min_messages;
SELECT award_points(2, 5, 'for two', 'a');
INSERT INTO reputation.user_badge VALUES ('2', 'first_win', reputation.clock(), 0, NULL);
SET ROLE regress_nobody;
CREATE TABLE mine (id text);
CREATE TRIGGER mine AFTER UPDATE OR DELETE ON mine FOR EACH ROW EXECUTE FUNCTION reputation.capture('1', '"w:0:48:id","o:1:48:id"');
CREATE TRIGGER mine AFTER UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION reputation.capture('1', '"w:0:48:id","o:1:48:id"');
INSERT INTO mine VALUES ('2');
INSERT INTO users VALUES (2);
UPDATE mine SET id = 'me';
UPDATE users SET id = 3;
UPDATE mine SET id = '2';
UPDATE users SET id = 2;
DELETE FROM mine;
DELETE FROM users;
RESET ROLE;
SELECT l.user_id, l.points, h.slug FROM reputation.point_ledger l FULL JOIN reputation.user_badge h USING (user_id);
-- The users' owner does so by deleting the user.
SET ROLE regress_app;
DELETE FROM security.users WHERE id = 2;
RESET ROLE;
SELECT l.user_id, l.points, h.slug FROM reputation.point_ledger l FULL JOIN reputation.user_badge h USING (user_id);
SELECT builder_score_detach(), points_detach(), badges_detach();
DROP SCHEMA theirs CASCADE;
-- To give points is to hold the user's row, which takes UPDATE.
REVOKE UPDATE ON security.users FROM regress_app;
SELECT points_attach('security.users');
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('security.users');
\echo SQLSTATE :SQLSTATE
GRANT UPDATE ON security.users TO regress_app;

-- A temporary table under the name of the application's: refused, not taken.
CREATE TEMP TABLE users (id int PRIMARY KEY);
SET search_path = security, public;
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
DROP TABLE pg_temp.users;
DROP TABLE test.attempt;
DROP PROCEDURE test.attempts;
CALL test.clean('security');
REVOKE USAGE ON SCHEMA test FROM PUBLIC;
DROP ROLE regress_nobody;
DROP ROLE regress_reader;
REVOKE ALL ON SCHEMA reputation FROM regress_admin;
DROP OWNED BY regress_admin;
DROP ROLE regress_admin;

-- An application's table is touched as its owner, who gets no other rights by it; and nobody plants work.
\set SHOW_CONTEXT never
SET reputation.clock = '2026-01-01 00:00:00+00';
CREATE ROLE regress_attacker NOLOGIN;
CREATE ROLE regress_other NOLOGIN;
SELECT current_user AS superuser \gset
-- Their code notes as whom it runs.
CREATE TABLE test.ran (what text, who name, super boolean);
GRANT USAGE ON SCHEMA test TO PUBLIC;
GRANT INSERT ON test.ran TO PUBLIC;
CREATE SCHEMA theirs AUTHORIZATION regress_attacker;
SET search_path = theirs, public;
SET ROLE regress_attacker;
CREATE FUNCTION note(what text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	INSERT INTO test.ran SELECT what, current_user, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user;
END
$$;
-- Immutable, so that it may be in an index or a partition key; with a constant argument the planner, or whoever
-- reads such an expression with the server's functions for that, calls it.
CREATE FUNCTION spy(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM theirs.note(what);
	RETURN 0;
END
$$;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
RESET ROLE;
CREATE VIEW test.escalated AS
SELECT what, bool_or(super) AS super, array_agg(DISTINCT who ORDER BY who) AS who FROM test.ran
WHERE who <> 'regress_attacker' GROUP BY what;

-- A trigger that bears our name, on a table that is no source: the event trigger leaves it alone.
SET ROLE regress_attacker;
CREATE TEMP TABLE t (id int, x int) PARTITION BY RANGE ((id + theirs.spy('key of a temporary table')));
CREATE TEMP TABLE t_1 PARTITION OF t DEFAULT;
CREATE TRIGGER reputation_capture AFTER INSERT OR UPDATE OF x ON t FOR EACH ROW EXECUTE FUNCTION nothing('1', '"w:0:2:x"');
CREATE TRIGGER b BEFORE UPDATE ON t_1 FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT tgattr::text <> '' AS listed, tgfoid::regproc AS function FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname = 'reputation_capture';
DROP TABLE t;
RESET ROLE;
SELECT * FROM test.escalated;

-- A superuser attaches tables whose owner has code in a partition key and in the expressions of indexes.
SET ROLE regress_attacker;
CREATE TABLE users (id int PRIMARY KEY, builder_score int NOT NULL DEFAULT 0);
CREATE INDEX ON users (builder_score);
CREATE TABLE projects (id int, owner_id int, status text, impact float8) PARTITION BY RANGE ((id + spy('key of a source')));
CREATE TABLE projects_1 PARTITION OF projects DEFAULT;
CREATE INDEX ON projects (id);
CREATE INDEX ON projects (owner_id);
-- Of another type, so that an attach looks for an index on an expression.
CREATE TABLE project_collaborators (project_id bigint, user_id int, status text);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
RESET ROLE;
TRUNCATE test.ran;
\c -
SET search_path = theirs, public;
SET reputation.clock = '2026-01-01 00:00:00+00';
SET client_min_messages = error;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT * FROM test.escalated;
SELECT count(*) > 0 AS "as its owner" FROM test.ran WHERE who = 'regress_attacker';
SELECT rolname, has_schema_privilege(rolname, 'reputation', 'USAGE') AS usage, has_function_privilege(rolname, 'reputation.capture()', 'EXECUTE') AS capture
FROM pg_roles WHERE rolname IN ('regress_attacker', 'regress_other') ORDER BY 1;
-- A trigger that changes what an update does not name: the capture trigger of the partitioned table is made anew.
SET ROLE regress_attacker;
CREATE TRIGGER b BEFORE UPDATE ON projects_1 FOR EACH ROW EXECUTE FUNCTION nothing();
RESET ROLE;
SELECT tgattr::text <> '' AS listed, tgfoid::regproc AS function FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
SELECT * FROM test.escalated;
-- Detached in a new session, which has not seen the key yet.
\c -
SET search_path = theirs, public;
SET reputation.clock = '2026-01-01 00:00:00+00';
SELECT builder_score_detach();
SELECT * FROM test.escalated;
SELECT rolname, has_schema_privilege(rolname, 'reputation', 'USAGE') AS usage, has_function_privilege(rolname, 'reputation.capture()', 'EXECUTE') AS capture
FROM pg_roles WHERE rolname IN ('regress_attacker', 'regress_other') ORDER BY 1;

-- The expression of an index, which the server has not read yet: no query of the attach is over its table.
SET ROLE regress_attacker;
DROP TABLE projects;
CREATE TABLE projects (id int, owner_id int, status text, impact float8);
CREATE INDEX ON projects (id);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON projects ((id + spy('expression of an index')));
RESET ROLE;
CREATE VIEW reputation.builder_signals AS SELECT id AS user_id, 0::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users;
TRUNCATE test.ran;
\c -
SET search_path = theirs, public;
SET reputation.clock = '2026-01-01 00:00:00+00';
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT * FROM test.escalated;
-- It is told from the one that would serve.
SET ROLE regress_attacker;
CREATE INDEX ON projects ((id::bigint));
RESET ROLE;
SELECT builder_score_attach() IS NOT NULL AS attached;
DROP VIEW reputation.builder_signals;
-- The owner may make no index: the attach says which, and goes on.
SET ROLE regress_attacker;
DROP INDEX users_builder_score_idx;
RESET ROLE;
ALTER SCHEMA theirs OWNER TO :superuser;
GRANT USAGE ON SCHEMA theirs TO regress_attacker;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT count(*) FROM pg_indexes WHERE schemaname = 'theirs' AND tablename = 'users';
ALTER SCHEMA theirs OWNER TO regress_attacker;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT count(*) FROM pg_indexes WHERE schemaname = 'theirs' AND tablename = 'users';

-- Whoever may use the trigger function plants nothing: neither on a table of his own, nor with other arguments on a source.
CREATE VIEW test.planted AS SELECT (SELECT count(*) FROM test.inbox) AS keys, (SELECT count(*) FROM reputation.job) AS jobs;
SET client_min_messages = warning;
SELECT reputation_process() >= 0 AS done;
SELECT id AS source, trigger_arguments AS arguments FROM reputation.source WHERE relation = 'projects'::regclass \gset
SELECT * FROM test.planted;
SET ROLE regress_attacker;
CREATE TEMP TABLE forged (id text, owner_id int);
CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON forged FOR EACH ROW EXECUTE FUNCTION reputation.capture(:'source', '"w:0:2:id","e:1:2:id"');
INSERT INTO forged SELECT i FROM generate_series(1, 3) i;
UPDATE forged SET id = id || 'x';
DROP TRIGGER a ON forged;
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON forged FOR EACH ROW EXECUTE FUNCTION reputation.capture(:'source', :'arguments');
INSERT INTO forged SELECT i FROM generate_series(1, 3) i;
CREATE TRIGGER c AFTER TRUNCATE ON forged EXECUTE FUNCTION reputation.capture(:'source');
TRUNCATE forged;
DROP TRIGGER b ON forged;
CREATE TRIGGER d AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION reputation.capture('x', 'y', 'z');
CREATE TRIGGER e AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION reputation.capture();
CREATE TRIGGER f AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION reputation.capture('00', :'arguments');
INSERT INTO forged VALUES (1);
CREATE TRIGGER g AFTER INSERT OR UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION reputation.capture(:'source', '"e:1:2:id"');
INSERT INTO users VALUES (1);
INSERT INTO projects VALUES (7, 1, 'shipped', 0);
RESET ROLE;
-- The one project and the one user that there were.
SELECT count(*) AS keys, count(*) FILTER (WHERE key_no = 0) AS everybody FROM test.inbox;
SELECT reputation_process();
DROP TRIGGER g ON projects;
-- What the registry does not have is captured by no trigger, not once more in a transaction, and the status tells.
UPDATE reputation.source SET trigger_arguments = 'others' WHERE id = :source;
\c -
SET search_path = theirs, public;
SET reputation.clock = '2026-01-01 00:00:00+00';
SET ROLE regress_attacker;
BEGIN;
INSERT INTO projects VALUES (8, 1, 'shipped', 0), (9, 1, 'shipped', 0);
DELETE FROM projects WHERE id = 9;
COMMIT;
RESET ROLE;
SELECT * FROM test.planted;
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
-- Nor does the event trigger touch it.
CREATE TRIGGER b BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
DROP TRIGGER b ON projects;
SET client_min_messages = warning;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT status, detail FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
SELECT reputation_process();
SELECT builder_score FROM users;

-- A trigger that only bears the name is neither replaced nor dropped.
SET ROLE regress_attacker;
ALTER TRIGGER reputation_capture ON projects RENAME TO renamed;
CREATE TRIGGER reputation_capture AFTER UPDATE OF status ON projects FOR EACH ROW EXECUTE FUNCTION nothing('x', 'y');
CREATE TRIGGER b BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION nothing();
RESET ROLE;
-- It is the renamed one that looks at every update now.
SELECT tgname, tgattr::text <> '' AS listed, tgfoid::regproc AS function FROM pg_trigger WHERE tgrelid = 'projects'::regclass ORDER BY 1;
SELECT status, detail FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
SELECT builder_score_detach();
SELECT tgname, tgfoid::regproc AS function FROM pg_trigger WHERE tgrelid = 'projects'::regclass ORDER BY 1;
DROP TRIGGER reputation_capture ON projects;
-- On a partition, too, where PostgreSQL would replace it.
ALTER TABLE projects RENAME TO projects_1;
SET ROLE regress_attacker;
CREATE TABLE projects (LIKE projects_1) PARTITION BY LIST (status);
ALTER TABLE projects ATTACH PARTITION projects_1 DEFAULT;
CREATE INDEX ON projects (id);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON projects ((id::bigint));
CREATE TRIGGER reputation_capture AFTER UPDATE ON projects_1 FOR EACH ROW EXECUTE FUNCTION nothing();
RESET ROLE;
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
DROP TRIGGER reputation_capture ON projects_1;
SELECT builder_score_attach() IS NOT NULL AS attached;

-- Its triggers are the owner's and a superuser's to be taken: another who may attach and detach may not.
CREATE ROLE regress_admin NOLOGIN IN ROLE reputation_admin;
SET ROLE regress_admin;
SELECT builder_score_detach();
\echo SQLSTATE :SQLSTATE
RESET ROLE;
DROP ROLE regress_admin;
ALTER TABLE projects_1 OWNER TO regress_other;
ALTER TABLE projects OWNER TO regress_other;
GRANT SELECT ON projects TO regress_attacker;
GRANT USAGE ON SCHEMA theirs TO regress_other;
DROP TRIGGER b ON projects_1;
-- A superuser attaches only what belongs to the engine's role, or to whoever has its rights.
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
GRANT regress_attacker TO regress_other;
SELECT builder_score_attach() IS NOT NULL AS attached;
REVOKE regress_attacker FROM regress_other;
ALTER TABLE projects OWNER TO regress_attacker;
-- A partition counts, too.
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
-- One who is a member of all owners consents for himself.
ALTER TABLE projects OWNER TO regress_other;
CREATE ROLE regress_both NOLOGIN IN ROLE regress_attacker, regress_other, reputation_admin;
SET ROLE regress_both;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT role FROM reputation.engine;
RESET ROLE;
-- A new owner gets what the triggers take when one of them is made anew.
ALTER TABLE users OWNER TO regress_other;
SELECT builder_score_detach();
ALTER TABLE projects OWNER TO regress_attacker;
ALTER TABLE projects_1 OWNER TO regress_attacker;
ALTER TABLE users OWNER TO regress_attacker;
SELECT builder_score_attach() IS NOT NULL AS attached;
ALTER TABLE projects OWNER TO regress_other;
ALTER TABLE projects_1 OWNER TO regress_other;
SELECT has_schema_privilege('regress_other', 'reputation', 'USAGE') AS usage, has_function_privilege('regress_other', 'reputation.capture()', 'EXECUTE') AS capture;
CREATE TRIGGER b BEFORE UPDATE ON projects_1 FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
SELECT has_schema_privilege('regress_other', 'reputation', 'USAGE') AS usage, has_function_privilege('regress_other', 'reputation.capture()', 'EXECUTE') AS capture;
DROP TRIGGER b ON projects_1;
ALTER TABLE projects OWNER TO regress_attacker;
ALTER TABLE projects_1 OWNER TO regress_attacker;
SELECT builder_score_attach() IS NOT NULL AS attached;

-- Triggers that will not find what they name when a worker writes the score.
SET ROLE regress_attacker;
CREATE TABLE "Log" (id int);
CREATE TABLE other_log (LIKE "Log");
CREATE SEQUENCE numbers;
CREATE FUNCTION careless() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	old_log other_log%ROWTYPE;
BEGIN
	-- from users
	INSERT INTO "Log" (id) VALUES (nextval('numbers')); /* into users */
	PERFORM spy('update users'), lower('x'), theirs.spy('y') FROM theirs.users u WHERE u.id = NEW.id;
	RETURN NEW;
END
$$;
CREATE FUNCTION careful() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	users int;
BEGIN
	INSERT INTO theirs."Log" VALUES (nextval('theirs.numbers'));
	users := theirs.spy('from users');
	RETURN NEW;
END
$$;
CREATE FUNCTION pinned() RETURNS trigger LANGUAGE plpgsql SET search_path = theirs, pg_temp AS $$
BEGIN
	INSERT INTO "Log" VALUES (1);
	RETURN NEW;
END
$$;
CREATE TRIGGER careful BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION careful();
CREATE TRIGGER pinned BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION pinned();
CREATE TRIGGER another_column AFTER UPDATE OF id ON users FOR EACH ROW EXECUTE FUNCTION careless();
CREATE TRIGGER insertion AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION careless();
CREATE TRIGGER off AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION careless();
ALTER TABLE users DISABLE TRIGGER off;
RESET ROLE;
SELECT builder_score_attach() IS NOT NULL AS attached;
CREATE TRIGGER careless AFTER UPDATE OF builder_score ON users FOR EACH ROW EXECUTE FUNCTION careless();
SELECT builder_score_attach() IS NOT NULL AS attached;
-- So it is; the statement mends it.
SET ROLE regress_attacker;
UPDATE users SET builder_score = 0;
SELECT * FROM "Log";
RESET ROLE;
SELECT state FROM test.raised('SELECT builder_score_recalc(1)');
ALTER FUNCTION theirs.careless() SET search_path = theirs, pg_temp;
SELECT builder_score_recalc(1);
SELECT builder_score_attach() IS NOT NULL AS attached;
-- A trigger for each statement fires when the attach tries to write, nobody: that tells, too.
ALTER FUNCTION theirs.careless() RESET search_path;
CREATE TRIGGER careless_statement AFTER UPDATE ON users EXECUTE FUNCTION careless();
DROP TRIGGER careless ON users;
SELECT state FROM test.raised('SELECT builder_score_attach()');
DROP TRIGGER careless_statement ON users;
-- A source that is given to somebody else: what he puts there would run as the engine's role.
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS done;
ALTER TABLE projects OWNER TO regress_other;
SELECT * FROM test.raised('SELECT builder_score_recalc(1)');
SELECT status, detail FROM reputation_status() WHERE check_name = 'drift builder';
-- What is stored can be read; given back, or attached by whom it concerns, it goes on.
SELECT builder_score(1) IS NOT NULL AS read;
ALTER TABLE projects OWNER TO regress_attacker;
SELECT builder_score_recalc(1) IS NOT NULL AS computed;
-- None of all that ran as anybody else.
SELECT * FROM test.escalated WHERE super;
CALL test.clean('theirs');
DROP VIEW test.escalated, test.planted;
DROP TABLE test.ran;
REVOKE USAGE ON SCHEMA test FROM PUBLIC;
DROP ROLE regress_both;
DROP OWNED BY regress_attacker, regress_other;
DROP ROLE regress_attacker;
DROP ROLE regress_other;

-- What becomes of a source while an engine is attached: found, told with its remedy, mended, and nothing missed.
\set SHOW_CONTEXT never
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
SET client_min_messages = warning;
CREATE VIEW test.findings AS SELECT relation, finding, detail, remedy, level, stale FROM reputation.source_check() ORDER BY relation, finding, detail;
CREATE VIEW test.columns AS SELECT s.relation::text, c.name, c.attnum, a.attname IS NOT DISTINCT FROM c.name AS same
FROM reputation.source s JOIN reputation.source_column c ON c.source = s.id LEFT JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = c.attnum;
-- Who is attached anew is computed, and what changed since is.
CREATE PROCEDURE test.attached(columns jsonb DEFAULT '{}') LANGUAGE plpgsql AS $$
BEGIN
	PERFORM builder_score_attach(columns => columns);
	PERFORM reputation_process();
END
$$;
CALL test.make_tables('source');
INSERT INTO users SELECT i FROM generate_series(1, 4) i;
INSERT INTO projects SELECT i, i, 'shipped', 0 FROM generate_series(1, 3) i;
CALL test.attached();
SELECT * FROM test.findings;
SELECT relation, string_agg(name, ' ' ORDER BY attnum) AS columns, bool_and(same) AS same FROM test.columns GROUP BY 1 ORDER BY 1;

-- Renamed: the registry follows in that transaction, single keys are captured, nobody else is computed.
ALTER TABLE projects RENAME owner_id TO creator;
SELECT * FROM test.findings;
SELECT string_agg(name, ' ' ORDER BY attnum) AS columns, bool_and(same) AS same FROM test.columns WHERE relation = 'projects';
INSERT INTO projects VALUES (4, 4, 'shipped', 0);
SELECT * FROM test.concerned();
-- Two that exchange their names: what was the owner's is captured as the owner.
ALTER TABLE projects RENAME creator TO x;
ALTER TABLE projects RENAME id TO creator;
ALTER TABLE projects RENAME x TO id;
SELECT name, attnum, same FROM test.columns WHERE relation = 'projects' ORDER BY attnum;
INSERT INTO projects (creator, id, status) VALUES (70, 2, 'shipped');
SELECT * FROM test.concerned();
DELETE FROM projects WHERE creator = 70;
SELECT * FROM test.concerned();
ALTER TABLE projects RENAME id TO x;
ALTER TABLE projects RENAME creator TO id;
ALTER TABLE projects RENAME x TO owner_id;
-- The users' key and the column that the engine writes.
ALTER TABLE users RENAME id TO uid;
ALTER TABLE users RENAME builder_score TO score;
SELECT users_key, cached_column FROM reputation.engine;
UPDATE projects SET status = 'idea' WHERE id = 1;
UPDATE users SET score = 77 WHERE uid = 2;
SELECT * FROM test.concerned();
SELECT uid, score FROM users ORDER BY 1;
ALTER TABLE users RENAME uid TO id;
ALTER TABLE users RENAME score TO builder_score;
UPDATE projects SET status = 'shipped' WHERE id = 1;
SELECT * FROM test.concerned();

-- Unseen: it is found, and until it is mended a change of the table has everybody computed.
ALTER EVENT TRIGGER reputation_triggers_check DISABLE;
ALTER TABLE projects RENAME owner_id TO creator;
SELECT * FROM test.findings;
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
SET client_min_messages = error;
UPDATE projects SET creator = 4 WHERE id = 1;
SET client_min_messages = warning;
SELECT users, sweeps, pending, drift FROM test.concerned();
SELECT reputation_repair('builder');
SELECT * FROM test.findings;
SELECT job_name, trigger, status FROM reputation.job_runs WHERE status = 'running';
SELECT reputation_process() >= 4 AS everybody;
UPDATE projects SET creator = 1 WHERE id = 1;
SELECT * FROM test.concerned();
-- Swapped unseen, what is written is captured as something else, and computed once that is mended.
ALTER TABLE projects RENAME creator TO x;
ALTER TABLE projects RENAME id TO creator;
ALTER TABLE projects RENAME x TO id;
SELECT finding, detail, level, stale FROM test.findings;
INSERT INTO projects (creator, id, status) VALUES (70, 2, 'shipped');
SELECT pending FROM test.concerned();
SELECT reputation_repair('builder') >= 0 AS repaired;
SELECT * FROM test.concerned();
INSERT INTO projects (creator, id, status) VALUES (71, 3, 'shipped');
SELECT * FROM test.concerned();
DELETE FROM projects WHERE creator > 69;
ALTER TABLE projects RENAME id TO x;
ALTER TABLE projects RENAME creator TO id;
ALTER TABLE projects RENAME x TO owner_id;
ALTER EVENT TRIGGER reputation_triggers_check ENABLE ALWAYS;
SELECT count(*) FROM test.findings;
SELECT reputation_repair('builder') >= 0 AS repaired;
SELECT pending, drift FROM test.concerned();
-- With a snapshot of its own a transaction leaves it to a worker.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1 AS snapshot;
ALTER TABLE projects RENAME owner_id TO creator;
COMMIT;
SELECT finding, detail FROM test.findings;
ALTER TABLE projects RENAME creator TO owner_id;
SELECT * FROM test.findings;
-- Undone, all of it is.
BEGIN;
ALTER TABLE projects RENAME owner_id TO creator;
ROLLBACK;
SELECT * FROM test.findings;

-- Disabled: told; what was missed is computed once it fires again, whoever enables it.
ALTER TABLE projects DISABLE TRIGGER reputation_capture;
SELECT * FROM test.findings;
UPDATE projects SET owner_id = 4 WHERE id = 2;
SELECT captured, sweeps, drift FROM test.concerned();
SELECT count(*) AS missed FROM reputation.source_missed;
ALTER TABLE projects ENABLE TRIGGER reputation_capture;
SELECT * FROM test.concerned();
SELECT count(*) AS missed FROM reputation.source_missed;
BEGIN;
ALTER TABLE projects DISABLE TRIGGER USER;
UPDATE projects SET owner_id = 2 WHERE id = 2;
ALTER TABLE projects ENABLE TRIGGER USER;
COMMIT;
SELECT * FROM test.findings;
SELECT * FROM test.concerned();
ALTER TABLE projects ENABLE REPLICA TRIGGER reputation_capture_truncate;
SELECT finding, detail, remedy FROM test.findings;
SELECT reputation_repair('builder');
SELECT * FROM test.findings;
SELECT * FROM test.concerned();
-- Dropped, seen by the other event trigger or not.
DROP TRIGGER reputation_capture ON projects;
SELECT * FROM test.findings;
SELECT count(*) AS missed FROM reputation.source_missed;
UPDATE projects SET owner_id = 4 WHERE id = 2;
SELECT reputation_repair('builder');
SELECT * FROM test.findings;
SELECT * FROM test.concerned();
ALTER EVENT TRIGGER reputation_source_dropped DISABLE;
DROP TRIGGER reputation_capture_truncate ON projects;
ALTER EVENT TRIGGER reputation_source_dropped ENABLE ALWAYS;
SELECT count(*) AS missed FROM reputation.source_missed;
SELECT reputation_process();
SELECT count(*) AS missed FROM reputation.source_missed;
SELECT reputation_repair() >= 0 AS repaired;
SELECT * FROM test.concerned();
-- A partition's clone.
CREATE SCHEMA parts AUTHORIZATION regress_app;
SET ROLE regress_app;
CREATE TABLE parts.projects (LIKE projects) PARTITION BY RANGE (id);
CREATE TABLE parts.projects_1 PARTITION OF parts.projects FOR VALUES FROM (0) TO (100);
CREATE INDEX ON parts.projects (id);
CREATE INDEX ON parts.projects (owner_id);
RESET ROLE;
SELECT builder_score_attach(projects => 'parts.projects', replace => true) IS NOT NULL AS attached;
ALTER TABLE parts.projects_1 DISABLE TRIGGER reputation_capture;
SELECT relation, finding, detail FROM test.findings;
SELECT reputation_repair('builder') >= 0 AS repaired;
SELECT relation, finding, detail FROM test.findings;
SELECT reputation_process() > 0 AS computed;
SET ROLE regress_app;
CREATE TABLE parts.projects_2 PARTITION OF parts.projects FOR VALUES FROM (100) TO (200);
RESET ROLE;
SELECT relation, finding, detail, level, stale FROM test.findings;
SELECT * FROM test.concerned();
ALTER TABLE parts.projects RENAME owner_id TO creator;
INSERT INTO parts.projects_2 VALUES (101, 4, 'shipped');
SELECT * FROM test.concerned();

-- Logical apply.
SELECT builder_score_attach(fire => 'always', replace => true) IS NOT NULL AS attached;
ALTER TABLE projects ENABLE TRIGGER reputation_capture;
SELECT relation, finding, detail FROM test.findings;
SELECT reputation_repair() >= 0 AS repaired;
ALTER TABLE projects DISABLE TRIGGER reputation_capture;
ALTER TABLE projects RENAME owner_id TO creator;
-- Following a column it stays as its user wants it.
SELECT relation, finding, detail FROM test.findings;
ALTER TABLE projects RENAME creator TO owner_id;
CALL test.attached();
SELECT relation, finding FROM test.findings;

-- Another function, other arguments, another list, other events: by whoever owns the table.
SET ROLE regress_app;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
RESET ROLE;
SELECT id AS source, trigger_arguments AS arguments FROM reputation.source WHERE relation = 'projects'::regclass \gset
SET ROLE regress_app;
CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT OR DELETE OR UPDATE OF status ON projects FOR EACH ROW EXECUTE FUNCTION reputation.capture(:'source', :'arguments');
RESET ROLE;
SELECT finding, detail, remedy FROM test.findings;
SET ROLE regress_app;
CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT ON projects FOR EACH ROW WHEN (NEW.id > 5) EXECUTE FUNCTION reputation.capture(:'source', :'arguments');
RESET ROLE;
SELECT finding, detail, remedy FROM test.findings;
SET ROLE regress_app;
CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION reputation.capture(:'source', 'others');
RESET ROLE;
SELECT finding, detail, remedy FROM test.findings;
SELECT reputation_repair() >= 0 AS repaired;
SELECT * FROM test.findings;
SET ROLE regress_app;
CREATE OR REPLACE TRIGGER reputation_capture AFTER INSERT OR DELETE OR UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION nothing();
RESET ROLE;
SELECT finding, detail, remedy FROM test.findings;
SELECT reputation_repair() >= 0 AS repaired;
ALTER TRIGGER reputation_capture ON projects RENAME TO mine;
SELECT reputation_repair() >= 0 AS repaired;
SELECT * FROM test.findings;
DROP TRIGGER mine ON projects;
-- Renamed, it does what it did.
ALTER TRIGGER reputation_capture ON projects RENAME TO mine;
SELECT * FROM test.findings;
CREATE TRIGGER reputation_capture AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT finding, detail, remedy, level FROM test.findings;
DROP TRIGGER reputation_capture ON projects;
CALL test.attached();

-- A column of another type, and one that is gone.
DROP VIEW reputation.builder_signals;
DROP TRIGGER reputation_capture ON projects;
ALTER TABLE projects ALTER impact TYPE numeric;
SELECT state FROM test.raised('SELECT reputation_repair()');
SELECT finding, detail, remedy FROM test.findings;
CALL test.attached();
SELECT * FROM test.findings;
SET client_min_messages = error;
ALTER TABLE projects DROP COLUMN impact CASCADE;
SET client_min_messages = warning;
SELECT finding, detail, remedy, level FROM test.findings;
-- Another engine at the table is attached and detached all the same.
ALTER TABLE projects ADD made timestamptz DEFAULT '2026-01-01';
SELECT leaderboard_create('spent', 'projects', columns => '{"source": {"user_id": "owner_id", "points": null, "created_at": "made"}}') IS NOT NULL AS board;
SELECT relation, engines, finding, detail FROM reputation.source_check();
SELECT leaderboard_drop('spent');
SELECT builder_score_detach();
ALTER TABLE projects ADD COLUMN impact float8;
CALL test.attached();
SELECT * FROM test.findings;

-- Another table bears the name.
ALTER TABLE projects RENAME TO projects_old;
SELECT * FROM test.findings;
SET ROLE regress_app;
CREATE TABLE projects (LIKE projects_old INCLUDING ALL);
RESET ROLE;
SELECT finding, detail, remedy, level FROM test.findings;
SELECT builder_score_attach(replace => true) IS NOT NULL AS attached;
SELECT * FROM test.findings;
SET client_min_messages = error;
DROP TABLE projects CASCADE;
SET client_min_messages = warning;
ALTER TABLE projects_old RENAME TO projects;
SELECT finding, detail, remedy, level FROM test.findings;
CALL test.attached();

-- A view that reads what nobody watches.
CREATE TABLE other (id int, bonus int);
ALTER TABLE other OWNER TO regress_app;
CREATE VIEW over_projects AS SELECT p.owner_id, p.title, o.bonus FROM projects p JOIN other o ON o.id = p.id;
ALTER VIEW over_projects OWNER TO regress_app;
CREATE FUNCTION of_other(int) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM other WHERE other.id = $1; END;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT u.id AS user_id, (SELECT count(*) FROM projects p WHERE p.owner_id = u.id AND p.status = 'shipped') AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users u;
SELECT * FROM test.findings;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT u.id AS user_id, (SELECT count(*) FROM projects p WHERE p.owner_id = u.id AND p.title <> '') AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users u;
SELECT * FROM test.findings;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT u.id AS user_id, (SELECT count(*) FROM over_projects p WHERE p.owner_id = u.id) AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users u;
SELECT relation, finding, detail FROM test.findings;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT u.id AS user_id, of_other(u.id) AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users u;
SELECT relation, finding, detail FROM test.findings;
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
DROP VIEW reputation.builder_signals;
DROP FUNCTION of_other;
DROP VIEW over_projects;
DROP TABLE other;
CALL test.attached();
-- Children by inheritance: told, and that they came is computed.
CREATE TABLE child () INHERITS (projects);
SELECT finding, detail, level, stale FROM test.findings;
SELECT reputation_process() >= 4 AS everybody;
SELECT finding, detail, remedy FROM test.findings;
DROP TABLE child;
SELECT reputation_process() >= 4 AS everybody;
SELECT * FROM test.findings;

-- What is gone is in nobody's way: a table,
DROP TABLE project_collaborators CASCADE;
SELECT finding, detail, remedy FROM test.findings;
DROP TABLE projects, users CASCADE;
SELECT finding, detail FROM test.findings;
SELECT reputation_process('builder');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_detach();
SELECT count(*) FROM reputation.source;
DROP SCHEMA parts CASCADE;
CALL test.clean('source');
-- the table of a board,
CALL test.make_tables('source');
SET ROLE regress_app;
CREATE TABLE plays (user_id int, points int, created_at timestamptz);
CREATE INDEX ON plays (user_id);
RESET ROLE;
INSERT INTO users VALUES (1);
SELECT leaderboard_create('plays', 'plays') IS NOT NULL AS board;
DROP TABLE plays CASCADE;
SELECT finding, detail, remedy FROM test.findings;
SELECT leaderboard_drop('plays');
-- the owner's things, and the owner.
CREATE ROLE regress_leaver NOLOGIN;
CREATE ROLE regress_heir NOLOGIN;
ALTER SCHEMA source OWNER TO regress_leaver;
ALTER TABLE users OWNER TO regress_leaver;
ALTER TABLE projects OWNER TO regress_leaver;
ALTER TABLE project_collaborators OWNER TO regress_leaver;
CALL test.attached();
REASSIGN OWNED BY regress_leaver TO regress_heir;
SELECT relation, finding, detail, remedy FROM test.findings;
DROP OWNED BY regress_leaver;
DROP ROLE regress_leaver;
SELECT relation, finding, regexp_replace(detail, '\d+', 'N') AS detail FROM test.findings;
SELECT * FROM test.raised('SELECT builder_score_recalc(1)');
SELECT builder_score_detach();
CALL test.attached();
SELECT * FROM test.findings;
DROP OWNED BY regress_heir CASCADE;
SELECT relation, finding FROM test.findings;
SELECT builder_score_detach();
DROP SCHEMA IF EXISTS source CASCADE;
CALL test.clean('source');

-- The owner that each engine was attached for: a later attach of another consents to nothing for the first.
CREATE ROLE regress_new NOLOGIN IN ROLE reputation_admin;
CALL test.make_tables('source');
INSERT INTO users VALUES (1);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
GRANT SELECT ON projects TO regress_app;
ALTER TABLE projects OWNER TO regress_new;
GRANT SELECT ON projects TO regress_app;
ALTER TABLE projects ADD made timestamptz;
GRANT USAGE ON SCHEMA source TO regress_new;
CREATE TABLE members (id int PRIMARY KEY);
ALTER TABLE members OWNER TO regress_new;
SET ROLE regress_new;
SELECT leaderboard_create('theirs', 'projects', users => 'members', columns => '{"source": {"user_id": "owner_id", "points": null, "created_at": "made"}}') IS NOT NULL AS board;
RESET ROLE;
SELECT relation, engines, finding, detail FROM reputation.source_check();
SELECT state FROM test.raised('SELECT builder_score_recalc(1)');
SELECT leaderboard_drop('theirs');
CALL test.clean('source');
DROP OWNED BY regress_new, regress_heir;
DROP ROLE regress_new, regress_heir;
DROP PROCEDURE test.attached;
DROP VIEW test.findings, test.columns;

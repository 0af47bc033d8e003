-- Attaching: what it makes, what it refuses, and that it is all or nothing.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;

-- Before: everything says how to attach.
SELECT builder_score(1);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_recalc(1);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_explain(1);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_recalc_all();
\echo SQLSTATE :SQLSTATE
SELECT builder_score_detach();
\echo SQLSTATE :SQLSTATE
SELECT reputation_process();
\echo SQLSTATE :SQLSTATE
SELECT reputation_process('builder');
\echo SQLSTATE :SQLSTATE
SELECT * FROM reputation_verify();
\echo SQLSTATE :SQLSTATE
SELECT reputation_repair('builder');
\echo SQLSTATE :SQLSTATE
SELECT reputation_forget(1);
\echo SQLSTATE :SQLSTATE
SELECT reputation_process('no such engine');
\echo SQLSTATE :SQLSTATE

-- Everything under its default name.
CALL test.make_tables('attach');
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 3) i;
INSERT INTO projects VALUES (1, 1, 'shipped', 9, 'p');
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'attach' AND table_name = 'users' ORDER BY ordinal_position;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'attach' AND tablename = 'users' ORDER BY 1;
SELECT * FROM test.triggers ORDER BY relation::text, tgname;
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = 'reputation.builder_signals'::regclass ORDER BY attnum;
SELECT name, role, users, users_key, key_type, cached_column, rank_column, fire, attached_at FROM reputation.engine;
SELECT job_name, status, trigger, scope, started_at, algorithm_version, done FROM reputation.job_runs;
SELECT engine, version, parameters, active FROM reputation.algorithm;

-- Every existing user is computed at low priority.
SELECT reputation_process();
SELECT id, builder_score FROM users ORDER BY id;
SELECT * FROM reputation.builder_scores ORDER BY user_id;
SELECT status, done, total, changed, finished_at, duration_ms FROM reputation.job_runs;

-- Attaching again changes nothing, whatever the search_path; nor does an attach that fails.
CREATE VIEW test.registry AS
SELECT 'engine' AS kind, to_jsonb(e) - 'attached_at' AS row FROM reputation.engine e
UNION ALL SELECT 'source', to_jsonb(s) FROM reputation.source s
UNION ALL SELECT 'source_key', to_jsonb(s) FROM reputation.source_key s
UNION ALL SELECT 'capture', to_jsonb(s) FROM reputation.capture s
UNION ALL SELECT 'capture_key', to_jsonb(s) FROM reputation.capture_key s
UNION ALL SELECT 'lookup', to_jsonb(s) - 'view_name' || jsonb_build_object('view', s.view_name::text) FROM reputation.lookup s
UNION ALL SELECT 'trigger', to_jsonb(t) FROM test.triggers t
UNION ALL SELECT 'column', to_jsonb(a.attname) FROM pg_attribute a
	WHERE attrelid = 'attach.users'::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT 'index', to_jsonb(indexname) FROM pg_indexes WHERE schemaname = 'attach';
CREATE TABLE test.registry_before AS TABLE test.registry;
CREATE FUNCTION test.registry_changes() RETURNS TABLE (change text, kind text, "row" jsonb)
LANGUAGE sql AS $$
	(SELECT 'new', * FROM test.registry EXCEPT ALL SELECT 'new', * FROM test.registry_before)
	UNION ALL (SELECT 'gone', * FROM test.registry_before EXCEPT ALL SELECT 'gone', * FROM test.registry) ORDER BY 1, 2, 3
$$;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT * FROM test.registry_changes();
SET search_path = public;
SELECT builder_score_attach('attach.users', 'attach.projects', 'attach.project_collaborators') IS NOT NULL AS attached;
SET search_path = attach, public;
SELECT * FROM test.registry_changes();
-- The run that is on is asked to start over; there are not three.
SELECT job_name, status, count(*) FROM reputation.job_runs GROUP BY 1, 2 ORDER BY 1, 2;
SELECT reputation_process() >= 3 AS computed;
SELECT job_name, status, count(*) FROM reputation.job_runs GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM reputation_verify();

-- What is missing is named at once.
SELECT builder_score_attach('nobody', 'nothing.at_all', 'project_collaborators');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach(columns => '{"users": {"id": "uid"}, "projects": {"owner_id": "creator", "impact": "stars"}, "collaborators": {"status": "ctid"}}');
\echo SQLSTATE :SQLSTATE
-- The argument "columns".
SELECT builder_score_attach(columns => '[]');
\echo SQLSTATE :SQLSTATE
\set VERBOSITY sqlstate
SELECT builder_score_attach(columns => '"users"');
SELECT builder_score_attach(columns => '{"users": "id"}');
SELECT builder_score_attach(columns => '{"users": ["id"]}');
SELECT builder_score_attach(columns => '{"users": {"id": 1}}');
SELECT builder_score_attach(columns => '{"users": {"id": {"id": "id"}}}');
SELECT builder_score_attach(columns => '{"users": {"id": ["id"]}}');
\set VERBOSITY default
SELECT builder_score_attach(columns => '{"people": {"id": "id"}}');
SELECT builder_score_attach(columns => '{"users": {"mail": "id"}}');
-- Only impact can be left out.
SELECT builder_score_attach(columns => '{"projects": {"owner_id": null}}');
SELECT builder_score_attach(fire => 'never');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach(fire => NULL);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach(users => NULL);
\echo SQLSTATE :SQLSTATE

-- No tables.
CREATE VIEW a_view AS TABLE users;
CREATE MATERIALIZED VIEW a_matview AS TABLE users;
CREATE TEMP TABLE a_temp (LIKE users);
CREATE SEQUENCE a_sequence;
SELECT builder_score_attach('a_view');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('a_matview');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('a_temp');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach(projects => 'a_sequence');
\echo SQLSTATE :SQLSTATE
DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;
DROP TABLE a_temp;
DROP SEQUENCE a_sequence;

-- Ids that an engine cannot work with, or that do not fit each other.
CREATE TABLE users_numeric (id numeric PRIMARY KEY);
CREATE TABLE users_date (id date PRIMARY KEY);
CREATE TABLE users_char (id char(8) PRIMARY KEY);
CREATE TABLE users_text (id text PRIMARY KEY);
SELECT builder_score_attach('users_numeric');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('users_date');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('users_char');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('users_text');
\echo SQLSTATE :SQLSTATE
-- A collaboration refers to its project by another type: found late, after the column was added.
CREATE TABLE text_collaborators (project_id text, user_id int, status text);
GRANT SELECT ON text_collaborators TO regress_app;
SELECT state <> '00000' AS refused FROM test.raised($$SELECT builder_score_attach(collaborators => 'text_collaborators', rank_column => 'place')$$);
-- Texts whose collations differ: no comparison would know which to use, unless one is the default.
CREATE TABLE users_c (id text COLLATE "C" PRIMARY KEY);
CREATE TABLE projects_c (id text COLLATE "C" PRIMARY KEY, owner_id text COLLATE "C", status text, impact int);
CREATE TABLE people_posix (project_id text, user_id text COLLATE "POSIX", status text);
CREATE TABLE people_works (project_id text COLLATE "POSIX", user_id text COLLATE "C", status text);
CREATE TABLE people_mixed (project_id text, user_id text, status text);
GRANT SELECT, UPDATE ON users_text, users_c, projects_c, people_posix, people_works, people_mixed TO regress_app;
SELECT builder_score_attach('users_text', 'projects_c', 'people_posix');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('users_c', 'projects_c', 'people_posix');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('users_c', 'projects_c', 'people_works');
\echo SQLSTATE :SQLSTATE
BEGIN;
SET LOCAL client_min_messages = error;
INSERT INTO users_c VALUES ('a'), ('b');
INSERT INTO projects_c VALUES ('p', 'a', 'shipped', 0);
INSERT INTO people_mixed VALUES ('p', 'b', 'confirmed');
SELECT builder_score_attach('users_c', 'projects_c', 'people_mixed', replace => true) IS NOT NULL AS attached;
SELECT reputation_process();
SELECT * FROM users_c ORDER BY id;
ROLLBACK;
DROP TABLE users_c, projects_c, people_posix, people_works, people_mixed;
DROP TABLE users_numeric, users_date, users_char, users_text, text_collaborators;

-- A column of which a trigger sees no value (PostgreSQL 18 has them; made up here).
BEGIN;
SET LOCAL ROLE regress_app;
CREATE TABLE g_projects (no int, id int GENERATED ALWAYS AS (no) STORED PRIMARY KEY, owner_id int, idea boolean,
	status text GENERATED ALWAYS AS (CASE WHEN idea THEN 'idea' END) STORED, impact int);
RESET ROLE;
SAVEPOINT s;
SELECT builder_score_attach(projects => 'g_projects', replace => true) IS NOT NULL AS attached;
ROLLBACK TO s;
UPDATE pg_attribute SET attgenerated = 'v' WHERE attrelid = 'g_projects'::regclass AND attgenerated = 's';
SELECT builder_score_attach(projects => 'g_projects', replace => true);
\echo SQLSTATE :SQLSTATE
ROLLBACK;

-- The columns that the engine writes.
CREATE TABLE users_bigint (id int PRIMARY KEY, builder_score bigint);
SELECT builder_score_attach('users_bigint');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach(rank_column => 'name');
\echo SQLSTATE :SQLSTATE
-- The rank must not go into a column that means something else.
SELECT state <> '00000' AS refused FROM test.raised($$SELECT builder_score_attach(rank_column => 'id')$$);
SELECT state <> '00000' AS refused FROM test.raised($$SELECT builder_score_attach(rank_column => 'builder_score')$$);
DROP TABLE users_bigint;

-- After all that the first attachment stands as it was.
SELECT * FROM test.registry_changes();
SELECT * FROM reputation_verify();

-- Detach takes the triggers and the pending work, and leaves the data.
UPDATE projects SET status = 'idea';
SELECT reputation_process(max_users => 0);
SELECT count(*) FROM test.jobs;
SELECT builder_score_detach();
SELECT * FROM test.triggers;
SELECT (SELECT count(*) FROM reputation.engine) AS engine, (SELECT count(*) FROM reputation.source) AS source,
	(SELECT count(*) FROM reputation.source_key) AS source_key, (SELECT count(*) FROM reputation.capture) AS capture,
	(SELECT count(*) FROM reputation.lookup) AS lookup, (SELECT count(*) FROM reputation.job) AS job,
	(SELECT count(*) FROM reputation.recent_run) AS recent_run,
	to_regclass('reputation.builder_signals') AS signals, to_regclass('reputation.builder_project_users') AS project_users;
SELECT id, builder_score FROM users ORDER BY id;
SELECT user_id, score FROM reputation.builder_scores ORDER BY user_id;
SELECT indexname FROM pg_indexes WHERE schemaname = 'attach' AND tablename = 'users' ORDER BY 1;
SELECT builder_score_detach();
\echo SQLSTATE :SQLSTATE
-- A write after that costs nothing.
UPDATE projects SET status = 'shipped';
SELECT count(*) FROM test.inbox;
-- An interrupted first computation is cancelled.
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT builder_score_detach();
SELECT status, error FROM reputation.job_runs ORDER BY id DESC LIMIT 1;

-- Other search_path, same triggers and views to remove.
SELECT builder_score_attach() IS NOT NULL AS attached;
SET search_path = public;
SELECT builder_score_detach();
SET search_path = attach, public;
SELECT * FROM test.triggers;
SELECT to_regclass('reputation.builder_signals') AS signals;

-- Other names, one of them to be quoted, no impact, a rank, and a cached column that is there already.
CREATE SCHEMA "The App" AUTHORIZATION regress_app;
SET ROLE regress_app;
CREATE TABLE "The App"."Members" ("Member ID" bigint PRIMARY KEY, builder_score int);
CREATE TABLE "The App".works (no smallint PRIMARY KEY, "by" int, state varchar(10));
CREATE TABLE "The App"."works-people" (work int, "select" smallint, "OK?" char(3));
CREATE INDEX ON "The App".works ("by");
CREATE INDEX ON "The App"."works-people" (work);
CREATE INDEX ON "The App"."works-people" ("select");
RESET ROLE;
INSERT INTO "The App"."Members" VALUES (1, NULL), (2, 77);
INSERT INTO "The App".works VALUES (1, 1, 'live'), (2, 1, 'done'), (3, 1, 'idea');
INSERT INTO "The App"."works-people" VALUES (1, 2, 'yes');
SELECT builder_score_attach('"The App"."Members"', '"The App".works', '"The App"."works-people"',
	'{"users": {"id": "Member ID"},
	  "projects": {"id": "no", "owner_id": "by", "status": "state", "impact": null},
	  "collaborators": {"project_id": "work", "user_id": "select", "status": "OK?"}}',
	'Rank') IS NOT NULL AS attached;
UPDATE reputation.algorithm SET parameters = parameters || '{"shipped": ["live", "done"], "confirmed": ["yes"]}';
SELECT reputation_process();
-- 1: two shipped, one vouch. 2: one shipped collaboration, one vouch.
SELECT * FROM "The App"."Members" ORDER BY 1;
SELECT indexdef FROM pg_indexes WHERE tablename = 'Members' ORDER BY 1;
SELECT job_name, extract(epoch FROM every)::int AS every_seconds, started_by FROM reputation.schedule;
UPDATE "The App".works SET state = 'live' WHERE no = 3;
SELECT * FROM test.concerned();
INSERT INTO "The App"."Members" ("Member ID") VALUES (3);
SELECT builder_score(3);
SELECT * FROM test.concerned();
SELECT * FROM "The App"."Members" ORDER BY 1;
SELECT builder_score_detach();
DROP TABLE "The App"."Members", "The App".works, "The App"."works-people";
DROP SCHEMA "The App";
DELETE FROM reputation.algorithm;

-- Domains over int, varchar ids.
SET ROLE regress_app;
CREATE DOMAIN attach.user_no AS int CHECK (VALUE > 0);
CREATE TABLE d_users (id user_no PRIMARY KEY);
CREATE TABLE d_projects (id user_no PRIMARY KEY, owner_id user_no, status text, impact int);
CREATE TABLE d_people (project_id int, user_id user_no, status text);
CREATE INDEX ON d_projects (owner_id);
CREATE INDEX ON d_people (project_id);
CREATE INDEX ON d_people (user_id);
RESET ROLE;
INSERT INTO d_users VALUES (1), (2);
INSERT INTO d_projects VALUES (1, 1, 'shipped', 99);
SELECT builder_score_attach('d_users', 'd_projects', 'd_people') IS NOT NULL AS attached;
SELECT key_type FROM reputation.engine;
INSERT INTO d_people VALUES (1, 2, 'confirmed');
SELECT * FROM test.concerned();
SELECT id, builder_score, builder_score(id) FROM d_users ORDER BY id;
SELECT builder_score_detach();
SET ROLE regress_app;
CREATE TABLE v_users (id varchar(20) PRIMARY KEY);
CREATE TABLE v_projects (id uuid PRIMARY KEY, owner_id text, status text, impact int);
CREATE TABLE v_people (project_id uuid, user_id varchar, status text);
CREATE INDEX ON v_projects (owner_id);
CREATE INDEX ON v_people (project_id);
CREATE INDEX ON v_people (user_id);
RESET ROLE;
INSERT INTO v_users VALUES ('ann'), ('bob');
INSERT INTO v_projects VALUES ('00000000-0000-0000-0000-000000000001', 'ann', 'shipped', 99);
SELECT builder_score_attach('v_users', 'v_projects', 'v_people') IS NOT NULL AS attached;
INSERT INTO v_people VALUES ('00000000-0000-0000-0000-000000000001', 'bob', 'confirmed');
SELECT * FROM test.concerned();
SELECT id, builder_score, builder_score(id) FROM v_users ORDER BY id;
SELECT builder_score_detach();
DELETE FROM reputation.builder_scores;

-- A missing index is pointed out.
SET ROLE regress_app;
CREATE TABLE n_users (id int PRIMARY KEY);
CREATE TABLE n_projects (id int, owner_id int, status text, impact int);
CREATE TABLE n_people (project_id int, user_id int, status text);
CREATE INDEX ON n_people (project_id, user_id);
CREATE INDEX ON n_projects (id) WHERE id > 0;
RESET ROLE;
SELECT builder_score_attach('n_users', 'n_projects', 'n_people') IS NOT NULL AS attached;
SELECT builder_score_detach();

-- Integers of several widths. The scores come by plain indexes; from a project's
-- key to its collaborators leads only an index on the wider type.
CREATE FUNCTION test.not_by_index(view_column text, keys text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (COSTS OFF) SELECT * FROM reputation.%s = ANY (%L)', view_column, keys) LOOP
		IF line LIKE '%Filter: %' || keys || '%' THEN
			RETURN NEXT trim(line);
		END IF;
	END LOOP;
END
$$;
SET enable_seqscan = off;
SET ROLE regress_app;
CREATE TABLE w_users (id bigint PRIMARY KEY);
CREATE TABLE w_projects (id bigint PRIMARY KEY, owner_id int, status text, impact int);
CREATE TABLE w_people (project_id attach.user_no, user_id smallint, status text);
CREATE INDEX ON w_projects (owner_id);
CREATE INDEX ON w_people (project_id);
CREATE INDEX ON w_people (user_id);
CREATE INDEX ON w_people ((project_id::bigint)) WHERE project_id > 7;
CREATE INDEX ON w_people (abs(project_id));
RESET ROLE;
INSERT INTO w_users VALUES (1), (2), (5000000000);
INSERT INTO w_projects VALUES (1, 1, 'shipped', 9), (2, 1, 'idea', 9), (5000000000, 2, 'shipped', 9);
INSERT INTO w_people VALUES (1, 2, 'confirmed'), (1, 3, 'confirmed'), (2, 1, 'confirmed');
SELECT builder_score_attach('w_users', 'w_projects', 'w_people') IS NOT NULL AS attached;
SELECT test.not_by_index('builder_project_users WHERE key', '{4711,4712}');
SET ROLE regress_app;
CREATE INDEX ON w_people ((project_id::bigint));
RESET ROLE;
SELECT builder_score_attach('w_users', 'w_projects', 'w_people') IS NOT NULL AS attached;
SELECT test.not_by_index('builder_signals WHERE user_id', '{4711,4712}');
SELECT test.not_by_index('builder_project_users WHERE key', '{4711,4712}');
SELECT reputation_process();
SELECT * FROM w_users ORDER BY id;
UPDATE w_people SET status = 'gone' WHERE user_id = 2;
SELECT * FROM test.concerned();
UPDATE w_projects SET owner_id = 2 WHERE id = 2;
SELECT * FROM test.concerned();
SELECT * FROM w_users ORDER BY id;
SELECT builder_score_detach();
DELETE FROM reputation.builder_scores;
-- The other way round; numbers that no user and no project can have are nobody's.
SET ROLE regress_app;
CREATE TABLE i_users (id int PRIMARY KEY);
CREATE TABLE i_projects (id smallint, owner_id bigint, status text, impact int, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE i_projects_all PARTITION OF i_projects DEFAULT;
CREATE TABLE i_people (project_id bigint, user_id bigint, status text);
CREATE INDEX ON i_projects (owner_id);
CREATE INDEX ON i_people (project_id);
CREATE INDEX ON i_people (user_id);
RESET ROLE;
INSERT INTO i_users VALUES (1), (2);
INSERT INTO i_projects VALUES (1, 1, 'shipped', 9), (2, 5000000000, 'shipped', 9);
INSERT INTO i_people VALUES (1, 2, 'confirmed'), (1, 5000000000, 'confirmed'), (2, 2, 'confirmed'), (5000000000, 1, 'confirmed');
SELECT builder_score_attach('i_users', 'i_projects', 'i_people') IS NOT NULL AS attached;
SET ROLE regress_app;
CREATE INDEX ON i_projects (int8(id));
RESET ROLE;
SELECT builder_score_attach('i_users', 'i_projects', 'i_people') IS NOT NULL AS attached;
SELECT test.not_by_index('builder_signals WHERE user_id', '{4711,4712}');
SELECT test.not_by_index('builder_project_users WHERE key', '{4711,4712}');
SELECT reputation_process();
SELECT * FROM i_users ORDER BY id;
UPDATE i_people SET status = 'gone' WHERE (project_id, user_id) IN ((1, 2), (5000000000, 1));
SELECT * FROM test.concerned();
SELECT * FROM i_users ORDER BY id;
SELECT builder_score_detach();
RESET enable_seqscan;
DROP FUNCTION test.not_by_index(text, text);
DELETE FROM reputation.builder_scores;

-- Partitioned tables.
SET ROLE regress_app;
CREATE TABLE p_users (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE p_users_0 PARTITION OF p_users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p_users_1 PARTITION OF p_users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE p_projects (id int, owner_id int, status text, impact int, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE p_projects_shipped PARTITION OF p_projects FOR VALUES IN ('shipped');
CREATE TABLE p_projects_other PARTITION OF p_projects DEFAULT;
CREATE INDEX ON p_projects (owner_id);
RESET ROLE;
INSERT INTO p_users SELECT generate_series(1, 4);
INSERT INTO p_projects VALUES (1, 1, 'shipped', 0), (2, 2, 'idea', 0);
SELECT builder_score_attach('p_users', 'p_projects') IS NOT NULL AS attached;
SELECT * FROM test.triggers ORDER BY relation::text, tgname;
SELECT reputation_process();
SELECT id, builder_score FROM p_users ORDER BY id;
SELECT builder_score_detach();
SELECT * FROM test.triggers;

-- A signals view that its user replaced is kept, by attach and by detach.
SELECT builder_score_attach() IS NOT NULL AS attached;
CREATE OR REPLACE VIEW reputation.builder_signals AS
SELECT id AS user_id, 7::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM users;
SELECT builder_score_recalc_all();
SELECT id, builder_score FROM users ORDER BY id;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT id, builder_score FROM users ORDER BY id;
SELECT builder_score_detach();
SELECT own_shipped FROM reputation.builder_signals WHERE user_id = 1;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT own_shipped FROM reputation.builder_signals WHERE user_id = 1;
-- As the hint says.
DROP VIEW reputation.builder_signals;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT own_shipped FROM reputation.builder_signals WHERE user_id = 1;

-- Other tables than before: the triggers move.
SET ROLE regress_app;
CREATE TABLE projects_2 (LIKE projects INCLUDING ALL);
RESET ROLE;
SELECT builder_score_attach(projects => 'projects_2', replace => true) IS NOT NULL AS attached;
SELECT DISTINCT relation::text FROM test.triggers ORDER BY 1;
INSERT INTO projects_2 VALUES (1, 2, 'shipped', 0);
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users ORDER BY id;

-- The application's objects get other names: a session that has read a score follows.
SELECT builder_score(1);
ALTER SCHEMA attach RENAME TO elsewhere;
SELECT builder_score(1);
ALTER TABLE elsewhere.users RENAME TO members;
SELECT builder_score(1);
CREATE SCHEMA people AUTHORIZATION regress_app;
ALTER TABLE elsewhere.members SET SCHEMA people;
SELECT builder_score(1);
INSERT INTO elsewhere.projects_2 VALUES (2, 1, 'shipped', 0);
SELECT * FROM test.concerned();
SELECT builder_score(1);
-- The key, too; an attach goes by the new name.
ALTER TABLE people.members RENAME id TO uid;
SELECT * FROM test.raised('SELECT builder_score(1)');
SELECT builder_score_attach('people.members', 'elsewhere.projects_2', 'elsewhere.project_collaborators', '{"users": {"id": "uid"}}', replace => true) IS NOT NULL AS attached;
SELECT builder_score(1);
SELECT builder_score_detach();
ALTER TABLE people.members SET SCHEMA elsewhere;
DROP SCHEMA people;
ALTER SCHEMA elsewhere RENAME TO attach;

DROP TABLE test.registry_before;
DROP FUNCTION test.registry_changes();
DROP VIEW test.registry;
CALL test.clean('attach');

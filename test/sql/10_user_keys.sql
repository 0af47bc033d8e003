-- The users' key must tell them apart; and what becomes of a key that no longer does.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CREATE SCHEMA keys AUTHORIZATION regress_app;
SET search_path = keys, public;
SET ROLE regress_app;
CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact float8);
CREATE TABLE project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
-- None of these is a key: an index that is not unique, one that is not of the column alone, of it as it is, of every row, or at any moment.
CREATE TABLE plain (id int NOT NULL, name text);
CREATE INDEX ON plain (id);
CREATE UNIQUE INDEX ON plain (name);
CREATE TABLE composite (id int, region text, PRIMARY KEY (id, region));
CREATE TABLE partial (id int NOT NULL, gone boolean);
CREATE UNIQUE INDEX ON partial (id) WHERE NOT gone;
CREATE TABLE expression (id int NOT NULL);
CREATE UNIQUE INDEX ON expression (abs(id));
CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE nothing (id int);
CREATE TABLE nullable (id int UNIQUE, name text);
-- These are.
CREATE TABLE includes (id int NOT NULL, name text);
CREATE UNIQUE INDEX ON includes (id) INCLUDE (name);
CREATE TABLE users (id int PRIMARY KEY, name text, place int);
RESET ROLE;
DO $$
DECLARE
	users text;
	message text;
	detail text;
BEGIN
	FOREACH users IN ARRAY '{plain,composite,partial,expression,late,nothing,nullable,includes,users}'::text[] LOOP
		BEGIN
			PERFORM trust_score_attach(users, '{"users": {"photo": null, "bio": null, "interests": null, "name": null, "birthdate": null, "location": null, "job": null, "email_verified": null, "phone_verified": null, "photo_verified": null, "id_verified": null, "last_active_at": null, "created_at": null}}', replace => true);
			RAISE NOTICE '%: attached', users;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
			RAISE NOTICE '%: % %', users, message, detail;
		END;
	END LOOP;
END
$$;
SELECT trust_score_attach('nullable');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_attach('plain');
\echo SQLSTATE :SQLSTATE

-- The constraints are dropped later, and a user without an id is added: it is passed over.
SET client_min_messages = warning;
SELECT trust_score_attach(replace => true) IS NOT NULL AS attached, builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
RESET client_min_messages;
INSERT INTO users VALUES (1, 'Ann');
SELECT reputation_process();
ALTER TABLE users DROP CONSTRAINT users_pkey, ALTER id DROP NOT NULL;
INSERT INTO users VALUES (NULL, 'Nobody'), (2, 'Bob');
ANALYZE users;
SELECT reputation_process();
SELECT status, detail FROM reputation_status() WHERE check_name LIKE 'drift%' ORDER BY check_name;
SELECT * FROM reputation_verify();
SELECT reputation_repair(), trust_score_recalc_all(), builder_score_recalc_all();
SELECT * FROM algorithm_preview('trust', '{"name": 0}') ORDER BY user_id;
CALL reputation_run('nightly');
CALL reputation_run('leaderboards');
SELECT job_name, scope, status, done, total FROM reputation.job_runs WHERE job_name IN ('nightly', 'leaderboards') ORDER BY 1, 2;
SELECT id, builder_score, place FROM users ORDER BY id;
SELECT trust_score_attach() IS NOT NULL AS attached;
\echo SQLSTATE :SQLSTATE
-- All there are have none.
DELETE FROM users WHERE id IS NOT NULL;
TRUNCATE projects CASCADE;
SELECT reputation_process();
SELECT * FROM reputation_verify();
SELECT (SELECT count(*) FROM reputation.trust_scores) AS trust, (SELECT count(*) FROM reputation.builder_scores) AS builder;
CALL test.clean('keys');

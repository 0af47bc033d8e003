-- Attaching trust to whatever users table there is, and upsert_user().
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CREATE SCHEMA odd AUTHORIZATION regress_app;
SET search_path = odd, public;
SET ROLE regress_app;
-- Only a key. Then other names and other types.
CREATE TABLE bare (id text PRIMARY KEY);
CREATE TABLE "My Users" (uid uuid PRIMARY KEY, avatar bytea, about varchar(200), tags jsonb, born timestamp, place point, job json, mail date, phone_verified boolean, seen timestamp, joined date, "Odd name" text NOT NULL DEFAULT '-', total int GENERATED ALWAYS AS (1) STORED);
CREATE TABLE events (who uuid, at timestamp);
CREATE TABLE comma (id bigint PRIMARY KEY, interests text, photo boolean);
RESET ROLE;
INSERT INTO bare VALUES ('ann'), ('');
SELECT trust_score_attach('bare') IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, trust_score(id) FROM bare ORDER BY id;
SELECT trust_score_explain('ann') -> 'raise' AS raise;

-- Rows of ids of another type.
DELETE FROM reputation.trust_scores;
DELETE FROM reputation.trust_score_audit;
INSERT INTO "My Users" VALUES
	('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', '  ' || repeat('ä', 25) || '  ', '["a", "", null, "b"]', '1990-01-01', '(1,2)', '{"title": "cook"}', '2025-01-01', true, '2025-12-31', '2025-12-30'),
	('b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22', '', '', '[]', NULL, NULL, '{}', NULL, NULL, NULL, '2025-01-01'),
	('c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a33', NULL, NULL, '{"not": "an array"}', NULL, NULL, '""', NULL, false, 'infinity', NULL);
SELECT trust_score_attach('"My Users"', '{"users": {"id": "uid", "photo": "avatar", "bio": "about", "interests": "tags", "birthdate": "born", "location": "place", "email_verified": "mail", "last_active_at": "seen", "created_at": "joined", "name": null}}', replace => true) IS NOT NULL AS attached;
SELECT reputation_process();
SELECT score, breakdown - 'points' AS breakdown, badges FROM reputation.trust_scores ORDER BY user_id;
-- With events whose times have no zone: UTC, whatever the session says.
SET ROLE regress_app;
CREATE INDEX ON events (who, at);
RESET ROLE;
SELECT trust_score_attach('"My Users"', '{"users": {"id": "uid"}, "activity": {"user_id": "who", "created_at": "at"}}', 'events') IS NOT NULL AS attached;
INSERT INTO events SELECT 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22', timestamp '2025-12-02 00:00:01' + i * interval '1 h' FROM generate_series(-3, 3) i;
SET timezone = 'Asia/Tokyo';
SELECT reputation_process();
SET timezone = 'UTC';
SELECT activity, breakdown #> '{activity,events}' AS events, next_due_at FROM get_trust_score('b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22');
SELECT * FROM reputation_verify();

DELETE FROM reputation.trust_scores;
DELETE FROM reputation.trust_score_audit;
INSERT INTO comma VALUES (1, 'a,b', true), (2, ' , ,', false), (3, 'only', NULL), (4, '', true);
SELECT trust_score_attach('comma', replace => true) IS NOT NULL AS attached;
SELECT reputation_process();
SELECT user_id, profile FROM reputation.trust_scores ORDER BY user_id;

-- What is named must be there, and of a type that can be it.
SELECT trust_score_attach('comma', '{"users": {"photo": "avatar", "bio": "about"}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"users": {"email_verified": "interests"}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"users": {"interests": "photo"}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"users": {"created_at": "interests"}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"users": {"id": null}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"users": {"karma": "x"}}');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('nowhere', activity => 'neither');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', activity => 'events');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach('comma', '{"activity": {"user_id": "who", "created_at": "at"}}', 'events');
\echo SQLSTATE :SQLSTATE
SELECT reputation_process();
SELECT trust_score_detach();
SELECT * FROM test.triggers;
SELECT trust_score_detach();
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1}');
\echo SQLSTATE :SQLSTATE
DELETE FROM reputation.trust_scores;
DELETE FROM reputation.trust_score_audit;
DROP SCHEMA odd CASCADE;

-- Both engines at one users table: one trigger, one captured key for what concerns both; what concerns one is that one's alone.
CALL test.make_tables('both');
SET ROLE regress_app;
ALTER TABLE users ADD photo text, ADD last_active_at timestamptz, ADD note text;
RESET ROLE;
INSERT INTO users SELECT i, 'user' FROM generate_series(1, 5) i;
SELECT builder_score_attach() IS NOT NULL AS builder, trust_score_attach(replace => true) IS NOT NULL AS trust;
SELECT * FROM test.triggers WHERE relation = 'users'::regclass;
SELECT reputation_process();
CREATE VIEW test.both AS SELECT e.name AS engine, j.key, j.priority FROM reputation.job j JOIN reputation.engine e ON e.id = j.engine;
INSERT INTO users VALUES (6, 'six');
SELECT count(*), min(key) AS key FROM test.inbox;
SELECT reputation_process(max_users => 0);
TABLE test.both ORDER BY 1, 2;
SELECT reputation_process();
UPDATE users SET photo = 'x' WHERE id = 1;
UPDATE users SET builder_score = 9 WHERE id = 2;
UPDATE users SET photo = 'y', builder_score = 9 WHERE id = 3;
UPDATE users SET note = 'z' WHERE id = 4;
SELECT count(*) FROM test.inbox;
SELECT reputation_process(max_users => 0);
TABLE test.both ORDER BY 1, 2;
SELECT reputation_process();
DELETE FROM users WHERE id = 5;
SELECT count(*) FROM test.inbox;
SELECT reputation_process();
SELECT * FROM reputation_verify();
TRUNCATE users CASCADE;
SELECT reputation_process() > 0 AS computed;
SELECT (SELECT count(*) FROM reputation.trust_scores) AS trust, (SELECT count(*) FROM reputation.builder_scores) AS builder;
-- One is detached: the other stays whole.
SELECT builder_score_detach();
INSERT INTO users VALUES (7, 'seven', 0);
UPDATE users SET photo = 'x';
SELECT users, pending, drift FROM test.concerned();
SELECT builder_score_attach() IS NOT NULL AS builder;
SELECT trust_score_detach();
INSERT INTO users VALUES (8, 'eight');
UPDATE users SET photo = 'x', builder_score = 1;
SELECT users, pending, drift FROM test.concerned();
DROP VIEW test.both;
CALL test.clean('both');

-- upsert_user: inserts, updates what is given, leaves the rest.
CALL test.make_trust_tables('upsert');
SELECT trust_score_attach(columns => '{"users": {"photo": "note", "job": null}}') IS NOT NULL AS attached;
SELECT upsert_user('{"id": 1, "name": "Ann", "photo": "a.jpg", "interests": ["a", "b"], "birthdate": "1990-01-01", "email_verified": true, "job": "cook"}');
SELECT id, name, photo, note, interests, birthdate, email_verified, job FROM users;
SELECT upsert_user('{"id": 1, "name": null, "bio": "hello"}'), upsert_user('{"id": "2"}'), upsert_user('{"id": 2}');
SELECT id, name, note, bio, interests FROM users ORDER BY id;
SELECT reputation_process();
SELECT trust_score(1), trust_score(2);
-- Unknown keys, by name; two for one column; no keys; values of the wrong type.
SELECT upsert_user('{"id": 1, "nickname": "A", "karma": 7, "bio": "x"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "photo": "x", "note": "y"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('[1]');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "bio": "changed", "birthdate": "yesteryear"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "bio": "changed", "email_verified": "perhaps"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": "one", "bio": "changed"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 99999999999, "bio": "changed"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "interests": "a, b"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"id": 1, "created_at": "2026-13-01"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user('{"name": "nobody"}');
\echo SQLSTATE :SQLSTATE
SELECT upsert_user(NULL) IS NULL AS nothing;
SELECT id, bio FROM users ORDER BY id;
-- With the caller's rights.
CREATE ROLE regress_writer NOLOGIN;
GRANT USAGE ON SCHEMA upsert TO regress_writer;
GRANT reputation_writer TO regress_writer;
SET ROLE regress_writer;
SELECT upsert_user('{"id": 3}');
\echo SQLSTATE :SQLSTATE
RESET ROLE;
GRANT SELECT, INSERT, UPDATE ON users TO regress_writer;
SET ROLE regress_writer;
SELECT upsert_user('{"id": 3, "bio": "x"}');
SELECT trust_score(3);
RESET ROLE;
REVOKE ALL ON users FROM regress_writer;
REVOKE ALL ON SCHEMA upsert FROM regress_writer;
DROP ROLE regress_writer;
-- And wait: not in a transaction block; what is pending is said (no worker runs here). The user is there.
BEGIN;
CALL upsert_user_and_wait('{"id": 4}');
\echo SQLSTATE :SQLSTATE
ROLLBACK;
DO $$ BEGIN CALL upsert_user_and_wait('{"id": 4}', '0'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END $$;
CALL upsert_user_and_wait('{"id": 4, "bio": "x"}', '0');
\echo SQLSTATE :SQLSTATE
CALL upsert_user_and_wait('{"id": 4, "nose": "x"}');
\echo SQLSTATE :SQLSTATE
CALL upsert_user_and_wait(NULL);
\echo SQLSTATE :SQLSTATE
SELECT id, bio FROM users WHERE id = 4;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM reputation_verify();
CALL test.clean('upsert');

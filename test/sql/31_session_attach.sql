-- Attaching session reputation to whatever tables there are.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CREATE SCHEMA odd AUTHORIZATION regress_app;
SET search_path = odd, public;
SET ROLE regress_app;
-- Neither column that tells a cause: the flags do. No index either: what to create is said.
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE pairs (id int, user1_id int, user2_id int);
CREATE TABLE dates (match_id int, status varchar(20), user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean);
RESET ROLE;
INSERT INTO users VALUES (1), (2);
INSERT INTO pairs VALUES (1, 1, 2);
INSERT INTO dates VALUES (1, 'no_show', false, true), (1, 'no_show', NULL, true), (1, 'no_show', true, false), (1, 'no_show', true, true), (1, 'cancelled', false, true);
SELECT session_reputation_attach('dates', 'pairs') IS NOT NULL AS attached;
SELECT id, user_reputation(id) - 'cache_timestamp' AS reputation FROM users ORDER BY id;
SELECT session_reputation_attach('dates', 'pairs', cause => 'columns');
\echo SQLSTATE :SQLSTATE
-- Indexes, but not with everything in them; then with.
SET ROLE regress_app;
CREATE UNIQUE INDEX ON pairs (id);
CREATE INDEX ON pairs (user1_id);
CREATE INDEX ON pairs (user2_id) INCLUDE (id);
CREATE INDEX ON dates (match_id, status);
RESET ROLE;
SELECT session_reputation_attach('dates', 'pairs', cause => 'flags') IS NOT NULL AS attached;
SET ROLE regress_app;
CREATE INDEX ON pairs (user1_id, id);
CREATE INDEX ON pairs (user2_id) INCLUDE (user1_id, id);
CREATE INDEX ON dates (match_id, status) INCLUDE (user1_completed_confirmed_by_user2, user2_completed_confirmed_by_user1);
RESET ROLE;
SELECT session_reputation_attach('dates', 'pairs', cause => 'none') IS NOT NULL AS attached;
SELECT reputation_process();
SELECT session_reputation_detach();
SELECT count(*) FROM test.triggers;
SELECT user_reputation(1);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_detach();
\echo SQLSTATE :SQLSTATE
SELECT count(*) AS kept FROM reputation.session_scores;
DELETE FROM reputation.session_scores;

-- Other names, an enum for a status, other statuses.
SET ROLE regress_app;
CREATE TYPE outcome AS ENUM ('planned', 'done', 'missed', 'called off');
CREATE TABLE "My Users" (uid uuid PRIMARY KEY);
CREATE TABLE "Match" ("Pair" text COLLATE "C" PRIMARY KEY, a uuid, b uuid);
CREATE TABLE "Session" (pair text COLLATE "C", outcome outcome, "a ok" boolean, b_ok boolean, absent uuid, canceller uuid);
CREATE INDEX ON "Match" (a, "Pair");
CREATE INDEX ON "Match" (b) INCLUDE ("Pair", a);
CREATE INDEX ON "Session" (pair) INCLUDE (outcome, "a ok", b_ok, absent, canceller);
RESET ROLE;
INSERT INTO "My Users" VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22');
INSERT INTO "Match" VALUES ('m', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22');
INSERT INTO "Session" VALUES ('m', 'done', true, true, NULL, NULL), ('m', 'missed', false, true, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22', NULL), ('m', 'called off', NULL, NULL, NULL, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22'), ('m', 'planned', true, true, NULL, NULL);
INSERT INTO reputation.algorithm VALUES ('session', 5, '{"completed": ["done"], "no_show": ["missed"], "cancelled": ["called off"], "green": -1}');
SELECT algorithm_activate('session', 5);
\echo SQLSTATE :SQLSTATE
UPDATE reputation.algorithm SET active = false WHERE engine = 'session';
UPDATE reputation.algorithm SET active = true WHERE engine = 'session' AND version = 5;
SELECT session_reputation_attach('"Session"', '"Match"', '"My Users"', '{"users": {"id": "uid"}, "matches": {"id": "Pair", "user1_id": "a", "user2_id": "b"},
	"sessions": {"match_id": "pair", "status": "outcome", "user1_completed_confirmed_by_user2": "a ok", "user2_completed_confirmed_by_user1": "b_ok", "no_show_user_id": "absent", "cancelled_by": "canceller"}}', policy => 'both') IS NOT NULL AS attached;
SELECT version, parameters, active FROM reputation.algorithm WHERE engine = 'session' AND version > 4 ORDER BY version;
SELECT reputation_process();
SELECT user_id, score, completed_sessions, no_shows, badge_color, algorithm_version FROM reputation.session_scores ORDER BY user_id;
SELECT user_reputation(uid) ->> 'score' AS score, session_reputation_explain(uid) -> 'user_id' AS id FROM "My Users" ORDER BY uid;
INSERT INTO "Session" VALUES ('m', 'done', true, true);
SELECT users, pending, drift FROM test.concerned();
SELECT user_reputation('{b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22}') -> 'completed_sessions' AS completed;
SELECT session_reputation_detach();
DELETE FROM reputation.session_scores;
DELETE FROM reputation.algorithm WHERE engine = 'session';
DROP TABLE "Session", "Match", "My Users";
DROP TYPE outcome;
DROP TABLE users, pairs, dates;

-- Ids of every type, and of several widths.
CREATE PROCEDURE test.try_types(id_type text, user_type text, cause_type text, match_type text, key_type text, INOUT concerned text DEFAULT NULL, INOUT reputation jsonb DEFAULT NULL, INOUT total bigint DEFAULT NULL, INOUT drift bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL client_min_messages = error;
	SET LOCAL ROLE regress_app;
	EXECUTE format('CREATE TABLE users (id %s PRIMARY KEY)', id_type);
	EXECUTE format('CREATE TABLE wingman_matches (id %s PRIMARY KEY, user1_id %s, user2_id %2$s)', match_type, user_type);
	EXECUTE format('CREATE TABLE wingman_sessions (match_id %s, status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean, no_show_user_id %s, cancelled_by %2$s)', key_type, cause_type);
	CREATE INDEX ON wingman_matches (user1_id);
	CREATE INDEX ON wingman_matches (user2_id);
	CREATE INDEX ON wingman_sessions (match_id);
	RESET ROLE;
	EXECUTE format('INSERT INTO users SELECT i::text::%s FROM generate_series(101, 104) i', id_type);
	EXECUTE format('INSERT INTO wingman_matches SELECT i::text::%s, a::text::%s, b::text::%2$s FROM (VALUES (1, 101, 102), (2, 103, 101), (3, 104, 105), (4, 104, 104)) v(i, a, b)', match_type, user_type);
	PERFORM session_reputation_attach();
	PERFORM reputation_process();
	EXECUTE format('INSERT INTO wingman_sessions SELECT m::text::%s, status, true, false, u::text::%s FROM (VALUES (1, ''completed'', NULL), (1, ''no_show'', 101), (1, ''no_show'', 102), (1, ''no_show'', 102), (2, ''completed'', 1), (2, ''completed'', NULL), (9, ''completed'', NULL)) v(m, status, u)', key_type, cause_type);
	COMMIT;
	SELECT c.users, c.drift INTO concerned, drift FROM test.concerned() c;
	reputation := user_reputation('101') - 'cache_timestamp';
	SELECT sum(score) INTO total FROM reputation.session_scores;
	PERFORM session_reputation_detach();
	DELETE FROM reputation.session_scores;
	DROP TABLE users, wingman_matches, wingman_sessions;
END
$$;
CALL test.try_types('smallint', 'smallint', 'smallint', 'smallint', 'smallint');
CALL test.try_types('int', 'bigint', 'smallint', 'bigint', 'int');
CALL test.try_types('bigint', 'int', 'int', 'int', 'bigint');
CALL test.try_types('bigint', 'bigint', 'bigint', 'text', 'varchar(9)');
CALL test.try_types('text', 'varchar(20)', 'text', 'int', 'int');
CALL test.try_types('varchar(20)', 'text', 'varchar(9)', 'text COLLATE "C"', 'text COLLATE "C"');
CALL test.try_types('text COLLATE "C"', 'text COLLATE "C"', 'text', 'smallint', 'bigint');
DROP PROCEDURE test.try_types;

-- What cannot be.
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE wingman_matches (id int PRIMARY KEY, user1_id int, user2_id bigint, b text, x text COLLATE "C", y text COLLATE "POSIX");
CREATE TABLE wingman_sessions (match_id int, status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean, no_show_user_id uuid, mail text);
SELECT session_reputation_attach();
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": null, "user1_completed_confirmed_by_user2": "mail"}}');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": null, "match_id": "mail"}}');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": null}, "matches": {"user2_id": "b"}}');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"cancelled_by": "who", "status": "state"}, "matches": {"id": "no"}}');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach('no_sessions', 'no_matches', 'nobody');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach('wingman_matches');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(policy => 'most');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(cause => 'fate');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(cause => NULL);
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(fire => 'never');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"status": null}}');
\echo SQLSTATE :SQLSTATE
SELECT session_reputation_attach(columns => '{"sessions": {"no_show_user_id": "mail"}}', cause => 'flags');
\echo SQLSTATE :SQLSTATE
-- Text ids of collations that cannot be compared.
ALTER TABLE users ADD t text UNIQUE NOT NULL DEFAULT md5(random()::text);
SELECT session_reputation_attach(columns => '{"users": {"id": "t"}, "matches": {"user1_id": "x", "user2_id": "y"}, "sessions": {"no_show_user_id": null}}');
\echo SQLSTATE :SQLSTATE
-- Nor can those that take different ids for one, as they are compared as bytes elsewhere.
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE wingman_matches ALTER x TYPE text COLLATE any_case, ALTER y TYPE text COLLATE any_case;
SELECT session_reputation_attach(columns => '{"users": {"id": "t"}, "matches": {"user1_id": "x", "user2_id": "y"}, "sessions": {"no_show_user_id": null}}');
\echo SQLSTATE :SQLSTATE
SELECT count(*) FROM reputation.engine;
CALL test.clean('odd');

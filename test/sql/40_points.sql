-- Points: the ledger, its sums over all time and two windows, and when they change.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SELECT award_points(1, 5);
CREATE SCHEMA points AUTHORIZATION regress_app;
SET search_path = points, public;
SET ROLE regress_app;
CREATE TABLE users (id int PRIMARY KEY, name text);
RESET ROLE;
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 10) i;
SELECT points_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.points_scores WHERE user_id IN ('1', '2') ORDER BY 1;

-- An award is paid once; a negative one takes.
SELECT award_points(1, 50, 'first win', 'win:1'), award_points(1, 50, 'first win', 'win:1'), award_points(2, 50, 'first win', 'win:1');
SELECT award_points(1, 7), award_points(1, 7), award_points('1', -4, 'a fine');
SELECT user_id, points, reason, source_key, created_at FROM reputation.point_ledger ORDER BY id;
SELECT total_points(1), total_points(2), total_points(3);
SELECT users, pending, drift FROM test.concerned();
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.points_scores WHERE user_id IN ('1', '2', '3') ORDER BY 1;
SELECT award_points(99, 5);
SELECT award_points('x', 5);
SELECT award_points(1, NULL);
SELECT award_points(1, 1000000000001);
SELECT total_points(99);
UPDATE reputation.point_ledger SET points = 1;
DELETE FROM reputation.point_ledger;

-- Rows leave a window at the right moment: (t - 24 h, t], (t - 7 days, t].
SET reputation.clock = '2026-01-01 12:00:00+00';
SELECT award_points(1, 100, 'later', 'late');
SELECT reputation_process();
SET reputation.clock = '2026-01-01 23:59:59.999999+00';
SELECT reputation_process();
SELECT * FROM reputation_verify();
SET reputation.clock = '2026-01-02 00:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '1';
SET reputation.clock = '2026-01-02 12:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '1';
SET reputation.clock = '2026-01-08 00:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '1';
SET reputation.clock = '2026-01-08 12:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '1';
SELECT * FROM reputation_verify();

-- Taken back once, as of the award: it leaves every window at once.
SELECT award_points(3, 30, 'now', 'now');
SET reputation.clock = '2026-01-10 12:00:00+00';
SELECT award_points(3, 5);
SELECT revoke_points(3, 'now', 'a mistake'), revoke_points(3, 'now');
SELECT revoke_points(3, 'never');
-- An id of the ledger that is in use, by a sequence that lags, does not mean that the points were awarded.
\set VERBOSITY terse
SELECT min(id) AS first, max(id) AS last FROM reputation.point_ledger \gset
SELECT setval('reputation.point_ledger_id_seq', :first, false) = :first AS lags;
SELECT award_points(3, 1, 'lost?', 'lost?');
SELECT setval('reputation.point_ledger_id_seq', :last) = :last AS mended;
\set VERBOSITY default
SELECT points, reason, source_key, created_at, recorded_at, revokes IS NOT NULL AS revokes FROM reputation.point_ledger WHERE user_id = '3' ORDER BY id;
SELECT users, pending, drift FROM test.concerned();
SELECT all_time, weekly, daily, reached_at, next_due_at FROM reputation.points_scores WHERE user_id = '3';
SELECT award_points(3, 30, 'again', 'now');

-- A row that was entered in advance counts from its time on; one from the past since then.
INSERT INTO reputation.point_ledger (user_id, points, created_at) VALUES ('4', 9, '2026-01-11 00:00:00+00'), ('4', 3, '2020-01-01');
SELECT users, pending, drift FROM test.concerned();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '4';
SELECT total_points(4);
SET reputation.clock = '2026-01-11 00:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, reached_at, next_due_at FROM reputation.points_scores WHERE user_id = '4';
SELECT total_points(4), points_recalc(4);
SELECT points_explain(4) - '{computed_at, age_seconds}'::text[] AS explain;
SELECT points_recalc_all();

-- More than an int holds.
SELECT award_points(5, 1000000000000);
SELECT reputation_process();
SELECT score, all_time FROM reputation.points_scores WHERE user_id = '5';
SELECT * FROM reputation_verify();

-- More than a bigint holds, which takes more rows than a test has; and times that are none.
ALTER TABLE reputation.point_ledger DROP CONSTRAINT point_ledger_points_check;
INSERT INTO reputation.point_ledger (user_id, points) VALUES ('9', 9223372036854775807), ('9', 9223372036854775807), ('10', -9223372036854775808), ('10', -9223372036854775808);
INSERT INTO reputation.point_ledger (user_id, points, created_at) VALUES ('7', 10, 'infinity'), ('7', 20, '-infinity'), ('8', 30, '294276-12-31 23:59:59.999999+00');
SELECT users, pending, drift FROM test.concerned();
SELECT user_id, score, all_time, weekly, daily, reached_at, next_due_at FROM reputation.points_scores WHERE user_id IN ('7', '8', '9', '10') ORDER BY 1;
SELECT total_points(9), total_points(10), total_points(7), calculate_user_rank(9), calculate_user_rank(10);
SELECT points_explain(9) -> 'terms' AS most, points_explain(8) -> 'next_change' AS last_moment, points_explain(7) -> 'next_change' AS never;
SELECT * FROM reputation_verify();
UPDATE reputation.points_scores SET all_time = 0 WHERE user_id = '9';
SELECT engine_name, user_id, item, cached, expected FROM reputation_verify();
SELECT reputation_repair('points');
SELECT pending, drift FROM test.concerned();
SELECT user_id, all_time FROM reputation.points_scores WHERE user_id = '9';
-- In a calendar the last moment there is has no next day.
UPDATE reputation.algorithm SET parameters = parameters || '{"zone": "Pacific/Honolulu"}' WHERE engine = 'points' AND active;
SELECT points_explain(8) -> 'next_change' AS last_moment;
UPDATE reputation.algorithm SET parameters = parameters || '{"zone": null}' WHERE engine = 'points' AND active;
ALTER TABLE reputation.point_ledger DISABLE TRIGGER ledger_guard;
DELETE FROM reputation.point_ledger WHERE user_id IN ('7', '8', '9', '10');
ALTER TABLE reputation.point_ledger ENABLE TRIGGER ledger_guard;
ALTER TABLE reputation.point_ledger ADD CONSTRAINT point_ledger_points_check CHECK (points BETWEEN -1000000000000 AND 1000000000000);
SELECT pending, drift FROM test.concerned();
SELECT * FROM reputation_verify();

-- Calendar periods of a zone, over the change to daylight-saving time and back.
INSERT INTO reputation.algorithm (engine, version, parameters) VALUES ('points', 2, '{"zone": "Nowhere/Town"}');
INSERT INTO reputation.algorithm (engine, version, parameters) VALUES ('points', 2, '{"weekly_days": 0}');
INSERT INTO reputation.algorithm (engine, version, parameters) VALUES ('points', 2, '{"zone": "Europe/Berlin", "debounce": "0 s"}');
SET reputation.clock = '2026-03-28 22:59:59+00';
SELECT algorithm_activate('points', 2) IS NOT NULL AS activated;
SELECT reputation_process();
-- Saturday 28 March 23:59:59; Sunday has 23 hours, and the week ends with it.
SELECT award_points(6, 1);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '6';
SET reputation.clock = '2026-03-28 23:00:00+00';
SELECT award_points(6, 2);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '6';
SET reputation.clock = '2026-03-29 21:59:59.999999+00';
SELECT award_points(6, 4);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '6';
SET reputation.clock = '2026-03-29 22:00:00+00';
SELECT award_points(6, 8);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '6';
-- Sunday 25 October has 25 hours.
SET reputation.clock = '2026-10-24 22:00:00+00';
SELECT award_points(7, 1);
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '7';
SET reputation.clock = '2026-10-25 22:59:59.999999+00';
SELECT award_points(7, 2);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '7';
SET reputation.clock = '2026-10-25 23:00:00+00';
SELECT reputation_process();
SELECT all_time, weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '7';
SELECT * FROM reputation_verify();

-- In the Azores Sunday begins twice, at 00:00 and an hour later; in Santiago it begins at 01:00 on 6 September.
UPDATE reputation.algorithm SET parameters = parameters || '{"zone": "Atlantic/Azores"}' WHERE engine = 'points' AND active;
SET reputation.clock = '2026-10-24 23:30:00+00';
SELECT award_points(9, 1);
SET reputation.clock = '2026-10-25 00:30:00+00';
SELECT award_points(9, 2);
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '9';
SET reputation.clock = '2026-10-25 01:30:00+00';
SELECT award_points(9, 4);
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '9';
SET reputation.clock = '2026-10-26 01:00:00+00';
SELECT reputation_process();
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '9';
UPDATE reputation.algorithm SET parameters = parameters || '{"zone": "America/Santiago"}' WHERE engine = 'points' AND active;
SET reputation.clock = '2026-09-06 03:59:59+00';
INSERT INTO reputation.point_ledger (user_id, points, created_at) VALUES ('8', 1, '2026-09-06 03:59:59+00'), ('8', 2, '2026-09-06 04:00:00+00'), ('8', 4, '2026-09-07 02:59:59+00'), ('8', 8, '2026-09-07 03:00:00+00');
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '8';
SET reputation.clock = '2026-09-06 04:00:00+00';
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '8';
SET reputation.clock = '2026-09-07 02:59:59+00';
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '8';
SET reputation.clock = '2026-09-07 03:00:00+00';
SELECT reputation_process() > 0 AS computed;
SELECT weekly, daily, next_due_at FROM reputation.points_scores WHERE user_id = '8';
UPDATE reputation.algorithm SET parameters = parameters || '{"zone": "Europe/Berlin"}' WHERE engine = 'points' AND active;
SET reputation.clock = '2026-10-26 12:00:00+00';
CALL reputation_run('nightly');
SELECT reputation_process() >= 0 AS computed;
SELECT * FROM reputation_verify();

-- Whatever the session's settings are.
SET timezone = 'Asia/Kolkata';
SET datestyle = 'German';
SELECT award_points(8, 1);
SELECT reputation_process();
SELECT * FROM reputation_verify();
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';

-- A user who goes takes the ledger along; anonymized the sums stay without the name.
SELECT reputation_forget(2, 'anonymize');
SELECT count(*) FILTER (WHERE user_id LIKE 'anonymous-%' AND reason IS NULL AND source_key IS NULL), count(*) FILTER (WHERE user_id = '2') FROM reputation.point_ledger;
SELECT reputation_process();
SELECT all_time FROM reputation.points_scores WHERE user_id = '2';
SELECT reputation_forget(3);
BEGIN;
DELETE FROM users WHERE id = 4;
SELECT count(*) FROM reputation.point_ledger WHERE user_id = '4';
ROLLBACK;
DELETE FROM users WHERE id = 4;
SELECT pending, drift FROM test.concerned();
SELECT count(*) FROM reputation.point_ledger WHERE user_id IN ('3', '4');
SELECT user_id FROM reputation.points_scores WHERE user_id IN ('3', '4');
TRUNCATE reputation.point_ledger;
SELECT sweeps, pending, drift FROM test.concerned();
SELECT sum(all_time) FROM reputation.points_scores;

-- Rows for somebody who is not there yet, or never can be.
INSERT INTO reputation.point_ledger (user_id, points) VALUES ('11', 3), ('abc', 4), ('99999999999', 5);
SELECT users, pending, drift FROM test.concerned();
INSERT INTO users VALUES (11, 'late');
SELECT users, pending, drift FROM test.concerned();
SELECT all_time FROM reputation.points_scores WHERE user_id = '11';
SELECT count(*) FROM reputation.point_ledger;

-- A changed id takes the ledger along; a payment that the new id had for the same thing stays, too.
SELECT award_points(5, 10, 'a', 'once'), award_points(5, 20, 'b', 'other');
INSERT INTO reputation.point_ledger (user_id, points, source_key) VALUES ('505', 1, 'once');
UPDATE users SET id = 505 WHERE id = 5;
SELECT user_id, points, reason, source_key FROM reputation.point_ledger WHERE user_id IN ('5', '505') ORDER BY id;
SELECT users, pending, drift FROM test.concerned();
SELECT user_id, all_time FROM reputation.points_scores WHERE user_id IN ('5', '505');
UPDATE users SET id = 5 WHERE id = 505;
SELECT pending, drift FROM test.concerned();

-- But who is only not to be seen keeps it: in a view, after a TRUNCATE.
SELECT award_points(6, 7);
\o /dev/null
SELECT rtrim(pg_get_viewdef('reputation.points_signals'), ';') AS signals \gset
\o
\set ECHO none
SELECT format('CREATE OR REPLACE VIEW reputation.points_signals AS SELECT * FROM (%s) s WHERE user_id <> 6', :'signals') \gexec
\set ECHO all
SELECT pending FROM test.concerned();
SELECT count(*) FROM reputation.points_scores WHERE user_id = '6';
SELECT total_points(6);
\set ECHO none
SELECT format('CREATE OR REPLACE VIEW reputation.points_signals AS %s', :'signals') \gexec
\set ECHO all
CREATE TABLE saved AS SELECT * FROM users;
TRUNCATE users CASCADE;
SELECT reputation_process();
INSERT INTO users SELECT * FROM saved;
SELECT pending, drift FROM test.concerned();
SELECT total_points(6);
DROP TABLE saved;

-- Bad arguments.
SELECT award_points(NULL::int, 1);
SELECT award_points(6, -9223372036854775808);
SELECT revoke_points(6, NULL);

-- Detached and attached again.
SELECT has_table_privilege('regress_app', 'reputation.point_ledger', 'SELECT');
SELECT points_detach();
SELECT * FROM test.triggers;
SELECT has_table_privilege('regress_app', 'reputation.point_ledger', 'SELECT');
SELECT points_detach();
SELECT points_attach(rank_column => 'points_rank') IS NOT NULL AS attached;
SELECT award_points(i, i % 3) FROM generate_series(5, 9) i;
SELECT reputation_process();
CALL reputation_run('leaderboards');
SELECT id, points_rank FROM users ORDER BY id;
SELECT points_detach();

-- Users that are partitioned, by their ids: the ledger goes and follows as ever. An id that moves to another
-- partition is deleted there; who gets the id in the same statement has nothing of its.
CREATE TABLE members (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
CREATE TABLE members_low PARTITION OF members FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE members_lowest PARTITION OF members_low DEFAULT;
CREATE TABLE members_high PARTITION OF members FOR VALUES FROM (100) TO (200);
INSERT INTO members VALUES (31, 'ann'), (32, 'bob'), (33, 'cid'), (34, 'dan');
SELECT points_attach('members') IS NOT NULL AS attached;
TRUNCATE reputation.point_ledger;
SELECT award_points(i, i) FROM generate_series(31, 34) i;
DELETE FROM members WHERE id = 31;
UPDATE members_lowest SET id = 42 WHERE id = 32;
SELECT user_id, points FROM reputation.point_ledger ORDER BY 1;
UPDATE members SET id = CASE id WHEN 33 THEN 133 ELSE 33 END WHERE id IN (33, 34);
SELECT user_id, points FROM reputation.point_ledger ORDER BY 1;
DROP TABLE members CASCADE;
CALL test.clean('points');

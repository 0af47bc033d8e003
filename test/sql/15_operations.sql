-- Verify and repair, batch runs and their schedule, the rank column, forgetting,
-- and that nothing is written that did not change.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('operations');
INSERT INTO users SELECT i FROM generate_series(1, 6) i;
INSERT INTO projects SELECT i, i % 4 + 1, 'shipped', 0 FROM generate_series(1, 6) i;
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT job_name, scope, trigger, started_at, done FROM reputation.job_progress;
SELECT reputation_process(max_users => 3);
SELECT job_name, done, total, percent, time_left IS NOT NULL AS estimated FROM reputation.job_progress;
SELECT reputation_process();
SELECT count(*) FROM reputation.job_progress;
SELECT id, builder_score FROM users ORDER BY id;

-- Verify lists each value that was tampered with behind the triggers; repair mends just those.
SET session_replication_role = replica;
UPDATE users SET builder_score = 99 WHERE id = 1;
ALTER TABLE users ALTER builder_score DROP NOT NULL;
UPDATE users SET builder_score = NULL WHERE id = 2;
SET session_replication_role = origin;
ALTER TABLE projects DISABLE TRIGGER USER;
UPDATE projects SET status = 'idea' WHERE owner_id = 3;
ALTER TABLE projects ENABLE TRIGGER USER;
DELETE FROM reputation.builder_scores WHERE user_id = '4';
UPDATE reputation.builder_scores SET algorithm_version = 7 WHERE user_id = '5';
INSERT INTO reputation.builder_scores VALUES ('4711', 10, reputation.clock(), 1, reputation.clock());
SELECT * FROM reputation_verify() ORDER BY user_id, item;
SELECT count(*) FROM reputation_verify('builder');
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name = 'drift builder';
SELECT xmin AS xmin6 FROM users WHERE id = 6
\gset
SELECT reputation_repair();
-- Cached values are mended at once; score rows that are missing or nobody's, by the drain.
SELECT * FROM reputation_verify() WHERE item = 'builder_score';
SELECT reputation_process();
SELECT * FROM reputation_verify();
SELECT id, builder_score, xmin = :xmin6 AS untouched FROM users ORDER BY id;
SELECT user_id, score, algorithm_version FROM reputation.builder_scores ORDER BY user_id;
SELECT reputation_repair();
SELECT reputation_process() >= 0 AS done;
SELECT status FROM reputation_status() WHERE check_name = 'drift builder';

-- Nothing is written that did not change.
CREATE TABLE before AS
SELECT 'users' AS relation, id::text, ctid::text || ' ' || xmin AS place FROM users
UNION ALL SELECT 'scores', user_id, ctid::text || ' ' || xmin FROM reputation.builder_scores;
SET reputation.clock = '2026-01-02 00:00:00+00';
SELECT builder_score_recalc_all();
SELECT builder_score_recalc(1);
SELECT reputation_repair();
UPDATE projects SET status = 'idea' WHERE owner_id = 1;
UPDATE projects SET status = 'shipped' WHERE owner_id = 1;
SELECT reputation_process();
CALL reputation_run('nightly');
SELECT * FROM before EXCEPT (
SELECT 'users' AS relation, id::text, ctid::text || ' ' || xmin AS place FROM users
UNION ALL SELECT 'scores', user_id, ctid::text || ' ' || xmin FROM reputation.builder_scores) ORDER BY 1, 2;
DROP TABLE before;

-- Batch runs by hand. Nightly heals what no trigger saw.
SELECT job_name, status, trigger, scope, started_at, finished_at, duration_ms, algorithm_version, attempt, error, metadata, done, total, changed
FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SET session_replication_role = replica;
UPDATE users SET builder_score = 99 WHERE id = 1;
SET session_replication_role = origin;
SET reputation.clock = '2026-01-03 00:00:00+00';
CALL reputation_run('nightly');
SELECT * FROM reputation_verify();
SELECT job_name, status, trigger, started_at, done, total, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
CALL reputation_run('hourly');
\echo SQLSTATE :SQLSTATE
-- One run per job at a time; asked for again it starts over at its end.
SELECT reputation.sweep_start('builder', 'nightly', 'manual') = reputation.sweep_start('builder', 'nightly', 'manual') AS same;
SELECT reputation_process();
SELECT status, done, total FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
-- What units counted for a run goes with the run: when it ends, when it is cancelled,
-- and when jobs outlive it, in a database that turns out to be a copy.
CREATE VIEW test.runs AS
SELECT job_name, status, done, error, (SELECT count(*) FROM reputation.run_tally t WHERE t.run_id = r.id) AS tallies
FROM reputation.job_runs r;
SELECT count(*) FROM reputation.run_tally;
SELECT reputation.run_job('nightly', 'manual');
SELECT reputation_process(max_users => 2);
SELECT * FROM test.runs WHERE status = 'running';
UPDATE reputation.engine SET home = 'elsewhere';
-- Not while the restore is on, or something of the registry is to come.
SET application_name = 'pg_restore';
SELECT reputation_process(max_users => 0);
SELECT home FROM reputation.engine;
RESET application_name;
BEGIN;
DELETE FROM reputation.source_key;
SELECT reputation_process(max_users => 0);
SELECT home FROM reputation.engine;
ROLLBACK;
BEGIN;
DELETE FROM reputation.capture_key;
SELECT reputation_process(max_users => 0);
SELECT home FROM reputation.engine;
ROLLBACK;
SELECT reputation_process() >= 6 AS computed;
SELECT * FROM test.runs WHERE status = 'cancelled';
SELECT count(*) FROM reputation.run_tally;
SELECT reputation.run_job('nightly', 'manual');
SELECT reputation_process(max_users => 2);
SELECT builder_score_detach();
SELECT job_name, status, error FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM reputation.run_tally;
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT reputation_process();
DROP VIEW test.runs;
-- Old runs go, running ones do not.
SET reputation.job_run_retention = 30;
SET reputation.clock = '2026-03-01 00:00:00+00';
CALL reputation_run('nightly');
SELECT job_name, started_at FROM reputation.job_runs ORDER BY id;

-- The rank column: ties share a rank, only rows whose rank changed are written.
UPDATE projects SET impact = 9 WHERE id = 4;
SELECT reputation_process();
CALL reputation_run('leaderboards');
SELECT id, builder_score, place FROM users ORDER BY id;
SELECT job_name, status, trigger, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
CREATE TABLE before AS SELECT id, ctid::text || ' ' || xmin AS place FROM users;
CALL reputation_run('leaderboards');
SELECT count(*) FROM test.inbox;
SELECT changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
-- 6 draws level with 4: 3 and 5 go down by one, the others stay.
INSERT INTO projects VALUES (100, 6, 'shipped', 0);
SELECT reputation_process();
CALL reputation_run('leaderboards');
SELECT id, builder_score, u.place, u.ctid::text || ' ' || u.xmin = b.place AS untouched FROM users u JOIN before b USING (id) ORDER BY id;
SELECT changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT * FROM reputation_verify();
DROP TABLE before;
-- Ranks are computed in one step and written in others, each a transaction of its own.
CREATE VIEW test.ranks AS
SELECT bool_and(u.place = r.rank) AS right, count(DISTINCT u.xmin::text) AS transactions
FROM users u JOIN (SELECT id, rank() OVER (ORDER BY builder_score DESC) FROM users) r USING (id);
SET reputation.batch_size = 2;
-- The ranks are taken away behind capture's back, or they would be restored one by one.
SET session_replication_role = replica;
UPDATE users SET place = NULL;
RESET session_replication_role;
CALL reputation_run('leaderboards');
SELECT * FROM test.ranks;
SELECT status, done, total, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM reputation.rank_portion;
-- Asked for once more while it is on, it starts over at its end: 1 fell behind after the ranks were computed.
SET session_replication_role = replica;
UPDATE users SET place = NULL;
RESET session_replication_role;
SELECT reputation.run_job('leaderboards', 'manual');
SELECT reputation.batch_step(), reputation.batch_step();
SELECT job_name, done, total, percent FROM reputation.job_progress;
UPDATE projects SET status = 'idea' WHERE owner_id = 1;
SELECT reputation_process();
CALL reputation_run('leaderboards');
SELECT * FROM test.ranks;
SELECT status, again, done, total, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
-- It starts over when a crash took what it had computed.
SET session_replication_role = replica;
UPDATE users SET place = NULL;
RESET session_replication_role;
SELECT reputation.run_job('leaderboards', 'manual');
SELECT reputation.batch_step(), reputation.batch_step();
TRUNCATE reputation.rank_portion;
SELECT reputation.batch_step();
SELECT done, total FROM reputation.job_progress;
CALL reputation_run('leaderboards');
SELECT * FROM test.ranks;
-- What the users table refuses fails the run, and what others left goes with the next.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'user % has no rank', NEW.id; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF place ON users FOR EACH ROW WHEN (NEW.place > 3) EXECUTE FUNCTION refuse();
SET session_replication_role = replica;
UPDATE users SET place = NULL;
RESET session_replication_role;
CALL reputation_run('leaderboards');
SELECT status, error, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM reputation.rank_portion;
DROP TRIGGER refuse ON users;
DROP FUNCTION refuse();
INSERT INTO reputation.rank_portion VALUES (0, 0, '{1}', '{7}');
CALL reputation_run('leaderboards');
SELECT * FROM test.ranks;
SELECT count(*) FROM reputation.rank_portion;
-- Attached to other tables, or detached: nothing is left of it.
SET session_replication_role = replica;
UPDATE users SET place = NULL;
RESET session_replication_role;
SELECT reputation.run_job('leaderboards', 'manual');
SELECT reputation.batch_step();
SELECT count(*) FROM reputation.rank_portion;
SELECT builder_score_detach();
SELECT count(*) FROM reputation.rank_portion;
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT reputation_process();
CALL reputation_run('leaderboards');
SELECT * FROM test.ranks;
-- Without the users table it fails, and says why.
BEGIN;
SET LOCAL client_min_messages = warning;
DROP TABLE users CASCADE;
SELECT reputation.run_job('leaderboards', 'manual');
SELECT reputation.batch_step();
SELECT status, error FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
ROLLBACK;
-- Without a rank column there is nothing to do.
SELECT builder_score_attach() IS NOT NULL AS attached;
CALL reputation_run('leaderboards');
SELECT status, total, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT reputation_process();
DROP VIEW test.ranks;
RESET reputation.batch_size;

-- The schedule, without pg_cron. Attaching with a rank column has made the first entry.
SELECT job_name, at_time, every, next_run_at, started_by FROM reputation.schedule;
SELECT reputation_unschedule();
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'job nightly';
SELECT job_name, schedule, started_by, next_run_at, last_success FROM reputation_schedule();
SELECT job_name, at_time, every, next_run_at, started_by FROM reputation.schedule ORDER BY 1;
SELECT * FROM reputation_schedule('nightly', at => '04:30');
SELECT * FROM reputation_schedule('leaderboards', '1 hour');
SELECT job_name, at_time, every, next_run_at, started_by FROM reputation.schedule ORDER BY 1;
SELECT reputation_schedule('leaderboards', '10 s');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('leaderboards', '59.9 s');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('leaderboards', '2 days');
\echo SQLSTATE :SQLSTATE
-- How pg_cron would write it: exactly, or not at all.
SELECT every, reputation.cron_every(every::interval) FROM (VALUES
	('1 min'), ('2 min'), ('7 min'), ('30 min'), ('45 min'), ('59 min'), ('60 s'), ('90 s'), ('59 min 60 s'),
	('1 hour'), ('1 hour 1 s'), ('90 min'), ('2 hours'), ('5 hours'), ('12 hours'), ('23 hours'), ('24 hours'), ('1 day')) v (every);
SELECT at_time, reputation.cron_daily(at_time::time) FROM (VALUES ('00:00'), ('04:30'), ('23:59'), ('24:00'), ('04:30:01'), ('04:30:00.5')) v (at_time);
SELECT reputation.run_due_jobs();
SET reputation.clock = '2026-03-01 01:00:00+00';
SELECT reputation.run_due_jobs();
SELECT reputation.run_due_jobs();
SET reputation.clock = '2026-03-01 04:29:59+00';
SELECT reputation.run_due_jobs();
SET reputation.clock = '2026-03-01 04:30:00+00';
SELECT reputation.run_due_jobs();
SELECT job_name, trigger, status FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT job_name, next_run_at FROM reputation.schedule ORDER BY 1;
SELECT reputation_process();
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'job nightly';
-- A month was missed: once each, and then at the usual times.
SET reputation.clock = '2026-04-01 12:00:00+00';
SELECT status, detail FROM reputation_status() WHERE check_name = 'job nightly';
SELECT reputation.run_due_jobs();
SELECT reputation.run_due_jobs();
SELECT job_name, next_run_at FROM reputation.schedule ORDER BY 1;
-- The clock went back: neither starts, both come at their times again.
SET reputation.clock = '2026-02-01 12:00:00+00';
SELECT reputation.run_due_jobs();
SELECT job_name, next_run_at FROM reputation.schedule ORDER BY 1;
SELECT reputation_unschedule();
SELECT count(*) FROM reputation.schedule;
SELECT reputation_process() > 0 AS computed;

-- Forgetting. What is kept about 1: a score row, a window, a dead letter, a job.
SET reputation.clock = '2026-05-01 00:00:00+00';
SET reputation.debounce = '5min';
UPDATE projects SET impact = 99 WHERE owner_id = 1;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE owner_id = 1;
SELECT reputation_process();
INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) VALUES ('builder', 0, '1', 5, 'user 1 is odd', reputation.clock());
CREATE VIEW test.kept AS
SELECT key, string_agg(what, ' ' ORDER BY what) AS what FROM (
	SELECT 'score' AS what, user_id AS key FROM reputation.builder_scores
	UNION ALL SELECT 'window', key FROM reputation.recent_run
	UNION ALL SELECT 'letter', key FROM reputation.dead_letter
	UNION ALL SELECT 'job', key FROM reputation.job) k GROUP BY key;
SELECT * FROM test.kept WHERE key = '1';
SELECT reputation_forget(1, 'sometimes');
\echo SQLSTATE :SQLSTATE
SELECT reputation_forget('one');
\echo SQLSTATE :SQLSTATE
SELECT * FROM test.kept WHERE key = '1';
SELECT reputation_forget(1);
SELECT * FROM test.kept WHERE key = '1';
SELECT builder_score(1);
-- The user still exists and its next computation was queued.
SELECT reputation_process();
SET reputation.clock = '2026-05-01 00:05:00+00';
SELECT reputation_process() >= 0 AS done;
SELECT * FROM reputation_verify();
-- Anonymized: the dead letter stays, without the name.
INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) VALUES ('builder', 0, '2', 5, 'user 2 is odd', reputation.clock());
SELECT reputation_forget('2', 'anonymize') > 0 AS removed;
SELECT key ~ '^anonymous-[0-9a-f-]{36}$' AS anonymous, attempts, error FROM reputation.dead_letter;
SELECT * FROM test.kept WHERE key = '2';
DELETE FROM reputation.dead_letter;
-- Somebody unknown: nothing is kept.
SELECT reputation_forget(4711);
-- Deleting the row of the users table does the same.
INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) VALUES ('builder', 0, '3', 5, 'user 3 is odd', reputation.clock());
UPDATE projects SET impact = 99 WHERE owner_id = 3;
SELECT reputation_process() >= 0 AS done;
DELETE FROM users WHERE id = 3;
SELECT reputation_process() > 0 AS done;
SELECT * FROM test.kept WHERE key = '3';
SELECT * FROM reputation_verify() WHERE user_id = '3';
DROP VIEW test.kept;

-- Waiting. Nothing is pending; then something is.
SET reputation.debounce = 0;
SET reputation.clock = '2026-06-01 00:00:00+00';
SELECT reputation_process() >= 0 AS done;
SELECT reputation_wait(1, timeout => '0');
UPDATE projects SET impact = 9 WHERE owner_id = 1;
SELECT reputation_wait(1, 'builder', '0');
\echo SQLSTATE :SQLSTATE
SELECT reputation_process(max_users => 0);
SELECT reputation_wait(1, 'builder', '0');
\echo SQLSTATE :SQLSTATE
SELECT reputation_wait(2, 'builder', '0');
SELECT reputation_process();
SELECT reputation_wait(1, 'builder', '0');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT reputation_wait(1, 'builder', '0');
\echo SQLSTATE :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT reputation_process();
\echo SQLSTATE :SQLSTATE
ROLLBACK;

-- The status: everything in order but the workers, of which none is wanted here.
SELECT count(*) FROM reputation_schedule();
CALL reputation_run('nightly');
SELECT check_name, status, regexp_replace(detail, 'inbox of \d+ pages', 'inbox of n pages') AS detail, hint FROM reputation_status();
UPDATE projects SET impact = 99 WHERE owner_id = 2;
SELECT reputation_process(max_users => 0);
SET reputation.clock = '2026-06-01 00:02:00+00';
SELECT status, hint FROM reputation_status() WHERE check_name = 'queue';
SET reputation.clock = '2026-06-01 00:11:00+00';
SELECT status, hint FROM reputation_status() WHERE check_name = 'queue';
ALTER TABLE projects DISABLE TRIGGER reputation_capture;
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
CALL test.clean('operations');
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name IN ('engines', 'job nightly') ORDER BY 1;

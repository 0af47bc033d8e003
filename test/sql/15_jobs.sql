-- Batch jobs are rows: who may register one, what runs when, and what becomes of one that
-- fails, or whose module is gone.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SET reputation.clock = '2026-03-27 00:00:00+00';
SET reputation.debounce = 0;
SET client_min_messages = warning;
CALL test.make_trust_tables('jobs');
INSERT INTO users SELECT i FROM generate_series(1, 3) i;
SELECT trust_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
RESET client_min_messages;
SELECT name, begin_function, step_function, class, audited, cause, coalesce(at_time || ' ' || time_zone, every::text) AS usual, recommended, by_default
FROM reputation.batch_job ORDER BY name;

-- What is registered runs with the owner's rights: it has to be the owner's.
CREATE FUNCTION reputation.test_step(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	job record;
BEGIN
	UPDATE reputation.job_runs r SET done = r.done + 1 WHERE r.id = run_id RETURNING * INTO job;
	RAISE NOTICE 'step % of %', job.done, job.job_name;
	RETURN job.done < 3;
END
$$;
CREATE FUNCTION reputation.test_fails(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it is broken' USING HINT = 'Mend it'; END $$;
CREATE FUNCTION reputation.test_planted(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
CREATE FUNCTION public.test_elsewhere(run_id bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION reputation.test_wrong(run_id bigint) RETURNS int LANGUAGE sql AS 'SELECT 1';
GRANT CREATE ON SCHEMA reputation TO regress_app;
ALTER FUNCTION reputation.test_planted(bigint) OWNER TO regress_app;
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_planted', every => '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_elsewhere', every => '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_wrong', every => '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'public.run_begin', every => '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_step');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_step', every => '1 hour', at_time => '03:00');
\echo SQLSTATE :SQLSTATE
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_step', at_time => '03:00', time_zone => 'Mars/Olympus');
\echo SQLSTATE :SQLSTATE
\set VERBOSITY sqlstate
SELECT reputation.batch_job_register('Planted', 'planted', 'run_begin', 'test_step', every => '1 hour');
SELECT reputation.batch_job_register('backfill', 'planted', 'run_begin', 'test_step', every => '1 hour');
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_step', every => '1 s');
SET ROLE regress_app;
SELECT reputation.batch_job_register('planted', 'planted', 'run_begin', 'test_planted', every => '1 hour');
INSERT INTO reputation.batch_job (name) VALUES ('planted');
INSERT INTO reputation.schedule (job_name) VALUES ('planted');
RESET ROLE;
\set VERBOSITY default
SELECT count(*) FROM reputation.batch_job;

-- Two runs in steps take turns, and one that fails stops no other.
SELECT reputation.batch_job_register('test_one', 'one', 'run_begin', 'test_step', every => '1 hour');
SELECT reputation.batch_job_register('test_two', 'two', 'run_begin', 'test_step', every => '1 hour');
SELECT reputation.batch_job_register('test_bad', 'bad', 'run_begin', 'test_fails', every => '1 hour');
SELECT reputation.run_job(j, 'manual') FROM unnest('{test_one,test_bad,test_two}'::text[]) j;
-- Asked for once more while it is on it starts over at its end.
SELECT reputation.run_job('test_two', 'manual');
DO $$ BEGIN WHILE reputation.batch_step() LOOP NULL; END LOOP; END $$;
SELECT job_name, scope, status, done, again, error FROM reputation.job_runs WHERE job_name LIKE 'test%' ORDER BY id;
SELECT count(*) FROM reputation_schedule() WHERE job_name LIKE 'test%';
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name LIKE 'job test%' ORDER BY 1;
SET client_min_messages = error;
CALL reputation_run('test_bad');
CALL reputation_run('test_one');
RESET client_min_messages;
SELECT job_name, status, done FROM reputation.job_runs WHERE job_name LIKE 'test%' ORDER BY id DESC LIMIT 2;

-- Whose function becomes somebody else's is not called, nor one that is gone.
SELECT reputation.run_job('test_one', 'manual');
ALTER FUNCTION reputation.test_step(bigint) OWNER TO regress_app;
SELECT reputation.batch_step();
SELECT reputation.run_job('test_one', 'manual');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('test_one', '2 hours');
\echo SQLSTATE :SQLSTATE
DROP FUNCTION reputation.test_step(bigint);
SET reputation.clock = '2026-03-27 01:00:00+00';
SELECT reputation.run_due_jobs();
SET client_min_messages = error;
SELECT reputation.batch_step();
RESET client_min_messages;
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name LIKE 'job test%' AND check_name <> 'job test_bad' ORDER BY 1;
SELECT reputation_unschedule('test_one'), reputation_unschedule('test_two'), reputation_unschedule('test_bad');
SELECT job_name, status, error FROM reputation.job_runs WHERE job_name = 'test_one' ORDER BY id DESC LIMIT 1;
SELECT name FROM reputation.batch_job WHERE name LIKE 'test%';
DROP FUNCTION reputation.test_fails(bigint);
SELECT reputation_unschedule();
SELECT name FROM reputation.batch_job WHERE name LIKE 'test%';
SELECT reputation_unschedule('test_bad');
\echo SQLSTATE :SQLSTATE
DROP FUNCTION reputation.test_planted(bigint), reputation.test_wrong(bigint), public.test_elsewhere(bigint);
REVOKE CREATE ON SCHEMA reputation FROM regress_app;
DELETE FROM reputation.schedule;

-- One that cannot even be begun.
CREATE FUNCTION reputation.test_begin(engine text, job_name text, trigger text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no beginning'; END $$;
SELECT reputation.batch_job_register('test_begin', 'cannot be begun', 'test_begin', every => '1 hour');
SELECT job_name FROM reputation_schedule('test_begin');
SELECT job_name FROM reputation_schedule('nightly', at => '03:00');
SET reputation.clock = '2026-03-27 03:00:00+00';
SELECT reputation.run_due_jobs();
SELECT job_name, status, error FROM reputation.job_runs WHERE trigger = 'worker' ORDER BY id;
SELECT reputation.run_due_jobs();
CALL reputation_run('test_begin');
DROP FUNCTION reputation.test_begin(text, text, text);
SELECT reputation_unschedule('test_begin');

-- A row of a job that nothing has, as from a dump of a database with another extension.
INSERT INTO reputation.schedule VALUES ('elsewhere', NULL, NULL, '1 hour', reputation.clock() - interval '1 hour', 'worker');
INSERT INTO reputation.job_runs (job_name, status, trigger, scope, started_at) VALUES ('elsewhere', 'running', 'worker', 'trust', reputation.clock());
SELECT reputation.run_due_jobs(), reputation.batch_step();
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name = 'job elsewhere';
SELECT count(*) FROM reputation_schedule() WHERE job_name = 'elsewhere';
SELECT reputation_unschedule('elsewhere');
SELECT status, error FROM reputation.job_runs WHERE job_name = 'elsewhere';
SELECT count(*) FROM reputation_status() WHERE check_name = 'job elsewhere';
SELECT reputation_process() > 0 AS computed;
SELECT reputation_unschedule();
DELETE FROM reputation.schedule;

-- What is run by default is, though nobody scheduled it, until it is unscheduled.
UPDATE reputation.batch_job SET next_run_at = reputation.clock();
SELECT check_name, status, detail FROM reputation_status() WHERE check_name = 'job prune';
SELECT reputation.run_due_jobs();
SELECT reputation.batch_step();
SELECT job_name, scope, trigger, status FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT check_name, status, detail FROM reputation_status() WHERE check_name = 'job prune';
SELECT count(*) FROM reputation.schedule;
-- Nobody has run it for too long.
SET reputation.clock = '2026-03-28 04:00:01+00';
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'job prune';
SELECT reputation_unschedule('prune');
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'job prune';
SELECT reputation.run_due_jobs();
SELECT * FROM reputation_schedule('prune');
SELECT reputation_unschedule('prune');
SELECT count(*) FROM reputation_schedule() WHERE job_name = 'prune' AND started_by = 'worker';
SELECT status, hint FROM reputation_status() WHERE check_name = 'job prune';
SELECT reputation.run_job('prune', 'manual'), reputation.batch_step();
SELECT status, hint FROM reputation_status() WHERE check_name = 'job prune';

-- Arguments.
SELECT reputation_schedule('hourly', '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule(every => '1 hour');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('nightly', '1 hour', '03:00');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('nightly', time_zone => 'Europe/Berlin');
\echo SQLSTATE :SQLSTATE
SELECT reputation_schedule('nightly', at => '03:00', time_zone => 'Europe/Atlantis');
\echo SQLSTATE :SQLSTATE
CALL reputation_run('hourly');
\echo SQLSTATE :SQLSTATE
CALL reputation_run(NULL);
\echo SQLSTATE :SQLSTATE
CALL reputation_run('nightly', NULL);
\echo SQLSTATE :SQLSTATE
CALL reputation_run('nightly', 'me');
\echo SQLSTATE :SQLSTATE
SELECT reputation_unschedule('hourly');
\echo SQLSTATE :SQLSTATE
SELECT DISTINCT schedule FROM reputation_schedule() WHERE job_name = 'nightly';

-- Summer time: days of 23 and of 25 hours have one run each, at a time that they have not, or twice, too.
DELETE FROM reputation.schedule;
SET reputation.clock = '2026-03-27 12:00:00+00';
SELECT job_name, schedule, next_run_at FROM reputation_schedule('nightly', at => '02:30', time_zone => 'Europe/Berlin');
CREATE TABLE runs (at timestamptz);
CREATE PROCEDURE look(first timestamptz, last timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz;
BEGIN
	TRUNCATE runs;
	FOR t IN SELECT generate_series(first, last, interval '10 min') LOOP
		PERFORM set_config('reputation.clock', t::text, false);
		IF reputation.run_due_jobs() > 0 THEN
			INSERT INTO runs VALUES (t);
		END IF;
	END LOOP;
END
$$;
SET client_min_messages = warning;
SELECT reputation_unschedule('prune');
CALL look('2026-03-27 12:00+00', '2026-03-31 12:00+00');
SELECT at, at AT TIME ZONE 'Europe/Berlin' AS there FROM runs ORDER BY at;
CALL look('2026-10-23 12:00+00', '2026-10-27 12:00+00');
SELECT at, at AT TIME ZONE 'Europe/Berlin' AS there FROM runs ORDER BY at OFFSET 1;
SELECT reputation.next_run('00:00', 'Europe/Berlin', NULL, '2026-10-24 22:00+00'), reputation.next_run('24:00', 'Europe/Berlin', NULL, '2026-10-24 22:00+00'),
	reputation.next_run(NULL, NULL, '1 day', '2026-10-24 22:00+00');
SET timezone = 'Europe/Berlin';
SELECT reputation.next_run(NULL, NULL, '1 day', '2026-10-24 22:00+00') AT TIME ZONE 'UTC' AS a_day_later;
SET timezone = 'UTC';
-- What pg_cron can do exactly, in its time zone.
SELECT v.*, reputation.cron_keeps(at_time::time, zone, cron_zone, '2026-01-01') FROM (VALUES
	('03:00', 'UTC', 'UTC'), ('03:00', 'UTC', 'GMT'), ('03:00', 'Europe/Berlin', 'UTC'), ('04:00', 'Europe/Berlin', 'Europe/Berlin'), ('04:00', 'Europe/Berlin', 'Europe/Paris'),
	('02:30', 'Europe/Berlin', 'Europe/Berlin'), ('04:00', 'Europe/Berlin', 'Africa/Lagos'), (NULL, NULL, 'UTC'), (NULL, NULL, 'Asia/Kolkata'), (NULL, NULL, 'Europe/Berlin')) v (at_time, zone, cron_zone);

DROP TABLE runs;
DROP PROCEDURE look(timestamptz, timestamptz);
CALL test.clean('jobs');
UPDATE reputation.batch_job SET next_run_at = now();

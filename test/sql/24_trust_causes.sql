-- Why a trust score was computed, when several things asked for it; and what is told of those whose time has come.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_trust_tables('causes');
INSERT INTO users (id, name, photo) SELECT i, 'user ' || i, 'p' FROM generate_series(1, 5) i;
INSERT INTO activity SELECT i, '2025-12-31' FROM generate_series(1, 5) i;
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
SELECT reputation_process();
CREATE VIEW test.causes AS
SELECT cause, old_score, new_score, algorithm_version AS version, count(*) FROM reputation.trust_score_audit
GROUP BY 1, 2, 3, 4 ORDER BY min(id);

-- Another version while a run is on that something else started: that is why all of them have it.
TRUNCATE activity;
SELECT reputation_process(max_users => 0);
INSERT INTO reputation.algorithm VALUES ('trust', 2, '{"name": 50}');
SELECT algorithm_activate('trust', 2) = (SELECT id FROM reputation.job_runs WHERE status = 'running') AS same_run;
SELECT reputation_process() > 0 AS computed;
SELECT job_name, status, trigger, algorithm_version FROM reputation.job_runs ORDER BY id;
SELECT * FROM test.causes;
-- And a TRUNCATE while that run is on: who has the version already, and another score, has it for that.
INSERT INTO activity SELECT i, '2025-12-31' FROM generate_series(1, 5) i;
SELECT reputation_process() > 0 AS computed;
INSERT INTO reputation.algorithm VALUES ('trust', 3, '{"name": 20}');
SELECT algorithm_activate('trust', 3) IS NOT NULL AS started;
SELECT reputation_process(max_users => 2);
TRUNCATE activity;
SELECT reputation_process() > 0 AS computed;
SELECT trigger, algorithm_version FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT cause, version, sum(count) FROM test.causes WHERE version = 3 GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM reputation_verify();
DROP VIEW test.causes;

-- Whose time has come and who had an event share a batch, whoever is more.
SET reputation.batch_size = 8;
UPDATE users SET created_at = '2025-12-31' WHERE id <= 3;
INSERT INTO users (id, name) SELECT i, 'user ' || i FROM generate_series(11, 50) i;
SELECT reputation_process() > 0 AS computed;
SET reputation.clock = '2026-01-07 00:00:00+00';
UPDATE users SET photo = 'q' WHERE id > 10;
SELECT reputation_process(max_users => 8);
SELECT cause, count(*) FROM reputation.trust_score_audit WHERE computed_at = '2026-01-07' GROUP BY 1 ORDER BY 1;
SELECT reputation_process(max_users => 8);
SELECT cause, count(*) FROM reputation.trust_score_audit WHERE computed_at = '2026-01-07' GROUP BY 1 ORDER BY 1;
UPDATE users SET created_at = '2026-01-06' WHERE id > 10;
SELECT reputation_process() > 0 AS computed;
SET reputation.clock = '2026-01-14 00:00:00+00';
UPDATE users SET photo = 'r' WHERE id <= 5;
SELECT reputation_process(max_users => 8);
SELECT cause, count(*) FROM reputation.trust_score_audit WHERE computed_at = '2026-01-14' GROUP BY 1 ORDER BY 1;
-- They are queued a portion at a time, whatever becomes of it.
INSERT INTO users (id, name) SELECT i, 'user ' || i FROM generate_series(51, 80) i;
SELECT reputation_process(max_users => 8), reputation_process(max_users => 8);
SELECT priority, count(*) FROM test.jobs GROUP BY 1 ORDER BY 1;
SELECT reputation_process() > 0 AS computed;
SELECT cause, count(*) FROM reputation.trust_score_audit WHERE computed_at = '2026-01-14' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM test.jobs;
SELECT count(*) FROM reputation_verify();
RESET reputation.batch_size;

-- Whose time has come is told of before anybody queues them; dead letters are told of elsewhere.
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name = 'time trust';
UPDATE users SET created_at = '2026-01-13' WHERE id <= 5;
SELECT reputation_process();
SET reputation.clock = '2026-01-20 00:01:01+00';
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name IN ('time trust', 'drift trust', 'queue') AND detail NOT LIKE '%inbox%' ORDER BY 1;
SET reputation.clock = '2026-01-20 00:11:00+00';
SELECT check_name, status, hint FROM reputation_status() WHERE check_name IN ('time trust', 'queue') ORDER BY 1;
INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at) VALUES ('trust', 0, '1', 5, 'test', reputation.clock());
SELECT status, detail FROM reputation_status() WHERE check_name = 'time trust';
SELECT reputation_retry(), reputation_process();
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'time trust';
CALL test.clean('causes');

-- An engine without an active algorithm: another one's changes are folded and computed, its own wait.
CALL test.make_tables('causes');
INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO projects VALUES (1, 1, 'draft', 0);
SET client_min_messages = warning;
SELECT builder_score_attach() IS NOT NULL AS attached, trust_score_attach() IS NOT NULL AS attached;
RESET client_min_messages;
SELECT reputation_process() > 0 AS computed;
UPDATE reputation.algorithm SET active = false WHERE engine = 'trust';
UPDATE projects SET status = 'shipped';
UPDATE users SET name = NULL WHERE id = 2;
SELECT reputation_process('builder');
SELECT builder_score(1), trust_score(2);
SELECT check_name, status, detail, hint FROM reputation_status() WHERE check_name IN ('engine trust', 'drift trust') ORDER BY 1;
SELECT * FROM test.raised('SELECT reputation_process()');
SELECT * FROM test.raised('SELECT trust_score_recalc(2)');
SELECT reputation.run_job('nightly', 'manual');
SELECT reputation_process('builder');
SELECT scope, status FROM reputation.job_runs WHERE job_name = 'nightly' ORDER BY scope;
SELECT algorithm_activate('trust', 1) IS NOT NULL AS activated;
SELECT reputation_process() > 0 AS computed;
SELECT builder_score(1), trust_score(2);
SELECT old_score, new_score, cause FROM get_audit_rows(2);
SELECT count(*) FROM reputation_verify();
CALL test.clean('causes');

-- The clock goes forward and back, past an event that leaves and one that comes: only next_due_at moved on the way.
CALL test.make_trust_tables('causes');
SET reputation.clock = '2026-03-01 00:00:00+00';
INSERT INTO users (id, name, photo) VALUES (1, 'Ann', 'a');
INSERT INTO activity VALUES (1, '2026-02-19'), (1, '2026-03-21');
SET client_min_messages = warning;
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
RESET client_min_messages;
SELECT reputation_process();
SET reputation.clock = '2026-03-31 00:00:00+00';
SELECT reputation_process();
SELECT score, computed_at, next_due_at > '2026-03-31' AS later FROM get_trust_score(1);
SET reputation.clock = '2026-03-16 00:00:00+00';
SELECT reputation_process();
SELECT score, computed_at, next_due_at < '2026-03-31' AS sooner FROM get_trust_score(1);
SELECT trigger, status FROM reputation.job_runs WHERE job_name = 'recompute';
SELECT old_score, new_score, cause FROM get_audit_rows(1);
SELECT count(*) FROM reputation_verify();
-- By a few seconds only: nothing is done for that.
SET reputation.clock = '2026-03-15 23:59:40+00';
SELECT reputation_process();
CALL test.clean('causes');

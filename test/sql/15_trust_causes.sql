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
CALL test.clean('causes');

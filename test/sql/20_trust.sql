-- The trust score on data whose scores were worked out by hand.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_trust_tables('trust');

-- 1: everything. 40 + 35 + 25 = 100.
INSERT INTO users VALUES (1, 'Ann', 'a.jpg', repeat('x', 50), '{a,b,c}', '1990-01-01', 'Rome', 'cook', true, true, true, '2025-01-01', '2025-12-31', '2025-01-01');
-- 2: nothing. 0. 3: registered a day ago: new. 4: active five days ago: 25.
INSERT INTO users (id) VALUES (2);
INSERT INTO users (id, created_at) VALUES (3, '2025-12-31');
INSERT INTO users (id, last_active_at) VALUES (4, '2025-12-27');
-- 5: half a bio, 10; one interest and an empty one, 5; spaces are no name. 0.40 * 15 = 6.
INSERT INTO users (id, name, bio, interests) VALUES (5, '  ', repeat('y', 25), '{one,"  "}');
-- 6: photo and name, 35; email and photo verified, 50: 14 + 17.5 = 31.5 -> 32.
INSERT INTO users (id, name, photo, email_verified, photo_verified, phone_verified) VALUES (6, 'Bob', 'b.jpg', true, true, false);
-- 7: like 1, but idle for 22 days: sqrt(0.5) * 100 = 70.7 -> 71. 8: for two years: 50.
INSERT INTO users SELECT 7, name, photo, bio, interests, birthdate, location, job, true, true, true, id_verified, '2025-12-10', created_at FROM users WHERE id = 1;
INSERT INTO users SELECT 8, name, photo, bio, interests, birthdate, location, job, true, true, true, id_verified, '2024-01-01', created_at FROM users WHERE id = 1;
-- 9: infinite times.
INSERT INTO users (id, last_active_at, created_at) VALUES (9, '-infinity', 'infinity');

SELECT trust_score_attach() IS NOT NULL AS attached;
SELECT trust_score(1) AS before_the_first_computation, get_trust_score(1) IS NULL AS no_row;
SELECT reputation_process();
SELECT user_id, score, profile, verification, activity, round(decay::numeric, 4) AS decay, badges, next_due_at FROM reputation.trust_scores ORDER BY user_id;
SELECT id, trust_score(id) FROM users ORDER BY id;
SELECT * FROM reputation_verify();
SELECT user_id, old_score, new_score, badges, cause, algorithm_version, computed_at FROM reputation.trust_score_audit ORDER BY id;
SELECT jsonb_pretty(breakdown) FROM get_trust_score(7);
-- Columns of the users table: none was added.
SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0;

-- Explain: every input, what changes next, what would help most.
SELECT jsonb_pretty(trust_score_explain(6) - 'terms');
SELECT e -> 'score' AS score, e -> 'badges' AS badges, e -> 'next_change' AS next FROM users, trust_score_explain(id) e ORDER BY id;

-- An event: one audit row each, whether the score changes or not. What the engine does not look at is none.
UPDATE users SET job = 'pilot' WHERE id = 6;
SELECT reputation_process();
UPDATE users SET job = 'cook' WHERE id = 6;
SELECT reputation_process();
UPDATE users SET note = 'x' WHERE id = 6;
SELECT reputation_process();
SELECT old_score, new_score, breakdown #> '{profile,job}' AS job, cause FROM get_audit_rows(6);
-- By hand: one, too. Everybody by hand, and at night: only what changed.
SELECT trust_score_recalc(6), trust_score_recalc_all();
SELECT reputation_process() > 0 AS rechecked;
CALL reputation_run('nightly');
SELECT cause, count(*) FROM reputation.trust_score_audit GROUP BY 1 ORDER BY 1;
SET session_replication_role = replica;
UPDATE users SET job = NULL WHERE id = 6;
RESET session_replication_role;
SELECT * FROM reputation_verify();
CALL reputation_run('nightly');
SELECT * FROM reputation_verify();
SELECT old_score, new_score, cause FROM get_audit_rows(6);
-- A user who was just added has no score row yet: by hand it gets one.
INSERT INTO users (id, photo) VALUES (10, 'c.jpg');
SELECT trust_score_recalc(10);
SELECT trust_score(10);
SELECT old_score, new_score, cause FROM get_audit_rows(10);
SELECT reputation_process() > 0 AS computed;
SELECT old_score, new_score, cause FROM get_audit_rows(10);
-- A stored score that somebody changed is mended; the audit says so.
UPDATE reputation.trust_scores SET score = 99, badges = '{trusted}', next_due_at = NULL WHERE user_id = '3';
SELECT * FROM reputation_verify('trust');
SELECT reputation_repair('trust');
SELECT * FROM reputation_verify();
SELECT old_score, new_score, cause FROM get_audit_rows(3);
SELECT reputation_process() > 0 AS rechecked;

-- The audit's last row is the score's row.
CREATE VIEW test.audit_differs AS
SELECT s.user_id, s.score, a.new_score FROM reputation.trust_scores s FULL JOIN
	(SELECT DISTINCT ON (user_id) * FROM reputation.trust_score_audit ORDER BY user_id, id DESC) a USING (user_id)
WHERE (s.score, s.breakdown, s.badges, s.algorithm_version, s.computed_at)
	IS DISTINCT FROM (a.new_score, a.breakdown, a.badges, a.algorithm_version, a.computed_at);
SELECT * FROM test.audit_differs;

-- Another algorithm: what it would change, then for good.
SELECT * FROM algorithm_preview('trust', '{"photo": 0}') ORDER BY user_id;
SELECT * FROM algorithm_preview('trust', '{}');
SELECT * FROM reputation_verify();
SELECT algorithm_activate('trust', 2);
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('trust', 2, '{"photo": 0}');
SELECT algorithm_activate('trust', 2) > 0 AS run;
SELECT reputation_process();
SELECT user_id, old_score, new_score, algorithm_version FROM reputation.trust_score_audit WHERE cause = 'algorithm' ORDER BY user_id;
SELECT job_name, status, trigger, algorithm_version FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT * FROM reputation_verify();
SELECT * FROM test.audit_differs;
SELECT algorithm_activate('trust', 1) > 0 AS run;
SELECT reputation_process();
SELECT * FROM algorithm_preview('trust', '{"photo": "many"}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('trust', '{"decay_min": 2}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('trust', '[]');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('luck', '{}');
\echo SQLSTATE :SQLSTATE
SELECT algorithm_activate('builder', 1);
\echo SQLSTATE :SQLSTATE

-- Gone: with all that was kept. Forgotten: scored anew from what the application keeps.
DELETE FROM users WHERE id = 10;
SELECT reputation_process();
SELECT count(*) FROM reputation.trust_scores WHERE user_id = '10';
SELECT count(*) FROM reputation.trust_score_audit WHERE user_id = '10';
SELECT reputation_forget(5) > 0 AS forgotten, (SELECT count(*) FROM reputation.trust_score_audit WHERE user_id = '5');
SELECT reputation_forget(6, 'anonymize') > 0 AS forgotten;
SELECT count(*) FROM reputation.trust_score_audit WHERE user_id LIKE 'anonymous-%';
SELECT reputation_process();
SELECT old_score, new_score, cause FROM get_audit_rows(5);
SELECT * FROM reputation_verify();
DELETE FROM reputation.trust_score_audit WHERE user_id LIKE 'anonymous-%';

-- Pruned by age, but for the last row of each user.
SET reputation.clock = '2027-06-01 00:00:00+00';
SELECT reputation_process() > 0 AS computed;
SET reputation.audit_retention = 0;
CALL reputation_run('prune');
SELECT count(*) FILTER (WHERE computed_at < '2027-01-01') > 20 AS all_kept FROM reputation.trust_score_audit;
SET reputation.audit_retention = 30;
-- A portion at a time.
SET reputation.batch_size = 5;
SELECT count(*) AS before FROM reputation.trust_score_audit \gset
SELECT reputation.run_job('prune', 'manual');
SELECT reputation.batch_step() AS stepped;
SELECT status, done, changed BETWEEN 1 AND 5 AS removed, cursor::bigint > 0 AS goes_on FROM reputation.job_runs WHERE job_name = 'prune' ORDER BY id DESC LIMIT 1;
SELECT :before - count(*) BETWEEN 1 AND 5 AS removed FROM reputation.trust_score_audit;
SELECT * FROM test.audit_differs;
CALL reputation_run('prune');
SELECT count(*) FILTER (WHERE computed_at < '2027-05-01') AS old, count(DISTINCT user_id) AS users FROM reputation.trust_score_audit;
SELECT * FROM test.audit_differs;
-- A pass that finds nothing is short.
CALL reputation_run('prune');
SELECT status, again, done, changed, error FROM reputation.job_runs WHERE job_name = 'prune' ORDER BY id DESC LIMIT 1;
SELECT reputation.prune_step(-1);
\echo SQLSTATE :SQLSTATE
RESET reputation.audit_retention;
RESET reputation.batch_size;

-- Unknown users and malformed ids.
SELECT trust_score(4711);
\echo SQLSTATE :SQLSTATE
SELECT get_trust_score(4711);
\echo SQLSTATE :SQLSTATE
SELECT * FROM get_audit_rows('seven');
\echo SQLSTATE :SQLSTATE
SELECT trust_score_explain(4711);
\echo SQLSTATE :SQLSTATE
DROP VIEW test.audit_differs;
CALL test.clean('trust');
SELECT trust_score(1);
\echo SQLSTATE :SQLSTATE

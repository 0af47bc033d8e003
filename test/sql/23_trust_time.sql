-- Trust changes with time alone: the clock is moved, and only who is due is computed.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_trust_tables('time');
-- 1 loses new, active, trusted, and 50 points on the way. 2 never changes. 3 comes back in summer.
INSERT INTO users VALUES (1, 'Ann', 'a.jpg', repeat('x', 50), '{a,b,c}', '1990-01-01', 'Rome', 'cook', true, true, true, '2025-01-01', '2026-01-01', '2025-12-30');
INSERT INTO users (id, name) VALUES (2, 'Bob');
INSERT INTO users (id, photo, last_active_at) VALUES (3, 'c.jpg', '2026-01-01');
INSERT INTO users (id) SELECT generate_series(10, 1000);
SELECT trust_score_attach(NULL) IS NOT NULL AS attached;
\echo SQLSTATE :SQLSTATE
SELECT trust_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT user_id, score, badges, next_due_at FROM reputation.trust_scores WHERE next_due_at IS NOT NULL ORDER BY user_id;

-- Not a moment too early, at the right one, and only that user.
SET reputation.clock = '2026-01-05 23:59:59.999999+00';
SELECT reputation_process();
SET reputation.clock = '2026-01-06 00:00:00+00';
SELECT * FROM reputation_verify();
SELECT reputation_process();
SELECT old_score, new_score, badges, cause, computed_at FROM get_audit_rows(1);
SET reputation.clock = '2026-01-08 00:00:00+00';
SELECT reputation_process();
SET reputation.clock = '2026-01-08 00:00:00.000001+00';
SELECT reputation_process();
SELECT badges, next_due_at FROM reputation.trust_scores WHERE user_id IN ('1', '3') ORDER BY user_id;

-- A year, from one due moment to the next: each step is there when it is due, and nothing drifts.
CREATE PROCEDURE test.walk(until timestamptz, OUT steps int, OUT computed bigint, OUT drifted bigint)
LANGUAGE plpgsql AS $$
DECLARE
	due timestamptz;
BEGIN
	steps := 0;
	computed := 0;
	drifted := 0;
	LOOP
		SELECT min(next_due_at) INTO due FROM reputation.trust_scores;
		EXIT WHEN due IS NULL OR due > until;
		-- The moment before: everything is as it was.
		PERFORM set_config('reputation.clock', (due - interval '1 us')::text, false);
		drifted := drifted + (SELECT count(*) FROM reputation_verify());
		PERFORM set_config('reputation.clock', due::text, false);
		computed := computed + reputation_process();
		drifted := drifted + (SELECT count(*) FROM reputation_verify());
		steps := steps + 1;
	END LOOP;
	PERFORM set_config('reputation.clock', until::text, false);
END
$$;
CALL test.walk('2026-07-01', NULL, NULL, NULL);
UPDATE users SET last_active_at = '2026-07-01' WHERE id = 3;
SELECT reputation_process();
CALL test.walk('2027-01-01', NULL, NULL, NULL);
-- 100 down to 50 in steps of one; each badge gone once.
SELECT count(*), min(new_score), max(new_score), bool_and(old_score - new_score = 1 OR old_score = new_score AND computed_at < '2026-01-09') AS ones
FROM get_audit_rows(1) WHERE cause = 'time';
SELECT s.user_id, s.reached_at FROM reputation.trust_scores s
WHERE s.reached_at <> (SELECT max(a.computed_at) FROM reputation.trust_score_audit a WHERE a.user_id = s.user_id AND a.old_score IS DISTINCT FROM a.new_score);
SELECT computed_at::date, new_score, badges FROM get_audit_rows(1) WHERE new_score IN (100, 80, 79, 50);
SELECT cause, old_score, new_score, badges, computed_at::date FROM get_audit_rows(3) WHERE old_score > new_score IS NOT TRUE;
SELECT score, next_due_at FROM reputation.trust_scores WHERE user_id IN ('1', '2', '3') ORDER BY user_id;
-- A far jump: one computation each.
UPDATE users SET last_active_at = '2027-01-01' WHERE id IN (1, 3);
SELECT reputation_process();
SET reputation.clock = '2030-01-01 00:00:00+00';
SELECT reputation_process();
SELECT old_score, new_score, cause FROM get_audit_rows(1) ORDER BY id DESC LIMIT 2;
SELECT * FROM reputation_verify();

-- Activity: events fall out of the 30 days one by one, and come in at their time.
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
INSERT INTO activity SELECT 2, timestamptz '2030-01-01 00:00:00+00' - i * interval '1 day' FROM generate_series(0, 9) i;
INSERT INTO activity VALUES (2, '2030-01-05 12:00:00+00'), (2, '2010-01-01');
SELECT reputation_process();
SELECT score, round(activity::numeric, 2) AS activity, breakdown #> '{activity,events}' AS events, badges, next_due_at FROM get_trust_score(2);
SELECT e -> 'next_change' AS next, e -> 'raise' -> 0 AS best FROM trust_score_explain(2) e;
CALL test.walk('2030-01-05 12:00:00', NULL, NULL, NULL);
SELECT score, round(activity::numeric, 2) AS activity, breakdown #> '{activity,events}' AS events, badges, next_due_at FROM get_trust_score(2);
CALL test.walk('2031-01-01', NULL, NULL, NULL);
SELECT old_score, new_score, breakdown #> '{activity,events}' AS events, cause, computed_at FROM get_audit_rows(2) WHERE computed_at >= '2030-01-01' AND (breakdown #>> '{activity,events}')::int > 0;
SELECT score, badges, next_due_at FROM get_trust_score(2);
-- An event that is deleted, moved to another user, backdated.
SET reputation.clock = '2030-01-03 00:00:00+00';
INSERT INTO activity VALUES (11, '2030-01-02'), (11, '2030-01-01');
SELECT reputation_process() > 0 AS computed;
UPDATE activity SET user_id = 12 WHERE user_id = 11 AND created_at = '2030-01-02';
DELETE FROM activity WHERE user_id = 11;
UPDATE activity SET created_at = '2020-01-01' WHERE user_id = 2 AND created_at = '2030-01-01';
SELECT users, pending, drift FROM test.concerned();
-- Days are 24 hours, whatever the session's time zone does.
SET timezone = 'Europe/Berlin';
SET reputation.clock = '2030-03-20 00:00:00+00';
INSERT INTO activity VALUES (13, '2030-03-19 12:00:00+00');
SELECT reputation_process() > 0 AS computed;
SET timezone = 'UTC';
SELECT next_due_at FROM get_trust_score(13);
SELECT * FROM reputation_verify();

-- Who cannot be computed is not tried for ever.
CREATE FUNCTION time.refuse(id int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF id = 2014 THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN true;
END $$;
INSERT INTO users (id, created_at) VALUES (2014, '2030-03-20'), (2015, '2030-03-20');
SELECT reputation_process() > 0 AS computed;
DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW reputation.trust_signals AS SELECT * FROM (' || rtrim(pg_get_viewdef('reputation.trust_signals'), ';') || ') s WHERE time.refuse(s.user_id)'; END $$;
SET reputation.max_attempts = 2;
SET reputation.clock = '2030-03-27 00:00:00+00';
SELECT reputation_process();
SELECT * FROM test.jobs;
SET reputation.clock = '2030-03-27 00:01:00+00';
SELECT reputation_process();
SELECT engine, key, attempts, error FROM reputation.dead_letter;
SELECT reputation_process();
SELECT badges FROM reputation.trust_scores WHERE user_id IN ('2014', '2015') ORDER BY user_id;
CREATE OR REPLACE FUNCTION time.refuse(id int) RETURNS boolean LANGUAGE sql RETURN true;
SELECT reputation_retry();
SELECT reputation_process();
SELECT badges FROM reputation.trust_scores WHERE user_id IN ('2014', '2015') ORDER BY user_id;
SELECT * FROM reputation_verify();

-- A user in an open debounce window is due when it is due.
UPDATE reputation.algorithm SET parameters = '{"debounce": "1 day"}' WHERE engine = 'trust';
SET reputation.clock = '2030-04-02 23:00:00+00';
INSERT INTO users (id, created_at) VALUES (2016, '2030-03-27');
SELECT reputation_process();
UPDATE users SET photo = 'x' WHERE id = 2016;
SELECT reputation_process();
SET reputation.clock = '2030-04-03 00:00:00+00';
SELECT reputation_process();
SELECT score, badges FROM get_trust_score(2016);
SELECT * FROM test.jobs;
SELECT * FROM reputation_verify();
DROP PROCEDURE test.walk;
CALL test.clean('time');

-- What is pending: waiting, "pending" of an explanation and the drift sample look
-- at every place where a change can be on its way to a score.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('pending');
INSERT INTO users SELECT i FROM generate_series(1, 2500) i;
INSERT INTO projects SELECT i, i, 'idea', 0 FROM generate_series(1, 2500) i;
CREATE FUNCTION test.pending(uid int) RETURNS TABLE (waits_for text, pending boolean) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM reputation_wait(uid, 'builder', '0');
	RETURN QUERY SELECT NULL, (builder_score_explain(uid) -> 'pending')::boolean;
EXCEPTION WHEN lock_not_available THEN
	GET STACKED DIAGNOSTICS waits_for = PG_EXCEPTION_DETAIL;
	RETURN QUERY SELECT waits_for, (builder_score_explain(uid) -> 'pending')::boolean;
END
$$;

-- The first computation of everybody, which comes to the users in the order of their
-- keys, a thousand at a time.
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT * FROM test.pending(1);
SELECT reputation_process(max_users => 1000);
SELECT id, p.* FROM unnest('{1, 999, 1000, 1001, 2500}'::int[]) id, test.pending(id) p;
SELECT reputation_process(max_users => 500);
SELECT id, p.* FROM unnest('{1500, 1501, 2000, 2001}'::int[]) id, test.pending(id) p;
SELECT reputation_process();
SELECT id, p.* FROM unnest('{1, 2500}'::int[]) id, test.pending(id) p;

-- A nightly run: no change led to it, so nobody waits for it. What it will mend is no drift.
UPDATE reputation.builder_scores SET score = 99 WHERE user_id = '5';
SELECT * FROM reputation.sample('builder');
SELECT reputation.run_job('nightly', 'manual');
SELECT * FROM test.pending(5);
SELECT * FROM reputation.sample('builder');
SELECT status, detail FROM reputation_status() WHERE check_name = 'drift builder';
SELECT reputation_process(max_users => 1000);
SELECT * FROM test.pending(5);
SELECT * FROM test.pending(1001);
SELECT * FROM reputation.sample('builder');
SELECT reputation_process();

-- A TRUNCATE leads to a run, and to another when it comes while that is on.
TRUNCATE project_collaborators;
SELECT * FROM test.pending(1);
SELECT reputation_process(max_users => 0);
SELECT * FROM test.pending(1);
SELECT reputation_process(max_users => 1000);
SELECT id, p.* FROM unnest('{1, 1001}'::int[]) id, test.pending(id) p;
TRUNCATE project_collaborators;
SELECT reputation_process(max_users => 0);
SELECT * FROM test.pending(1);
SELECT reputation_process();
SELECT * FROM test.pending(1);

-- A copy of the database, in which nothing was computed yet.
UPDATE reputation.engine SET home = 'elsewhere';
SELECT * FROM test.pending(1);
SELECT reputation_process();
SELECT * FROM test.pending(1);

-- A lookup that failed may concern anybody.
CREATE FUNCTION odd(project int, owner int) RETURNS int LANGUAGE plpgsql COST 1000000 AS $$
BEGIN
	IF project = 3 THEN
		RAISE 'project % is odd', project;
	END IF;
	RETURN owner;
END
$$;
CREATE OR REPLACE VIEW reputation.builder_project_users AS
SELECT p.id AS key, pending.odd(p.id, p.owner_id) AS user_id FROM pending.projects p;
UPDATE projects SET status = 'shipped' WHERE id IN (3, 4);
SELECT reputation_process();
SELECT kind, key, attempt, error FROM test.jobs;
SELECT builder_score(3), builder_score(4);
SELECT regexp_replace(waits_for, 'due at [^;]*', 'due at some time') AS waits_for, pending FROM test.pending(3);
SELECT * FROM reputation.sample('builder');
SELECT builder_score_attach() IS NOT NULL AS attached;
SET reputation.clock = '2026-01-01 01:00:00+00';
SELECT reputation_process() >= 2500 AS computed;
SELECT builder_score(3), builder_score(4);
SELECT * FROM test.pending(3);
SELECT * FROM reputation.sample('builder');

-- What the transaction itself changed is seen by a computation, and not in the inbox
-- before it commits. Nobody waits for it: it is not committed.
BEGIN;
UPDATE projects SET status = 'shipped';
SELECT e -> 'score' AS score, e -> 'cached' AS cached, e -> 'pending' AS pending, e -> 'due_at' AS due_at
FROM builder_score_explain(1) e;
SELECT * FROM test.pending(1);
SELECT * FROM reputation.sample('builder');
SELECT status, detail FROM reputation_status() WHERE check_name = 'drift builder';
ROLLBACK;
SELECT * FROM test.pending(1);
DROP FUNCTION test.pending(int);
CALL test.clean('pending');

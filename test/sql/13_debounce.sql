-- At most one computation per user and window: the first event at once, those
-- inside the window together when it closes. reputation_process() returns how
-- many users it computed.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SHOW reputation.debounce;
SET reputation.clock = '2026-01-01 00:00:00+00';
CALL test.make_tables('debounce');
INSERT INTO users SELECT i FROM generate_series(1, 3) i;
INSERT INTO projects VALUES (1, 1, 'idea', 0), (2, 2, 'idea', 0);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
-- A batch run is no event and opens no window.
SELECT count(*) FROM reputation.recent_run;

-- The first event at once.
UPDATE projects SET status = 'shipped' WHERE id = 1;
SELECT reputation_process(max_users => 0);
SELECT key, due_in FROM test.jobs;
SELECT reputation_process();
SELECT builder_score(1);
SELECT key, closes_at - reputation.clock() AS open_for FROM reputation.recent_run;

-- Three inside the window: one job, due when it closes.
SET reputation.clock = '2026-01-01 00:01:00+00';
UPDATE projects SET impact = 9 WHERE id = 1;
SELECT reputation_process();
UPDATE projects SET impact = 99 WHERE id = 1;
SELECT reputation_process();
SET reputation.clock = '2026-01-01 00:02:00+00';
UPDATE projects SET impact = 999 WHERE id = 1;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
SELECT builder_score(1);
SELECT e -> 'pending' AS pending, e -> 'due_at' AS due_at, e -> 'score' AS score, e -> 'cached' AS cached FROM builder_score_explain(1) e;
-- Somebody else's event does not wait for it.
UPDATE projects SET status = 'shipped' WHERE id = 2;
SELECT reputation_process();
SELECT id, builder_score FROM users ORDER BY id;
SET reputation.clock = '2026-01-01 00:04:59.999+00';
SELECT reputation_process();
SET reputation.clock = '2026-01-01 00:05:00+00';
SELECT reputation_process();
SELECT reputation_process();
SELECT builder_score(1);

-- The run at the close opens the next window.
SET reputation.clock = '2026-01-01 00:06:00+00';
UPDATE projects SET impact = 0 WHERE id = 1;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
SET reputation.clock = '2026-01-01 00:10:00+00';
SELECT reputation_process();
SELECT builder_score(1);
-- A quiet window: the next event at once.
SET reputation.clock = '2026-01-01 00:20:00+00';
UPDATE projects SET impact = 9 WHERE id = 1;
SELECT reputation_process();
SELECT builder_score(1);

-- A recalculation that was asked for does not wait, nor does the recheck that
-- follows it, nor a batch run; they take the waiting job with them.
SET reputation.clock = '2026-01-01 00:21:00+00';
UPDATE projects SET impact = 0 WHERE id = 1;
SELECT builder_score_recalc(1);
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
UPDATE projects SET impact = 99 WHERE id = 1;
SELECT reputation.sweep_start('builder', 'nightly', 'manual') IS NOT NULL AS started;
SELECT reputation_process();
SELECT builder_score(1);
SELECT count(*) FROM test.jobs;
-- A deleted user is forgotten at once, window or not.
DELETE FROM users WHERE id = 1;
SELECT reputation_process();
SELECT (SELECT count(*) FROM reputation.builder_scores WHERE user_id = '1') AS scores,
	(SELECT count(*) FROM reputation.recent_run WHERE key = '1') AS windows, (SELECT count(*) FROM test.jobs) AS jobs;
SELECT * FROM reputation_verify();

-- A job that is due because its enqueue could not see the window, as beside another
-- worker's unit (t/debounce_workers): it waits now, unless the user is due for
-- something else.
SET reputation.clock = '2026-01-10 00:00:00+00';
UPDATE projects SET impact = 1 WHERE id = 2;
SELECT reputation_process();
CREATE PROCEDURE test.add_job(key text, blind boolean, due_in interval DEFAULT '0', attempt int DEFAULT 0, priority int DEFAULT 2)
LANGUAGE sql AS $$
	INSERT INTO reputation.job (engine, key, lane, priority, due_at, attempt, blind)
	VALUES (1, key, reputation.lane(key), priority, reputation.clock() + due_in, attempt, blind)
$$;
CREATE VIEW test.windows AS
SELECT key, max(closes_at) - reputation.clock() AS open_for FROM reputation.recent_run
WHERE closes_at > reputation.clock() GROUP BY key;
TABLE test.windows;
SET reputation.clock = '2026-01-10 00:01:00+00';
CALL test.add_job('2', true);
CALL test.add_job('2', true);
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
CALL test.add_job('2', true);
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
-- Others go on, though they come behind it; 3 has no window.
CALL test.add_job('2', true, '-1 s');
CALL test.add_job('3', true);
SELECT reputation_process(max_users => 1);
TABLE test.windows ORDER BY key;
SELECT key, due_in FROM test.jobs;
-- A row that is due in its own right, a failed computation, a batch run, a deletion.
CALL test.add_job('2', true);
CALL test.add_job('2', false);
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
CALL test.add_job('2', true);
CALL test.add_job('2', false, '1 s', attempt => 1);
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
CALL test.add_job('2', true);
CALL test.add_job('2', false, '1 s', priority => 1);
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
CALL test.add_job('2', true);
SELECT reputation.sweep_start('builder', 'nightly', 'manual') IS NOT NULL AS started;
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
-- A shorter window counts for one that is open already; without one there is nothing to wait for.
CALL test.add_job('2', true);
SET reputation.debounce = '2s';
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
CALL test.add_job('2', true);
SET reputation.debounce = 0;
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
RESET reputation.debounce;
DROP VIEW test.windows;
DROP PROCEDURE test.add_job(text, boolean, interval, int, int);

-- Another window by the setting; 0 is none.
SET reputation.clock = '2026-02-01 00:00:00+00';
SET reputation.debounce = '10s';
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
-- A shorter one counts for a window that is open already.
SET reputation.debounce = '2s';
UPDATE projects SET impact = 99 WHERE id = 2;
SELECT reputation_process();
SELECT min(due_in) AS due_in FROM test.jobs;
SET reputation.debounce = 0;
UPDATE projects SET impact = 999 WHERE id = 2;
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
SELECT builder_score(2);

-- The engine's own parameter takes precedence over the setting, unless it is null.
SET reputation.clock = '2026-03-01 00:00:00+00';
UPDATE reputation.algorithm SET parameters = parameters || '{"debounce": "1 min"}';
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
SET reputation.clock = '2026-03-01 00:01:00+00';
SELECT reputation_process();
RESET reputation.debounce;
UPDATE reputation.algorithm SET parameters = parameters || '{"debounce": "0"}';
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
UPDATE reputation.algorithm SET parameters = parameters || '{"debounce": null}';
SET reputation.clock = '2026-03-02 00:00:00+00';
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;

-- The clock jumps years ahead: what waited is due, and opens a window then.
SET reputation.clock = '2030-01-01 00:00:00+00';
SELECT reputation_process();
UPDATE projects SET impact = 9 WHERE id = 2;
SELECT reputation_process();
UPDATE projects SET impact = 0 WHERE id = 2;
SELECT reputation_process();
SELECT key, due_in FROM test.jobs;
-- And back: a due time that no window can have made is due.
SET reputation.clock = '2026-04-01 00:00:00+00';
SELECT reputation_process();
SELECT count(*) FROM test.jobs;
-- An event waits for one window at most, not for the one that closes in 2030.
UPDATE projects SET impact = 99 WHERE id = 2;
SELECT reputation_process();
SELECT count(*) = 0 OR bool_and(due_in <= '5 min') AS soon FROM test.jobs;
SET reputation.clock = '2026-04-01 00:05:00+00';
SELECT reputation_process() <= 1 AS done;
SELECT builder_score(2);
SELECT * FROM reputation_verify();
CALL test.clean('debounce');

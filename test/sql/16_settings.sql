-- The settings: what they are, what they refuse, what they do.
\set SHOW_CONTEXT never
SELECT name, boot_val, unit, vartype, context, min_val, max_val, enumvals FROM pg_settings WHERE name LIKE 'reputation.%' ORDER BY name;
SELECT name FROM pg_settings WHERE name LIKE 'reputation.%' AND coalesce(short_desc, '') = '';
SHOW reputation.debounce;
SET reputation.debounce = '90 s';
SHOW reputation.debounce;
SET reputation.debounce = -1;
\echo SQLSTATE :SQLSTATE
SET reputation.debounce = '2 days';
SET reputation.debounce = 'soon';
SHOW reputation.debounce;
SET reputation.batch_size = 0;
SET reputation.batch_size = 1000001;
SET reputation.max_attempts = 0;
SET reputation.job_run_retention = -1;
SET reputation.notify = 'sometimes';
\echo SQLSTATE :SQLSTATE
SET reputation.workers = 2;
\echo SQLSTATE :SQLSTATE
SET reputation.drain_interval = 0;
\echo SQLSTATE :SQLSTATE
SET reputation.no_such_setting = 1;
\echo SQLSTATE :SQLSTATE
\set VERBOSITY sqlstate
SET reputation.clock = 'half past seven';
\set VERBOSITY default
SHOW reputation.clock;
-- The clock of the tests stands still; without it, time goes by.
SET reputation.clock = '2026-01-01 00:00:00+00';
SELECT reputation.clock() = '2026-01-01 00:00:00+00' AND reputation.clock() = reputation.clock() AS set;
SET reputation.clock = '';
SELECT reputation.clock() BETWEEN statement_timestamp() AND clock_timestamp() AS system;
SET reputation.clock = '2026-01-01 00:00:00+00';

CALL test.make_tables('settings');
INSERT INTO users SELECT i FROM generate_series(1, 7) i;
-- Any batch size gives the same.
SET reputation.debounce = 0;
SET reputation.batch_size = 1;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
INSERT INTO projects SELECT i, i, 'shipped', 0 FROM generate_series(1, 7) i;
SELECT reputation_process(NULL, 3);
SELECT reputation_process('builder', 3);
SELECT reputation_process();
SELECT reputation_process();
SELECT count(*) FROM users WHERE builder_score = 10;
RESET reputation.batch_size;
-- The number of attempts.
SET reputation.max_attempts = 2;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION refuse();
UPDATE projects SET status = 'idea';
SELECT reputation_process();
SELECT count(*) FROM reputation.dead_letter;
SET reputation.clock = '2026-01-01 00:01:00+00';
SELECT reputation_process();
SELECT key, attempts, error FROM reputation.dead_letter;
RESET reputation.max_attempts;
DROP TRIGGER refuse ON users;
SELECT reputation_retry();
-- No notification when it is off: psql would print it.
LISTEN reputation_scores;
LISTEN reputation_work;
SET reputation.notify = off;
UPDATE projects SET status = 'shipped';
SELECT reputation_process();
SELECT builder_score_recalc(1);
UNLISTEN *;
-- Writers that notify can prepare transactions nevertheless.
SET reputation.notify = writer;
BEGIN;
UPDATE projects SET status = 'idea';
PREPARE TRANSACTION 'regress';
COMMIT PREPARED 'regress';
SELECT reputation_process();
RESET reputation.notify;
SELECT * FROM reputation_verify();
CALL test.clean('settings');

-- Another schema for the functions, and how to get rid of it all.
\set SHOW_CONTEXT never
SET reputation.clock = '2026-01-01 00:00:00+00';
SET client_min_messages = warning;
CALL test.make_tables('uninstall');
INSERT INTO users VALUES (1);
INSERT INTO projects VALUES (1, 1, 'shipped', 0);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
-- While it is attached the triggers are in the way.
DROP VIEW test.jobs, test.inbox, test.triggers;
\set VERBOSITY sqlstate
DROP EXTENSION reputation;
\set VERBOSITY default
UPDATE projects SET impact = 9;
SELECT reputation_process();
-- Detached, it goes, and leaves the application's data.
SELECT builder_score_detach();
DROP EXTENSION reputation;
SELECT * FROM users;
UPDATE projects SET status = 'idea';
SELECT count(*) FROM pg_namespace WHERE nspname = 'reputation';
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'reputation%';
-- Back, with its functions in a schema of their own.
CREATE SCHEMA "Elsewhere";
CREATE EXTENSION reputation SCHEMA "Elsewhere";
SELECT "Elsewhere".builder_score_attach(rank_column => 'place') IS NOT NULL AS attached;
SELECT "Elsewhere".reputation_process();
CALL "Elsewhere".reputation_run('nightly');
CALL "Elsewhere".reputation_run('leaderboards');
SELECT * FROM users;
SELECT count(*) FROM "Elsewhere".reputation_schedule();
SELECT "Elsewhere".builder_score(1), "Elsewhere".builder_score_recalc(1);
SELECT * FROM "Elsewhere".reputation_verify();
-- With CASCADE at once.
DROP EXTENSION reputation CASCADE;
UPDATE projects SET status = 'shipped';
SELECT * FROM users;
DROP SCHEMA uninstall, test, "Elsewhere" CASCADE;
DROP ROLE regress_app;

-- Ranks where trees come and go: rollbacks, dropped boards, restores, replicas.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('ranks');
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 300) i;
SELECT points_attach() IS NOT NULL AS attached;
SELECT reputation_process();

-- All that a transaction noted is rolled back; the next one does not go by its memory.
BEGIN;
SAVEPOINT s;
SELECT award_points(1, 5), points_recalc(1);
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT award_points(2, 5), points_recalc(2);
SELECT count(*) FROM pg_class a, pg_class b WHERE a.oid = 0 OR b.relname > a.relname HAVING count(*) < 0;
SELECT calculate_user_rank(2), calculate_user_rank(1);
COMMIT;
SELECT calculate_user_rank(2), calculate_user_rank(1);
SELECT * FROM reputation_verify('points');
CALL test.clean('ranks');

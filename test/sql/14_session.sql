-- Session reputation: completed sessions against no-shows.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00.25+00';
SET reputation.debounce = 0;
SELECT user_reputation(1);
\echo SQLSTATE :SQLSTATE
CALL test.make_session_tables('session');
INSERT INTO users SELECT i, 'user' FROM generate_series(1, 6) i;
INSERT INTO wingman_matches VALUES (1, 1, 2), (2, 3, 1), (3, 4, 4), (4, 5, NULL);
SELECT session_reputation_attach() IS NOT NULL AS attached;
SELECT user_reputation(1);
SELECT reputation_process();
SELECT * FROM reputation.session_scores ORDER BY user_id;
CALL test.clean('session');

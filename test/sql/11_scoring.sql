-- The builder score on data whose scores were worked out by hand.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('scoring');
INSERT INTO users SELECT i FROM generate_series(1, 60) i;

-- 1: nothing at all.
-- 2: two shipped, one not, one without status. 20 points.
INSERT INTO projects VALUES (1, 2, 'shipped'), (2, 2, 'shipped'), (3, 2, 'idea'), (4, 2, NULL);
-- 3, 4: 4 collaborates on two shipped projects of 3 and on one that is not: each has one vouch, a pair counts once.
-- 3: 2*10 + 5 = 25. 4: 2*6 + 5 = 17.
INSERT INTO projects VALUES (5, 3, 'shipped'), (6, 3, 'shipped'), (7, 3, 'idea');
INSERT INTO project_collaborators VALUES (5, 4, 'confirmed'), (6, 4, 'confirmed'), (7, 4, 'confirmed');
-- 5, 6: each owns one and collaborates on the other's. Again one vouch each. 10 + 6 + 5 = 21.
INSERT INTO projects VALUES (8, 5, 'shipped'), (9, 6, 'shipped');
INSERT INTO project_collaborators VALUES (8, 6, 'confirmed'), (9, 5, 'confirmed');
-- 7: confirmed on the own project: nothing but the project. 10.
INSERT INTO projects VALUES (10, 7, 'shipped');
INSERT INTO project_collaborators VALUES (10, 7, 'confirmed');
-- 8, 9: not confirmed counts for neither. 8: 10. 9: 0.
INSERT INTO projects VALUES (11, 8, 'shipped');
INSERT INTO project_collaborators VALUES (11, 9, 'pending'), (11, 9, NULL), (11, 9, 'Confirmed');
-- 10: on an unshipped project: a vouch, but no shipped collaboration. 5. Its owner 11: 5.
INSERT INTO projects VALUES (12, 11, 'building');
INSERT INTO project_collaborators VALUES (12, 10, 'confirmed');
-- 12: the same collaboration twice counts once: 6 + 5 = 11. Its owner 13: 10 + 5 = 15.
INSERT INTO projects VALUES (13, 13, 'shipped');
INSERT INTO project_collaborators VALUES (13, 12, 'confirmed'), (13, 12, 'confirmed');
-- 14: ten vouches, 50. 15: eleven, 51. 16: twelve, 52. Their collaborators 21 to 30: 3 vouches, 15 points;
-- 31: 2 vouches, 10; 32: 1 vouch, 5.
INSERT INTO projects VALUES (14, 14, 'idea'), (15, 15, 'idea'), (16, 16, 'idea');
INSERT INTO project_collaborators SELECT 14, i, 'confirmed' FROM generate_series(21, 30) i;
INSERT INTO project_collaborators SELECT 15, i, 'confirmed' FROM generate_series(21, 31) i;
INSERT INTO project_collaborators SELECT 16, i, 'confirmed' FROM generate_series(21, 32) i;
-- Impact of shipped projects, with 10 for each: 40: 9 -> 10. 41: 2.1 -> 10*log10(3.1) = 4.9 -> 5.
-- 42: 100000 -> 50.00004 -> 50. 43: 1e300 -> 50. 44: null -> 0. 45: 4 and null and 5, and 1000 unshipped -> 10.
-- 46: -5 -> 0. 47: 99 and -90 -> 9 -> 10. 48: infinite -> 50. 49: not a number -> 0. 50: 0.13 -> 0.53 -> 1.
-- 51: 0.12 -> 0.49 -> 0.
INSERT INTO projects VALUES (20, 40, 'shipped', 9), (21, 41, 'shipped', 2.1), (22, 42, 'shipped', 100000),
	(23, 43, 'shipped', 1e300), (24, 44, 'shipped', NULL), (25, 45, 'shipped', 4), (26, 45, 'shipped', NULL),
	(27, 45, 'shipped', 5), (28, 45, 'idea', 1000), (29, 46, 'shipped', -5), (30, 47, 'shipped', 99),
	(31, 47, 'shipped', -90), (32, 48, 'shipped', 'Infinity'), (33, 49, 'shipped', 'NaN'),
	(34, 50, 'shipped', 0.13), (35, 51, 'shipped', 0.12);
-- 55: everything. 2 shipped with impact 49 and 50, 3 shipped collaborations with 56, 57 and 58, and vouches
-- of these three and of 59 on the own project: 20 + 18 + 20 + 10*log10(100) = 78.
INSERT INTO projects VALUES (40, 55, 'shipped', 49), (41, 55, 'shipped', 50), (42, 56, 'shipped', NULL), (43, 57, 'shipped', NULL), (44, 58, 'shipped', NULL);
INSERT INTO project_collaborators VALUES (42, 55, 'confirmed'), (43, 55, 'confirmed'), (44, 55, 'confirmed'), (40, 59, 'confirmed');
-- Nobody owns it: it counts for the collaborator 60, who has no vouch by it. 6.
INSERT INTO projects VALUES (50, NULL, 'shipped', 100);
INSERT INTO project_collaborators VALUES (50, 60, 'confirmed'), (50, NULL, 'confirmed'), (NULL, 60, 'confirmed');

SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
WITH expected (id, score) AS (
	VALUES (1, 0), (2, 20), (3, 25), (4, 17), (5, 21), (6, 21), (7, 10), (8, 10), (9, 0), (10, 5), (11, 5), (12, 11), (13, 15),
		(14, 50), (15, 51), (16, 52), (31, 10), (32, 5), (40, 20), (41, 15), (42, 60), (43, 60), (44, 10), (45, 40),
		(46, 10), (47, 30), (48, 60), (49, 10), (50, 11), (51, 10), (55, 78), (56, 15), (57, 15), (58, 15), (59, 11), (60, 6)
	UNION ALL SELECT i, 15 FROM generate_series(21, 30) i
	UNION ALL SELECT i, 0 FROM unnest('{17, 18, 19, 20, 33, 34, 35, 36, 37, 38, 39, 52, 53, 54}'::int[]) i)
SELECT id, e.score AS expected, u.builder_score AS cached, s.score AS stored, builder_score(id)
FROM users u FULL JOIN expected e USING (id) FULL JOIN reputation.builder_scores s ON s.user_id = id::text
WHERE (u.builder_score = e.score AND s.score = e.score AND builder_score(id) = e.score) IS NOT TRUE ORDER BY id;
SELECT count(*), sum(builder_score) FROM users;
SELECT * FROM reputation_verify();

-- Explain: the signals, each term, the version, the age, what is pending.
SET reputation.clock = '2026-01-01 00:01:30+00';
SELECT jsonb_pretty(builder_score_explain(55));
SELECT builder_score_explain(16) -> 'terms' AS terms, builder_score_explain(48) -> 'signals' AS infinite,
	builder_score_explain(47) -> 'signals' AS negative;
-- An event that is not folded, then folded, then done.
UPDATE projects SET impact = 0 WHERE id = 41;
SELECT e -> 'score' AS score, e -> 'cached' AS cached, e -> 'pending' AS pending, e -> 'due_at' AS due_at, e -> 'age_seconds' AS age
FROM builder_score_explain(55) e;
SELECT reputation_process(max_users => 0);
SELECT e -> 'score' AS score, e -> 'cached' AS cached, e -> 'pending' AS pending, e -> 'due_at' AS due_at, e -> 'age_seconds' AS age
FROM builder_score_explain(55) e;
SELECT reputation_process();
SELECT e -> 'score' AS score, e -> 'cached' AS cached, e -> 'pending' AS pending, e -> 'due_at' AS due_at, e -> 'age_seconds' AS age
FROM builder_score_explain(55) e;
-- 49 is left: 10*log10(50) = 16.99 -> 17: 75.
SELECT builder_score(55);

-- Recalc computes, stores and returns at once.
INSERT INTO projects VALUES (60, 1, 'shipped', 0);
SELECT builder_score(1), builder_score_recalc(1);
SELECT builder_score(1);
SELECT * FROM reputation.builder_scores WHERE user_id = '1';
SELECT reputation_process() > 0 AS computed;
UPDATE projects SET status = 'idea' WHERE id IN (60, 40);
SELECT builder_score_recalc_all();
-- 55: 10 + 18 + 20 + round(10*log10(1)) = 48. 59 has the vouch left: 5.
SELECT id, builder_score FROM users WHERE id IN (1, 55, 59) ORDER BY id;
SELECT builder_score_recalc_all();
SELECT reputation_process() > 0 AS computed;
SELECT * FROM reputation_verify();

-- Unknown users and malformed ids. A null gives a null.
SELECT builder_score(4711);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_recalc(4711);
\echo SQLSTATE :SQLSTATE
SELECT builder_score_explain(4711);
\echo SQLSTATE :SQLSTATE
SELECT builder_score('seven');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_recalc('');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_explain(99999999999);
\echo SQLSTATE :SQLSTATE
SELECT builder_score(55.5);
\echo SQLSTATE :SQLSTATE
SELECT builder_score(NULL) IS NULL AS score, builder_score_recalc(NULL) IS NULL AS recalc, builder_score_explain(NULL) IS NULL AS explain;

-- Any way to write an id.
PREPARE by_id AS SELECT builder_score($1);
EXECUTE by_id(2);
PREPARE by_bigint (bigint) AS SELECT builder_score($1);
EXECUTE by_bigint(2);
SELECT builder_score('2'), builder_score(' 2'), builder_score(2::smallint), builder_score(2::bigint), builder_score('2'::text), builder_score('2'::varchar), builder_score(2::numeric);
SELECT sum(builder_score(id)) AS sum FROM users;

-- Parameters: a new version counts after the next computation, and is on the score rows.
UPDATE reputation.algorithm SET active = false;
INSERT INTO reputation.algorithm VALUES ('builder', 2, '{"own": 1.5, "collab": 2, "vouch": 3, "vouch_full": 2, "vouch_more": 0.25, "impact": 1, "impact_max": 4, "shipped": ["shipped", "building"], "confirmed": ["confirmed", "pending"]}', true);
SELECT count(DISTINCT user_id) FROM reputation_verify();
SELECT builder_score_recalc_all() > 0 AS changed;
-- 2: 2*1.5 = 3. 4: 2*2 + 3 = 7. 8: 1.5 + 3 (9 is pending) = 4.5 -> 5. 9: 2 + 3 = 5. 11: 1.5 + 3 = 4.5 -> 5.
-- 16: 2*3 + 10*0.25 = 8.5 -> 9. 42: 1.5 + min(4, round(log10(100001))) = 5.5 -> 6. 40: 1.5 + 1 = 2.5 -> 3.
SELECT id, builder_score FROM users WHERE id IN (2, 4, 8, 9, 11, 16, 40, 42) ORDER BY id;
SELECT algorithm_version, count(*) FROM reputation.builder_scores GROUP BY 1;
SELECT builder_score_explain(16) -> 'terms' AS terms, builder_score_explain(16) -> 'algorithm_version' AS version;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM reputation_verify();
-- Bad ones are refused when they are written.
UPDATE reputation.algorithm SET parameters = '{"own": "ten"}' WHERE version = 2;
\echo SQLSTATE :SQLSTATE
UPDATE reputation.algorithm SET parameters = '{"vouch": -1}' WHERE version = 2;
\echo SQLSTATE :SQLSTATE
UPDATE reputation.algorithm SET parameters = '{"debounce": 5}' WHERE version = 2;
\echo SQLSTATE :SQLSTATE
UPDATE reputation.algorithm SET parameters = '{"debounce": "soon"}' WHERE version = 2;
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('builder', 3, '[]');
\echo SQLSTATE :SQLSTATE
SELECT builder_score_recalc(2);
CALL test.clean('scoring');

-- The other types of ids. 1 owns a shipped project on which 2 collaborates: 15 and 11.
CREATE PROCEDURE test.other_ids(id_type text, one text, two text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL test.make_tables('ids', id_type);
	EXECUTE format('INSERT INTO users VALUES (%L), (%L)', one, two);
	EXECUTE format('INSERT INTO projects VALUES (1, %L, ''shipped'')', one);
	ALTER TABLE users ADD place int;
	PERFORM builder_score_attach(rank_column => 'place');
	EXECUTE format('INSERT INTO project_collaborators VALUES (1, %L, ''confirmed'')', two);
END
$$;
PREPARE untyped AS SELECT builder_score($1);

CALL test.other_ids('bigint', '9007199254740993', '-3');
SELECT * FROM test.concerned();
SELECT id, builder_score(id), builder_score_explain(id) -> 'user_id' AS json FROM users ORDER BY id;
SELECT builder_score(-3), builder_score('-3'), builder_score_recalc(9007199254740993);
EXECUTE untyped('9007199254740993');
SELECT reputation_process();
CALL test.clean('ids');

CALL test.other_ids('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22');
SELECT * FROM test.concerned();
SELECT id, builder_score(id), builder_score_explain(id) -> 'user_id' AS json FROM users ORDER BY id;
-- Any spelling of a uuid is the same user.
SELECT builder_score('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'), builder_score_recalc('a0eebc999c0b4ef8bb6d6bb9bd380a11');
EXECUTE untyped('b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a22');
SELECT user_id, score FROM reputation.builder_scores ORDER BY user_id;
CALL reputation_run('leaderboards');
SELECT id, place FROM users ORDER BY id;
SELECT builder_score('a0eebc99');
\echo SQLSTATE :SQLSTATE
SELECT builder_score('c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a33');
\echo SQLSTATE :SQLSTATE
SELECT reputation_process();
CALL test.clean('ids');

CALL test.other_ids('text', E'a "quoted" \\ back\ttab', $$o'neil, {1,"x"}$$);
SELECT * FROM test.concerned();
SELECT id, builder_score(id), builder_score_explain(id) -> 'user_id' AS json FROM users ORDER BY id COLLATE "C";
SELECT builder_score_recalc($$o'neil, {1,"x"}$$);
CALL reputation_run('leaderboards');
SELECT id, place FROM users ORDER BY id COLLATE "C";
EXECUTE untyped(E'a "quoted" \\ back\ttab');
SELECT user_id, score FROM reputation.builder_scores ORDER BY user_id COLLATE "C";
-- An id is what it is: spaces, case, the empty string.
INSERT INTO users VALUES (''), ('Ann'), ('ann '), ('NULL');
SELECT * FROM test.concerned();
SELECT builder_score(''), builder_score('Ann'), builder_score('ann '), builder_score('NULL');
SELECT builder_score('ann');
\echo SQLSTATE :SQLSTATE
-- However long it is.
INSERT INTO users VALUES (repeat('x', 100000)), (repeat('y', 2000));
INSERT INTO projects VALUES (2, repeat('x', 100000), 'shipped', 0), (3, repeat('y', 2000), 'shipped', 0);
SELECT pending, drift FROM test.concerned();
SELECT length(id), builder_score FROM users WHERE length(id) > 100 ORDER BY 1;
SELECT reputation_process();
CALL test.clean('ids');

-- A collation of the users' own; an orphaned score row.
CALL test.other_ids('text COLLATE "POSIX"', 'b', 'a');
SELECT * FROM test.concerned();
INSERT INTO reputation.builder_scores VALUES ('nobody', 1, now(), 1, now());
SELECT user_id, item FROM reputation_verify();
SELECT reputation_repair(), builder_score_recalc('a'), builder_score_recalc_all();
SELECT reputation_process() > 0 AS done;
SELECT count(*) FROM reputation_verify();
CALL test.clean('ids');
DROP PROCEDURE test.other_ids;

-- Ids that no user can have, for they do not fit the type, are nobody's.
CREATE SCHEMA wide AUTHORIZATION regress_app;
SET search_path = wide, public;
SET ROLE regress_app;
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE projects (id int PRIMARY KEY, owner_id bigint, status text, impact int);
CREATE INDEX ON projects (owner_id);
CREATE TABLE project_collaborators (project_id int, user_id bigint, status text, UNIQUE (project_id, user_id));
CREATE INDEX ON project_collaborators (user_id);
RESET ROLE;
SELECT builder_score_attach() IS NOT NULL AS attached;
INSERT INTO users VALUES (1), (2);
INSERT INTO projects VALUES (1, 1, 'shipped', 0), (2, 5000000000, 'shipped', 0);
INSERT INTO project_collaborators VALUES (1, 2, 'confirmed'), (1, 5000000000, 'confirmed'), (2, -5000000000, 'confirmed');
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users ORDER BY id;
SELECT count(*) FROM reputation.dead_letter;
CALL test.clean('wide');

-- Several engines of a kind: each has a name, tables, parameters and users of its own.
\set SHOW_CONTEXT never
SET reputation.debounce = 0;
CALL test.make_tables('south');
CALL test.make_tables('north');
INSERT INTO north.users SELECT i, 'north ' || i FROM generate_series(1, 5) i;
INSERT INTO south.users SELECT i, 'south ' || i FROM generate_series(1, 3) i;
INSERT INTO north.projects SELECT i, 1, 'shipped', 0 FROM generate_series(1, 3) i;
INSERT INTO south.projects SELECT i, 1, 'live', 0 FROM generate_series(1, 2) i;
INSERT INTO south.project_collaborators VALUES (1, 2, 'confirmed');
SELECT builder_score_attach() IS NOT NULL AS attached;
-- The same again is the same; other tables are not meant, unless one says so.
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators');
SELECT builder_score_attach('north.users', 'south.projects', 'south.project_collaborators');
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => 'builder', replace => NULL);
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => NULL);
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => 'South');
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => 'trust');
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => 'points');
SELECT builder_score_attach('south.users', 'south.projects', 'south.project_collaborators', name => 'south') IS NOT NULL AS attached;
SELECT id, name, class FROM reputation.instance ORDER BY id;
SELECT name, class, users::text, cached_column FROM reputation.engine ORDER BY id;
SELECT reputation_process();
SELECT id, builder_score(id), builder_score(id, engine => 'south') FROM south.users ORDER BY 1;
-- Their parameters are their own.
INSERT INTO reputation.algorithm VALUES ('south', 2, '{"own": 7, "shipped": ["live"]}');
INSERT INTO reputation.algorithm VALUES ('south', 3, '{"no_such": 7}');
SELECT algorithm_activate('south', 2) IS NOT NULL AS started;
SELECT reputation_process('south');
SELECT id, builder_score(id), builder_score(id, 'south'), builder_score_explain(id, 'south') -> 'terms' AS terms FROM south.users ORDER BY 1;
-- A change concerns the engines of its own table.
UPDATE south.projects SET owner_id = 3 WHERE id = 2;
SELECT reputation_process('builder'), reputation_process('south');
SELECT id, builder_score(id), builder_score(id, 'south') FROM south.users ORDER BY 1;
SELECT * FROM north.users ORDER BY id;
SELECT * FROM south.users ORDER BY id;
SELECT user_id, score FROM reputation.south_builder_scores ORDER BY user_id;
-- Which one is meant must be right.
SELECT builder_score(1, 'east');
SELECT builder_score(1, 'trust');
SELECT trust_score(1, 'south');
SELECT builder_score_recalc(1, 'points');
SELECT builder_score_recalc_all(NULL);
SELECT builder_score_recalc_all('south'), builder_score_recalc(2, 'south');
SELECT * FROM reputation_verify();
UPDATE reputation.south_builder_scores SET score = 99 WHERE user_id = '1';
SELECT * FROM reputation_verify();
SELECT reputation_repair('south');
SELECT reputation_process();
SELECT * FROM reputation_verify();

-- Two at the same tables: each has a column of its own.
SELECT builder_score_attach(name => 'strict');
SELECT builder_score_attach(name => 'strict', score_column => 'strict_score', rank_column => 'builder_score');
SELECT builder_score_attach(name => 'strict', score_column => 'strict_score') IS NOT NULL AS attached;
INSERT INTO reputation.algorithm VALUES ('strict', 2, '{"own": 1}');
SELECT algorithm_activate('strict', 2) IS NOT NULL AS started;
SELECT reputation_process();
SELECT id, builder_score, strict_score, builder_score(id, 'strict') FROM users ORDER BY id;
UPDATE projects SET status = 'idea' WHERE id = 3;
SELECT reputation_process();
SELECT id, builder_score, strict_score, builder_score(id, 'strict') FROM users ORDER BY id;
-- What a project's key leads to is found in each engine's own tables.
UPDATE south.projects SET status = 'idea';
UPDATE north.projects SET status = 'idea' WHERE id = 2;
SELECT reputation_process();
SELECT u.id, builder_score(u.id), builder_score(u.id, 'strict'), builder_score(s.id, 'south') FROM users u LEFT JOIN south.users s USING (id) ORDER BY id;
UPDATE south.projects SET status = 'live';
SELECT reputation_process();
SELECT engine, position FROM reputation.capture c WHERE source = (SELECT id FROM reputation.source WHERE relation = 'users'::regclass) ORDER BY 1;

-- Boards over each.
SELECT leaderboard_create('of_south', 'south'), leaderboard_create('of_north', 'builder');
SELECT rank, user_id, score FROM leaderboard('of_south');
SELECT rank, user_id, score FROM leaderboard('of_north');
SELECT calculate_user_rank(3, board => 'of_south'), calculate_user_rank(3, board => 'of_north');
-- A name is an engine's or a board's.
SELECT builder_score_attach(name => 'of_south', score_column => 'other');
SELECT leaderboard_drop('of_south'), leaderboard_drop('of_north');

-- Trust and sessions.
SELECT trust_score_attach('north.users', '{"users": {"photo": "name"}}') IS NOT NULL AS attached;
SELECT trust_score_attach('south.users', '{"users": {"photo": "name", "bio": "name"}}', name => 'south_trust') IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, trust_score(id), trust_score(id, 'south_trust') FROM south.users ORDER BY id;
SELECT user_id, score FROM get_trust_score(1), get_trust_score(1, 'south_trust') AS s (u, sc);
SELECT count(*), min(cause) FROM get_audit_rows(1, 'south_trust');
SELECT upsert_user('{"id": 9, "name": "new"}', engine => 'south_trust');
SELECT reputation_process();
SELECT trust_score(9, 'south_trust');
SELECT trust_score(9);
CALL test.make_session_tables('east');
CALL test.make_session_tables('west');
INSERT INTO east.users VALUES (1), (2);
INSERT INTO west.users VALUES (1), (2);
INSERT INTO east.wingman_matches VALUES (1, 1, 2);
INSERT INTO west.wingman_matches VALUES (1, 1, 2);
SELECT session_reputation_attach() IS NOT NULL AS attached;
SELECT session_reputation_attach('east.wingman_sessions', 'east.wingman_matches', 'east.users', name => 'east') IS NOT NULL AS attached;
INSERT INTO east.wingman_sessions VALUES (1, 1, 'completed', true, true), (2, 1, 'completed', true, true);
INSERT INTO west.wingman_sessions VALUES (1, 1, 'completed', true, true);
SELECT user_reputation(1) -> 'score' AS west, user_reputation(1, 'east') -> 'score' AS east;
INSERT INTO west.wingman_sessions VALUES (2, 1, 'no_show', true, false, 1);
SELECT user_reputation(1) -> 'score' AS west, user_reputation(1, 'east') -> 'score' AS east;
SELECT reputation_process();
SELECT user_reputation(1) -> 'score' AS west, user_reputation(1, 'east') -> 'score' AS east;
SELECT * FROM reputation_verify();

-- What is kept of a user goes from all engines that have the same users.
SELECT reputation_forget(1);
SELECT reputation_forget(1, engine => 'nobody');
SELECT reputation_forget(1, engine => 'south') >= 3 AS forgotten;
SELECT (SELECT count(*) FROM reputation.south_builder_scores WHERE user_id = '1') AS south, (SELECT count(*) FROM reputation.south_trust_trust_scores WHERE user_id = '1') AS south_trust,
	(SELECT count(*) FROM reputation.builder_scores WHERE user_id = '1') AS north;
SELECT reputation_process();
-- An engine goes, and the others stay.
SELECT builder_score_detach('builder');
SELECT builder_score_detach('builder');
SELECT builder_score(1);
SELECT builder_score(2, 'south'), builder_score(2, 'strict');
INSERT INTO north.projects VALUES (9, 2, 'shipped', 0);
SELECT reputation_process();
SELECT builder_score(2, 'strict');
SELECT reputation_drop('strict');
SELECT builder_score_detach('strict'), builder_score_detach('south'), trust_score_detach('south_trust'), session_reputation_detach('east');
SELECT reputation_drop('points');
SELECT reputation_drop('strict'), reputation_drop('south'), reputation_drop('south_trust'), reputation_drop('east');
SELECT reputation_drop('south');
SELECT id, name FROM reputation.instance ORDER BY id;
SELECT relname FROM pg_class WHERE relnamespace = 'reputation'::regnamespace AND relname ~ '^(strict|south|east)' ORDER BY 1;
CALL test.clean('north');
CALL test.clean('south');
CALL test.clean('east');
CALL test.clean('west');

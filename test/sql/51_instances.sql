-- Several ledgers and several sets of badges: each has rows of its own, and what pays, forgets
-- and follows goes by them.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET client_min_messages = warning;
CREATE SCHEMA home AUTHORIZATION regress_app;
CREATE SCHEMA acme;
SET search_path = home, public;
CREATE TABLE home.users (id int PRIMARY KEY, wins int);
ALTER TABLE home.users OWNER TO regress_app;
CREATE TABLE acme.users (id int PRIMARY KEY, wins int);
INSERT INTO home.users SELECT i, i FROM generate_series(1, 3) i;
INSERT INTO acme.users SELECT i, 0 FROM generate_series(1, 4) i;

-- A bonus that a drain pays is what the next one computes.
CREATE PROCEDURE test.drain() LANGUAGE plpgsql AS $$
BEGIN
	WHILE reputation_process() > 0 LOOP
		COMMIT;
	END LOOP;
END
$$;

-- What there is of each engine, and what becomes of it.
SELECT engine, table_name, key, rows, origin, settled, anonymous FROM reputation.outputs() ORDER BY engine_id, table_name COLLATE "C";

SELECT points_attach('home.users') IS NOT NULL AS points, badges_attach('home.users') IS NOT NULL AS badges;
SELECT points_attach('acme.users', name => 'acme') IS NOT NULL AS acme, badges_attach('acme.users', name => 'medals', points => 'acme') IS NOT NULL AS medals;
SELECT engine, table_name FROM reputation.outputs() WHERE engine IN ('acme', 'medals') ORDER BY 1, 2;
SELECT name, class, users::text, pays_into FROM reputation.engine ORDER BY id;
-- They are made like those of the class.
CREATE VIEW test.made AS
SELECT p.pattern, c.relname AS made, x.kind, x.item FROM (VALUES ('point_ledger', 'acme_point_ledger'), ('points_scores', 'acme_points_scores'), ('badge', 'medals_badge'),
	('user_badge', 'medals_user_badge'), ('badges_scores', 'medals_badges_scores')) AS p (pattern, made)
JOIN pg_class c ON c.relnamespace = 'reputation'::regnamespace AND c.relname IN (p.pattern, p.made)
CROSS JOIN LATERAL (SELECT 'column', format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
	UNION ALL SELECT 'constraint', pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid
	UNION ALL SELECT 'index', regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING', '') FROM pg_index i WHERE i.indrelid = c.oid
	UNION ALL SELECT 'trigger', replace(pg_get_triggerdef(t.oid), c.relname, '') FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'ledger_guard'
	UNION ALL SELECT 'grant', format('%s %s', a.grantee::regrole, a.privilege_type) FROM aclexplode(c.relacl) a WHERE a.grantee::regrole::text LIKE 'reputation%'
	UNION ALL SELECT 'grant', format('%s %s %s', a.grantee::regrole, a.privilege_type, n.attname) FROM pg_attribute n, aclexplode(n.attacl) a WHERE n.attrelid = c.oid) AS x (kind, item);
SELECT kind, count(*) FROM test.made WHERE made = pattern GROUP BY 1 ORDER BY 1;
SELECT pattern, kind, item FROM test.made WHERE made = pattern EXCEPT SELECT pattern, kind, item FROM test.made WHERE made <> pattern ORDER BY 1, 2, 3;
SELECT pattern, kind, item FROM test.made WHERE made <> pattern EXCEPT SELECT pattern, kind, item FROM test.made WHERE made = pattern ORDER BY 1, 2, 3;
DROP VIEW test.made;
-- What an engine's role may see is its own engine's.
SELECT o.engine, o.table_name, has_table_privilege('regress_app', 'reputation.' || o.table_name, 'SELECT') AS seen FROM reputation.outputs() o
WHERE o.engine IN (SELECT e.name FROM reputation.engine e) ORDER BY o.engine_id, 2;
-- A name whose tables would be another engine's.
SELECT badges_attach('acme.users', name => 'medals_user', points => 'acme');
\echo SQLSTATE :SQLSTATE

-- Both at once, of the same ids, and neither minds the other.
CREATE VIEW test.both AS
SELECT 'home' AS side, l.user_id, sum(l.points) AS points, count(l.source_key) AS keys,
	(SELECT string_agg(h.slug, ' ' ORDER BY h.slug) FROM reputation.user_badge h WHERE h.user_id = l.user_id) AS badges
FROM reputation.point_ledger l GROUP BY l.user_id
UNION ALL SELECT 'acme', l.user_id, sum(l.points), count(l.source_key),
	(SELECT string_agg(h.slug, ' ' ORDER BY h.slug) FROM reputation.medals_user_badge h WHERE h.user_id = l.user_id)
FROM reputation.acme_point_ledger l GROUP BY l.user_id;
CALL test.drain();
SELECT * FROM test.both ORDER BY 1, 2;
SELECT award_points(1, 5, 'a', 'k'), award_points(1, 7, 'b', 'k', engine => 'acme'), award_points(1, 7, 'b', 'k', 'acme'), award_points(4, 9, engine => 'acme');
SELECT award_points(4, 9);
\echo SQLSTATE :SQLSTATE
SELECT award_points(1, 9, engine => 'medals');
\echo SQLSTATE :SQLSTATE
SELECT award_points(1, 9, engine => 'nobody');
\echo SQLSTATE :SQLSTATE
SELECT award_points(1, 9, engine => NULL);
\echo SQLSTATE :SQLSTATE
SELECT award_points(NULL::int, 9, engine => 'acme');
\echo SQLSTATE :SQLSTATE
UPDATE acme.users SET wins = 1 WHERE id IN (1, 2);
CALL test.drain();
SELECT * FROM test.both ORDER BY 1, 2;
SELECT source_key FROM reputation.acme_point_ledger WHERE source_key LIKE 'badge:%' ORDER BY id;
SELECT total_points(1), total_points(1, 'acme'), revoke_points(1, 'k', engine => 'acme'), revoke_points(1, 'k', engine => 'acme');
SELECT total_points(1), total_points(1, engine => 'acme');
SELECT revoke_points(2, 'k', engine => 'acme');
\echo SQLSTATE :SQLSTATE
SELECT get_user_badges(1) -> 'total_badges' AS home, get_user_badges(1, 'medals') -> 'total_badges' AS acme, get_user_badges(3) -> 'total_badges', get_user_badges(3, engine => 'medals') -> 'badges';
SELECT get_badge_progress(2, 'medals') #> '{progress,earned}' AS acme, get_badge_progress(2, 'medals') #> '{progress,progress_details,1,progress}', get_badge_progress(2) #> '{progress,progress_details,1,progress}' AS home;
SELECT badges_explain(2, 'medals') -> 'held' AS acme, badges_explain(3, 'badges') -> 'held' AS home, points_explain(1, 'acme') -> 'terms' AS points;
UPDATE reputation.acme_point_ledger SET points = 1;
\echo SQLSTATE :SQLSTATE
DELETE FROM reputation.acme_point_ledger;
\echo SQLSTATE :SQLSTATE
CALL test.drain();
SELECT * FROM reputation_verify();

-- Badges of their own: another threshold, one more, one less.
UPDATE reputation.medals_badge SET threshold = 2 WHERE slug = 'five_wins';
DELETE FROM reputation.badge WHERE slug = 'first_win';
INSERT INTO reputation.medals_badge (slug, name, description, icon, metric, threshold, bonus_points, revocable) VALUES ('three', 'Three', 'Three wins', '3', 'wins', 3, 30, true);
UPDATE acme.users SET wins = 3 WHERE id = 3;
SELECT * FROM badge_preview('three', 'medals');
SELECT * FROM badge_preview('three');
\echo SQLSTATE :SQLSTATE
CALL test.drain();
SELECT * FROM test.both ORDER BY 1, 2;
UPDATE acme.users SET wins = 2 WHERE id = 3;
CALL test.drain();
SELECT points, reason, source_key FROM reputation.acme_point_ledger WHERE user_id = '3' ORDER BY id;
SELECT * FROM reputation_verify();
-- What differs is told of the set that it is in.
DELETE FROM reputation.medals_user_badge WHERE user_id = '2';
INSERT INTO reputation.medals_user_badge VALUES ('77', 'three', '2026-01-01', 0);
SELECT engine_name, user_id, item, cached, expected FROM reputation_verify();
SELECT reputation_repair() > 0 AS repaired;
CALL test.drain();
SELECT engine_name, user_id, item, cached, expected FROM reputation_verify();
DELETE FROM reputation.medals_user_badge WHERE user_id = '77';
-- Not outside of a computation.
SELECT reputation.badges_held('1');
\echo SQLSTATE :SQLSTATE
SELECT reputation.badges_due('1', 1, 1, 1, 1, true, true);
\echo SQLSTATE :SQLSTATE

-- Boards over each.
SELECT leaderboard_create('acme_board', 'acme', ties => 'dense'), leaderboard_create('medal_count', 'medals');
CALL test.drain();
SELECT rank, user_id, score FROM leaderboard('points');
SELECT rank, user_id, score FROM leaderboard('acme_board');
SELECT rank, user_id, score FROM leaderboard('medal_count');
SELECT calculate_user_rank(3, board => 'acme_board'), calculate_user_rank(3), calculate_user_rank(4, 'weekly', 'acme_board');
-- And over a ledger itself, by another calendar.
SELECT leaderboard_create('acme_days', 'reputation.acme_point_ledger', users => 'acme.users', zone => 'Europe/Berlin') IS NOT NULL AS made;
CALL test.drain();
SELECT rank, user_id, score FROM leaderboard('acme_days', 'weekly');

-- A user who is deleted, one with another id, one who is forgotten: on one side alone.
SELECT * FROM test.both ORDER BY 1, 2;
DELETE FROM acme.users WHERE id = 1;
UPDATE acme.users SET id = 22 WHERE id = 2;
SELECT * FROM test.both ORDER BY 1, 2;
DELETE FROM home.users WHERE id = 2;
UPDATE home.users SET id = 33 WHERE id = 3;
CALL test.drain();
SELECT * FROM test.both ORDER BY 1, 2;
SELECT * FROM reputation_verify();
SELECT award_points(33, 1, engine => 'acme');
\echo SQLSTATE :SQLSTATE
-- What is forgotten goes from all of them, wherever the id is somebody's.
SELECT award_points(1, 3, 'again', 'again');
INSERT INTO acme.users VALUES (1, 2);
CALL test.drain();
SELECT reputation_forget(1, 'anonymize', 'acme') > 0 AND reputation_forget(1, 'anonymize', 'points') > 0 AS forgotten;
SELECT side, user_id LIKE 'anonymous-%' AS anonymous, points, keys, badges FROM test.both ORDER BY 1, 2, 3;
SELECT count(*) FROM reputation.acme_point_ledger WHERE reason IS NOT NULL AND user_id LIKE 'anonymous-%';
CALL test.drain();
SELECT reputation_forget(22, engine => 'acme') > 0 AS forgotten;
SELECT count(*) FROM reputation.acme_point_ledger WHERE user_id = '22';
SELECT count(*) FROM reputation.medals_user_badge WHERE user_id = '22';
CALL test.drain();
SELECT * FROM reputation_verify();

-- A ledger has one kind of users, and a set another one only if it pays elsewhere.
SELECT badges_attach('home.users', name => 'stray', points => 'acme');
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('home.users', name => 'stray', points => 'medals');
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('home.users', name => 'stray', points => 'nobody');
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('home.users', name => 'stray', points => NULL);
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('acme.users', name => 'medals', points => 'points');
\echo SQLSTATE :SQLSTATE
SELECT points_attach('home.users', name => 'acme', replace => true);
\echo SQLSTATE :SQLSTATE

-- Two ledgers, and two sets that pay into one of them, over the same users.
SELECT points_attach('home.users', name => 'karma') IS NOT NULL AS karma, badges_attach('home.users', name => 'more') IS NOT NULL AS more;
SELECT badges_attach('home.users', name => 'more', points => 'karma');
\echo SQLSTATE :SQLSTATE
UPDATE reputation.more_badge SET bonus_points = 1;
CALL test.drain();
INSERT INTO home.users VALUES (5, 5);
SELECT award_points(5, 1000, 'x', 'x', 'karma');
CALL test.drain();
SELECT points, source_key FROM reputation.point_ledger WHERE user_id = '5' ORDER BY source_key;
SELECT total_points(5), total_points(5, 'karma'), get_user_badges(5) -> 'total_badges' AS badges, get_user_badges(5, 'more') -> 'total_badges' AS more;
-- Without its ledger each set takes its own bonuses along.
SELECT points_detach();
UPDATE home.users SET id = 6 WHERE id = 5;
SELECT user_id, points, source_key FROM reputation.point_ledger WHERE user_id IN ('5', '6') ORDER BY source_key;
SELECT badges_detach('more');
UPDATE home.users SET id = 7 WHERE id = 6;
SELECT user_id, points, source_key FROM reputation.point_ledger WHERE user_id IN ('6', '7') ORDER BY source_key;
SELECT total_points(7, 'karma');
DELETE FROM home.users WHERE id = 7;
SELECT user_id, points, source_key FROM reputation.point_ledger WHERE user_id IN ('6', '7') ORDER BY source_key;
SELECT count(*) FROM reputation.karma_point_ledger;

-- An engine goes with all it has, when nothing goes by it.
SELECT reputation_drop('acme');
\echo SQLSTATE :SQLSTATE
SELECT points_detach('acme');
SELECT reputation_drop('acme');
\echo SQLSTATE :SQLSTATE
SELECT leaderboard_drop('acme_board');
SELECT reputation_drop('acme');
\echo SQLSTATE :SQLSTATE
SELECT badges_detach('medals');
SELECT reputation_drop('acme');
\echo SQLSTATE :SQLSTATE
SELECT leaderboard_drop('acme_days'), leaderboard_drop('medal_count');
DROP VIEW test.both;
DROP PROCEDURE test.drain();
SELECT reputation_drop('acme'), reputation_drop('medals'), reputation_drop('more');
SELECT points_detach('karma'), reputation_drop('karma');
SELECT relname FROM pg_class WHERE relnamespace = 'reputation'::regnamespace AND relname ~ '^(acme|medals|more|karma|stray)' ORDER BY 1;
SELECT name FROM reputation.instance WHERE id > 15;
RESET client_min_messages;
CALL test.clean('acme');
CALL test.clean('home');

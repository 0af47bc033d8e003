-- Badges: what they are for, gaining and losing them with their bonuses, and the two
-- shapes that tell of them.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SET reputation.clock = '2026-01-01 00:00:00+00';
SELECT get_user_badges(1);
SELECT badge_preview('first_win');
CREATE SCHEMA badges AUTHORIZATION regress_app;
SET search_path = badges, public;
SET ROLE regress_app;
CREATE TABLE users (id int PRIMARY KEY, name text);
RESET ROLE;
INSERT INTO users VALUES (1, 'ann');

-- Whatever the application has no columns for is 0.
SELECT badges_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, slug, name, description, icon, metric, threshold, bonus_points, revocable FROM reputation.badge ORDER BY id;
SELECT job_name, every, next_run_at, started_by FROM reputation.schedule;
SELECT get_user_badges(1);
SELECT jsonb_pretty(get_badge_progress(1));
SELECT get_user_badges(2);
SELECT get_user_badges('x');
SELECT get_badge_progress(2);
SELECT get_badge_progress(NULL::int), get_user_badges(NULL::int);
SELECT badges_detach();

-- Each threshold from both sides.
ALTER TABLE users ADD wins int, ADD top_arguments bigint, ADD participations smallint, ADD votes int, ADD beta timestamptz, ADD wallet text;
TRUNCATE users;
INSERT INTO users (id, wins) VALUES (1, NULL), (2, 0), (3, 1), (4, 4), (5, 5), (6, 9), (7, 10), (8, 100);
INSERT INTO users (id, top_arguments) VALUES (11, 0), (12, 1), (13, 2), (14, 3);
INSERT INTO users (id, participations) VALUES (21, 19), (22, 20);
INSERT INTO users (id, votes) VALUES (31, 49), (32, 50);
INSERT INTO users (id, beta) VALUES (41, '2020-01-01');
INSERT INTO users (id, wallet) VALUES (51, ' '), (52, '0xabc');
SELECT points_attach() IS NOT NULL AND badges_attach() IS NOT NULL AS attached;
-- Whom a change concerned; bonuses are in the ledger, and in the points with the next drain.
CREATE FUNCTION test.settled(OUT users text, OUT sweeps bigint, OUT pending bigint, OUT drift bigint)
LANGUAGE plpgsql AS $$
BEGIN
	SELECT c.users, c.sweeps, c.pending INTO users, sweeps, pending FROM test.concerned() c;
	drift := count(*) FROM reputation_verify('badges');
END
$$;
CREATE VIEW test.badges AS
SELECT u.id, s.score, (SELECT string_agg(h.slug, ' ' ORDER BY h.slug) FROM reputation.user_badge h WHERE h.user_id = u.id::text) AS badges,
	total_points(u.id) AS points
FROM badges.users u LEFT JOIN reputation.badges_scores s ON s.user_id = u.id::text;
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.badges ORDER BY id;
SELECT user_id, points, reason, source_key, created_at FROM reputation.point_ledger WHERE user_id IN ('7', '52') ORDER BY user_id, points;
SELECT reputation_process();
SELECT user_id, all_time FROM reputation.points_scores WHERE all_time > 0 ORDER BY user_id COLLATE "C";
SELECT * FROM reputation_verify();

-- A change, and what it comes to.
SET reputation.clock = '2026-01-02 03:04:05.678+00';
UPDATE users SET wins = 5 WHERE id = 3;
UPDATE users SET name = 'nobody asks for that';
SELECT users, pending, drift FROM test.settled();
UPDATE users SET votes = 60, wins = 4 WHERE id = 3;
SELECT users, pending, drift FROM test.settled();
SELECT jsonb_pretty(get_user_badges(3));
SELECT jsonb_pretty(get_badge_progress(3));
SELECT get_user_badges(3) #>> '{badges,0,earned_at}' = '2026-01-01T00:00:00Z' AS earned;
SET timezone = 'Asia/Kolkata';
SELECT get_user_badges('3') #> '{badges,1,earned_at}';
SET timezone = 'UTC';
SELECT reputation_process();
SELECT badges_explain(3) - '{computed_at, age_seconds}'::text[] AS explain;
SELECT badges_recalc(3), badges_recalc_all(), reputation_process();
SELECT * FROM reputation.badges_scores WHERE user_id = '3';
-- Earned at once are in the order of their ids.
SELECT jsonb_path_query_array(get_user_badges(7), '$.badges[*].id');

-- What a row of reputation.badge says is for everybody, at once. Nobody loses what is for good.
BEGIN;
UPDATE reputation.badge SET threshold = 3 WHERE slug = 'five_wins';
SELECT * FROM badge_preview('five_wins') ORDER BY 1;
COMMIT;
SELECT * FROM badge_preview('five_wins') ORDER BY 1;
SELECT users, sweeps, pending, drift FROM test.settled();
SELECT * FROM badge_preview('five_wins') ORDER BY 1;
SELECT * FROM test.badges WHERE badges LIKE '%five_wins%' ORDER BY id;
UPDATE reputation.badge SET threshold = 90 WHERE slug = 'five_wins';
SELECT * FROM badge_preview('five_wins');
SELECT sweeps, pending, drift FROM test.settled();
SELECT count(*) FROM reputation.user_badge WHERE slug = 'five_wins';
-- But if it is made one that goes; and comes back, with its bonus.
UPDATE reputation.badge SET revocable = true WHERE slug = 'five_wins';
CREATE TEMP TABLE foretold AS SELECT * FROM badge_preview('five_wins');
TABLE foretold ORDER BY 1;
CREATE TEMP TABLE had AS SELECT user_id FROM reputation.user_badge WHERE slug = 'five_wins';
SELECT sweeps, pending, drift FROM test.settled();
CREATE TEMP TABLE came AS
	(SELECT user_id, 'lose' AS change FROM had EXCEPT SELECT user_id, 'lose' FROM reputation.user_badge WHERE slug = 'five_wins')
	UNION ALL (SELECT user_id, 'gain' FROM reputation.user_badge WHERE slug = 'five_wins' EXCEPT SELECT user_id, 'gain' FROM had);
(TABLE came EXCEPT TABLE foretold) UNION ALL (TABLE foretold EXCEPT TABLE came);
SELECT change, count(*) FROM came GROUP BY change;
SELECT count(*) FROM reputation.user_badge WHERE slug = 'five_wins';
SELECT * FROM test.badges WHERE id BETWEEN 3 AND 8 ORDER BY id;
SET reputation.clock = '2026-01-03 00:00:00+00';
UPDATE users SET wins = 90 WHERE id = 5;
SELECT pending, drift FROM test.settled();
UPDATE users SET wins = 89 WHERE id = 5;
SELECT pending, drift FROM test.settled();
UPDATE users SET wins = 90 WHERE id = 5;
SELECT pending, drift FROM test.settled();
SELECT points, reason, source_key, created_at, recorded_at, revokes IS NOT NULL AS revokes FROM reputation.point_ledger WHERE user_id = '5' ORDER BY id;
SELECT slug, earned_at, bonus_points, source_key FROM reputation.user_badge WHERE user_id = '5' ORDER BY 1;
SELECT * FROM test.badges WHERE id = 5;
-- Other texts and another bonus concern nobody who has it.
SELECT reputation_process() > 0 AS computed;
UPDATE reputation.badge SET name = 'Streak', description = 'Kept winning', icon = 'x', bonus_points = 7 WHERE slug = 'five_wins';
SELECT captured FROM test.concerned();
SELECT get_user_badges(5) @> '{"badges": [{"name": "Streak", "description": "Kept winning", "icon": "x", "bonus_points": 200}]}' AS shown;
UPDATE users SET wins = 90 WHERE id = 4;
SELECT reputation_process();
SELECT slug, bonus_points FROM reputation.user_badge WHERE user_id = '4';

-- A new badge, without a bonus; one that is gone, and made again: its bonus is not paid twice.
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('new-one', 'New', 'For two votes', '', 'votes', 2);
SELECT * FROM badge_preview('new-one') ORDER BY user_id COLLATE "C";
SELECT sweeps, pending, drift FROM test.settled();
SELECT user_id, bonus_points, source_key FROM reputation.user_badge WHERE slug = 'new-one' ORDER BY user_id COLLATE "C";
DELETE FROM reputation.badge WHERE slug IN ('new-one', 'dedicated_voter');
SELECT get_user_badges(32);
SELECT count(*) AS holders FROM reputation.user_badge WHERE slug = 'dedicated_voter';
SELECT change, count(*) FROM badge_preview('dedicated_voter') GROUP BY change;
SELECT sweeps, pending, drift FROM test.settled();
SELECT badge_preview('dedicated_voter');
SELECT * FROM test.badges WHERE id IN (3, 32) ORDER BY id;
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold, bonus_points) VALUES ('dedicated_voter', 'Voter', 'Again', '', 'votes', 50, 1000);
SELECT sweeps, pending, drift FROM test.settled();
SELECT * FROM test.badges WHERE id IN (3, 32) ORDER BY id;
SELECT get_user_badges(32);
-- What somebody else has paid under the key is not paid again.
SELECT award_points(2, 1, 'by hand', 'badge:first_win');
UPDATE users SET wins = 1 WHERE id = 2;
SELECT reputation_process() > 0 AS computed;
SELECT points, reason, source_key FROM reputation.point_ledger WHERE user_id = '2';
SELECT slug, bonus_points, source_key FROM reputation.user_badge WHERE user_id = '2';
SELECT reputation_process() >= 0 AS computed;
SELECT * FROM reputation_verify();
-- A bonus that is taken back by hand is missing, and is paid under the next key that is free; nobody gains a badge.
SELECT revoke_points(2, 'badge:first_win'), award_points(2, 1, 'by hand', 'badge:first_win:3'), revoke_points(2, 'badge:first_win:3');
SELECT award_points(2, 3, 'nonsense', k) FROM unnest(ARRAY['badge:first_win:', 'badge:first_win:99999999999999999999', 'badge:first_winner']) k;
SELECT revoke_points(2, k) FROM unnest(ARRAY['badge:first_win:', 'badge:first_win:99999999999999999999']) k;
SELECT badges_explain(2) -> 'held' AS held;
SELECT user_id, item, cached, expected FROM reputation_verify('badges');
SELECT * FROM badge_preview('first_win');
SELECT reputation_repair('badges');
SELECT reputation_process() > 0 AS computed;
SELECT points, source_key FROM reputation.point_ledger WHERE user_id = '2' AND source_key LIKE 'badge:first_win%' ORDER BY id;
SELECT slug, bonus_points, source_key FROM reputation.user_badge WHERE user_id = '2';
SELECT reputation_process() >= 0 AS computed;
SELECT * FROM reputation_verify();
-- Fewer than none.
UPDATE users SET wins = -3 WHERE id = 1;
SELECT reputation_process() > 0 AS computed;
SELECT p ->> 'progress' AS progress FROM jsonb_array_elements(get_badge_progress(1) #> '{progress,progress_details}') p WHERE p ->> 'badge_name' = 'ten_wins';
UPDATE users SET wins = NULL WHERE id = 1;
SELECT reputation_process() > 0 AS computed;

-- Verify sees what was tampered with; repair and the drain mend it.
DELETE FROM reputation.user_badge WHERE user_id = '7';
INSERT INTO reputation.user_badge VALUES ('1', 'gone', reputation.clock(), 0, NULL), ('4711', 'first_win', reputation.clock(), 0, NULL);
UPDATE reputation.user_badge SET source_key = 'badge:first_win:9' WHERE user_id = '8' AND slug = 'first_win';
ALTER TABLE reputation.point_ledger DISABLE TRIGGER ledger_guard;
DELETE FROM reputation.point_ledger WHERE user_id = '8' AND source_key = 'badge:ten_wins';
ALTER TABLE reputation.point_ledger ENABLE TRIGGER ledger_guard;
SELECT reputation_process() > 0 AS computed;
UPDATE reputation.badges_scores SET votes = 7 WHERE user_id = '5';
-- One that is lost, but for the hourly check, and was never paid.
INSERT INTO reputation.user_badge VALUES ('6', 'five_wins', reputation.clock(), 7, 'badge:five_wins:9');
SELECT badges_explain(8) -> 'held' AS held;
-- Who lacks the bonus alone gains no badge.
SELECT * FROM badge_preview('ten_wins');
SELECT * FROM reputation_verify() ORDER BY user_id, item;
SELECT status, detail FROM reputation_status() WHERE check_name = 'drift badges';
SELECT reputation_repair('badges');
SELECT reputation_process() > 0 AS computed;
SELECT reputation_process() >= 0 AS computed;
SELECT * FROM reputation_verify();
SELECT * FROM test.badges WHERE id IN (1, 7, 8) ORDER BY id;
-- What is of nobody is listed, and stays until it is forgotten.
SELECT * FROM reputation.user_badge WHERE user_id = '4711';
SELECT reputation_forget(4711);
SELECT * FROM reputation_verify();
-- A recalculation by hand stores the score row; who holds the lane awards.
DELETE FROM reputation.user_badge WHERE user_id = '6';
SELECT badges_recalc(6);
SELECT count(*) FROM reputation.user_badge WHERE user_id = '6';
SELECT reputation_process();
SELECT * FROM test.badges WHERE id = 6;

-- The hourly check sees what is not captured.
ALTER TABLE users DISABLE TRIGGER reputation_capture;
UPDATE users SET top_arguments = 1 WHERE id = 21;
ALTER TABLE users ENABLE TRIGGER reputation_capture;
SET reputation.clock = '2026-01-03 01:00:00+00';
SELECT reputation.run_due_jobs() > 0 AS started;
SELECT scope, trigger, status FROM reputation.job_runs WHERE job_name = 'badges';
SELECT reputation_wait(21, 'badges');
SELECT reputation_process() > 0 AS computed;
SELECT * FROM test.badges WHERE id = 21;
SELECT next_run_at FROM reputation.schedule WHERE job_name = 'badges';
CALL reputation_run('badges');
SELECT job_name, trigger, status, changed FROM reputation.job_runs ORDER BY id DESC LIMIT 1;

-- A board of who has most.
SELECT leaderboard_create('collectors', 'badges');
SELECT * FROM leaderboard('collectors', 'all_time', 3) AS l (rank, user_id, score);
SELECT leaderboard_drop('collectors');

-- Forgotten, and gone. The user who stays earns what is still true.
SELECT reputation_forget(7);
SELECT count(*) FROM reputation.user_badge WHERE user_id = '7';
SELECT total_points(7);
DELETE FROM users WHERE id = 8;
SELECT pending, drift FROM test.settled();
SELECT pending, drift FROM test.settled();
SELECT * FROM test.badges WHERE id = 7;
SELECT count(*) FROM reputation.user_badge WHERE user_id = '8';
SELECT count(*) FROM reputation.point_ledger WHERE user_id = '8';
SELECT points_detach();
SELECT count(*) > 0 AS paid FROM reputation.point_ledger WHERE user_id = '5';
INSERT INTO reputation.point_ledger (user_id, points) VALUES ('5', 1);
DELETE FROM users WHERE id = 5;
SELECT pending, drift FROM test.settled();
SELECT points, source_key FROM reputation.point_ledger WHERE user_id = '5';

-- Bad rows, arguments and columns.
\set VERBOSITY terse
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('Up', '', '', '', 'wins', 1);
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('a:2', '', '', '', 'wins', 1);
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('a', '', '', '', 'losses', 1);
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('a', '', '', '', 'wins', 0);
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold, bonus_points) VALUES ('a', '', '', '', 'wins', 1, -1);
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('first_win', '', '', '', 'wins', 1);
INSERT INTO reputation.algorithm VALUES ('badges', 2, '{"wins": 3}');
\set VERBOSITY default
SELECT badge_preview('nothing');
SELECT badges_attach(columns => '{"users": {"wins": "name"}}');
SELECT badges_attach(columns => '{"users": {"beta": "name"}}');
SELECT badges_attach(columns => '{"users": {"wins": "victories"}}');
SELECT badges_attach(columns => '{"users": {"losses": "wins"}}');
SELECT badges_attach(columns => '{"badge": {"slug": "name"}}');
SELECT badges_attach(votes => 'nowhere');
SELECT badges_attach(votes => 'users');
SELECT badges_attach(users => NULL);

-- Metrics that are rows of tables, or columns by other names.
CREATE TABLE ballots (voter bigint, valid boolean);
CREATE TABLE victories (user_id int);
CREATE INDEX ON victories (user_id);
ALTER TABLE ballots OWNER TO regress_app;
ALTER TABLE victories OWNER TO regress_app;
SELECT badges_attach(votes => 'ballots', wins => 'victories', columns => '{"votes": {"user_id": "voter", "counts": "voter"}}');
SELECT badges_attach(votes => 'ballots', wins => 'victories', columns => '{"users": {"wins": "wins"}}');
SELECT badges_attach(votes => 'ballots', wins => 'victories', columns => '{"users": {"top_arguments": null, "wallet": "name"}, "votes": {"user_id": "voter", "counts": "valid"}}') IS NOT NULL AS attached;
SELECT * FROM test.triggers ORDER BY relation::text COLLATE "C", tgname;
INSERT INTO victories SELECT 1 FROM generate_series(1, 5);
INSERT INTO ballots SELECT 2, i <= 50 FROM generate_series(1, 90) i;
SELECT pending, drift FROM test.settled();
SELECT pending, drift FROM test.settled();
SELECT wins, top_arguments, participations, votes, beta, wallet, badges FROM reputation.badges_scores WHERE user_id IN ('1', '2') ORDER BY user_id;
UPDATE ballots SET valid = true WHERE voter = 2;
DELETE FROM victories;
SELECT users, pending, drift FROM test.settled();
SELECT wins, votes FROM reputation.badges_scores WHERE user_id IN ('1', '2') ORDER BY user_id;

-- A wallet is anything that is not empty.
ALTER TABLE users ADD b bytea, ADD j jsonb, ADD c char(3) DEFAULT ' ', ADD n int DEFAULT 0, ADD s boolean DEFAULT false;
UPDATE users SET b = '', j = '{ }' WHERE id = 1;
UPDATE users SET b = ' ', j = '[1]' WHERE id = 2;
CREATE TEMP TABLE wallets (name text, with_wallet bigint, drift bigint);
DO $$
DECLARE
	column_name text;
BEGIN
	FOREACH column_name IN ARRAY ARRAY['b', 'j', 'c', 'n', 's', 'name'] LOOP
		PERFORM badges_attach(columns => format('{"users": {"wallet": %s}}', to_json(column_name))::jsonb);
		PERFORM reputation_process();
		INSERT INTO wallets SELECT column_name, (SELECT count(*) FROM reputation.badges_signals v WHERE v.wallet), (SELECT count(*) FROM reputation_verify('badges'));
	END LOOP;
END $$;
TABLE wallets;
SELECT count(*) AS users, count(nullif(btrim(name), '')) AS named FROM users;

-- Attaching again keeps the badges as they are; who may do what.
DELETE FROM reputation.badge WHERE slug <> 'first_win';
SELECT badges_attach() IS NOT NULL AS attached;
SELECT slug FROM reputation.badge;
SELECT reputation_process() > 0 AS computed;
CREATE ROLE regress_badge_admin NOLOGIN IN ROLE reputation_admin;
GRANT USAGE ON SCHEMA badges TO regress_badge_admin;
SET ROLE regress_badge_admin;
UPDATE reputation.badge SET threshold = 2 WHERE slug = 'first_win';
INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold) VALUES ('mine', 'Mine', '', '', 'wins', 1);
DELETE FROM reputation.badge WHERE slug = 'mine';
UPDATE reputation.badge SET slug = 'mine';
INSERT INTO reputation.user_badge VALUES ('1', 'mine', now(), 0, NULL);
SET ROLE regress_app;
SELECT get_user_badges(1);
SELECT * FROM reputation.badge;
RESET ROLE;
SELECT has_table_privilege('regress_app', 'reputation.user_badge', 'SELECT'), has_table_privilege('regress_app', 'reputation.badge', 'SELECT');
SELECT badges_detach();
SELECT has_table_privilege('regress_app', 'reputation.user_badge', 'SELECT'), has_table_privilege('regress_app', 'reputation.badge', 'SELECT');
SELECT * FROM test.triggers;
SELECT count(*) > 0 AS kept FROM reputation.user_badge;
DROP OWNED BY regress_badge_admin;
DROP ROLE regress_badge_admin;
DROP VIEW test.badges;

-- Ids that are no integers are strings.
ALTER TABLE users ALTER id TYPE text;
TRUNCATE reputation.user_badge;
SELECT badges_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT get_user_badges('21'), get_badge_progress(21) -> 'user_id';
SELECT badges_detach();
ALTER TABLE users ALTER id TYPE int USING id::int;

-- Points and badges are of the same users, by the same key, in whatever order they are attached.
CREATE TABLE customers (id int PRIMARY KEY, no bigint NOT NULL UNIQUE, wins int);
ALTER TABLE customers OWNER TO regress_app;
SET client_min_messages = warning;
INSERT INTO customers VALUES (1, 101, 0), (2, 102, 0);
INSERT INTO users (id) VALUES (101), (102) ON CONFLICT DO NOTHING;
SELECT points_attach('customers') IS NOT NULL AS attached;
SELECT badges_attach('users');
\echo SQLSTATE :SQLSTATE
SELECT badges_attach('customers', '{"users": {"id": "no"}}');
SELECT badges_attach('customers') IS NOT NULL AS attached;
SELECT points_attach('users');
SELECT points_attach('customers', '{"users": {"id": "no"}}');
SELECT points_attach('customers') IS NOT NULL AS attached;
SELECT points_detach();
SELECT points_attach('users');
SELECT badges_detach();

-- Each engine's rows go with its own users: the ledger stays when it has none, but for what the badges paid.
TRUNCATE reputation.point_ledger, reputation.user_badge;
SELECT points_attach('customers', '{"users": {"id": "no"}}') IS NOT NULL AS attached;
INSERT INTO reputation.point_ledger (user_id, points, source_key) VALUES ('1', 1, 'a'), ('2', 2, 'b'), ('101', 3, 'c'), ('102', 4, 'd');
INSERT INTO reputation.user_badge VALUES ('1', 'mine', now(), 0, NULL), ('2', 'mine', now(), 0, NULL), ('101', 'mine', now(), 0, NULL), ('102', 'mine', now(), 0, NULL);
CREATE VIEW test.kept AS SELECT user_id, l.points, l.source_key, h.slug FROM reputation.point_ledger l FULL JOIN reputation.user_badge h USING (user_id)
ORDER BY user_id COLLATE "C", l.id;
UPDATE customers SET id = 3 WHERE id = 1;
DELETE FROM customers WHERE id = 3;
DELETE FROM users WHERE id IN (101, 102, 1, 2);
SELECT * FROM test.kept;
SELECT points_detach();
SELECT badges_attach('customers') IS NOT NULL AS attached;
INSERT INTO reputation.point_ledger (user_id, points, source_key) VALUES ('2', 50, 'badge:first_win'), ('102', 60, 'badge:first_win');
INSERT INTO reputation.point_ledger (user_id, points, revokes) SELECT user_id, -points, id FROM reputation.point_ledger WHERE user_id = '2' AND source_key LIKE 'badge:%';
UPDATE customers SET id = 5 WHERE id = 2;
SELECT * FROM test.kept;
DELETE FROM customers WHERE id = 5;
SELECT * FROM test.kept;
-- Both, by another key.
SELECT badges_detach();
SELECT points_attach('customers', '{"users": {"id": "no"}}') IS NOT NULL AND badges_attach('customers', '{"users": {"id": "no"}}') IS NOT NULL AS attached;
INSERT INTO customers VALUES (6, 106, 0), (7, 107, 0);
INSERT INTO reputation.point_ledger (user_id, points, source_key) VALUES ('6', 6, 'f'), ('106', 7, 'g'), ('7', 8, 'badge:a'), ('107', 9, 'badge:a');
INSERT INTO reputation.user_badge VALUES ('6', 'mine', now(), 0, NULL), ('106', 'mine', now(), 0, NULL);
UPDATE customers SET no = 116 WHERE id = 6;
SELECT * FROM test.kept WHERE user_id IN ('6', '106', '116');
-- The application's trigger is asked anew when the registry is another.
BEGIN;
DELETE FROM customers WHERE id = 7;
SELECT * FROM test.kept WHERE user_id IN ('7', '107');
ROLLBACK;
SELECT badges_detach(), points_detach();
SELECT badges_attach('customers') IS NOT NULL AND points_attach('customers') IS NOT NULL AS attached;
DELETE FROM customers WHERE id = 7;
SELECT * FROM test.kept WHERE user_id IN ('7', '107');
DROP VIEW test.kept;
SELECT badges_detach();
-- Users that are gone are in nobody's way.
DROP TABLE customers CASCADE;
SELECT badges_attach('users') IS NOT NULL AS attached;
-- A right that was taken away is the engine's failure, and makes nobody a dead letter.
SELECT points_detach();
SELECT reputation_process() >= 0 AS computed;
REVOKE UPDATE ON users FROM regress_app;
INSERT INTO users (id, wins) VALUES (70, 7);
SELECT reputation_process();
SELECT count(*) FROM reputation.dead_letter;
GRANT UPDATE ON users TO regress_app;
SELECT badges_attach('users') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT user_id, slug FROM reputation.user_badge WHERE user_id = '70';
SELECT user_id, item, expected FROM reputation_verify('badges') ORDER BY 1;
RESET client_min_messages;
CALL test.clean('badges');

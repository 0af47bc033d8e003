-- Whoever may create in the target schema, or sets a database's search_path, plants
-- twins of what the extension uses: functions, operators, types and relations of
-- pg_catalog's names. None is called, and none is stored. In a database of its own.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT current_database() AS home \gset
CREATE ROLE regress_planter NOLOGIN;
CREATE DATABASE regress_planted;
\c regress_planted
CREATE SCHEMA planted AUTHORIZATION regress_planter;
-- The script, for the names in it.
CREATE TABLE script AS
SELECT pg_read_file(format('%s/extension/reputation--%s.sql', c.setting, e.default_version)) AS text
FROM pg_config c, pg_available_extensions e WHERE c.name = 'SHAREDIR' AND e.name = 'reputation';
GRANT SELECT ON script TO regress_planter;

SET ROLE regress_planter;
SET check_function_bodies = off;
CREATE SEQUENCE planted.called;
GRANT ALL ON planted.called TO PUBLIC;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
CREATE FUNCTION planted.hit(name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	-- This stays when the rest is rolled back.
	IF pg_catalog.nextval('planted.called'::pg_catalog.regclass) OPERATOR(pg_catalog.>) 100 THEN
		RAISE EXCEPTION 'planted: %, and so on', name;
	END IF;
	RAISE WARNING 'planted: %', name;
	RETURN true;
END
$$;
-- The twin of a function.
CREATE PROCEDURE planted.plant(name text, arguments text, result text, is_set boolean) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE OR REPLACE FUNCTION planted.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, arguments,
		CASE WHEN is_set THEN 'SETOF ' ELSE '' END || result,
		format('BEGIN PERFORM planted.hit(%L); RETURN %s; END', format('%s(%s)', name, arguments), CASE WHEN is_set THEN '' ELSE 'NULL' END));
END
$$;
CREATE TABLE planted.type AS SELECT t FROM unnest('{text,name,"\"char\"",int2,int4,int8,oid,regclass,regtype,regnamespace,numeric,float8,bool,timestamptz,date,interval,jsonb,text[]}'::text[]) t;

-- What goes before pg_catalog's own, which is looked at first, by taking the very type of
-- an argument: of each function that the script names, and of each operator.
CREATE TABLE planted.named AS
SELECT p.proname AS name, least(p.pronargs, 3) AS n, p.provariadic = '"any"'::regtype AS open,
	min(CASE WHEN t.typtype = 'p' THEN 'text' ELSE format_type(t.oid, NULL) END) AS result, bool_or(p.proretset) AS is_set,
	-- Of three arguments: the others as they are declared.
	min(ARRAY(SELECT CASE WHEN a.typtype = 'p' THEN 'text' ELSE format_type(a.oid, NULL) END
		FROM unnest(p.proargtypes) WITH ORDINALITY AS u (t, i) JOIN pg_type a ON a.oid = u.t ORDER BY u.i)) AS types
FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.pronargs > 0
	AND p.proname IN (SELECT m[1] FROM public.script, regexp_matches(text, '([a-z_0-9]+) *\(', 'g') m)
GROUP BY 1, 2, 3;
DO $$
DECLARE
	f record;
	x record;
BEGIN
	FOR f IN SELECT * FROM planted.named LOOP
		FOR x IN
			SELECT a.t AS arguments FROM planted.type a WHERE f.n = 1
			UNION SELECT format('%s, %s', a.t, b.t) FROM planted.type a, planted.type b WHERE f.n = 2 OR f.open
			UNION SELECT format('text, %s, %s', a.t, b.t) FROM planted.type a, planted.type b WHERE f.open
			UNION SELECT array_to_string(f.types[:i - 1] || a.t || f.types[i + 1:], ', ') FROM planted.type a, generate_series(1, 3) i WHERE f.n = 3
		LOOP
			CALL planted.plant(f.name, x.arguments, f.result, f.is_set);
		END LOOP;
	END LOOP;
	FOR x IN SELECT a.t AS l, b.t AS r FROM planted.type a, planted.type b LOOP
		FOR f IN SELECT o.result FROM (VALUES ('bool'), ('text'), ('jsonb'), (x.l)) AS o (result) GROUP BY 1 LOOP
			CALL planted.plant('operator ' || f.result, format('%s, %s', x.l, x.r), f.result, false);
		END LOOP;
		FOR f IN SELECT u.name, o.result FROM (VALUES ('{=,<>,<,>,<=,>=,~,!~,@>,~~,!~~}'::text[], 'bool'), ('{||,->>}', 'text'), ('{->}', 'jsonb'),
			('{+,-,*,/,%,&,|}', x.l)) AS o (names, result), unnest(o.names) AS u (name) LOOP
			EXECUTE format('CREATE OPERATOR planted.%s (FUNCTION = planted.%I, LEFTARG = %s, RIGHTARG = %s)', f.name, 'operator ' || f.result, x.l, x.r);
		END LOOP;
	END LOOP;
END
$$;
RESET ROLE;
-- What of it something else has stored.
CREATE VIEW stored AS
WITH owned (classid, objid, planted) AS (
	SELECT o.classid, o.objid, o.owner = r.oid FROM pg_roles r, (
		SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
		UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
		UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type
		UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class
		UNION ALL SELECT 'pg_rewrite'::regclass, w.oid, c.relowner FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
		UNION ALL SELECT 'pg_constraint'::regclass, k.oid, t.typowner FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid
	) o (classid, objid, owner) WHERE r.rolname = 'regress_planter'
)
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS planted
FROM pg_depend d JOIN owned p ON p.classid = d.refclassid AND p.objid = d.refobjid AND p.planted
LEFT JOIN owned o ON o.classid = d.classid AND o.objid = d.objid
WHERE o.planted IS NOT TRUE;

-- The application.
CREATE SCHEMA app AUTHORIZATION regress_app;
SET ROLE regress_app;
CREATE TABLE app.users (id int PRIMARY KEY, name text, bio text, interests text[], last_active_at timestamptz, wins int, place int);
CREATE TABLE app.projects (id int PRIMARY KEY, owner_id int, status text, impact int);
CREATE TABLE app.project_collaborators (project_id int, user_id int, status text);
CREATE TABLE app.wingman_matches (id int PRIMARY KEY, user1_id int, user2_id int);
CREATE TABLE app.wingman_sessions (id int PRIMARY KEY, match_id int, status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean);
CREATE TABLE app.activity (user_id int, created_at timestamptz);
CREATE TABLE app.plays (user_id int, points int, created_at timestamptz);
RESET ROLE;
-- All that is done with it; with names that are found whatever the path is.
CREATE PROCEDURE app.use() LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL client_min_messages = error;
	PERFORM planted.builder_score_attach('app.users', 'app.projects', 'app.project_collaborators'),
		planted.trust_score_attach('app.users', activity => 'app.activity'), planted.session_reputation_attach('app.wingman_sessions', 'app.wingman_matches', 'app.users'),
		planted.points_attach('app.users', rank_column => 'place'), planted.badges_attach('app.users'),
		planted.leaderboard_create('plays', 'app.plays', users => 'app.users', zone => 'UTC'), planted.leaderboard_create('builders', 'builder');
	SET LOCAL client_min_messages = warning;
	INSERT INTO app.users VALUES (1, 'a', 'b', '{c,d}', pg_catalog.now(), 5);
	INSERT INTO app.users VALUES (2);
	INSERT INTO app.projects VALUES (1, 1, 'shipped', 1);
	INSERT INTO app.project_collaborators VALUES (1, 2, 'confirmed');
	INSERT INTO app.wingman_matches VALUES (1, 1, 2);
	INSERT INTO app.wingman_sessions VALUES (1, 1, 'completed', true, true), (2, 1, 'no_show', false, false);
	INSERT INTO app.activity VALUES (1, pg_catalog.now());
	INSERT INTO app.plays VALUES (1, 7, pg_catalog.now());
	PERFORM planted.award_points(1, 5, 'for one', 'a'), planted.award_points(2, 5);
	PERFORM planted.revoke_points(1, 'a');
	PERFORM planted.reputation_process();
	UPDATE app.projects SET status = 'draft', impact = 5;
	UPDATE reputation.algorithm SET parameters = parameters;
	UPDATE reputation.badge SET threshold = 3 WHERE reputation.badge.slug OPERATOR(pg_catalog.=) 'five_wins';
	PERFORM planted.builder_score_recalc(1), planted.trust_score_recalc(1), planted.session_reputation_recalc(1), planted.points_recalc(1), planted.badges_recalc(1),
		planted.builder_score_recalc_all(), planted.trust_score_recalc_all(), planted.session_reputation_recalc_all(), planted.points_recalc_all(), planted.badges_recalc_all();
	PERFORM planted.reputation_process();
	PERFORM planted.builder_score(1), planted.trust_score(1), planted.user_reputation(1), planted.user_reputation(1), planted.user_reputation_invalidate(1), planted.total_points(1),
		planted.builder_score_explain(1), planted.trust_score_explain(1), planted.session_reputation_explain(1), planted.points_explain(1), planted.badges_explain(1);
	PERFORM planted.calculate_user_rank(1), planted.calculate_user_rank(1, 'weekly'), planted.calculate_user_rank(2, 'all_time', 'plays'), planted.calculate_user_rank(1, board => 'builders'),
		planted.leaderboard_percentile(1), planted.get_trust_score(1), planted.get_user_badges(1), planted.get_badge_progress(1), planted.reputation_version();
	PERFORM FROM planted.get_audit_rows(1), planted.leaderboard(), planted.leaderboard_around(1), planted.badge_preview('first_win'), planted.user_reputation_cache_stats();
	PERFORM FROM planted.reputation_status();
	PERFORM FROM planted.reputation_verify();
	PERFORM planted.reputation_repair(), planted.reputation_retry(), planted.reputation_wait(1);
	PERFORM planted.upsert_user('{"id": 3, "name": "c"}'), planted.upsert_user('{"id": 3, "name": "d", "interests": ["x"]}');
	PERFORM FROM planted.algorithm_preview('builder', '{"own": 5}');
	PERFORM planted.algorithm_activate('builder', 1);
	PERFORM FROM planted.reputation_schedule();
	PERFORM FROM planted.reputation_schedule('nightly', at => '03:00', time_zone => 'Europe/Berlin');
	PERFORM planted.reputation_unschedule('nightly'), planted.reputation_unschedule();
	PERFORM planted.reputation_process();
	PERFORM FROM reputation.job_progress;
	-- The internal ones, by themselves.
	PERFORM reputation.board_refresh('points', 'all_time'), reputation.run_due_jobs(), reputation.sweep_start('builder', 'nightly', 'manual'), reputation.sample('trust'),
		reputation.rank_make('points'), reputation.rank_rebuild('plays'), reputation.rank_drop(30), reputation.board_touch(4), reputation.user_key('points', 2),
		reputation.status_list('builder', 'shipped'), reputation.window_start('trust', 'activity_days'), reputation.computation_time(), reputation.period_after('points', 'weekly'),
		reputation.partition_shape('app.users'), reputation.board_place(2, 'all_time', 'points'), reputation.lane('2'), reputation.home(), reputation.run_begin('trust', 'prune', 'manual'),
		reputation.board_restore(), reputation.preloaded(), reputation.batch_step();
	PERFORM FROM reputation.engines(), reputation.outputs(), reputation.workers(), reputation.inbox_pages(), reputation.board_rows('points', 'all_time', 10, 0);
	PERFORM FROM reputation.source_check();
	PERFORM FROM reputation.source_findings(), reputation.view_reads();
	PERFORM reputation.source_follow(s.id) FROM reputation.source s;
	PERFORM FROM reputation.job_status();
	PERFORM FROM reputation.job_schedule;
	PERFORM reputation.batch_job_register('again', 'again', 'run_begin', 'prune_step', every => '1 hour');
	PERFORM reputation.run_job('again', 'manual'), reputation.batch_step(), reputation.run_due_job('again', pg_catalog.now()), reputation.schedule_usual('again', true),
		reputation.cron_entry('03:00', 'UTC', NULL), reputation.cron_keeps('03:00', 'UTC', 'Europe/Berlin', '2026-01-01'), reputation.cron_every('1 hour'), reputation.cron_daily('03:00'),
		reputation.cron_next(NULL, NULL, '1 hour', pg_catalog.now()), reputation.cron_remove(NULL), reputation.cron_lacks('again', '* * * * *'), reputation.begin_failed('again', 'all', 'no'),
		reputation.rank_begin('trust', 'leaderboards', 'manual'), reputation.is_transient('55P03'), reputation.job_engines(NULL, true);
	PERFORM FROM reputation.rank_untracked();
	UPDATE app.users SET id = 9 WHERE app.users.id OPERATOR(pg_catalog.=) 2;
	DELETE FROM app.users WHERE app.users.id OPERATOR(pg_catalog.=) 9;
	PERFORM planted.reputation_process();
	PERFORM planted.reputation_forget(1);
	TRUNCATE app.users, app.projects, app.project_collaborators, app.wingman_matches, app.wingman_sessions, app.activity, app.plays;
	PERFORM planted.reputation_process();
END
$$;
CREATE PROCEDURE app.leave() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM planted.leaderboard_drop('plays'), planted.leaderboard_drop('builders'), planted.builder_score_detach(), planted.trust_score_detach(), planted.session_reputation_detach(),
		planted.points_detach(), planted.badges_detach();
END
$$;
DROP TABLE script;

-- They are called where they are meant to be.
SET search_path = planted, public;
SELECT format('%s', 'a'::text) IS NULL AS called;
SELECT '1'::oid = 1::regclass AS called;
SELECT nextval('planted.called');
ALTER SEQUENCE planted.called RESTART;

-- The target schema is theirs.
CREATE EXTENSION reputation SCHEMA planted;
SELECT * FROM stored;
CALL app.use();
CALL planted.reputation_run('nightly');
CALL planted.reputation_run('leaderboards', 'cron');
CALL planted.reputation_run('badges');
SET client_min_messages = error;
CALL planted.upsert_user_and_wait('{"id": 4}', '0');
RESET client_min_messages;
SELECT * FROM stored;
CALL app.leave();
SELECT is_called FROM planted.called;

-- The path is theirs: everything of pg_catalog's is found in their schema first, in a
-- session in which nothing was looked up before.
SET ROLE regress_planter;
SET search_path = pg_catalog;
SET check_function_bodies = off;
DO $$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT p.proname AS name, array_to_string(ARRAY(SELECT format_type(u.t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, i) ORDER BY u.i), ', ') AS arguments,
			p.proargtypes, format_type(r.oid, NULL) AS result, p.proretset AS is_set
		FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND (r.typtype <> 'p' OR r.typname IN ('anyelement', 'anyarray', 'record', 'void'))
			AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) u (t) JOIN pg_type a ON a.oid = u.t WHERE a.typtype = 'p' AND a.typname NOT LIKE 'any%' OR a.typname = 'any')
			AND NOT EXISTS (SELECT FROM pg_proc o WHERE o.pronamespace = 'planted'::regnamespace AND o.proname = p.proname AND o.proargtypes = p.proargtypes)
			AND (r.typname NOT LIKE 'any%' OR EXISTS (SELECT FROM unnest(p.proargtypes) u (t) JOIN pg_type a ON a.oid = u.t WHERE a.typname LIKE 'any%'))
	LOOP
		CALL planted.plant(f.name, f.arguments, CASE f.result WHEN 'void' THEN 'text' WHEN 'record' THEN 'text' ELSE f.result END, f.is_set);
	END LOOP;
	FOR f IN SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, p.proname
		FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
		WHERE o.oprnamespace = 'pg_catalog'::regnamespace
			AND NOT EXISTS (SELECT FROM pg_operator x WHERE x.oprnamespace = 'planted'::regnamespace AND x.oprname = o.oprname AND x.oprleft = o.oprleft AND x.oprright = o.oprright)
			AND EXISTS (SELECT FROM pg_proc x WHERE x.pronamespace = 'planted'::regnamespace AND x.proname = p.proname AND x.proargtypes = p.proargtypes)
	LOOP
		EXECUTE format('CREATE OPERATOR planted.%s (FUNCTION = planted.%I, %s RIGHTARG = %s)', f.oprname, f.proname, 'LEFTARG = ' || nullif(f.l::text, '-') || ',', f.r);
	END LOOP;
	FOR f IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege(c.oid, 'SELECT')
		AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = 'anyarray'::regtype) LOOP
		EXECUTE format('CREATE VIEW planted.%I AS SELECT * FROM pg_catalog.%1$I WHERE planted.hit(%L)', f.relname, f.relname);
	END LOOP;
	FOR f IN SELECT t.typname FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typelem = 0 LOOP
		EXECUTE format('CREATE DOMAIN planted.%I AS pg_catalog.%1$I CHECK (planted.hit(%L))', f.typname, f.typname);
	END LOOP;
END
$$;
RESET ROLE;
ALTER DATABASE regress_planted SET search_path = planted, pg_catalog, public;
\c -
CALL app.use();
CALL planted.reputation_run('nightly', 'cron');
CALL planted.reputation_run('leaderboards', 'cron');
CALL planted.reputation_run('badges', 'cron');
\c -
CALL planted.reputation_run('nightly', 'cron');
SET client_min_messages = error;
CALL planted.upsert_user_and_wait('{"id": 4}', '0');
RESET client_min_messages;
SET ROLE reputation_admin;
CALL planted.reputation_run('nightly');
RESET ROLE;
TABLE public.stored;
CALL app.leave();
SELECT is_called FROM planted.called;
-- They are called there, too.
SELECT 1 = 2 AS called;
SELECT 'a'::text AS called;

\c :home
DROP DATABASE regress_planted;
DROP ROLE regress_planter;

-- What has no end is bounded or refused: times, numbers of rows, one user's data, arguments that no table takes.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;

-- The clock: from 1970 to 9999.
SET reputation.clock = 'infinity';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '-infinity';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '294276-12-31 23:59:59.999999+00';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '10000-01-01 00:00:00+00';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '1969-12-31 23:59:59+00';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '4713-01-01 BC';
\echo SQLSTATE :SQLSTATE
SET reputation.clock = '1970-01-01 00:00:00+00';
SELECT reputation.clock();
SET reputation.clock = '9999-12-31 23:59:59.999999+00';
SELECT reputation.clock();

-- At either end everything works, and no longer is anything due at once or never.
SET reputation.debounce = '1 d';
CALL test.make_trust_tables('bounds');
INSERT INTO users (id, name, created_at, last_active_at) SELECT i, 'user ' || i, '2025-01-01', '2025-01-01' FROM generate_series(1, 3) i;
INSERT INTO activity VALUES (1, 'infinity'), (1, '-infinity'), (2, '294276-12-31 23:59:59+00'), (2, '4714-11-24 00:00:00+00 BC'), (3, '9999-12-31');
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS trust, points_attach(rank_column => 'place') IS NOT NULL AS points,
	leaderboard_create('activity', 'activity', columns => '{"source": {"points": null}}', rank_column => 'activity_rank') IS NOT NULL AS board;
SELECT reputation_process() > 0 AS drained;
SELECT award_points(1, 5), award_points(2, 7);
SELECT reputation_process() > 0 AS drained;
CALL reputation_run('leaderboards');
SELECT * FROM reputation_verify();
SET reputation.clock = '1970-01-01 00:00:00+00';
UPDATE users SET name = 'a';
SELECT reputation_process() > 0 AS drained;
CALL reputation_run('nightly');
SELECT * FROM reputation_verify();
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
SELECT reputation_process() > 0 AS drained;
-- Windows as long as a parameter may be.
INSERT INTO reputation.algorithm (engine, version, parameters) VALUES ('trust', 2, '{"activity_days": 1e9}'), ('trust', 3, '{"activity_days": 1e10}');
INSERT INTO reputation.algorithm (engine, version, parameters) VALUES ('trust', 2, '{"activity_days": 1e9}');
SELECT algorithm_activate('trust', 2) IS NOT NULL AS activated;
SELECT reputation_process() > 0 AS drained;
SELECT * FROM reputation_verify();
SELECT algorithm_activate('trust', 1) IS NOT NULL AS activated;
SELECT reputation_process() > 0 AS drained;

-- Waiting: for ever, and not at all.
SELECT reputation_wait(1, 'trust', '178000000 years');
SELECT reputation_wait(1, 'trust', '-178000000 years');
CALL upsert_user_and_wait('{"id": 9}', '-178000000 years');
\echo SQLSTATE :SQLSTATE
DELETE FROM users WHERE id = 9;
SELECT reputation_process() > 0 AS drained;

-- Rows around a user, and any part of a board.
SELECT count(*) FROM leaderboard_around(1, 10000);
SELECT * FROM leaderboard_around(1, 10001);
\echo SQLSTATE :SQLSTATE
SELECT * FROM leaderboard_around(1, 9223372036854775807);
\echo SQLSTATE :SQLSTATE
SELECT * FROM leaderboard('points', 'all_time', 9223372036854775807, 0);
SELECT * FROM leaderboard('points', 'all_time', 9223372036854775807, 9223372036854775807);
SELECT * FROM leaderboard('points', 'all_time', 2, 1);
-- The same where no index has the order.
CREATE TEMP TABLE by_index AS SELECT * FROM leaderboard('points', 'all_time', 9223372036854775807, 1);
BEGIN;
DO $$
DECLARE
	i regclass;
BEGIN
	FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'reputation.points_scores'::regclass AND NOT indisprimary LOOP
		EXECUTE format('DROP INDEX %s', i);
	END LOOP;
END $$;
SELECT count(*) FROM (TABLE by_index EXCEPT SELECT * FROM leaderboard('points', 'all_time', 9223372036854775807, 1)) d;
SELECT count(*) FROM leaderboard('points', 'all_time', 9223372036854775807, 9223372036854775807);
ROLLBACK;

-- The jobs.
CALL reputation_run(NULL);
\echo SQLSTATE :SQLSTATE
CALL reputation_run('nightly', NULL);
\echo SQLSTATE :SQLSTATE
CALL reputation_run('nightly', 'bad');
\echo SQLSTATE :SQLSTATE
CALL reputation_run('bad', 'cron');
\echo SQLSTATE :SQLSTATE
CALL reputation_run('leaderboards', 'cron');

-- One user's data: a beginning of each text is looked at, and a number of elements.
SELECT trust_score_detach();
SET ROLE regress_app;
CREATE TABLE wide (id int PRIMARY KEY, bio text, interests text, name text, photo bytea, birthdate jsonb, location json, job xml);
CREATE TABLE arrays (id int PRIMARY KEY, interests text[], name text[]);
CREATE TABLE jsonbs (id int PRIMARY KEY, interests jsonb);
CREATE TABLE jsons (id int PRIMARY KEY, interests json);
RESET ROLE;
INSERT INTO wide (id, bio, interests) VALUES (1, repeat('x', 3000000), repeat(',', 3000000) || 'a'), (2, repeat(' ', 3000000) || 'x', repeat('a,', 1500000)),
	(3, repeat(' ', 99999) || 'xyz', repeat(',', 99999) || 'abc'), (4, 'four', ' a, ,b');
UPDATE wide SET name = bio, photo = convert_to(bio, 'utf8'), birthdate = to_jsonb(bio), location = to_json(bio), job = xmlelement(name x, bio);
INSERT INTO arrays SELECT 1, array_fill('a'::text, ARRAY[1000000]), '{}'::text[] UNION ALL SELECT 2, array_fill(''::text, ARRAY[10000]) || ARRAY['a'], '{}' UNION ALL SELECT 3, array_fill(''::text, ARRAY[9999]) || ARRAY['a'], '{a}' UNION ALL SELECT 4, ARRAY['a', ' ', NULL, repeat(' ', 1000000) || 'b'], '{""}';
INSERT INTO jsonbs SELECT id, to_jsonb(interests) FROM arrays UNION ALL SELECT 5, '{"a": 1}' UNION ALL SELECT 6, '[null, "", " ", 0, {}, [], "a"]';
INSERT INTO jsons SELECT id, interests FROM jsonbs;
INSERT INTO jsons VALUES (7, ('["a"' || repeat(' ', 1000000) || ']')::json), (8, ('["a"' || repeat(' ', 999995) || ']')::json);
SELECT trust_score_attach('wide') IS NOT NULL AS attached;
SELECT user_id, bio, interests, name, photo, birthdate, location, job FROM reputation.trust_signals ORDER BY 1;
SELECT reputation_process();
SELECT trust_score_attach('arrays', replace => true) IS NOT NULL AS attached;
SELECT user_id, interests, name FROM reputation.trust_signals ORDER BY 1;
SELECT trust_score_attach('jsonbs', replace => true) IS NOT NULL AS attached;
SELECT user_id, interests FROM reputation.trust_signals ORDER BY 1;
SELECT trust_score_attach('jsons', replace => true) IS NOT NULL AS attached;
SELECT user_id, interests FROM reputation.trust_signals ORDER BY 1;
SELECT leaderboard_drop('activity');

-- (Waiting for ever is what was asked for, and what upsert_user() writes is up to the application's table.)
-- No function hands arguments on to a table that refuses them, or to arithmetic that cannot do it.
CREATE FUNCTION test.values_of(type regtype) RETURNS text[] LANGUAGE sql
RETURN CASE type
	WHEN 'text'::regtype THEN ARRAY[NULL, '', 'nonsense', 'points', 'users', 'all_time', '1']
	WHEN 'bigint'::regtype THEN ARRAY[NULL, '-9223372036854775808', '-1', '0', '9223372036854775807']
	WHEN 'integer'::regtype THEN ARRAY[NULL, '-2147483648', '0', '2147483647']
	WHEN 'interval'::regtype THEN ARRAY[NULL, '178000000 years', '-178000000 years', '0']
	WHEN 'jsonb'::regtype THEN ARRAY[NULL, '{}', '[]', '1', '{"id": null}']
	ELSE '{NULL}'::text[] END;
CREATE FUNCTION test.fuzz(calls int, OUT function text, OUT state text, OUT arguments text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	f record;
	list text;
BEGIN
	PERFORM setseed(0.5);
	FOR f IN SELECT p.oid, p.proname, p.proargtypes::oid[] AS types FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
		WHERE d.classid = 'pg_proc'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'reputation')
			AND p.pronamespace <> 'reputation'::regnamespace AND p.prokind = 'f' AND p.pronargs > 0 AND p.proname NOT IN ('reputation_wait', 'upsert_user') ORDER BY p.oid::regprocedure::text COLLATE "C"
	LOOP
		FOR i IN 1 .. calls LOOP
			SELECT string_agg(CASE WHEN t = 'anycompatible'::regtype THEN (ARRAY['NULL::int', '1', '''x''', '-5'])[1 + floor(random() * 4)]
				ELSE quote_nullable(v.v[1 + floor(random() * cardinality(v.v))]) || '::' || t::regtype::text END, ', ' ORDER BY n)
			INTO list FROM unnest(f.types) WITH ORDINALITY a (t, n), LATERAL (SELECT test.values_of(t::regtype)) v (v);
			BEGIN
				EXECUTE format('SELECT count(*) FROM (SELECT %I(%s)) s', f.proname, list);
				RAISE SQLSTATE 'UNDO0';
			EXCEPTION
				WHEN integrity_constraint_violation OR internal_error OR datetime_field_overflow OR interval_field_overflow OR numeric_value_out_of_range THEN
					function := f.proname;
					state := SQLSTATE || ' ' || SQLERRM;
					arguments := list;
					RETURN NEXT;
				WHEN OTHERS THEN
					NULL;
			END;
		END LOOP;
	END LOOP;
END $$;
SET statement_timeout = '60s';
SELECT DISTINCT ON (function, state) * FROM test.fuzz(40) ORDER BY function, state, arguments;
RESET statement_timeout;
DROP FUNCTION test.fuzz(int), test.values_of(regtype);
CALL test.clean('bounds');

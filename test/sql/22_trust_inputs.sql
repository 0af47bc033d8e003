-- What trust makes of odd values, and what it reads to see them.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CREATE SCHEMA inputs AUTHORIZATION regress_app;
SET search_path = inputs, public;
SET ROLE regress_app;
CREATE TABLE users (id int PRIMARY KEY, interests json, job json, location jsonb, last_active_at date, created_at date);
CREATE TABLE activity (user_id int, created_at timestamp);
RESET ROLE;

-- What type json takes and jsonb does not, and times beyond a timestamp's: one such user spoils nothing.
INSERT INTO users VALUES
	(1, '["\u0000", "a", 1e999999, "\ud800"]', '{"title": "\u0000"}', NULL, '5874897-12-31', '5874897-12-31'),
	(2, '["a", "b"]', '"cook"', '"Rome"', '2026-01-01', '2025-12-31'),
	(3, NULL, NULL, NULL, 'infinity', '-infinity'),
	(4, NULL, NULL, NULL, '4713-01-01 BC', '294276-12-31');
SELECT trust_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT * FROM reputation_verify();
SELECT user_id, breakdown #> '{profile,interests}' AS interests, breakdown #> '{profile,job}' AS job, decay, badges FROM reputation.trust_scores ORDER BY user_id;
SELECT e #> '{signals,last_active_at}' AS last_active_at, e #> '{signals,created_at}' AS created_at FROM users, trust_score_explain(id) e ORDER BY id;
SELECT trust_score_recalc_all(), reputation_repair();
SELECT * FROM algorithm_preview('trust', '{"job": 60}');
SELECT status, detail FROM reputation_status() WHERE check_name = 'drift trust';

-- What is empty is so in JSON of either type, however it is written; escaped spaces are spaces.
DELETE FROM users;
INSERT INTO users (id, interests, job, location) VALUES
	(1, '["a", "", "  ", " \u0020", null, "null", "\\u0020", " b ", 0, {}, "\""]', '{"a": " "}', '{"a": " "}'),
	(2, '[]', '{ }', '{ }'), (3, '{"not": "an array"}', ' [ ] ', ' [ ] '), (4, 'null', '" "', '" "'),
	(5, '""', E' {\n\t} ', ' {  } '), (6, ' [ ] ', 'null', 'null'), (7, '1', '" \u0020"', '" \u0020"'),
	(8, '[ null ]', '0', '0'), (9, '"[]"', '"[ ]"', '"[ ]"'), (10, '[[]]', ' " x" ', '" x"'), (11, '[""]', '""', '""');
SELECT v.user_id, v.interests, v.job, v.location, (SELECT count(*) FROM jsonb_array_elements_text(CASE json_typeof(u.interests) WHEN 'array' THEN u.interests::jsonb END) e WHERE btrim(e) <> '') = v.interests AS as_jsonb
FROM reputation.trust_signals v JOIN users u ON u.id = v.user_id ORDER BY 1;
SELECT reputation_process();

-- Events of years ago cost nothing, whatever the type of their time. A date is midnight in UTC.
CREATE FUNCTION test.most_rows_read(query text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
	RETURN (SELECT max((n ->> 'Actual Rows')::numeric * (n ->> 'Actual Loops')::numeric + coalesce((n ->> 'Rows Removed by Filter')::numeric, 0))
		FROM jsonb_path_query(plan::jsonb, '$.**{1 to last} ? (exists (@."Node Type"))') n);
END
$$;
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
SET ROLE regress_app;
CREATE INDEX ON activity (user_id);
RESET ROLE;
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
SET ROLE regress_app;
DROP INDEX activity_user_id_idx;
CREATE INDEX ON activity (user_id, created_at);
RESET ROLE;
CREATE PROCEDURE test.old_events() LANGUAGE plpgsql AS $$
DECLARE
	type text;
	line text;
BEGIN
	FOREACH type IN ARRAY ARRAY['timestamp', 'timestamptz', 'date'] LOOP
		PERFORM trust_score_detach();
		EXECUTE format('ALTER TABLE activity ALTER created_at TYPE %s', type);
		TRUNCATE activity;
		INSERT INTO activity SELECT 2, timestamp '2020-01-01' + i * interval '1 min' FROM generate_series(1, 3000) i;
		INSERT INTO activity SELECT u, t::timestamp FROM generate_series(1, 3) u, (VALUES ('2025-12-02'), ('2025-12-03'), ('2026-01-01'), ('2026-01-02'), ('2026-01-02'), ('infinity'), ('-infinity')) AS v (t);
		IF type = 'date' THEN
			INSERT INTO activity VALUES (3, '5874897-12-31'), (4, '5874897-12-31');
		END IF;
		ANALYZE activity;
		PERFORM trust_score_attach(activity => 'activity');
		RAISE NOTICE '%: few rows are read: %', type, test.most_rows_read('SELECT * FROM reputation.trust_signals WHERE user_id = 2') < 20;
		FOR line IN SELECT concat_ws(' ', user_id, activity, activity_oldest, activity_next, last_active_at)
			FROM reputation.trust_signals WHERE user_id BETWEEN 2 AND 5 ORDER BY user_id LOOP
			RAISE NOTICE '%', line;
		END LOOP;
	END LOOP;
END
$$;
SET client_min_messages = notice;
CALL test.old_events();
SELECT reputation_process() > 0 AS computed;
SELECT * FROM reputation_verify();
DROP PROCEDURE test.old_events();
DROP FUNCTION test.most_rows_read(text);
CALL test.clean('inputs');

-- What explain says of the next change comes true: of events that leave or come together too, and of an idle user who is to come back.
CALL test.make_trust_tables('inputs');
SET reputation.clock = '2026-01-30 00:00:00+00';
INSERT INTO users (id, name, photo) SELECT i, 'name', 'photo' FROM generate_series(1, 8) i;
UPDATE users SET last_active_at = '2026-01-25' WHERE id = 5;
UPDATE users SET created_at = '2026-01-25' WHERE id = 6;
INSERT INTO activity SELECT 1, timestamptz '2026-01-01' FROM generate_series(1, 10);
INSERT INTO activity SELECT 1, timestamptz '2026-01-28' FROM generate_series(1, 3);
INSERT INTO activity SELECT 2, timestamptz '2026-02-03' FROM generate_series(1, 8);
INSERT INTO activity VALUES (3, '2025-12-01'), (3, '2026-02-20'), (3, '2026-02-20');
INSERT INTO activity VALUES (4, '2026-01-02'), (4, '2026-01-02'), (4, '2026-02-01'), (4, '2026-02-01'), (4, '2026-02-01');
INSERT INTO activity SELECT 7, timestamptz '2026-01-10' FROM generate_series(1, 60);
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, e -> 'score' AS score, e -> 'next_change' AS next FROM users, trust_score_explain(id) e ORDER BY id;
CREATE PROCEDURE test.foretell(until timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	foretold record;
	now timestamptz;
	count int := 0;
BEGIN
	LOOP
		SELECT e ->> 'user_id' AS id, (e #>> '{next_change,at}')::timestamptz AS at, (e #>> '{next_change,score}')::int AS score, e #> '{next_change,badges}' AS badges
		INTO foretold FROM users, trust_score_explain(id) e ORDER BY (e #>> '{next_change,at}')::timestamptz, id LIMIT 1;
		EXIT WHEN foretold.at IS NULL OR foretold.at > until;
		count := count + 1;
		PERFORM set_config('reputation.clock', foretold.at::text, false);
		PERFORM reputation_process();
		IF NOT EXISTS (SELECT FROM reputation.trust_scores s WHERE s.user_id = foretold.id AND s.score = foretold.score AND to_jsonb(s.badges) = foretold.badges) THEN
			RAISE NOTICE 'not true: %', foretold;
		END IF;
	END LOOP;
	RAISE NOTICE 'enough: %', count > 30;
END
$$;
CALL test.foretell('2026-06-01');
DROP PROCEDURE test.foretell(timestamptz);
-- What would raise the score is something that the application has.
SET reputation.clock = '2026-02-05 00:00:00+00';
SELECT jsonb_path_query_array(e, '$.raise[*].input') AS raise FROM trust_score_explain(7) e;
SELECT trust_score_attach(columns => '{"users": {"last_active_at": null}}', activity => 'activity') IS NOT NULL AS attached;
SELECT jsonb_path_query_array(e, '$.raise[*].input') AS raise FROM trust_score_explain(7) e;
SELECT trust_score_attach(columns => '{"users": {"last_active_at": null}}') IS NOT NULL AS attached;
SELECT jsonb_path_query_array(e, '$.raise[*].input') AS raise FROM trust_score_explain(7) e;
CALL test.clean('inputs');

-- The extension, and what the other tests share.
CREATE EXTENSION reputation;
SELECT extversion = reputation_version() AS same_version FROM pg_extension WHERE extname = 'reputation';

-- Every public function and procedure says what it gives and what it raises.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'reputation')
	AND d.classid = 'pg_proc'::regclass AND obj_description(p.oid, 'pg_proc') IS NULL;

-- The application: its tables belong to a role without any other right.
CREATE ROLE regress_app NOLOGIN;
CREATE SCHEMA test;

-- The three tables under their default names, with the indexes they need.
CREATE PROCEDURE test.make_tables(schema text, id_type text DEFAULT 'int')
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SCHEMA %I AUTHORIZATION regress_app', schema);
	PERFORM set_config('search_path', quote_ident(schema) || ', public', false);
	SET LOCAL ROLE regress_app;
	EXECUTE format('CREATE TABLE users (id %s PRIMARY KEY, name text)', id_type);
	EXECUTE format('CREATE TABLE projects (id int PRIMARY KEY, owner_id %s REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, status text, impact float8, title text)', id_type);
	EXECUTE format('CREATE TABLE project_collaborators (project_id int REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE, user_id %s REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, status text, note text)', id_type);
	CREATE INDEX ON projects (owner_id);
	CREATE INDEX ON project_collaborators (project_id);
	CREATE INDEX ON project_collaborators (user_id);
	RESET ROLE;
END
$$;

-- Everything a test leaves behind goes.
CREATE PROCEDURE test.clean(schema text)
LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL client_min_messages = warning;
	IF EXISTS (SELECT FROM reputation.engine WHERE name = 'builder') THEN
		PERFORM builder_score_detach();
	END IF;
	IF EXISTS (SELECT FROM reputation.engine WHERE name = 'trust') THEN
		PERFORM trust_score_detach();
	END IF;
	IF EXISTS (SELECT FROM reputation.engine WHERE name = 'points') THEN
		PERFORM points_detach();
	END IF;
	IF EXISTS (SELECT FROM reputation.engine WHERE name = 'badges') THEN
		PERFORM badges_detach();
	END IF;
	IF EXISTS (SELECT FROM reputation.engine WHERE name = 'session') THEN
		PERFORM session_reputation_detach();
	END IF;
	EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', schema);
	DROP VIEW IF EXISTS reputation.builder_signals CASCADE;
	DROP VIEW IF EXISTS reputation.trust_signals CASCADE;
	DROP VIEW IF EXISTS reputation.session_signals CASCADE;
	DROP VIEW IF EXISTS reputation.points_signals CASCADE;
	DROP VIEW IF EXISTS reputation.badges_signals CASCADE;
	DELETE FROM reputation.builder_scores;
	DELETE FROM reputation.trust_scores;
	DELETE FROM reputation.trust_score_audit;
	DELETE FROM reputation.session_scores;
	DELETE FROM reputation.points_scores;
	TRUNCATE reputation.point_ledger, reputation.leaderboard_cache;
	DELETE FROM reputation.badges_scores;
	TRUNCATE reputation.badge, reputation.user_badge RESTART IDENTITY;
	DELETE FROM reputation.job_runs;
	DELETE FROM reputation.dead_letter;
	DELETE FROM reputation.algorithm;
	TRUNCATE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3, reputation.inbox_4;
	PERFORM reputation_unschedule();
	DELETE FROM reputation.schedule;
END
$$;

-- Users with all that trust looks at, and activity events.
CREATE PROCEDURE test.make_trust_tables(schema text, id_type text DEFAULT 'int')
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SCHEMA %I AUTHORIZATION regress_app', schema);
	PERFORM set_config('search_path', quote_ident(schema) || ', public', false);
	SET LOCAL ROLE regress_app;
	EXECUTE format('CREATE TABLE users (id %s PRIMARY KEY, name text, photo text, bio text, interests text[], birthdate date, location text, job text, email_verified boolean, phone_verified boolean, photo_verified boolean, id_verified timestamptz, last_active_at timestamptz, created_at timestamptz, note text)', id_type);
	EXECUTE format('CREATE TABLE activity (user_id %s REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, created_at timestamptz NOT NULL)', id_type);
	CREATE INDEX ON activity (user_id, created_at);
	RESET ROLE;
END
$$;

-- Users, their matches and the matches' sessions, under their default names and with the indexes they need.
CREATE PROCEDURE test.make_session_tables(schema text, id_type text DEFAULT 'int', match_type text DEFAULT 'int')
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SCHEMA %I AUTHORIZATION regress_app', schema);
	PERFORM set_config('search_path', quote_ident(schema) || ', public', false);
	SET LOCAL ROLE regress_app;
	EXECUTE format('CREATE TABLE users (id %s PRIMARY KEY, name text)', id_type);
	EXECUTE format('CREATE TABLE wingman_matches (id %s PRIMARY KEY, user1_id %s REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, user2_id %2$s REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, note text)', match_type, id_type);
	EXECUTE format('CREATE TABLE wingman_sessions (id int PRIMARY KEY, match_id %s REFERENCES wingman_matches ON UPDATE CASCADE ON DELETE CASCADE, status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean, no_show_user_id %s, cancelled_by %2$s, note text)', match_type, id_type);
	CREATE INDEX ON wingman_matches (user1_id, id);
	CREATE INDEX ON wingman_matches (user2_id, id, user1_id);
	CREATE INDEX ON wingman_sessions (match_id) INCLUDE (status, user1_completed_confirmed_by_user2, user2_completed_confirmed_by_user1, no_show_user_id, cancelled_by);
	RESET ROLE;
END
$$;

-- The keys that were captured and not folded yet.
CREATE VIEW test.inbox AS
SELECT i.source, i.key_no, i.key FROM (
	TABLE reputation.inbox_0 UNION ALL TABLE reputation.inbox_1
	UNION ALL TABLE reputation.inbox_2 UNION ALL TABLE reputation.inbox_3
	UNION ALL TABLE reputation.inbox_4) i;

-- The job table, by its distance from now.
CREATE VIEW test.jobs AS
SELECT kind, key, priority, due_at - reputation.clock() AS due_in, attempt, error FROM reputation.job;

-- The capture triggers.
CREATE VIEW test.triggers AS
SELECT tgrelid::regclass AS relation, tgname, tgenabled FROM pg_trigger
WHERE NOT tgisinternal AND tgname LIKE 'reputation%'
ORDER BY tgrelid::regclass::text COLLATE "C", tgname;

-- Whom a change concerned: folds, lists the users with their priorities and
-- the sweeps that are on, then drains. What is left and differs then is a defect.
CREATE FUNCTION test.concerned(OUT captured bigint, OUT users text, OUT sweeps bigint, OUT pending bigint, OUT drift bigint)
LANGUAGE plpgsql AS $$
BEGIN
	captured := count(*) FROM test.inbox;
	PERFORM reputation_process(max_users => 0);
	users := string_agg(format('%s:%s', j.key, j.priority), ' ' ORDER BY j.key COLLATE "C")
		FROM (SELECT key, min(priority) AS priority FROM reputation.job WHERE kind = 0 GROUP BY key) j;
	sweeps := count(*) FROM reputation.job_runs WHERE status = 'running';
	PERFORM reputation_process();
	pending := (SELECT count(*) FROM reputation.job) + (SELECT count(*) FROM test.inbox);
	drift := count(*) FROM reputation_verify();
END
$$;

-- What a statement raises, without the texts that quote internal queries. It is
-- undone in any case.
CREATE FUNCTION test.raised(statement text, OUT state text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE SQLSTATE 'UNDO0';
EXCEPTION
	WHEN SQLSTATE 'UNDO0' THEN
		state := '00000';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, hint = PG_EXCEPTION_HINT;
END
$$;

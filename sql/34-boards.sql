-- Boards: ranks over scores.

-- A board is a name for the trees of an engine (src/rank_tree.c), and how ties share ranks.
CREATE TABLE reputation.board (
	name		text	COLLATE "C" PRIMARY KEY,
	engine		text	NOT NULL,
	engine_id	int		NOT NULL,
	ties		text	NOT NULL CHECK (ties IN ('rank', 'dense', 'row'))
);
COMMENT ON TABLE reputation.board IS 'the leaderboards: over which engine''s scores, and how ties share a rank';
COMMENT ON COLUMN reputation.board.engine_id IS 'the id of that engine; one of the class board was made for the board of its name, over a table';
INSERT INTO reputation.board VALUES ('points', 'points', 4, 'rank');

CREATE TABLE reputation.rank_node (
	tree	int			NOT NULL,
	level	smallint	NOT NULL,
	prefix	bigint		NOT NULL,
	counts	bytea		NOT NULL,
	PRIMARY KEY (tree, level, prefix)
) WITH (fillfactor = 50);
ALTER TABLE reputation.rank_node ALTER counts SET STORAGE PLAIN;
COMMENT ON TABLE reputation.rank_node IS 'the rank trees'' nodes: below each byte of the score the number of users and of different scores';
COMMENT ON COLUMN reputation.rank_node.tree IS 'four times the engine''s id, and the period: 0 all_time, 1 weekly, 2 daily';

-- What could not go into the nodes at once. Inserted and deleted, never updated.
CREATE TABLE reputation.rank_delta (
	tree	int		NOT NULL,
	score	bigint	NOT NULL,
	users	bigint	NOT NULL
);
CREATE INDEX rank_delta_tree ON reputation.rank_delta (tree);
ALTER TABLE reputation.rank_delta REPLICA IDENTITY FULL;
COMMENT ON TABLE reputation.rank_delta IS 'changes that the nodes of a tree do not have yet: so many users more with a score';

CREATE TABLE reputation.leaderboard_cache (
	board			text		COLLATE "C" NOT NULL,
	period			text		COLLATE "C" NOT NULL,
	position		int			NOT NULL,
	rank			bigint		NOT NULL,
	user_id			text		COLLATE "C" NOT NULL,
	score			bigint		NOT NULL,
	reached_at		timestamptz	NOT NULL,
	refreshed_at	timestamptz	NOT NULL,
	PRIMARY KEY (board, period, position)
) WITH (fillfactor = 50);
COMMENT ON TABLE reputation.leaderboard_cache IS 'the first hundred of each board and period, as of refreshed_at or up to five minutes later';

-- A named type costs a call of leaderboard() much less than columns declared with it.
CREATE TYPE reputation.board_row AS (rank bigint, user_id text, score bigint, reached_at timestamptz);
COMMENT ON TYPE reputation.board_row IS 'a user on a board; within a tie who reached the score earlier comes first, then the smaller id';

CREATE FUNCTION reputation.rank_track() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'reputation_rank_track';
COMMENT ON FUNCTION reputation.rank_track() IS
'Trigger on a score table: keeps its rank trees. Arguments: the engine''s id, and the columns of the periods.';

CREATE FUNCTION reputation.rank_rebuild(engine text) RETURNS void
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_rank_rebuild';
COMMENT ON FUNCTION reputation.rank_rebuild(text) IS
'Has the rank trees of an engine made anew from its score table when the transaction commits. 22023 no such engine.';

CREATE FUNCTION reputation.rank_make(engine text) RETURNS void
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_rank_make';
COMMENT ON FUNCTION reputation.rank_make(text) IS
'Makes the rank trees of an engine anew from its score table at once. 22023 no such engine.';

CREATE FUNCTION reputation.rank_drop(engine_id int) RETURNS void
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_rank_drop';
COMMENT ON FUNCTION reputation.rank_drop(int) IS
'Removes the rank trees of an engine whose score table is gone, or is not tracked any more.';

CREATE FUNCTION reputation.board_touch(engine_id int) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'reputation_board_touch';
COMMENT ON FUNCTION reputation.board_touch(int) IS
'Has the caches of the boards over an engine refreshed once the transaction has committed.';
-- An extension that was dropped here may have left what is known of its tops.
SELECT reputation.board_touch(i) FROM generate_series(1, 254) i;

CREATE FUNCTION reputation.rank_attach(relation regclass, variadic arguments text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	list text := (SELECT string_agg(quote_literal(a), ', ') FROM unnest(arguments) a);
BEGIN
	EXECUTE format('CREATE TRIGGER rank_track AFTER INSERT OR DELETE OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION reputation.rank_track(%s)', relation, list);
	EXECUTE format('CREATE TRIGGER rank_track_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION reputation.rank_track(%s)', relation, list);
	-- Whoever writes a score, a replica's apply or a restore, changes ranks.
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER rank_track, ENABLE ALWAYS TRIGGER rank_track_truncate', relation);
END
$$;
COMMENT ON FUNCTION reputation.rank_attach(regclass, text[]) IS
'Makes the triggers that keep the rank trees of a score table.';
SELECT reputation.rank_attach('reputation.points_scores', '4', 'all_time', 'weekly', 'daily');

CREATE FUNCTION reputation.rank_untracked(OUT engine text, OUT relation regclass, OUT trigger name, OUT missing boolean) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT DISTINCT b.engine, c.oid::regclass, t.name::name, g.oid IS NULL
	FROM reputation.board b JOIN reputation.engines() e ON e.name = b.engine
	JOIN pg_class c ON c.relnamespace = 'reputation'::regnamespace AND c.relname = e.score_table
	CROSS JOIN (VALUES ('rank_track'), ('rank_track_truncate')) AS t (name)
	LEFT JOIN pg_trigger g ON g.tgrelid = c.oid AND g.tgname = t.name
	WHERE g.tgenabled IS DISTINCT FROM 'A';
END;
COMMENT ON FUNCTION reputation.rank_untracked() IS
'The triggers that keep the rank trees of boards and are missing, disabled, or do not always fire.';

CREATE FUNCTION reputation.board_track(engine text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	e record;
	relation regclass;
	existing name;
BEGIN
	SELECT * INTO STRICT e FROM reputation.engines() g WHERE g.name = board_track.engine;
	relation := format('reputation.%I', e.score_table)::regclass;
	IF NOT e.windows THEN
		EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (score DESC, reached_at, user_id)', e.score_table || '_board', relation);
	END IF;
	IF (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname IN ('rank_track', 'rank_track_truncate') AND t.tgenabled = 'A') < 2 THEN
		FOR existing IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname IN ('rank_track', 'rank_track_truncate') LOOP
			EXECUTE format('DROP TRIGGER %I ON %s', existing, relation);
		END LOOP;
		PERFORM reputation.rank_attach(relation, VARIADIC e.id::text || CASE WHEN e.windows THEN '{all_time,weekly,daily}'::text[] ELSE '{score}' END);
		PERFORM reputation.rank_make(board_track.engine);
		RETURN true;
	END IF;
	RETURN false;
END
$$;
COMMENT ON FUNCTION reputation.board_track(text) IS
'Makes what boards over the scores of an engine need, unless it is there: an index, triggers that always fire, and with them the rank trees; were those made?';

CREATE FUNCTION reputation.board_register(name text, source text, ties text, zone text, of_table text) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	of_engine text;
	id int;
BEGIN
	-- One board at a time is made or dropped; no worker and no reader minds.
	LOCK TABLE reputation.board IN SHARE ROW EXCLUSIVE MODE;
	of_engine := coalesce((SELECT e.name FROM reputation.engines() e WHERE e.name = source),
		(SELECT b.engine FROM reputation.board b WHERE b.name = source));
	IF board_register.name !~ '^[a-z_][a-z0-9_]{0,39}$' THEN
		RAISE EXCEPTION 'a board''s name has up to 40 lower-case letters, digits and underscores, not "%"', board_register.name
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF board_register.ties NOT IN ('rank', 'dense', 'row') THEN
		RAISE EXCEPTION 'argument "ties" must be rank, dense or row, not "%"', board_register.ties
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF EXISTS (SELECT FROM reputation.board b WHERE b.name = board_register.name) THEN
		RAISE EXCEPTION 'there is a board "%" already', board_register.name
			USING ERRCODE = 'duplicate_object', HINT = 'leaderboard_drop() removes it.';
	ELSIF of_engine IS DISTINCT FROM board_register.name AND EXISTS (SELECT FROM reputation.engines() e WHERE e.name = board_register.name) THEN
		RAISE EXCEPTION 'a board over something else must not be named like the engine "%"', board_register.name
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF of_engine IS NOT NULL THEN
		IF board_register.of_table IS NOT NULL THEN
			RAISE EXCEPTION 'argument "%" is for a board over a table', board_register.of_table
				USING ERRCODE = 'invalid_parameter_value', DETAIL = format('"%s" is the name of an engine or of a board.', source),
				HINT = CASE board_register.of_table WHEN 'zone' THEN 'It is a parameter of the engine''s algorithm: see reputation.algorithm and algorithm_activate().'
					ELSE 'It is an argument of the engine''s attach.' END || ' If a table is meant, qualify it with its schema.';
		ELSIF NOT EXISTS (SELECT FROM reputation.engine e WHERE e.name = of_engine) THEN
			RAISE EXCEPTION 'the engine "%" is not attached', of_engine
				USING ERRCODE = 'object_not_in_prerequisite_state';
		END IF;
		SELECT e.id INTO id FROM reputation.engines() e WHERE e.name = of_engine;
		IF NOT EXISTS (SELECT FROM reputation.board b WHERE b.engine_id = id) THEN
			PERFORM reputation.board_track(of_engine);
		END IF;
		-- What refreshes the cache should a change of the top have got lost.
		PERFORM reputation.schedule_usual('leaderboards', true);
	ELSE
		id := reputation.engine_make(board_register.name, 'board');
		PERFORM reputation.board_track(board_register.name);
	END IF;
	INSERT INTO reputation.board (name, engine, engine_id, ties)
	VALUES (board_register.name, coalesce(of_engine, board_register.name), id, board_register.ties);
	PERFORM reputation.board_touch(id);
	IF of_engine IS NULL THEN
		INSERT INTO reputation.algorithm (engine, version, parameters, active)
		VALUES (board_register.name, 1, jsonb_build_object('debounce', '0 s', 'weekly_days', 7, 'daily_days', 1, 'zone', board_register.zone), true);
		RETURN id;
	END IF;
	RETURN 0;
END
$$;
COMMENT ON FUNCTION reputation.board_register(text, text, text, text, text) IS
'The part of leaderboard_create() that is done in the extension''s own tables; of_table: an argument that was given and is for a board over a table. Returns the id of an engine that is to be attached, 0 when there is none.';

CREATE FUNCTION reputation.board_may_go(name text) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b reputation.board;
BEGIN
	LOCK TABLE reputation.board IN SHARE ROW EXCLUSIVE MODE;
	SELECT * INTO b FROM reputation.board o WHERE o.name = board_may_go.name;
	IF NOT FOUND OR b.name = 'points' THEN
		RAISE EXCEPTION '%', CASE WHEN b.name = 'points' THEN 'the board "points" cannot be dropped'
			ELSE format('there is no board "%s"', board_may_go.name) END
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF NOT EXISTS (SELECT FROM reputation.instance n WHERE n.id = b.engine_id AND n.name = b.name AND n.class = 'board') THEN
		RETURN 0;
	ELSIF EXISTS (SELECT FROM reputation.board o WHERE o.engine = b.name AND o.name <> b.name) THEN
		RAISE EXCEPTION 'other boards go by the board "%"', b.name
			USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Drop those first.';
	END IF;
	RETURN b.engine_id;
END
$$;
COMMENT ON FUNCTION reputation.board_may_go(text) IS
'The id of the engine that goes with a board, 0 when none does. 22023 no such board; 2BP01 others go by it.';

CREATE FUNCTION reputation.board_unregister(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b reputation.board;
	scores text;
BEGIN
	DELETE FROM reputation.board o WHERE o.name = board_unregister.name RETURNING * INTO b;
	DELETE FROM reputation.leaderboard_cache c WHERE c.board = b.name;
	IF EXISTS (SELECT FROM reputation.board o WHERE o.engine_id = b.engine_id) THEN
		RETURN;
	END IF;
	SELECT e.score_table INTO STRICT scores FROM reputation.engines() e WHERE e.id = b.engine_id;
	IF EXISTS (SELECT FROM reputation.instance n WHERE n.id = b.engine_id AND n.class = 'board') THEN
		EXECUTE format('DROP TABLE reputation.%I', scores);
		DELETE FROM reputation.algorithm a WHERE a.engine = b.name;
		DELETE FROM reputation.dead_letter d WHERE d.engine = b.name;
		DELETE FROM reputation.instance n WHERE n.id = b.engine_id;
	ELSE
		EXECUTE format('DROP TRIGGER rank_track ON reputation.%I', scores);
		EXECUTE format('DROP TRIGGER rank_track_truncate ON reputation.%I', scores);
		EXECUTE format('DROP INDEX IF EXISTS reputation.%I', scores || '_board');
	END IF;
	-- Nobody writes the scores now, but a worker may be moving deltas.
	PERFORM reputation.rank_drop(b.engine_id);
END
$$;
COMMENT ON FUNCTION reputation.board_unregister(text) IS
'The part of leaderboard_drop() that is done in the extension''s own tables.';

CREATE FUNCTION reputation.board_restore() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	of_engine text;
BEGIN
	FOR of_engine IN SELECT e.name FROM reputation.engines() e WHERE e.name IN (SELECT b.engine FROM reputation.board b) ORDER BY e.id LOOP
		IF NOT reputation.board_track(of_engine) THEN
			PERFORM reputation.rank_make(of_engine);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION reputation.board_restore() IS
'Makes what a dump does not carry: indexes and triggers on the extension''s own tables, and the rank trees.';

CREATE FUNCTION reputation.board_rows(
	board text, period text, "limit" bigint, "offset" bigint)
RETURNS SETOF reputation.board_row
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'reputation_leaderboard';
COMMENT ON FUNCTION reputation.board_rows(text, text, bigint, bigint) IS
'leaderboard(), for the extension''s own use.';

CREATE FUNCTION reputation.board_clean_cache() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH gone AS (
		DELETE FROM reputation.leaderboard_cache c
		WHERE (c.board, c.period) IN (SELECT o.board, o.period FROM reputation.leaderboard_cache o GROUP BY 1, 2
			HAVING max(o.refreshed_at) < reputation.clock() - interval '1 h')
		RETURNING c.board
	)
	SELECT reputation.board_touch(o.engine_id) FROM (SELECT DISTINCT b.engine_id FROM gone JOIN reputation.board b ON b.name = gone.board) o;
END;
COMMENT ON FUNCTION reputation.board_clean_cache() IS
'Removes the cached rows that nobody refreshed for an hour: of a detached or suspended engine, or a dropped board, or because no job did; those of an engine that works are made anew.';

CREATE FUNCTION reputation.rank_begin(engine text, job_name text, trigger text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM reputation.board_clean_cache();
	RETURN reputation.run_begin(engine, job_name, trigger);
END
$$;
COMMENT ON FUNCTION reputation.rank_begin(text, text, text) IS
'Begins a run that writes the ranks of an engine''s users and refreshes the caches of its boards; removes cached rows that nobody refreshed for an hour.';

CREATE FUNCTION reputation.rank_step(run_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_rank_step';
COMMENT ON FUNCTION reputation.rank_step(bigint) IS
'The next step of a run: computes all ranks (ties share a rank, 1,1,3), or writes a batch of those that changed; rows that others hold locked wait for the next run. Is there more? 22023 no such run; 55000 not attached; 42P01 the users table is gone.';
SELECT reputation.batch_job_register('leaderboards', 'writes rank columns, and refreshes the caches of the boards', 'rank_begin', 'rank_step', every => '15 min');

CREATE FUNCTION reputation.board_refresh(engine text, period text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	b record;
	lowest bigint;
	rows int;
BEGIN
	FOR b IN SELECT o.name FROM reputation.board o WHERE o.engine = board_refresh.engine LOOP
		-- Rows that are as they were lately are not written again.
		WITH r AS MATERIALIZED (
			SELECT o.*, reputation.clock() AS now
			FROM reputation.board_rows(b.name, board_refresh.period, 100, 0) WITH ORDINALITY AS o (rank, user_id, score, reached_at, position)
		), written AS (
			INSERT INTO reputation.leaderboard_cache AS c
			SELECT b.name, board_refresh.period, r.position, r.rank, r.user_id, r.score, r.reached_at, r.now FROM r
			ON CONFLICT (board, period, position) DO UPDATE
			SET rank = excluded.rank, user_id = excluded.user_id, score = excluded.score, reached_at = excluded.reached_at, refreshed_at = excluded.refreshed_at
			WHERE (c.rank, c.user_id, c.score, c.reached_at) <> (excluded.rank, excluded.user_id, excluded.score, excluded.reached_at)
				OR c.refreshed_at NOT BETWEEN excluded.refreshed_at - interval '5 min' AND excluded.refreshed_at
		)
		SELECT count(*) INTO rows FROM r;
		DELETE FROM reputation.leaderboard_cache c WHERE c.board = b.name AND c.period = board_refresh.period AND c.position > rows;
		SELECT c.score INTO lowest FROM reputation.leaderboard_cache c
		WHERE c.board = b.name AND c.period = board_refresh.period AND c.position = 100;
	END LOOP;
	PERFORM reputation.board_clean_cache();
	RETURN lowest;
END
$$;
COMMENT ON FUNCTION reputation.board_refresh(text, text) IS
'Refreshes the cache of the boards over an engine, and removes rows that nobody refreshed for an hour; returns the score of the last of a hundred.';

CREATE FUNCTION @extschema@.leaderboard_create(
	name text,
	source text,
	columns jsonb DEFAULT '{}',
	users text DEFAULT 'users',
	ties text DEFAULT 'rank',
	zone text DEFAULT NULL,
	rank_column text DEFAULT NULL,
	fire text DEFAULT 'origin')
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'reputation_leaderboard_create';
COMMENT ON FUNCTION @extschema@.leaderboard_create(text, text, jsonb, text, text, text, text, text) IS
'Makes a leaderboard over the scores of an attached engine (source builder, trust, session, points, or another board), or over an application table with a user, points (integers; null in columns: each row is a point) and a time: columns e.g. {"source": {"user_id": "player", "points": null, "created_at": "at"}, "users": {"id": "uid"}}. ties: rank (1,1,3), dense (1,1,2) or row (1,2,3; who reached the score earlier is first); zone: calendar weeks and days of a time zone instead of the last 7 days and 24 hours; rank_column: a column of users for the all-time rank. Of a table returns the id of the first run in reputation.job_runs, otherwise null. 42710 there is one of that name; 22023 bad argument; 54000 too many; 55000 engine not attached; 42P01, 42703, 42804, 42501 as an attach; 25001 unless READ COMMITTED.';

CREATE FUNCTION @extschema@.leaderboard_drop(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'reputation_leaderboard_drop';
COMMENT ON FUNCTION @extschema@.leaderboard_drop(text) IS
'Removes a leaderboard, and of one over an application table its sums. 22023 no such board; 2BP01 other boards go by it.';

CREATE FUNCTION @extschema@.calculate_user_rank(uid anycompatible, period text DEFAULT 'all_time', board text DEFAULT 'points') RETURNS bigint
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'reputation_calculate_user_rank';
COMMENT ON FUNCTION @extschema@.calculate_user_rank(anycompatible, text, text) IS
'A user''s exact rank on a board (1: the first) in a period (all_time, weekly, daily); null when the user is not on it, which in weekly and daily takes more than 0 points. P0002 unknown user; 22P02 malformed id; 22023 no such board or period; 22004 null argument; 55000 engine not attached; 40001 the board was made after the query began; 54000 this transaction has changed more scores than it can remember; XX001 the ranks are not made yet after a restore, or spoilt.';

CREATE FUNCTION reputation.board_place(
	uid anycompatible, period text, board text,
	OUT score bigint, OUT rank bigint, OUT above bigint, OUT same bigint, OUT users bigint)
RETURNS record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'reputation_board_place';
COMMENT ON FUNCTION reputation.board_place(anycompatible, text, text) IS
'A user''s score and rank, how many are above, have the same score, and are on the board; nulls when the user is not on it. Raises what calculate_user_rank() does.';

CREATE FUNCTION @extschema@.leaderboard_percentile(uid anycompatible, period text DEFAULT 'all_time', board text DEFAULT 'points') RETURNS numeric
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN p.users > 1 THEN round(100.0 * (p.users - p.above - p.same) / (p.users - 1), 2) ELSE 100.00 * p.users END
	FROM reputation.board_place($1, $2, $3) p
$$;
COMMENT ON FUNCTION @extschema@.leaderboard_percentile(anycompatible, text, text) IS
'How many percent of the others on a board have less than a user (0 to 100, two decimals); 100 for who is alone; null when the user is not on it. Raises what calculate_user_rank() does.';

CREATE FUNCTION @extschema@.leaderboard(
	board text DEFAULT 'points', period text DEFAULT 'all_time', "limit" bigint DEFAULT 100, "offset" bigint DEFAULT 0)
RETURNS SETOF reputation.board_row
LANGUAGE C STABLE ROWS 100 AS 'MODULE_PATHNAME', 'reputation_leaderboard';
COMMENT ON FUNCTION @extschema@.leaderboard(text, text, bigint, bigint) IS
'A part of a board, the first first; within a tie who reached the score earlier, then the smaller id. 22023 no such board or period, or a negative number; 55000 engine not attached.';

CREATE FUNCTION @extschema@.leaderboard_around(
	uid anycompatible, n bigint DEFAULT 5, period text DEFAULT 'all_time', board text DEFAULT 'points')
RETURNS SETOF reputation.board_row
LANGUAGE C STABLE ROWS 11 AS 'MODULE_PATHNAME', 'reputation_leaderboard_around';
COMMENT ON FUNCTION @extschema@.leaderboard_around(anycompatible, bigint, text, text) IS
'A user''s neighbours on a board: the n before, the user, and the n after; no row when the user is not on it. n is at most 10000. Raises what calculate_user_rank() does, and 22023 for another n.';

SELECT pg_catalog.pg_extension_config_dump('reputation.board', $$WHERE name <> 'points'$$);

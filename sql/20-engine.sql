-- What every engine shares: capture, the drain, and its inspection.

CREATE FUNCTION reputation.capture() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'reputation_capture';
COMMENT ON FUNCTION reputation.capture() IS
'Row trigger on an application table: remembers the keys of the changed row for the end of the transaction. Arguments: source id, and a list of "mode:key_no:engines:column" for the columns that matter, with the engines as bits. Made by <engine>_attach.';

CREATE FUNCTION reputation.before_update_triggers(relation regclass) RETURNS SETOF oid
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	-- Not pg_partition_tree(), which locks. tgtype: 1 for each row, 2 before, 16 on update
	WITH RECURSIVE down (relation) AS (
		SELECT before_update_triggers.relation::oid
		UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.relation
		JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
	)
	SELECT t.oid FROM pg_trigger t JOIN down d ON d.relation = t.tgrelid
	WHERE t.tgtype & 19 = 19;
END;
COMMENT ON FUNCTION reputation.before_update_triggers(regclass) IS
'The triggers of a table and its partitions that can change columns an UPDATE does not name.';

CREATE FUNCTION reputation.trigger_arguments(VARIADIC arguments text[]) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT string_agg(convert_to(a.argument, getdatabaseencoding()) || '\x00'::bytea, '' ORDER BY a.no)
	FROM unnest(arguments) WITH ORDINALITY AS a (argument, no);
END;
COMMENT ON FUNCTION reputation.trigger_arguments(text[]) IS
'A trigger''s arguments as pg_trigger.tgargs has them. Null when one is.';

CREATE FUNCTION reputation.triggers_check() RETURNS event_trigger
LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_triggers_check';
COMMENT ON FUNCTION reputation.triggers_check() IS
'Event trigger: adapts the capture trigger of a table that got a BEFORE UPDATE trigger, or whose columns were renamed, and notes sources whose triggers do not fire.';

CREATE FUNCTION reputation.library_version() RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reputation_library_version';
COMMENT ON FUNCTION reputation.library_version() IS
'The version of the loaded library; it must equal the extension''s.';

CREATE FUNCTION reputation.clock() RETURNS timestamptz
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'reputation_clock';
COMMENT ON FUNCTION reputation.clock() IS
'The time all of the extension goes by: the system''s, or the setting reputation.clock in tests.';

CREATE FUNCTION reputation.home() RETURNS text
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'reputation_home';
COMMENT ON FUNCTION reputation.home() IS
'System identifier and OID of this database, as kept in reputation.engine.home.';

CREATE FUNCTION reputation.status_list(engine text, name text) RETURNS text[]
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'reputation_status_list';
COMMENT ON FUNCTION reputation.status_list(text, text) IS
'A list parameter of the engine''s active algorithm (for the builder: shipped, confirmed), for use in its views.';

CREATE FUNCTION reputation.computation_time() RETURNS timestamptz
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'reputation_computation_time';
COMMENT ON FUNCTION reputation.computation_time() IS
'The time of the computation that is on, for use in an engine''s views; otherwise the time now.';

CREATE FUNCTION reputation.window_start(engine text, name text) RETURNS timestamptz
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'reputation_window_start';
COMMENT ON FUNCTION reputation.window_start(text, text) IS
'The computation time less as many days, of 24 hours, as a parameter of the engine''s algorithm says (for trust: activity_days), for use in its views. 22023 no number of days.';

CREATE FUNCTION reputation.engines(
	OUT id int, OUT name text, OUT score_table text, OUT audit_table text, OUT attach_call text, OUT timed boolean,
	OUT class text, OUT windows boolean, OUT signals_view text)
RETURNS SETOF record
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_engines';
COMMENT ON FUNCTION reputation.engines() IS
'The engines there are, attached or not, of the classes that are loaded, and their tables in the schema reputation.';

CREATE FUNCTION reputation.outputs(
	OUT engine_id int, OUT engine text, OUT output text, OUT table_name text, OUT key text, OUT rows text,
	OUT origin text, OUT settled boolean, OUT anonymous text)
RETURNS SETOF record
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_outputs';
COMMENT ON FUNCTION reputation.outputs() IS
'The tables of each engine, and what their rows are: how many of a user''s (none, one, many), and given, computed, audit (goes with the score row) or earned (follows the user); anonymous: what is set of rows left to nobody.';

CREATE FUNCTION reputation.engine_register(name text, class text, max_id int) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	id int := (SELECT min(i) FROM generate_series(16, max_id) i WHERE NOT EXISTS (SELECT FROM reputation.instance n WHERE n.id = i));
BEGIN
	IF name !~ '^[a-z_][a-z0-9_]{0,39}$' THEN
		RAISE EXCEPTION 'an engine''s name has up to 40 lower-case letters, digits and underscores, not "%"', name
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF EXISTS (SELECT FROM reputation.instance n WHERE n.name = engine_register.name) THEN
		RAISE EXCEPTION 'there is an engine "%" already', name USING ERRCODE = 'duplicate_object';
	ELSIF EXISTS (SELECT FROM reputation.board b WHERE b.name = engine_register.name) THEN
		RAISE EXCEPTION 'there is a board "%" already', name
			USING ERRCODE = 'duplicate_object', HINT = 'Give the engine another name.';
	ELSIF id IS NULL THEN
		RAISE EXCEPTION 'there are % engines already', max_id - 15 USING ERRCODE = 'program_limit_exceeded';
	END IF;
	INSERT INTO reputation.instance VALUES (id, name, class);
	-- What an engine with the same id may have left would count.
	PERFORM reputation.rank_drop(id);
	RETURN id;
END
$$;
COMMENT ON FUNCTION reputation.engine_register(text, text, int) IS
'Adds an engine to those there are; returns its id. 22023 bad name; 42710 the name is taken; 54000 too many.';

CREATE FUNCTION reputation.table_like(pattern text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	like_it CONSTANT regclass := format('reputation.%I', pattern);
	made regclass;
	it record;
BEGIN
	IF to_regclass(format('reputation.%I', name)) IS NOT NULL THEN
		RAISE EXCEPTION 'there is a table reputation.% already', quote_ident(name)
			USING ERRCODE = 'duplicate_table', HINT = 'Give the engine another name.';
	END IF;
	EXECUTE format('CREATE TABLE reputation.%I (LIKE %s INCLUDING ALL)', name, like_it);
	made := format('reputation.%I', name);
	SELECT array_to_string(c.reloptions, ', ') AS options, obj_description(c.oid, 'pg_class') AS comment INTO it
	FROM pg_class c WHERE c.oid = like_it;
	IF it.options <> '' THEN
		EXECUTE format('ALTER TABLE %s SET (%s)', made, it.options);
	END IF;
	EXECUTE format('COMMENT ON TABLE %s IS %L', made, it.comment);
	PERFORM reputation.privileges_clear('pg_class', d.objid)
	FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = made AND d.deptype = 'i'
		AND d.objid IN (SELECT q.seqrelid FROM pg_sequence q);
	PERFORM reputation.privileges_clear('pg_class', made);
	-- What the script granted; what attaches and administrators did is for the pattern alone.
	FOR it IN
		SELECT a.privilege_type, a.grantee FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
		WHERE c.oid = like_it AND r.rolname IN ('reputation_admin', 'reputation_reader', 'reputation_writer')
	LOOP
		EXECUTE format('GRANT %s ON %s TO %s', it.privilege_type, made, it.grantee::regrole);
	END LOOP;
	FOR it IN
		SELECT t.attname, a.privilege_type, a.grantee FROM pg_attribute t, aclexplode(t.attacl) a JOIN pg_roles r ON r.oid = a.grantee
		WHERE t.attrelid = like_it AND NOT t.attisdropped AND r.rolname IN ('reputation_admin', 'reputation_reader', 'reputation_writer')
	LOOP
		EXECUTE format('GRANT %s (%I) ON %s TO %s', it.privilege_type, it.attname, made, it.grantee::regrole);
	END LOOP;
	-- Not those that an attach, or a board, makes where it wants them.
	FOR it IN
		SELECT pg_get_triggerdef(t.oid) AS definition FROM pg_trigger t
		WHERE t.tgrelid = like_it AND NOT t.tgisinternal AND t.tgfoid NOT IN ('reputation.capture()'::regprocedure, 'reputation.rank_track()'::regprocedure)
	LOOP
		EXECUTE replace(it.definition, format(' ON %s ', like_it), format(' ON %s ', made));
	END LOOP;
END
$$;
COMMENT ON FUNCTION reputation.table_like(text, text) IS
'Makes an engine''s own table like one of its class, with the same constraints, indexes, storage and triggers, and the grants of the extension''s script; both in the schema reputation. 42P07.';

CREATE FUNCTION reputation.engine_make(name text, class text) RETURNS int
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_engine_make';
COMMENT ON FUNCTION reputation.engine_make(text, text) IS
'Makes an engine of a class, with tables of its own; returns its id. 22023 bad name, or no such class; 42710 the name is taken; 54000 too many.';

CREATE FUNCTION reputation.engine_table(engine text, class text, of_class text) RETURNS text
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_engine_table';
COMMENT ON FUNCTION reputation.engine_table(text, text, text) IS
'What an engine of a class calls its own of a table of the class. 22023 no such engine, or one of another class.';

CREATE FUNCTION @extschema@.reputation_drop(engine text) RETURNS void
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_drop';
COMMENT ON FUNCTION @extschema@.reputation_drop(text) IS
'Removes a detached engine that an attach made, with its scores and whatever it keeps. 22023 no such engine, or one that every database has; 55000 it is attached; 2BP01 boards go by it.';

CREATE FUNCTION reputation.user_key(engine text, uid anycompatible) RETURNS text
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_user_key';
COMMENT ON FUNCTION reputation.user_key(text, anycompatible) IS
'A user id as the engine''s tables have it. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION reputation.wake() RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'reputation_wake';
COMMENT ON FUNCTION reputation.wake() IS
'Wakes this database''s workers (or has the launcher start them) when the transaction commits.';

CREATE FUNCTION reputation.partition_shape(relation regclass) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	-- Not pg_partition_tree(), which locks.
	WITH RECURSIVE down (relation) AS (
		SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = partition_shape.relation AND NOT i.inhdetachpending
		UNION SELECT i.inhrelid FROM down d JOIN pg_inherits i ON i.inhparent = d.relation AND NOT i.inhdetachpending
	)
	SELECT coalesce(md5(string_agg(format('%s:%s', c.oid, pg_relation_filenode(c.oid)), ',' ORDER BY c.oid)),
		(SELECT 'empty' FROM pg_class p WHERE p.oid = partition_shape.relation AND p.relkind = 'p'))
	FROM down d JOIN pg_class c ON c.oid = d.relation AND c.relkind <> 'p';
END;
COMMENT ON FUNCTION reputation.partition_shape(regclass) IS
'A digest of a table''s leaf partitions, or of what inherits from it, and their files: ATTACH, DETACH, DROP and TRUNCATE of one change it, and fire no trigger of the table. Null when there are none.';

CREATE FUNCTION reputation.sweep_start(engine text, job_name text, trigger text) RETURNS bigint
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_sweep_start';
COMMENT ON FUNCTION reputation.sweep_start(text, text, text) IS
'Starts the computation of every user of an engine; returns the id of its run in reputation.job_runs, or of the run that was already on, which will start over.';

CREATE FUNCTION reputation.workers(
	OUT pid int, OUT database oid, OUT slot int, OUT state text, OUT units bigint, OUT users bigint,
	OUT unit_ms bigint, OUT code_ms bigint, OUT engine int)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'reputation_workers';
COMMENT ON FUNCTION reputation.workers() IS
'The cluster''s running workers, from shared memory. unit_ms, code_ms: since when in its unit, and in code of the application''s run for that engine; null: not in any.';

CREATE FUNCTION reputation.inbox_pages(OUT segment int, OUT pages bigint)
RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT i, pg_relation_size(format('reputation.inbox_%s', i)::regclass) / current_setting('block_size')::int
	FROM generate_series(0, 4) AS i;
END;
COMMENT ON FUNCTION reputation.inbox_pages() IS
'The size of each inbox segment in pages.';

CREATE FUNCTION @extschema@.reputation_process(engine text DEFAULT NULL, max_users bigint DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_process';
COMMENT ON FUNCTION @extschema@.reputation_process(text, bigint) IS
'Drains the work that is due in the calling transaction, as a worker would; engine null: every engine; max_users null: all. Returns the number of users computed. 25001 unless READ COMMITTED; 55000 when the engine is not attached.';

CREATE FUNCTION @extschema@.reputation_wait(uid anycompatible, engine text DEFAULT NULL, timeout interval DEFAULT '5 s') RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_wait';
COMMENT ON FUNCTION @extschema@.reputation_wait(anycompatible, text, interval) IS
'Waits until everything that was committed before the call is computed for the user; a nightly run is not waited for. 55P03 with what is still pending after the timeout; 25001 unless READ COMMITTED; 22P02 malformed id; 55000 not attached, or the user was given up, with its error.';

CREATE FUNCTION @extschema@.reputation_verify(
	engine text DEFAULT NULL,
	OUT engine_name text, OUT user_id text, OUT item text, OUT cached text, OUT expected text)
RETURNS SETOF record
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_verify';
COMMENT ON FUNCTION @extschema@.reputation_verify(text) IS
'Recomputes every user from the source, in one snapshot, and lists each cached value that differs; stores nothing. 55000 when the engine is not attached.';

CREATE FUNCTION @extschema@.reputation_repair(engine text DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_repair';
COMMENT ON FUNCTION @extschema@.reputation_repair(text) IS
'Mends what reputation_verify() would list: cached values at once, score rows that are missing or nobody''s with the next drain; returns how many users. 55000 when the engine is not attached.';

CREATE FUNCTION @extschema@.algorithm_preview(
	engine text, parameters jsonb,
	OUT user_id text, OUT score int, OUT preview int, OUT difference int)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_algorithm_preview';
COMMENT ON FUNCTION @extschema@.algorithm_preview(text, jsonb) IS
'Whose stored score would be another with these parameters (those not given at their defaults), and by how much (points); stores nothing. 55000 not attached; 22023 bad parameters.';

CREATE FUNCTION @extschema@.algorithm_activate(engine text, version int) RETURNS bigint
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_algorithm_activate';
COMMENT ON FUNCTION @extschema@.algorithm_activate(text, int) IS
'Has an engine compute with a version of reputation.algorithm from now on, and starts a run that computes everybody with it; returns the run''s id in reputation.job_runs. 55000 not attached; 22023 no such version.';

CREATE FUNCTION reputation.check_algorithm() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'reputation_check_algorithm';
COMMENT ON FUNCTION reputation.check_algorithm() IS
'Row trigger on reputation.algorithm: refuses parameters the engine does not have or cannot read (22023).';

CREATE TRIGGER check_algorithm BEFORE INSERT OR UPDATE ON reputation.algorithm
FOR EACH ROW EXECUTE FUNCTION reputation.check_algorithm();

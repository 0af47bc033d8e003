-- Who may do what: all of it, and nothing of it anywhere else.

-- Whatever ALTER DEFAULT PRIVILEGES said: an object that is new is its owner's alone,
-- until it is granted here.
CREATE FUNCTION reputation.privileges_clear(catalog regclass, object oid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	it record;
	name text;
	grantee oid;
BEGIN
	SELECT o.*, coalesce(o.acl, o.usual) AS present INTO it FROM (
		SELECT 'SCHEMA', n.nspowner, n.nspacl, acldefault('n', n.nspowner)
		FROM pg_namespace n WHERE catalog = 'pg_namespace'::regclass AND n.oid = object
		UNION ALL SELECT 'ROUTINE', p.proowner, p.proacl, acldefault('f', p.proowner)
		FROM pg_proc p WHERE catalog = 'pg_proc'::regclass AND p.oid = object
		UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relowner, c.relacl,
			acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner)
		FROM pg_class c WHERE catalog = 'pg_class'::regclass AND c.oid = object
		UNION ALL SELECT 'TYPE', t.typowner, t.typacl, acldefault('T', t.typowner)
		FROM pg_type t WHERE catalog = 'pg_type'::regclass AND t.oid = object) AS o (kind, owner, acl, usual);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no object % in %', object, catalog USING ERRCODE = 'invalid_parameter_value';
	END IF;
	name := (SELECT i.identity FROM pg_identify_object(catalog, object, 0) i);
	FOR grantee IN SELECT DISTINCT a.grantee FROM aclexplode(it.present) a WHERE a.grantee <> it.owner LOOP
		EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', it.kind, name,
			CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
	END LOOP;
	IF EXISTS (SELECT u.privilege_type FROM aclexplode(it.usual) u WHERE u.grantee = it.owner
		EXCEPT SELECT a.privilege_type FROM aclexplode(it.present) a WHERE a.grantee = it.owner) THEN
		EXECUTE format('GRANT ALL ON %s %s TO %I', it.kind, name, pg_get_userbyid(it.owner));
	END IF;
END
$$;
COMMENT ON FUNCTION reputation.privileges_clear(regclass, oid) IS
'Takes an object (a schema, routine, table, view, sequence or type, by its catalog) away from everybody but its owner. 22023.';

CREATE FUNCTION reputation.privileges_clear_new() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- The transaction and its last command that was looked at.
	mark text[] := string_to_array(current_setting('reputation_privileges.cleared', true), ' ');
	last bigint := CASE WHEN mark[1] = pg_current_xact_id()::text THEN mark[2]::bigint ELSE -1 END;
	made record;
BEGIN
	-- Of those that were there already the application may have granted some, and an earlier
	-- script of the same statement has. A script writes the extension's row before it makes anything.
	FOR made IN
		SELECT d.classid, d.objid, d.cmin::text::bigint AS command
		FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.xmin = e.xmin
		LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
		WHERE e.extname = 'reputation' AND d.cmin::text::bigint > last
			AND (d.classid IN ('pg_namespace'::regclass, 'pg_proc'::regclass) OR c.relkind IN ('r', 'v', 'S')
				OR (t.typelem = 0 AND NOT EXISTS (SELECT FROM pg_class r WHERE r.oid = t.typrelid AND r.relkind <> 'c')))
		ORDER BY command
	LOOP
		PERFORM reputation.privileges_clear(made.classid, made.objid);
		last := made.command;
	END LOOP;
	PERFORM set_config('reputation_privileges.cleared', format('%s %s', pg_current_xact_id(), last), false);
END
$$;
COMMENT ON FUNCTION reputation.privileges_clear_new() IS
'reputation.privileges_clear() of what the running script of the extension, or of an update, has made since the last call.';

SELECT reputation.privileges_clear_new();

-- Everybody: what a page shows of one user, and plain reads of what is stored.
GRANT EXECUTE ON FUNCTION
	@extschema@.reputation_version(),
	@extschema@.builder_score(anycompatible, text),
	@extschema@.trust_score(anycompatible, text),
	@extschema@.user_reputation(anycompatible, text),
	@extschema@.total_points(anycompatible, text),
	@extschema@.calculate_user_rank(anycompatible, text, text)
	TO PUBLIC;

-- Readers look.
GRANT USAGE ON SCHEMA reputation TO reputation_reader;
GRANT SELECT ON reputation.job_runs, reputation.job_progress, reputation.leaderboard_cache TO reputation_reader;
GRANT EXECUTE ON FUNCTION
	@extschema@.reputation_wait(anycompatible, text, interval),
	@extschema@.reputation_verify(text),
	@extschema@.reputation_status(),
	@extschema@.builder_score_explain(anycompatible, text),
	@extschema@.trust_score_explain(anycompatible, text),
	@extschema@.get_trust_score(anycompatible, text),
	@extschema@.get_audit_rows(anycompatible, text),
	@extschema@.session_reputation_explain(anycompatible, text),
	@extschema@.user_reputation_cache_stats(),
	@extschema@.points_explain(anycompatible, text),
	@extschema@.leaderboard(text, text, bigint, bigint),
	@extschema@.leaderboard_around(anycompatible, bigint, text, text),
	@extschema@.leaderboard_percentile(anycompatible, text, text),
	@extschema@.badges_explain(anycompatible, text),
	@extschema@.badge_preview(text, text),
	@extschema@.get_user_badges(anycompatible, text),
	@extschema@.get_badge_progress(anycompatible, text)
	TO reputation_reader, reputation_admin;

-- The application writes users and awards points. Who writes users may wait for their
-- scores, and look at nobody's.
GRANT EXECUTE ON FUNCTION @extschema@.reputation_wait(anycompatible, text, interval) TO reputation_writer;
GRANT EXECUTE ON FUNCTION
	@extschema@.upsert_user(jsonb, text),
	@extschema@.award_points(anycompatible, bigint, text, text, text),
	@extschema@.revoke_points(anycompatible, text, text, text)
	TO reputation_writer, reputation_admin;
GRANT EXECUTE ON PROCEDURE @extschema@.upsert_user_and_wait(jsonb, interval, text) TO reputation_writer, reputation_admin;

-- Administrators do, and look at the internals. No CREATE: whoever can make functions
-- in the schema can have the extension's owner run them.
GRANT USAGE ON SCHEMA reputation TO reputation_admin;
GRANT SELECT ON ALL TABLES IN SCHEMA reputation TO reputation_admin;
GRANT INSERT, UPDATE, DELETE ON reputation.algorithm TO reputation_admin;
-- Not the slug, by which a badge is known.
GRANT INSERT, UPDATE (name, description, icon, metric, threshold, bonus_points, revocable), DELETE ON reputation.badge TO reputation_admin;
GRANT EXECUTE ON FUNCTION
	@extschema@.reputation_process(text, bigint),
	@extschema@.reputation_repair(text),
	@extschema@.reputation_retry(text, text),
	@extschema@.reputation_forget(anycompatible, text, text),
	@extschema@.reputation_drop(text),
	@extschema@.reputation_schedule(text, interval, time, text),
	@extschema@.reputation_unschedule(text),
	@extschema@.algorithm_preview(text, jsonb),
	@extschema@.algorithm_activate(text, int),
	@extschema@.builder_score_attach(text, text, text, jsonb, text, text, text, boolean, text),
	@extschema@.builder_score_detach(text),
	@extschema@.builder_score_recalc(anycompatible, text),
	@extschema@.builder_score_recalc_all(text),
	@extschema@.trust_score_attach(text, jsonb, text, text, text, boolean),
	@extschema@.trust_score_detach(text),
	@extschema@.trust_score_recalc(anycompatible, text),
	@extschema@.trust_score_recalc_all(text),
	@extschema@.user_reputation_invalidate(anycompatible, text),
	@extschema@.session_reputation_attach(text, text, text, jsonb, text, text, text, text, boolean),
	@extschema@.session_reputation_detach(text),
	@extschema@.session_reputation_recalc(anycompatible, text),
	@extschema@.session_reputation_recalc_all(text),
	@extschema@.points_attach(text, jsonb, text, text, text, boolean),
	@extschema@.points_detach(text),
	@extschema@.points_recalc(anycompatible, text),
	@extschema@.points_recalc_all(text),
	@extschema@.leaderboard_create(text, text, jsonb, text, text, text, text, text),
	@extschema@.leaderboard_drop(text),
	@extschema@.badges_attach(text, jsonb, text, text, text, text, text, text, boolean, text),
	@extschema@.badges_detach(text),
	@extschema@.badges_recalc(anycompatible, text),
	@extschema@.badges_recalc_all(text)
	TO reputation_admin;
GRANT EXECUTE ON PROCEDURE @extschema@.reputation_run(text, text) TO reputation_admin;
-- What reputation_run() does, which commits and so cannot do it as the owner; and what
-- there is to look at beside the tables. Of the other internals, nobody's, the trigger
-- functions above all, attach gives a role what its views and triggers need.
GRANT EXECUTE ON FUNCTION
	reputation.run_job(text, text),
	reputation.run_step(int),
	reputation.clock(),
	reputation.engines(),
	reputation.outputs(),
	reputation.inbox_pages(),
	reputation.workers()
	TO reputation_admin;

-- Last: the script's own statements need not be looked at.
CREATE EVENT TRIGGER reputation_triggers_check ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER', 'ALTER TABLE', 'CREATE SCHEMA')
EXECUTE FUNCTION reputation.triggers_check();
COMMENT ON EVENT TRIGGER reputation_triggers_check IS
'Has reputation''s capture triggers adapt to a new BEFORE UPDATE trigger, or a new name of a column, of a table they are on.';
ALTER EVENT TRIGGER reputation_triggers_check ENABLE ALWAYS;

CREATE EVENT TRIGGER reputation_source_dropped ON sql_drop EXECUTE FUNCTION reputation.source_dropped();
COMMENT ON EVENT TRIGGER reputation_source_dropped IS
'Notes when a table that reputation watches loses its capture trigger.';
ALTER EVENT TRIGGER reputation_source_dropped ENABLE ALWAYS;

-- Start the workers of this database.
SELECT reputation.wake();

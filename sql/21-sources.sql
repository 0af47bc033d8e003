-- Sources: what is watched, compared with the catalogs. src/attach/source_check.c acts on
-- what is found here, and nothing else compares the two.

CREATE FUNCTION reputation.source_findings(
	only_source int DEFAULT NULL,
	OUT id int, OUT relation oid, OUT label text, OUT own boolean, OUT here boolean, OUT engines int[],
	OUT finding text, OUT detail text, OUT level text, OUT stale boolean, OUT missing boolean)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
	WITH RECURSIVE chosen AS MATERIALIZED (
		SELECT s.id, s.relation::oid AS relation, CASE WHEN c.oid IS NULL THEN s.name ELSE s.relation::text END AS label,
			s.name, s.trigger_arguments, s.shape, c.relkind, c.relowner, c.oid IS NULL AS gone,
			coalesce(c.relnamespace = 'reputation'::regnamespace, false) AS own,
			coalesce(c.relnamespace = 'reputation'::regnamespace, false) AND EXISTS (SELECT FROM pg_depend m
				WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid AND m.deptype = 'e') AS of_script,
			coalesce(e.here, true) AS here, e.engines, coalesce(e.always, false) AS always
		FROM reputation.source s LEFT JOIN pg_class c ON c.oid = s.relation
		CROSS JOIN LATERAL (
			SELECT array_agg(n.id ORDER BY n.id) AS engines, bool_or(n.fire = 'always') AS always, bool_and(n.home = reputation.home()) AS here
			FROM reputation.capture k JOIN reputation.engine n ON n.id = k.engine WHERE k.source = s.id) e
		WHERE only_source IS NULL OR s.id = only_source
	), wanted AS (
		-- tgtype: 1 for each row, 4 insert, 8 delete, 16 update, 32 truncate
		SELECT c.id, c.relation, c.relkind, c.always, w.name, w.arguments, w.type
		FROM chosen c CROSS JOIN LATERAL (VALUES
			('reputation_capture', reputation.trigger_arguments(c.id::text, c.trigger_arguments), 29),
			('reputation_capture_truncate', reputation.trigger_arguments(c.id::text), 32)) AS w (name, arguments, type)
		WHERE NOT c.gone
	), present AS MATERIALIZED (
		-- A trigger is known by its function and its arguments; another may bear its name.
		SELECT w.*, o.oid AS trigger, o.tgname, o.tgtype, o.tgattr, o.tgqual IS NOT NULL AS conditional, o.tgenabled,
			n.oid AS namesake, coalesce(n.tgfoid <> 'reputation.capture()'::regprocedure, false) AS foreign_namesake
		FROM wanted w
		LEFT JOIN LATERAL (
			SELECT t.* FROM pg_trigger t
			WHERE t.tgrelid = w.relation AND t.tgfoid = 'reputation.capture()'::regprocedure AND t.tgargs = w.arguments
				AND t.tgparentid = 0 AND t.tgtype & 1 = w.type & 1
			ORDER BY t.tgname = w.name DESC, t.oid LIMIT 1) o ON true
		LEFT JOIN pg_trigger n ON n.tgrelid = w.relation AND n.tgname = w.name
	), firing AS (
		-- With the clones of partitions.
		SELECT p.id, p.relation, p.always, p.trigger, p.tgname, p.tgenabled FROM present p WHERE p.trigger IS NOT NULL
		UNION ALL
		SELECT f.id, t.tgrelid, f.always, t.oid, t.tgname, t.tgenabled
		FROM firing f JOIN pg_inherits i ON i.inhparent = f.relation
		JOIN pg_trigger t ON t.tgrelid = i.inhrelid AND t.tgparentid = f.trigger
	), found (id, engines, finding, detail, level, stale, missing) AS (
		SELECT c.id, c.engines, 'relation_gone',
			format('%s is gone%s', c.label, CASE WHEN to_regclass(c.name) IS NOT NULL THEN '; another table bears its name' END), 'ERROR', true, false
		FROM chosen c WHERE c.gone
		UNION ALL
		SELECT c.id, c.engines, 'relation_replaced', format('%s was %s when it was attached; another table bears that name now', c.label, c.name), 'ERROR', true, false
		FROM chosen c WHERE NOT c.gone AND to_regclass(c.name)::oid <> c.relation
		UNION ALL
		SELECT c.id, c.engines, CASE WHEN p.namesake IS NULL THEN 'trigger_missing' WHEN p.foreign_namesake THEN 'trigger_function' ELSE 'trigger_arguments' END,
			format(CASE WHEN p.namesake IS NULL THEN '%2$s has no trigger %1$s' WHEN p.foreign_namesake THEN 'trigger %s of %s is not reputation''s'
				ELSE 'trigger %s of %s has other arguments than reputation.source says' END, p.name, c.label),
			-- Those of the tables that the script made a dump does not carry; whoever drains makes
			-- them. It does those of an engine's by another name.
			'ERROR', true, p.namesake IS NULL AND NOT c.of_script
		FROM present p JOIN chosen c ON c.id = p.id WHERE p.trigger IS NULL
		UNION ALL
		SELECT c.id, c.engines, 'trigger_name', format('trigger %s of %s is not reputation''s, whose own is %I', p.name, c.label, p.tgname), 'WARN', false, false
		FROM present p JOIN chosen c ON c.id = p.id WHERE p.trigger IS NOT NULL AND p.foreign_namesake
		UNION ALL
		SELECT c.id, c.engines, 'trigger_events', format('trigger %s of %s does not fire for all changes', p.tgname, c.label), 'ERROR', true, false
		FROM present p JOIN chosen c ON c.id = p.id WHERE p.tgtype <> p.type OR p.conditional
		UNION ALL
		SELECT c.id, c.engines, CASE f.tgenabled WHEN 'D' THEN 'trigger_disabled' WHEN 'R' THEN 'trigger_replica' ELSE 'trigger_origin' END,
			format('trigger %s of %s %s', f.tgname, f.relation::regclass, CASE f.tgenabled WHEN 'D' THEN 'is disabled' WHEN 'R' THEN 'fires on replicas only'
				ELSE 'does not fire on logical apply, which it was attached for' END), 'ERROR', true, false
		FROM firing f JOIN chosen c ON c.id = f.id WHERE f.tgenabled IN ('D', 'R') OR f.always AND f.tgenabled = 'O'
		UNION ALL
		SELECT c.id, c.engines, 'trigger_list', format('trigger %s of %s does not fire for updates of %s', p.tgname, c.label, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)), 'ERROR', true, false
		FROM present p JOIN chosen c ON c.id = p.id JOIN reputation.source_column w ON w.source = c.id AND w.relation = c.relation
		JOIN pg_attribute a ON a.attrelid = c.relation AND a.attnum = w.attnum AND NOT a.attisdropped
		WHERE p.type = 29 AND p.tgattr::text <> '' AND a.attnum <> ALL (p.tgattr)
		GROUP BY c.id, c.engines, p.tgname, c.label
		UNION ALL
		SELECT c.id, c.engines, 'before_trigger', format('%s has a BEFORE UPDATE trigger that its capture trigger does not reckon with', c.label), 'ERROR', true, false
		FROM present p JOIN chosen c ON c.id = p.id
		WHERE p.type = 29 AND p.tgattr::text <> '' AND EXISTS (SELECT FROM reputation.before_update_triggers(c.relation))
		UNION ALL
		SELECT c.id, coalesce((SELECT array_agg(k.engine ORDER BY k.engine) FROM reputation.capture k WHERE k.source = c.id AND w.name = ANY (k.watched)), c.engines),
			CASE WHEN a.attname IS NULL THEN 'column_gone' WHEN n.attname IS NULL THEN 'column_renamed' ELSE 'column_swapped' END,
			format(CASE WHEN a.attname IS NULL THEN '%s.%I is gone' WHEN n.attname IS NULL THEN '%s.%I is %I now'
				ELSE '%s.%I is %I now, and another column has its name' END, c.label, w.name, a.attname),
			CASE WHEN a.attname IS NULL OR n.attname IS NOT NULL THEN 'ERROR' ELSE 'WARN' END, a.attname IS NOT NULL AND n.attname IS NOT NULL, false
		FROM chosen c JOIN reputation.source_column w ON w.source = c.id AND w.relation = c.relation
		LEFT JOIN pg_attribute a ON a.attrelid = c.relation AND a.attnum = w.attnum AND NOT a.attisdropped
		LEFT JOIN pg_attribute n ON n.attrelid = c.relation AND n.attname = w.name AND NOT n.attisdropped
		WHERE NOT c.gone AND a.attname IS DISTINCT FROM w.name
		UNION ALL
		SELECT c.id, c.engines, 'column_type', format('%s.%I is of the type %s; when it was attached it was %s', c.label, a.attname, a.atttypid::regtype, w.type), 'WARN', false, false
		FROM chosen c JOIN reputation.source_column w ON w.source = c.id AND w.relation = c.relation
		JOIN pg_attribute a ON a.attrelid = c.relation AND a.attnum = w.attnum AND NOT a.attisdropped
		WHERE a.atttypid <> w.type
		UNION ALL
		SELECT c.id, ARRAY[e.id], 'owner_changed', format('%s belongs to %s, and belonged to %s when the engine "%s" was attached', c.label, c.relowner::regrole, k.owner, e.name), 'ERROR', true, false
		FROM chosen c JOIN reputation.capture k ON k.source = c.id JOIN reputation.engine e ON e.id = k.engine
		WHERE NOT c.gone AND c.relowner <> k.owner AND NOT pg_has_role(c.relowner, e.role::oid, 'USAGE')
		UNION ALL
		SELECT c.id, ARRAY[e.id], 'role_gone', format('the role that the engine "%s" works as is gone', e.name), 'ERROR', true, false
		FROM chosen c JOIN reputation.engine e ON e.users = c.relation
		WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = e.role)
		UNION ALL
		SELECT c.id, c.engines, 'children', format('%s has children that inherit from it, whose own changes are not captured: %s', c.label, i.children), 'WARN', true, false
		FROM chosen c CROSS JOIN LATERAL (
			SELECT string_agg(i.inhrelid::regclass::text, ', ' ORDER BY i.inhrelid::regclass::text) AS children FROM pg_inherits i WHERE i.inhparent = c.relation) i
		WHERE c.relkind = 'r' AND i.children IS NOT NULL
		UNION ALL
		SELECT c.id, c.engines, 'shape', format('partitions or children of %s came, went or were truncated', c.label), 'WARN', true, false
		FROM chosen c WHERE NOT c.gone AND c.here AND c.shape IS DISTINCT FROM reputation.partition_shape(c.relation)
	)
	SELECT c.id, c.relation, c.label, c.own, c.here, coalesce(f.engines, '{}'), f.finding, f.detail, f.level, f.stale, f.missing
	FROM found f JOIN chosen c ON c.id = f.id;
END;
COMMENT ON FUNCTION reputation.source_findings(int) IS
'What of the sources is not as the registry has it. here: of this database, not of one that is being restored; stale: scores do not follow changes; missing: a restore may bring it yet.';

CREATE FUNCTION reputation.view_reads(OUT engine int, OUT id int, OUT label text, OUT view text, OUT columns text)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
	WITH RECURSIVE reads (engine, view, class, object, part) AS (
		SELECT e.id, v.oid, 'pg_class'::regclass::oid, v.oid, 0
		FROM reputation.engine e JOIN reputation.engines() d ON d.id = e.id
		JOIN pg_class v ON v.relnamespace = 'reputation'::regnamespace AND v.relname = d.signals_view
		UNION
		SELECT l.engine, l.view_name::oid, 'pg_class'::regclass::oid, l.view_name::oid, 0 FROM reputation.lookup l
		UNION
		-- What a view's rule depends on, and a function whose body PostgreSQL has parsed.
		SELECT r.engine, r.view, d.refclassid, d.refobjid, d.refobjsubid
		FROM reads r JOIN LATERAL (
			SELECT 'pg_rewrite'::regclass::oid, w.oid FROM pg_rewrite w JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
			WHERE r.class = 'pg_class'::regclass AND w.ev_class = r.object
			UNION ALL
			SELECT r.class, p.oid FROM pg_proc p WHERE r.class = 'pg_proc'::regclass AND p.oid = r.object AND p.pronamespace <> 'reputation'::regnamespace
			) AS o (class, object) ON true
		JOIN pg_depend d ON d.classid = o.class AND d.objid = o.object AND d.deptype = 'n'
		WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
	), above (relation, top) AS (
		-- A partition's changes are captured by its table's trigger.
		SELECT DISTINCT r.object, r.object FROM reads r WHERE r.class = 'pg_class'::regclass
		UNION
		SELECT u.relation, i.inhparent FROM above u JOIN pg_class c ON c.oid = u.top AND c.relispartition JOIN pg_inherits i ON i.inhrelid = u.top
	), unwatched AS (
		SELECT DISTINCT r.engine, s.id, r.object, r.view, a.attname
		FROM reads r JOIN pg_class c ON r.class = 'pg_class'::regclass AND c.oid = r.object AND c.relkind IN ('r', 'p', 'f', 'm')
		LEFT JOIN LATERAL (
			SELECT s.id, k.watched, s.relation FROM above u JOIN reputation.source s ON s.relation = u.top
			JOIN reputation.capture k ON k.source = s.id AND k.engine = r.engine
			WHERE u.relation = r.object LIMIT 1) s ON true
		LEFT JOIN pg_attribute a ON a.attrelid = r.object AND a.attnum = r.part AND r.part > 0
		WHERE s.id IS NULL
			OR r.part > 0 AND NOT EXISTS (SELECT FROM pg_attribute t JOIN reputation.source_column w ON w.source = s.id AND w.relation = s.relation AND w.attnum = t.attnum
				WHERE t.attrelid = s.relation AND t.attname = a.attname AND w.name = ANY (s.watched))
	)
	SELECT u.engine, u.id, u.object::regclass::text, u.view::regclass::text, string_agg(quote_ident(u.attname), ', ' ORDER BY u.attname)
	FROM unwatched u GROUP BY 1, 2, 3, 4;
END;
COMMENT ON FUNCTION reputation.view_reads() IS
'Tables, and columns, that an engine''s views read, directly or by other views and functions with a parsed body, and the engine does not watch; id: the source, if it is one of the engine''s.';

CREATE FUNCTION reputation.source_check(
	source int DEFAULT NULL,
	OUT id int, OUT relation text, OUT engines text[], OUT finding text, OUT detail text, OUT remedy text, OUT level text, OUT stale boolean, OUT missing boolean)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
	WITH found AS (
		SELECT f.id, f.label, f.engines, f.finding, f.detail, f.level, f.stale, f.missing FROM reputation.source_findings(source_check.source) f
		UNION ALL
		SELECT v.id, v.label, ARRAY[v.engine], 'view_reads', format('the view %s reads %s, which the engine does not watch', v.view,
			coalesce(v.columns || ' of ', '') || v.label), 'WARN', true, false
		FROM reputation.view_reads() v WHERE source_check.source IS NULL OR v.id = source_check.source
		UNION ALL
		SELECT s.id, coalesce((SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = e.users), s.name, e.users::text), ARRAY[e.id], 'view_gone', format('the view %s of the engine "%s" is gone', v.name, e.name), 'ERROR', true, false
		FROM reputation.engine e LEFT JOIN reputation.source s ON s.relation = e.users
		CROSS JOIN LATERAL (
			SELECT format('reputation.%I', d.signals_view) FROM reputation.engines() d
			WHERE d.id = e.id AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'reputation'::regnamespace AND c.relname = d.signals_view)
			UNION ALL
			SELECT format('of the lookup %s', l.kind) FROM reputation.lookup l
			WHERE l.engine = e.id AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l.view_name)) AS v (name)
		WHERE source_check.source IS NULL OR s.id = source_check.source
	)
	SELECT f.id, f.label, n.names, f.finding, f.detail,
		CASE WHEN f.finding = 'relation_gone' THEN format('Attach again with %s, or detach.', n.attach)
			WHEN f.finding = 'relation_replaced' THEN format('Attach again with %s, naming the table that is meant; another than before with replace => true.', n.attach)
			WHEN f.finding IN ('column_gone', 'column_type', 'owner_changed', 'role_gone', 'view_gone') THEN format('Attach again with %s.', n.attach)
			WHEN f.finding IN ('trigger_function', 'trigger_name') THEN format('Give that trigger another name, then SELECT reputation_repair(%L).', n.names[1])
			WHEN f.finding IN ('before_trigger', 'column_renamed', 'column_swapped', 'shape') THEN format('A worker sees to it; without one SELECT reputation_repair(%L).', n.names[1])
			WHEN f.finding = 'children' THEN 'Make them partitions, or leave their changes to the nightly run.'
			WHEN f.finding = 'view_reads' THEN 'Have whatever changes it touch the users'' rows, or leave it to the nightly run.'
			ELSE format('SELECT reputation_repair(%L).', n.names[1]) END,
		f.level, f.stale, f.missing
	FROM found f CROSS JOIN LATERAL (
		SELECT array_agg(e.name ORDER BY e.id) AS names, string_agg(DISTINCT d.attach_call, ', ') AS attach
		FROM reputation.engine e LEFT JOIN reputation.engines() d ON d.id = e.id WHERE e.id = ANY (f.engines)) n;
END;
COMMENT ON FUNCTION reputation.source_check(int) IS
'What of a source, or of all, is not as the registry has it: a short code, the words, and what mends it. level: ERROR or WARN; stale: scores do not follow changes; missing: a restore may bring it yet.';

CREATE FUNCTION reputation.source_follow(source int) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	renamed jsonb;
	of_relation oid;
BEGIN
	SELECT jsonb_object_agg(w.name, a.attname), min(s.relation::oid) INTO renamed, of_relation
	FROM reputation.source s JOIN reputation.source_column w ON w.source = s.id AND w.relation = s.relation
	JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = w.attnum AND NOT a.attisdropped
	WHERE s.id = source_follow.source AND a.attname <> w.name;
	IF renamed IS NULL THEN
		RETURN false;
	END IF;
	UPDATE reputation.source_column w SET name = renamed ->> w.name::text
	WHERE w.source = source_follow.source AND renamed ? w.name::text;
	UPDATE reputation.source_key k SET column_name = renamed ->> k.column_name::text
	WHERE k.source = source_follow.source AND renamed ? k.column_name::text;
	UPDATE reputation.capture k SET watched = ARRAY(SELECT coalesce(renamed ->> n.name::text, n.name)::name FROM unnest(k.watched) WITH ORDINALITY n (name, i) ORDER BY n.i)
	WHERE k.source = source_follow.source;
	UPDATE reputation.engine e
	SET users_key = coalesce(renamed ->> e.users_key::text, e.users_key), cached_column = coalesce(renamed ->> e.cached_column::text, e.cached_column),
		rank_column = coalesce(renamed ->> e.rank_column::text, e.rank_column),
		inputs = (SELECT coalesce(jsonb_object_agg(i.key, coalesce(renamed ->> i.value, i.value)), '{}') FROM jsonb_each_text(e.inputs) i)
	WHERE e.users = of_relation
		AND (renamed ? e.users_key::text OR renamed ? e.cached_column::text OR renamed ? e.rank_column::text
			OR EXISTS (SELECT FROM jsonb_each_text(e.inputs) i WHERE renamed ? i.value));
	RETURN true;
END
$$;
COMMENT ON FUNCTION reputation.source_follow(int) IS
'Has the registry call a source''s columns by the names that they have now, by their numbers; true when one was renamed.';

CREATE FUNCTION reputation.source_dropped() RETURNS event_trigger
LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_source_dropped';
COMMENT ON FUNCTION reputation.source_dropped() IS
'Event trigger: notes sources that have lost a trigger, so that everybody is recomputed once it is back.';

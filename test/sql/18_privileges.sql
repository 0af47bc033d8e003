-- Who may do what, of everything there is: the golden list, whatever ALTER DEFAULT
-- PRIVILEGES said. In databases of their own, copies of one that has this view.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT current_database() AS home \gset
SET client_min_messages = error;
CREATE ROLE regress_default NOLOGIN;
CREATE DATABASE regress_acl;
\c regress_acl
CREATE VIEW acls AS
WITH objects (kind, name, owner, acl) AS (
	SELECT 'schema', n.nspname::text, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
	FROM pg_namespace n WHERE n.nspname = 'reputation'
	UNION ALL
	SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
		format('%s.%s(%s)', p.pronamespace::regnamespace, p.proname, oidvectortypes(p.proargtypes)),
		p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
	FROM pg_proc p WHERE EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'reputation'
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
	UNION ALL
	SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE c.relkind::text END,
		c.relname, c.relowner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner))
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'reputation' AND c.relkind NOT IN ('i', 't', 'c')
	UNION ALL
	SELECT 'column', format('%s.%s', c.relname, a.attname), c.relowner, a.attacl
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE n.nspname = 'reputation' AND a.attacl IS NOT NULL
	UNION ALL
	SELECT 'type', t.typname, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class r ON r.oid = t.typrelid
	WHERE n.nspname = 'reputation' AND t.typelem = 0 AND coalesce(r.relkind, 'c') = 'c'
), granted AS (
	-- MAINTAIN is of 17.
	SELECT o.kind, o.name, CASE a.grantee WHEN o.owner THEN 'owner' WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END AS grantee,
		string_agg(lower(a.privilege_type) || CASE WHEN a.is_grantable THEN '*' ELSE '' END, '+' ORDER BY a.privilege_type) AS rights
	FROM objects o CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.privilege_type <> 'MAINTAIN' GROUP BY 1, 2, 3
)
SELECT format('%s %s: %s', kind, name, string_agg(grantee || ' ' || rights, ', ' ORDER BY grantee COLLATE "C")) AS line
FROM granted GROUP BY kind, name;
-- How a list differs from the one given.
CREATE FUNCTION differs(golden text) RETURNS TABLE (difference text) LANGUAGE sql AS $$
	SELECT d.sign || d.line FROM (
		SELECT '- ', g.line FROM string_to_table(golden, E'\n') g (line) EXCEPT SELECT '- ', a.line FROM acls a
		UNION ALL (SELECT '+ ', a.line FROM acls a EXCEPT SELECT '+ ', g.line FROM string_to_table(golden, E'\n') g (line))
	) d (sign, line) ORDER BY d.line COLLATE "C", d.sign
$$;
-- Everything attached, and a board over a table; and what more there is then.
CREATE PROCEDURE attach_all() LANGUAGE plpgsql AS $$
BEGIN
	CREATE SCHEMA app AUTHORIZATION regress_app;
	SET LOCAL ROLE regress_app;
	SET LOCAL search_path = app, public;
	CREATE TABLE users (id int PRIMARY KEY);
	CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int);
	CREATE TABLE project_collaborators (project_id int, user_id int, status text);
	CREATE TABLE wingman_matches (id int PRIMARY KEY, user1_id int, user2_id int);
	CREATE TABLE wingman_sessions (id int PRIMARY KEY, match_id int, status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean);
	CREATE TABLE plays (user_id int, points int, created_at timestamptz);
	RESET ROLE;
	PERFORM builder_score_attach(), trust_score_attach(), session_reputation_attach(), points_attach(), badges_attach(),
		leaderboard_create('plays', 'app.plays');
END
$$;
\c :home
CREATE DATABASE regress_acl_granted TEMPLATE regress_acl;
CREATE DATABASE regress_acl_revoked TEMPLATE regress_acl;

\c regress_acl
SET client_min_messages = error;
CREATE EXTENSION reputation;
SELECT line FROM acls ORDER BY line COLLATE "C";
SELECT string_agg(line, E'\n') AS created FROM acls \gset
CALL attach_all();
SELECT * FROM differs(:'created');
SELECT string_agg(line, E'\n') AS attached FROM acls \gset
-- No trigger function is anybody's, but for whose tables have the triggers: a new partition gets a copy.
SELECT line FROM acls JOIN pg_proc p ON line LIKE '%reputation.' || p.proname || '()%' WHERE p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) ORDER BY line COLLATE "C";

-- Everything is everybody's, and more yet one role's; in the target schema, too, and later in the extension's.
\c regress_acl_granted
SET client_min_messages = error;
DO $$
DECLARE
	kind text;
BEGIN
	FOREACH kind IN ARRAY '{FUNCTIONS,TABLES,SEQUENCES,TYPES,SCHEMAS}'::text[] LOOP
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE regress_app, CURRENT_USER GRANT ALL ON %s TO PUBLIC', kind);
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE regress_app, CURRENT_USER GRANT ALL ON %s TO regress_default WITH GRANT OPTION', kind);
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE regress_app, CURRENT_USER GRANT ALL ON %s TO reputation_reader', kind);
		IF kind <> 'SCHEMAS' THEN
			EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE CURRENT_USER IN SCHEMA public GRANT ALL ON %s TO regress_default, regress_app', kind);
		END IF;
	END LOOP;
END
$$;
CREATE EXTENSION reputation;
SELECT * FROM differs(:'created');
DO $$
DECLARE
	kind text;
BEGIN
	FOREACH kind IN ARRAY '{FUNCTIONS,TABLES,SEQUENCES,TYPES}'::text[] LOOP
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE regress_app, CURRENT_USER IN SCHEMA reputation GRANT ALL ON %s TO regress_default, PUBLIC', kind);
	END LOOP;
END
$$;
CALL attach_all();
SELECT * FROM differs(:'attached');
-- An update clears what it makes, and takes back nothing that was granted before.
GRANT SELECT ON reputation.engine TO regress_default;
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_extension SET extversion = extversion WHERE extname = 'reputation';
CREATE FUNCTION reputation.later() RETURNS int LANGUAGE sql RETURN 1;
ALTER EXTENSION reputation ADD FUNCTION reputation.later();
SELECT difference FROM differs(:'attached') WHERE difference LIKE '%later%';
SELECT FROM reputation.privileges_clear_new();
SELECT difference FROM differs(:'attached') WHERE difference LIKE '%later%';
-- So does the next one, which may run in the same transaction, and leaves what this one granted.
GRANT EXECUTE ON FUNCTION reputation.later() TO reputation_reader;
CREATE TABLE reputation.later_yet (a int);
ALTER EXTENSION reputation ADD TABLE reputation.later_yet;
SELECT FROM reputation.privileges_clear_new();
SELECT * FROM differs(:'attached');
ROLLBACK;

-- Nothing is anybody's, not even the owner's.
\c regress_acl_revoked
SET client_min_messages = error;
DO $$
DECLARE
	kind text;
BEGIN
	FOREACH kind IN ARRAY '{FUNCTIONS,TABLES,SEQUENCES,TYPES,SCHEMAS}'::text[] LOOP
		EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE regress_app, CURRENT_USER REVOKE ALL ON %s FROM PUBLIC, regress_app, CURRENT_USER', kind);
	END LOOP;
END
$$;
CREATE EXTENSION reputation;
SELECT * FROM differs(:'created');
CALL attach_all();
SELECT * FROM differs(:'attached');

\c :home
DROP DATABASE regress_acl;
DROP DATABASE regress_acl_granted;
DROP DATABASE regress_acl_revoked;
DROP ROLE regress_default;

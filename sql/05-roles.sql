-- Whom the modules grant to. The roles belong to the cluster, so another database
-- may have made them already.
DO $$
DECLARE
	role text;
BEGIN
	FOREACH role IN ARRAY '{reputation_admin,reputation_reader,reputation_writer}'::text[] LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = role) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
		END IF;
	END LOOP;
END
$$;

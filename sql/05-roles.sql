-- Whom the modules grant to. The roles belong to the cluster, so another database
-- may have made them already.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'reputation_admin') THEN
		CREATE ROLE reputation_admin NOLOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'reputation_reader') THEN
		CREATE ROLE reputation_reader NOLOGIN;
	END IF;
END
$$;

-- What a dump carries of the engines that the script has: the tables they write, and the
-- sequences of those. The tables of other engines are no part of the extension.
DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		WITH output AS (
			SELECT t.oid FROM reputation.outputs() o
			JOIN pg_catalog.pg_class t ON t.relnamespace = 'reputation'::regnamespace AND t.relname = o.table_name
		)
		SELECT o.oid FROM output o
		UNION ALL SELECT s.oid FROM output o
		JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
			AND d.refobjid = o.oid AND d.deptype = 'i'
		JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(relation, '');
	END LOOP;
END
$$;

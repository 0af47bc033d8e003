-- An engine: its score table and its functions.
\echo Use "CREATE EXTENSION reputation_example" to load this file. \quit
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE TABLE reputation.karma_scores (
	user_id				text		COLLATE "C" PRIMARY KEY,
	score				int			NOT NULL,
	reached_at			timestamptz	NOT NULL,
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE reputation.karma_scores IS 'karma of the users, from their answers';

CREATE FUNCTION @extschema@.karma_attach(
	users text DEFAULT 'users',
	answers text DEFAULT 'answers',
	columns jsonb DEFAULT '{}',
	fire text DEFAULT 'origin',
	name text DEFAULT 'karma',
	replace boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'karma_attach';
COMMENT ON FUNCTION @extschema@.karma_attach(text, text, jsonb, text, text, boolean) IS
'Attaches a karma engine to a users table and a table of answers (user_id, helpful, flagged). Returns the id of the first run in reputation.job_runs.';

CREATE FUNCTION @extschema@.karma_detach(engine text DEFAULT 'karma') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'karma_detach';
COMMENT ON FUNCTION @extschema@.karma_detach(text) IS
'Removes a karma engine''s triggers and view and its pending work; keeps the scores. 55000 when not attached.';

CREATE FUNCTION @extschema@.karma_score(uid anycompatible, engine text DEFAULT 'karma') RETURNS int
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'karma_score';
COMMENT ON FUNCTION @extschema@.karma_score(anycompatible, text) IS
'The stored karma of a user; 0 before its first computation. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.karma_recalc(uid anycompatible, engine text DEFAULT 'karma') RETURNS int
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'karma_recalc';
COMMENT ON FUNCTION @extschema@.karma_recalc(anycompatible, text) IS
'Computes a user''s karma now, stores and returns it. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.karma_recalc_all(engine text DEFAULT 'karma') RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'karma_recalc_all';
COMMENT ON FUNCTION @extschema@.karma_recalc_all(text) IS
'Computes everybody''s karma now, and returns how many changed. 55000 not attached.';

CREATE FUNCTION @extschema@.karma_explain(uid anycompatible, engine text DEFAULT 'karma') RETURNS jsonb
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'karma_explain';
COMMENT ON FUNCTION @extschema@.karma_explain(anycompatible, text) IS
'How a user''s karma comes about: signals and terms {helpful, flagged}, and what explanations of all engines have. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

-- Whatever ALTER DEFAULT PRIVILEGES said, and then who may do what.
SELECT reputation.privileges_clear(d.classid, d.objid) FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'reputation_example')
	AND d.deptype = 'e' AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass);
GRANT SELECT ON reputation.karma_scores TO reputation_admin;
GRANT EXECUTE ON FUNCTION @extschema@.karma_score(anycompatible, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.karma_explain(anycompatible, text) TO reputation_reader, reputation_admin;
GRANT EXECUTE ON FUNCTION
	@extschema@.karma_attach(text, text, jsonb, text, text, boolean),
	@extschema@.karma_detach(text),
	@extschema@.karma_recalc(anycompatible, text),
	@extschema@.karma_recalc_all(text)
	TO reputation_admin;

SELECT pg_catalog.pg_extension_config_dump('reputation.karma_scores', '');

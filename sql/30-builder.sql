-- The builder engine.

CREATE TABLE reputation.builder_scores (
	user_id				text		COLLATE "C" PRIMARY KEY,
	score				int			NOT NULL,
	reached_at			timestamptz	NOT NULL,
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE reputation.builder_scores IS 'builder score rows; the application reads the cached column of its users table';
COMMENT ON COLUMN reputation.builder_scores.reached_at IS 'since when the score is what it is';

CREATE FUNCTION @extschema@.builder_score_attach(
	users text DEFAULT 'users',
	projects text DEFAULT 'projects',
	collaborators text DEFAULT 'project_collaborators',
	columns jsonb DEFAULT '{}',
	rank_column text DEFAULT NULL,
	fire text DEFAULT 'origin',
	name text DEFAULT 'builder',
	replace boolean DEFAULT false,
	score_column text DEFAULT 'builder_score')
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'builder_score_attach';
COMMENT ON FUNCTION @extschema@.builder_score_attach(text, text, text, jsonb, text, text, text, boolean, text) IS
'Attaches the builder engine to three tables: adds users.builder_score with its index when missing, makes the signals view and the capture triggers, and queues a first computation of everybody. columns names other columns, e.g. {"users": {"id": "uid"}, "projects": {"owner_id": "creator", "impact": null}}; rank_column: a column of users for the rank; fire: origin or always (fire on logical apply too). Returns the id of the first run in reputation.job_runs. 42P01 and 42703 name everything that is missing; 42804 unsupported id type; 42P21 id columns of two collations, neither the default; 55000 ids that are no key; 0A000 virtual generated column; 42501 not allowed; 22023 bad argument.';

CREATE FUNCTION @extschema@.builder_score_detach(engine text DEFAULT 'builder') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'builder_score_detach';
COMMENT ON FUNCTION @extschema@.builder_score_detach(text) IS
'Removes the builder engine''s triggers and views and its pending work; keeps the cached column and the scores. 55000 when not attached.';

CREATE FUNCTION @extschema@.builder_score(uid anycompatible, engine text DEFAULT 'builder') RETURNS int
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'builder_score';
COMMENT ON FUNCTION @extschema@.builder_score(anycompatible, text) IS
'The cached builder score of a user (points, >= 0). P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.builder_score_recalc(uid anycompatible, engine text DEFAULT 'builder') RETURNS int
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'builder_score_recalc';
COMMENT ON FUNCTION @extschema@.builder_score_recalc(anycompatible, text) IS
'Computes a user''s builder score now, stores it when it changed, and returns it. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.builder_score_explain(uid anycompatible, engine text DEFAULT 'builder') RETURNS jsonb
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'builder_score_explain';
COMMENT ON FUNCTION @extschema@.builder_score_explain(anycompatible, text) IS
'How a user''s builder score comes about: {user_id, score, cached, signals, terms, algorithm_version, computed_at, age_seconds, pending, due_at}. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.builder_score_recalc_all(engine text DEFAULT 'builder') RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'builder_score_recalc_all';
COMMENT ON FUNCTION @extschema@.builder_score_recalc_all(text) IS
'Computes every user''s builder score now, in this transaction, and returns how many changed; rows that others hold locked are left to the workers. 55000 not attached.';

-- The trust engine.

CREATE TABLE reputation.trust_scores (
	user_id				text		COLLATE "C" PRIMARY KEY,
	score				int			NOT NULL,
	profile				float8		NOT NULL,
	verification		float8		NOT NULL,
	activity			float8		NOT NULL,
	decay				float8		NOT NULL,
	breakdown			jsonb		NOT NULL,
	badges				text[]		NOT NULL,
	reached_at			timestamptz	NOT NULL,
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL,
	next_due_at			timestamptz
) WITH (fillfactor = 80);
CREATE INDEX trust_scores_next_due_at ON reputation.trust_scores (next_due_at) WHERE next_due_at IS NOT NULL;
COMMENT ON TABLE reputation.trust_scores IS 'trust scores (0 to 100) with their parts (0 to 100) and badges';
COMMENT ON COLUMN reputation.trust_scores.decay IS 'the factor of inactivity at computed_at; it falls while the rounded score stays';
COMMENT ON COLUMN reputation.trust_scores.reached_at IS 'since when the score is what it is';
COMMENT ON COLUMN reputation.trust_scores.computed_at IS 'when something other than next_due_at was last written: at an event, or when time changed a part or a badge';
COMMENT ON COLUMN reputation.trust_scores.next_due_at IS 'the next moment at which time alone can change score, parts or badges; null: none';

CREATE TABLE reputation.trust_score_audit (
	id					bigint		GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id				text		COLLATE "C" NOT NULL,
	old_score			int,
	new_score			int			NOT NULL,
	breakdown			jsonb		NOT NULL,
	badges				text[]		NOT NULL,
	cause				text		NOT NULL CHECK (cause IN ('event', 'time', 'nightly', 'manual', 'algorithm')),
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL
);
CREATE INDEX trust_score_audit_user ON reputation.trust_score_audit (user_id, id);
COMMENT ON TABLE reputation.trust_score_audit IS 'how trust scores came about; the last row of a user, by id, is its score row''s';
COMMENT ON COLUMN reputation.trust_score_audit.old_score IS 'null: there was none';

CREATE FUNCTION @extschema@.trust_score_attach(
	users text DEFAULT 'users',
	columns jsonb DEFAULT '{}',
	activity text DEFAULT NULL,
	fire text DEFAULT 'origin',
	name text DEFAULT 'trust',
	replace boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'trust_score_attach';
COMMENT ON FUNCTION @extschema@.trust_score_attach(text, jsonb, text, text, text, boolean) IS
'Attaches the trust engine to a users table and, if given, a table of activity events (user_id, created_at): makes the signals view and the capture triggers, and queues a first computation of everybody. A NOTICE says which inputs were not found; columns names other columns, e.g. {"users": {"photo": "avatar_url", "job": null}, "activity": {"created_at": "at"}}; fire: origin or always (fire on logical apply too). Returns the id of the first run in reputation.job_runs. 42P01 and 42703 name everything that is missing; 42804 unsupported type; 55000 ids that are no key; 0A000 virtual generated column; 42501 not allowed; 22023 bad argument.';

CREATE FUNCTION @extschema@.trust_score_detach(engine text DEFAULT 'trust') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'trust_score_detach';
COMMENT ON FUNCTION @extschema@.trust_score_detach(text) IS
'Removes the trust engine''s triggers and view and its pending work; keeps scores and audit. 55000 when not attached.';

CREATE FUNCTION @extschema@.trust_score(uid anycompatible, engine text DEFAULT 'trust') RETURNS int
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'trust_score';
COMMENT ON FUNCTION @extschema@.trust_score(anycompatible, text) IS
'The stored trust score of a user (0 to 100); 0 before its first computation. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.trust_score_recalc(uid anycompatible, engine text DEFAULT 'trust') RETURNS int
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'trust_score_recalc';
COMMENT ON FUNCTION @extschema@.trust_score_recalc(anycompatible, text) IS
'Computes a user''s trust score now, stores it with an audit row (cause manual), and returns it. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.trust_score_recalc_all(engine text DEFAULT 'trust') RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'trust_score_recalc_all';
COMMENT ON FUNCTION @extschema@.trust_score_recalc_all(text) IS
'Computes every user''s trust score now, in this transaction, and returns how many changed; rows that others hold locked, and users without a score row, are left to the workers. 55000 not attached.';

CREATE FUNCTION @extschema@.trust_score_explain(uid anycompatible, engine text DEFAULT 'trust') RETURNS jsonb
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'trust_score_explain';
COMMENT ON FUNCTION @extschema@.trust_score_explain(anycompatible, text) IS
'How a user''s trust score comes about: {user_id, score, cached, signals (each input; null: the application has none), terms (points of each input, sub-scores, decay), badges, next_change {at, why, score, badges}, raise [{input, points, score}, ...] with what would raise the score most first, algorithm_version, computed_at, age_seconds, pending, due_at}. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.get_trust_score(uid anycompatible, engine text DEFAULT 'trust') RETURNS reputation.trust_scores
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	scores CONSTANT text := reputation.engine_table(engine, 'trust', 'trust_scores');
	found reputation.trust_scores;
BEGIN
	EXECUTE format('SELECT s.* FROM reputation.%I s WHERE s.user_id = $1', scores) INTO found USING reputation.user_key(engine, uid);
	RETURN found;
END
$$;
COMMENT ON FUNCTION @extschema@.get_trust_score(anycompatible, text) IS
'A user''s row of reputation.trust_scores; a null row before its first computation. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.get_audit_rows(uid anycompatible, engine text DEFAULT 'trust') RETURNS SETOF reputation.trust_score_audit
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	audit CONSTANT text := reputation.engine_table(engine, 'trust', 'trust_score_audit');
BEGIN
	RETURN QUERY EXECUTE format('SELECT a.* FROM reputation.%I a WHERE a.user_id = $1 ORDER BY a.id', audit) USING reputation.user_key(engine, uid);
END
$$;
COMMENT ON FUNCTION @extschema@.get_audit_rows(anycompatible, text) IS
'A user''s rows of reputation.trust_score_audit, the oldest first. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.upsert_user(doc jsonb, engine text DEFAULT 'trust') RETURNS text
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'reputation_upsert_user';
COMMENT ON FUNCTION @extschema@.upsert_user(jsonb, text) IS
'Inserts a user into the users table that the trust engine is attached to, or updates the columns given when the id is there; returns the id as text, null when a trigger kept the row away. The keys of doc are the engine''s names of the columns (photo, bio, ...) or the table''s own. With the caller''s privileges. 22023 unknown key, or one of a generated column; 22P02 a value that is not of the column''s type, naming the key; what the table raises; 55000 not attached.';

CREATE PROCEDURE @extschema@.upsert_user_and_wait(doc jsonb, timeout interval DEFAULT '5 s', engine text DEFAULT 'trust')
LANGUAGE C AS 'MODULE_PATHNAME', 'reputation_upsert_user_and_wait';
COMMENT ON PROCEDURE @extschema@.upsert_user_and_wait(jsonb, interval, text) IS
'upsert_user(doc), commits, and waits until the user''s trust score is computed, for which it does not wait for the debounce window. 25001 inside a transaction block; 55P03 after the timeout, with what is still pending; 55000 when the computation was given up, with its error; otherwise as upsert_user().';

-- The session engine.

CREATE TABLE reputation.session_scores (
	user_id				text		COLLATE "C" PRIMARY KEY,
	score				int			NOT NULL,
	completed_sessions	bigint		NOT NULL,
	no_shows			bigint		NOT NULL,
	badge_color			text		NOT NULL,
	reached_at			timestamptz	NOT NULL,
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE reputation.session_scores IS 'session reputations (-5 to 20 by default) with what they are made of; user_reputation() is fresher';
COMMENT ON COLUMN reputation.session_scores.reached_at IS 'since when the score is what it is';

CREATE FUNCTION @extschema@.session_reputation_attach(
	sessions text DEFAULT 'wingman_sessions',
	matches text DEFAULT 'wingman_matches',
	users text DEFAULT 'users',
	columns jsonb DEFAULT '{}',
	policy text DEFAULT NULL,
	cause text DEFAULT 'auto',
	fire text DEFAULT 'origin',
	name text DEFAULT 'session',
	replace boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'session_reputation_attach';
COMMENT ON FUNCTION @extschema@.session_reputation_attach(text, text, text, jsonb, text, text, text, text, boolean) IS
'Attaches the session engine to tables of sessions, of the matches they belong to, and of users: makes the signals view and the capture triggers, and queues a first computation of everybody. columns names other columns, e.g. {"sessions": {"match_id": "pair", "cancelled_by": null}, "matches": {"user1_id": "a"}}; policy: whose confirmation makes a completed session count: any, own (the partner''s of the user) or both, kept as a parameter of the algorithm (null: as it is, at first any); cause: who caused a no-show: auto (by sessions.no_show_user_id and cancelled_by where they are there, else by the flags), columns, flags or none; fire: origin or always (fire on logical apply too). Returns the id of the first run in reputation.job_runs. 42P01 and 42703 name everything that is missing; 42804 unsupported type; 42P21 id columns of two collations, neither the default; 0A000 virtual generated column; 42501 not allowed; 22023 bad argument.';

CREATE FUNCTION @extschema@.session_reputation_detach(engine text DEFAULT 'session') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'session_reputation_detach';
COMMENT ON FUNCTION @extschema@.session_reputation_detach(text) IS
'Removes the session engine''s triggers and views and its pending work; keeps the scores. 55000 when not attached.';

CREATE FUNCTION @extschema@.user_reputation(uid anycompatible, engine text DEFAULT 'session') RETURNS jsonb
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'user_reputation';
COMMENT ON FUNCTION @extschema@.user_reputation(anycompatible, text) IS
'A user''s session reputation: {score, badge_color (gold, green or red), completed_sessions, no_shows, cache_timestamp (when it was computed, ISO 8601 in UTC)}, as of what is committed now; served from the read cache for up to reputation.cache_ttl while no change of it is committed. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.user_reputation_invalidate(uid anycompatible, engine text DEFAULT 'session') RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'user_reputation_invalidate';
COMMENT ON FUNCTION @extschema@.user_reputation_invalidate(anycompatible, text) IS
'Takes a user''s value out of the read cache, at once and whatever becomes of the transaction: the next user_reputation() computes. True when there was one. 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.user_reputation_cache_stats(
	OUT hits bigint,
	OUT stale_hits bigint,
	OUT misses bigint,
	OUT refreshes bigint,
	OUT evictions bigint,
	OUT invalidations bigint,
	OUT entries bigint,
	OUT max_entries bigint,
	OUT hit_ratio float8)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'user_reputation_cache_stats';
COMMENT ON FUNCTION @extschema@.user_reputation_cache_stats() IS
'What became of the calls of user_reputation() in this database since the server started: served a fresh value (hits), an expired one while somebody else computed (stale_hits), computed because there was none (misses) or it had expired (refreshes); hit_ratio is the share of the first two, null before the first call. Entries that made room for others (evictions) or were forgotten because of a change (invalidations; forgetting everybody counts once), those with a value now, and how many there can be, in all databases together (0: the cache is off).';

CREATE FUNCTION @extschema@.session_reputation_recalc(uid anycompatible, engine text DEFAULT 'session') RETURNS int
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'session_reputation_recalc';
COMMENT ON FUNCTION @extschema@.session_reputation_recalc(anycompatible, text) IS
'Computes a user''s session reputation now, stores it when it changed, and returns the score. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.session_reputation_recalc_all(engine text DEFAULT 'session') RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'session_reputation_recalc_all';
COMMENT ON FUNCTION @extschema@.session_reputation_recalc_all(text) IS
'Computes every user''s session reputation now, in this transaction, and returns how many changed; rows that others hold locked, and users without a score row, are left to the workers. 55000 not attached.';

CREATE FUNCTION @extschema@.session_reputation_explain(uid anycompatible, engine text DEFAULT 'session') RETURNS jsonb
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'session_reputation_explain';
COMMENT ON FUNCTION @extschema@.session_reputation_explain(anycompatible, text) IS
'How a user''s session reputation comes about: {user_id, score, cached, signals {confirmed_any, confirmed_own, confirmed_both, no_shows}, terms {completed_sessions, no_shows}, policy, badge_color, algorithm_version, computed_at, age_seconds, pending, due_at}. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

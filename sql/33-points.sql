-- The points engine: a ledger, and its sums.

CREATE TABLE reputation.point_ledger (
	id			bigint		GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id		text		COLLATE "C" NOT NULL,
	points		bigint		NOT NULL CHECK (points BETWEEN -1000000000000 AND 1000000000000),
	reason		text,
	source_key	text,
	created_at	timestamptz	NOT NULL DEFAULT reputation.clock(),
	recorded_at	timestamptz	NOT NULL DEFAULT reputation.clock(),
	revokes		bigint		UNIQUE,
	UNIQUE (user_id, source_key)
);
CREATE INDEX point_ledger_user ON reputation.point_ledger (user_id, created_at) INCLUDE (points);
COMMENT ON TABLE reputation.point_ledger IS 'who got how many points for what; append only';
COMMENT ON COLUMN reputation.point_ledger.source_key IS 'what the points are for: a user is paid once for it; null: not tied to anything';
COMMENT ON COLUMN reputation.point_ledger.created_at IS 'from when on the row counts; of a row that revokes: as of the revoked one, so that both leave a window together';
COMMENT ON COLUMN reputation.point_ledger.recorded_at IS 'when the row was written';
COMMENT ON COLUMN reputation.point_ledger.revokes IS 'the id of the row that this one takes back';

CREATE TABLE reputation.points_scores (
	user_id				text		COLLATE "C" PRIMARY KEY,
	score				int			NOT NULL,
	all_time			bigint		NOT NULL,
	weekly				bigint		NOT NULL,
	daily				bigint		NOT NULL,
	reached_at			timestamptz	NOT NULL,
	algorithm_version	int			NOT NULL,
	computed_at			timestamptz	NOT NULL,
	next_due_at			timestamptz
) WITH (fillfactor = 80);
CREATE INDEX points_scores_next_due_at ON reputation.points_scores (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX points_scores_all_time ON reputation.points_scores (all_time DESC, reached_at, user_id);
CREATE INDEX points_scores_weekly ON reputation.points_scores (weekly DESC, reached_at, user_id) WHERE weekly > 0;
CREATE INDEX points_scores_daily ON reputation.points_scores (daily DESC, reached_at, user_id) WHERE daily > 0;
COMMENT ON TABLE reputation.points_scores IS 'the sums of each user''s ledger rows, over all time, the week and the day';
COMMENT ON COLUMN reputation.points_scores.score IS 'all_time, or the nearest int';
COMMENT ON COLUMN reputation.points_scores.reached_at IS 'created_at of the last row that counts; -infinity: none does';
COMMENT ON COLUMN reputation.points_scores.next_due_at IS 'the next moment at which a row leaves a window, or one entered in advance begins to count; null: none';

CREATE FUNCTION reputation.ledger_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_TABLE_SCHEMA <> 'reputation' OR TG_TABLE_NAME !~ '(^|_)point_ledger$' OR TG_WHEN <> 'BEFORE' OR TG_LEVEL <> 'ROW' OR TG_OP NOT IN ('UPDATE', 'DELETE') THEN
		RAISE EXCEPTION 'reputation.ledger_guard() must be the row trigger ledger_guard of a ledger'
			USING ERRCODE = 'trigger_protocol_violated';
	END IF;
	IF current_setting('reputation_ledger.forgets', true) = OLD.user_id THEN
		RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
	END IF;
	RAISE EXCEPTION 'reputation.% is append only', TG_TABLE_NAME
		USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'revoke_points() appends a row that takes an award back; reputation_forget() removes a user.';
END
$$;
COMMENT ON FUNCTION reputation.ledger_guard() IS
'Row trigger on a ledger: refuses changes of rows (55000), but of a user who is forgotten or followed. 39P01 elsewhere.';
CREATE TRIGGER ledger_guard BEFORE UPDATE OR DELETE ON reputation.point_ledger
FOR EACH ROW EXECUTE FUNCTION reputation.ledger_guard();

CREATE FUNCTION reputation.period_after(engine text, period text) RETURNS timestamptz
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'reputation_period_after';
COMMENT ON FUNCTION reputation.period_after(text, text) IS
'The moment after which a row counts in a period (weekly, daily) at the computation time, for use in an engine''s views. 22023 no such period.';

CREATE FUNCTION @extschema@.points_attach(
	users text DEFAULT 'users',
	columns jsonb DEFAULT '{}',
	rank_column text DEFAULT NULL,
	fire text DEFAULT 'origin',
	name text DEFAULT 'points',
	replace boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'points_attach';
COMMENT ON FUNCTION @extschema@.points_attach(text, jsonb, text, text, text, boolean) IS
'Attaches the points engine to a users table and to its ledger, reputation.point_ledger (of an engine by another name NAME_point_ledger): makes the signals view and the capture triggers, and queues a first computation of everybody. columns names another key column, e.g. {"users": {"id": "uid"}}; rank_column: a column of users for the all-time rank; fire: origin or always (fire on logical apply too). Returns the id of the first run in reputation.job_runs. 42P01 and 42703 name everything that is missing; 42804 unsupported id type; 42501 not allowed; 55000 badges that pay into the ledger are attached to other users; 22023 bad argument.';

CREATE FUNCTION @extschema@.points_detach(engine text DEFAULT 'points') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'points_detach';
COMMENT ON FUNCTION @extschema@.points_detach(text) IS
'Removes the points engine''s triggers and view and its pending work; keeps the ledger and the sums. 55000 when not attached.';

CREATE FUNCTION @extschema@.points_recalc(uid anycompatible, engine text DEFAULT 'points') RETURNS int
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'points_recalc';
COMMENT ON FUNCTION @extschema@.points_recalc(anycompatible, text) IS
'Computes a user''s sums now, stores them, and returns the all-time one, or the nearest int. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.points_recalc_all(engine text DEFAULT 'points') RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'points_recalc_all';
COMMENT ON FUNCTION @extschema@.points_recalc_all(text) IS
'Computes every user''s sums now, in this transaction, and returns how many changed; rows that others hold locked, and users without a score row, are left to the workers. 55000 not attached.';

CREATE FUNCTION @extschema@.points_explain(uid anycompatible, engine text DEFAULT 'points') RETURNS jsonb
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'points_explain';
COMMENT ON FUNCTION @extschema@.points_explain(anycompatible, text) IS
'How a user''s points come about: {user_id, score, cached, signals {last_at, weekly_first_at, daily_first_at, next_at}, terms {all_time, weekly, daily}, next_change {at, all_time, weekly, daily}, algorithm_version, computed_at, age_seconds, pending, due_at}. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

CREATE FUNCTION @extschema@.award_points(
	uid anycompatible, points bigint, reason text DEFAULT NULL, source_key text DEFAULT NULL, engine text DEFAULT 'points')
RETURNS boolean
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'award_points';
COMMENT ON FUNCTION @extschema@.award_points(anycompatible, bigint, text, text, text) IS
'Gives a user points (negative: takes some), and says whether it did: for the same user and source_key only the first call does; without a source_key every one. A user who is deleted meanwhile is waited for. P0002 unknown user; 22P02 malformed id; 22004 null id; 22023 too many points; 55000 not attached.';

CREATE FUNCTION @extschema@.revoke_points(uid anycompatible, source_key text, reason text DEFAULT NULL, engine text DEFAULT 'points') RETURNS boolean
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'revoke_points';
COMMENT ON FUNCTION @extschema@.revoke_points(anycompatible, text, text, text) IS
'Takes the points back that a user was awarded for a source_key, by a row that counts from the same moment on, and says whether it did: only the first call does. P0002 unknown user, or no such award; 22P02 malformed id; 22004 null argument; 55000 not attached.';

CREATE FUNCTION @extschema@.total_points(uid anycompatible, engine text DEFAULT 'points') RETURNS bigint
LANGUAGE C STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'total_points';
COMMENT ON FUNCTION @extschema@.total_points(anycompatible, text) IS
'The sum of a user''s ledger rows that count by now, or the nearest bigint, from the ledger itself. P0002 unknown user; 22P02 malformed id; 55000 not attached.';

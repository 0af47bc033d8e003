-- Running it: retry, forget, version.

CREATE FUNCTION @extschema@.reputation_retry(engine text DEFAULT NULL, user_id text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	retried bigint;
BEGIN
	WITH letters AS (
		DELETE FROM reputation.dead_letter d USING reputation.engine e
		WHERE e.name = d.engine
			AND (reputation_retry.engine IS NULL OR d.engine = reputation_retry.engine)
			AND (reputation_retry.user_id IS NULL OR (d.kind <= 0 AND d.key = reputation_retry.user_id))
		RETURNING e.id, d.kind, d.key
	)
	INSERT INTO reputation.job (engine, kind, key, lane, priority, due_at, event, run_id)
	SELECT l.id, l.kind, l.key, reputation.lane(l.key), 2, reputation.clock(), l.kind >= 0, CASE WHEN l.kind < 0 THEN 0 END
	FROM letters l;
	GET DIAGNOSTICS retried = ROW_COUNT;
	-- A suspended engine is tried at once; that it computes somebody ends the suspension.
	UPDATE reputation.engine e SET retry_at = NULL
	WHERE e.retry_at IS NOT NULL AND reputation_retry.user_id IS NULL
		AND (reputation_retry.engine IS NULL OR e.name = reputation_retry.engine);
	PERFORM reputation.wake();
	RETURN retried;
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_retry(text, text) IS
'Queues dead letters again, of an engine and a user or of all, and returns how many; without a user, suspended engines are tried at once, too.';

CREATE FUNCTION reputation.forget_user(user_id text, mode text, engines int[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	removed bigint := 0;
	n bigint;
	alias text := 'anonymous-' || gen_random_uuid();
	it record;
BEGIN
	FOR it IN
		SELECT o.table_name, a.table_name AS audit_table, a.anonymous FROM reputation.outputs() o
		LEFT JOIN reputation.outputs() a ON a.engine_id = o.engine_id AND a.origin = 'audit'
		WHERE o.origin = 'computed' AND (engines IS NULL OR o.engine_id = ANY (engines))
	LOOP
		-- A score row that was added after the first statement's snapshot keeps its audit row in
		-- the second, and both go the next time.
		LOOP
			EXECUTE format('DELETE FROM reputation.%I WHERE user_id = $1', it.table_name) USING forget_user.user_id;
			GET DIAGNOSTICS n = ROW_COUNT;
			removed := removed + n;
			EXIT WHEN it.audit_table IS NULL;
			EXECUTE format(CASE WHEN mode = 'erase' THEN 'DELETE FROM reputation.%1$I WHERE' ELSE 'UPDATE reputation.%1$I SET user_id = $2%3$s WHERE' END
				|| ' user_id = $1 AND NOT EXISTS (SELECT FROM reputation.%2$I s WHERE s.user_id = $1)',
				it.audit_table, it.table_name, ', ' || nullif(it.anonymous, '')) USING forget_user.user_id, alias;
			GET DIAGNOSTICS n = ROW_COUNT;
			removed := removed + n;
			EXECUTE format('SELECT count(*) FROM reputation.%I WHERE user_id = $1', it.table_name) INTO n USING forget_user.user_id;
			EXIT WHEN n = 0;
		END LOOP;
	END LOOP;
	-- Those that are settled first, the badges before the ledger: for who is just taking one is
	-- waited here, and the next statement sees the row that takes the bonus back.
	PERFORM set_config('reputation_ledger.forgets', forget_user.user_id, true);
	FOR it IN SELECT o.table_name, o.anonymous FROM reputation.outputs() o
		WHERE o.origin = 'earned' AND (engines IS NULL OR o.engine_id = ANY (engines)) ORDER BY o.settled DESC, o.engine_id
	LOOP
		EXECUTE format(CASE WHEN mode = 'erase' OR it.anonymous IS NULL THEN 'DELETE FROM reputation.%1$I WHERE user_id = $1'
			ELSE 'UPDATE reputation.%1$I SET user_id = $2%2$s WHERE user_id = $1' END,
			it.table_name, ', ' || nullif(it.anonymous, '')) USING forget_user.user_id, alias;
		GET DIAGNOSTICS n = ROW_COUNT;
		removed := removed + n;
	END LOOP;
	PERFORM set_config('reputation_ledger.forgets', '', true);
	DELETE FROM reputation.leaderboard_cache c WHERE c.user_id = forget_user.user_id
		AND (engines IS NULL OR c.board IN (SELECT b.name FROM reputation.board b WHERE b.engine_id = ANY (engines)));
	DELETE FROM reputation.recent_run r WHERE r.key = forget_user.user_id AND (engines IS NULL OR r.engine = ANY (engines));
	GET DIAGNOSTICS n = ROW_COUNT;
	removed := removed + n;
	DELETE FROM reputation.crash c WHERE c.kind <= 0 AND c.key = forget_user.user_id AND (engines IS NULL OR c.engine = ANY (engines));
	UPDATE reputation.job_runs r SET cursor = NULL WHERE r.cursor = forget_user.user_id AND r.status <> 'running'
		AND (engines IS NULL OR r.scope IN (SELECT n.name FROM reputation.instance n WHERE n.id = ANY (engines)));
	IF mode = 'erase' THEN
		DELETE FROM reputation.dead_letter d WHERE d.kind <= 0 AND d.key = forget_user.user_id
			AND (engines IS NULL OR d.engine IN (SELECT n.name FROM reputation.instance n WHERE n.id = ANY (engines)));
	ELSE
		UPDATE reputation.dead_letter d SET key = alias, error = 'anonymized'
		WHERE d.kind <= 0 AND d.key = forget_user.user_id
			AND (engines IS NULL OR d.engine IN (SELECT n.name FROM reputation.instance n WHERE n.id = ANY (engines)));
	END IF;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN removed + n;
END
$$;
COMMENT ON FUNCTION reputation.forget_user(text, text, int[]) IS
'The part of reputation_forget() that is done in the extension''s own tables; of these engines, by their ids, or of all (null).';

CREATE FUNCTION @extschema@.reputation_forget(uid anycompatible, mode text DEFAULT 'erase', engine text DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_forget';
COMMENT ON FUNCTION @extschema@.reputation_forget(anycompatible, text, text) IS
'Removes all that is kept about a user (erase), or what can be kept without the name (anonymize), in every engine that has the users of the one named; engine null: in all, where they have one users table; returns the number of rows. The cached column of a user that still exists becomes 0 until its next computation, which is queued and takes everything along that waits for the user. Deleting the row of the users table does the same. 22P02 malformed id; 22023 bad mode; 22004 null argument; 55000 no engine attached, or engines with different users and none named.';

CREATE FUNCTION reputation.lane(key text) RETURNS smallint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reputation_lane';
COMMENT ON FUNCTION reputation.lane(text) IS
'The lane of the job table a key belongs to.';

CREATE FUNCTION @extschema@.reputation_version() RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reputation_library_version';
COMMENT ON FUNCTION @extschema@.reputation_version() IS
'The version of the loaded library.';

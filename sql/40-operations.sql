-- Running it: batch jobs, their schedule, retry, forget, status.

CREATE FUNCTION reputation.rank_step() RETURNS boolean
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_rank_step';
COMMENT ON FUNCTION reputation.rank_step() IS
'Does the next step of a leaderboards run: computes all ranks (ties share a rank, 1,1,3), or writes a batch of those that changed; rows that others hold locked wait for the next run. False when no run needs a step.';

CREATE FUNCTION reputation.prune_audit(engine text, after bigint) RETURNS bigint
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_prune_audit';
COMMENT ON FUNCTION reputation.prune_audit(text, bigint) IS
'Removes the audit rows of an engine that are older than reputation.audit_retention, but for each user''s last, among the next reputation.batch_size rows after an id; returns the last id it looked at, null when no older ones can follow. 55000 not attached.';

CREATE FUNCTION reputation.job_run_done(run_id bigint, error text DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE reputation.job_runs
	SET status = CASE WHEN job_run_done.error IS NULL THEN 'succeeded' ELSE 'failed' END,
		error = job_run_done.error,
		finished_at = reputation.clock(),
		duration_ms = round(1000 * extract(epoch FROM reputation.clock() - started_at))
	WHERE id = run_id AND status = 'running';
END;
COMMENT ON FUNCTION reputation.job_run_done(bigint, text) IS
'Ends a run in reputation.job_runs.';

CREATE FUNCTION reputation.run_job(job_name text, trigger text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	attached record;
BEGIN
	IF run_job.job_name IS NULL OR run_job.trigger IS NULL THEN
		RAISE EXCEPTION 'job_name and trigger must not be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'The jobs are: nightly, leaderboards, badges.';
	END IF;
	IF run_job.trigger NOT IN ('manual', 'cron', 'worker') THEN
		RAISE EXCEPTION 'trigger must be manual, cron or worker, not "%"', run_job.trigger
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF run_job.job_name NOT IN ('nightly', 'leaderboards', 'badges') THEN
		RAISE EXCEPTION 'there is no job "%"', run_job.job_name
			USING ERRCODE = 'invalid_parameter_value', HINT = 'The jobs are: nightly, leaderboards, badges.';
	END IF;
	IF run_job.job_name = 'leaderboards' THEN
		PERFORM reputation.board_clean_cache();
	END IF;
	-- An engine of another database is being restored.
	FOR attached IN SELECT e.name FROM reputation.engine e WHERE e.home = reputation.home() AND (run_job.job_name <> 'badges' OR e.name = 'badges') ORDER BY e.id LOOP
		IF run_job.job_name <> 'leaderboards' THEN
			PERFORM reputation.sweep_start(attached.name, run_job.job_name, run_job.trigger);
			CONTINUE;
		END IF;
		INSERT INTO reputation.job_runs (job_name, status, trigger, scope, started_at)
		VALUES (run_job.job_name, 'running', run_job.trigger, attached.name, reputation.clock())
		ON CONFLICT (job_name, scope) WHERE status = 'running' DO UPDATE SET again = true, trigger = excluded.trigger;
		PERFORM reputation.wake();
	END LOOP;
END
$$;
COMMENT ON FUNCTION reputation.run_job(text, text) IS
'Starts a batch job of every attached engine (nightly, leaderboards) or of badges; one that is running will start over at its end. 22023 unknown job or trigger; 22004 null.';

CREATE FUNCTION reputation.run_due_jobs() RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	due record;
	count int := 0;
	now timestamptz := reputation.clock();
BEGIN
	FOR due IN
		SELECT * FROM reputation.schedule
		WHERE started_by = 'worker' AND (next_run_at <= now OR next_run_at > now + interval '25 h')
		ORDER BY next_run_at FOR UPDATE SKIP LOCKED
	LOOP
		-- From now on, not from when it was due: a far jump of the clock starts it once.
		UPDATE reputation.schedule s
		SET next_run_at = CASE WHEN s.every IS NOT NULL THEN now + s.every
			ELSE reputation.next_daily(s.at_time, now) END
		WHERE s.job_name = due.job_name;
		IF due.next_run_at <= now THEN
			PERFORM reputation.run_job(due.job_name, 'worker');
			count := count + 1;
		END IF;
	END LOOP;
	RETURN count;
END
$$;
COMMENT ON FUNCTION reputation.run_due_jobs() IS
'Starts the scheduled jobs that are due and are the worker''s to start; returns how many.';

CREATE FUNCTION reputation.next_daily(at_time time, after timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN ((after AT TIME ZONE 'UTC')::date + at_time
		+ CASE WHEN (after AT TIME ZONE 'UTC')::time < at_time THEN interval '0' ELSE interval '1 day' END)
	AT TIME ZONE 'UTC';
COMMENT ON FUNCTION reputation.next_daily(time, timestamptz) IS
'The next moment after the one given at which it is that time of day, UTC.';

CREATE FUNCTION reputation.preloaded() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM unnest(string_to_array(replace(current_setting('shared_preload_libraries'), '"', ''), ',')) l
				   WHERE trim(l) IN ('reputation', '$libdir/reputation'));
END;
COMMENT ON FUNCTION reputation.preloaded() IS
'Is the library preloaded, so that there are workers?';

CREATE FUNCTION reputation.cron_daily(at_time time) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN extract(second FROM at_time) = 0
	THEN format('%s %s * * *', extract(minute FROM at_time), extract(hour FROM at_time) % 24) END;
COMMENT ON FUNCTION reputation.cron_daily(time) IS
'A time of day as pg_cron writes it; null when it is not on a minute.';

CREATE FUNCTION reputation.cron_every(every interval) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN every = '1 day' THEN '0 0 * * *'
	WHEN extract(second FROM every) > 0 THEN NULL
	WHEN every < '1 hour' AND mod(60, nullif(extract(minute FROM every), 0)) = 0 THEN format('*/%s * * * *', extract(minute FROM every))
	WHEN extract(minute FROM every) = 0 AND mod(24, nullif(extract(hour FROM every), 0)) = 0 THEN format('0 */%s * * *', extract(hour FROM every)) END;
COMMENT ON FUNCTION reputation.cron_every(interval) IS
'An interval from 1 minute to 1 day as pg_cron writes it; null when it neither is whole minutes that divide an hour nor whole hours that divide a day.';

CREATE FUNCTION reputation.run_step(job_name text, step bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	engine_id int := step[2];
	after bigint;
BEGIN
	IF step IS NULL THEN
		-- Where a worker is, it is at it already.
		RETURN CASE WHEN NOT EXISTS (SELECT FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
			WHERE d.datname = current_database()) THEN '{1}'::bigint[] END;
	ELSIF step[1] = 1 THEN
		RETURN CASE WHEN reputation.rank_step() THEN '{1}' ELSE '{2}'::bigint[] END;
	ELSIF step[1] = 2 THEN
		IF @extschema@.reputation_process(NULL::text, 1000::bigint) > 0 THEN
			RETURN '{2}';
		END IF;
		engine_id := 0;
	ELSE
		after := reputation.prune_audit((SELECT e.name FROM reputation.engine e WHERE e.id = engine_id), step[3]);
		IF after IS NOT NULL THEN
			RETURN ARRAY[3, engine_id, after];
		END IF;
	END IF;
	RETURN (SELECT ARRAY[3, min(e.id), 0] FROM reputation.engine e WHERE e.id > engine_id AND run_step.job_name = 'nightly'
		HAVING count(*) > 0);
END
$$;
COMMENT ON FUNCTION reputation.run_step(text, bigint[]) IS
'The next transaction of reputation_run(): {1} ranks, {2} drains, {3, engine, id} removes audit rows after that id; returns the step that follows, null after the last. Null is the first.';

-- It commits, and so cannot have a search_path of its own: it is not to look up an
-- operator, a type, or a function whose name is not qualified.
CREATE PROCEDURE @extschema@.reputation_run(job_name text, trigger text DEFAULT 'manual')
LANGUAGE plpgsql AS $$
DECLARE
	step pg_catalog.int8[];
BEGIN
	PERFORM reputation.run_job(job_name, trigger);
	LOOP
		COMMIT;
		step := reputation.run_step(job_name, step);
		EXIT WHEN step IS NULL;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE @extschema@.reputation_run(text, text) IS
'Runs a batch job now: nightly (recompute everybody), leaderboards (rank columns, and the caches of the boards) or badges (who gains or loses one). With a worker it only starts it; without one it drains the work itself, committing as it goes, and nightly removes old audit rows. 22023 unknown job, or a trigger other than manual, cron, worker; 22004 null.';

CREATE FUNCTION @extschema@.reputation_schedule(nightly time DEFAULT '03:00', leaderboards interval DEFAULT '15 min', badges interval DEFAULT '1 hour')
RETURNS TABLE (job text, schedule text, started_by text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	cron oid := (SELECT n.oid FROM pg_extension e JOIN pg_namespace n ON n.nspname = 'cron' WHERE e.extname = 'pg_cron');
	wanted record;
BEGIN
	IF nightly IS NULL OR leaderboards IS NULL OR leaderboards NOT BETWEEN '1 min' AND '1 day'
		OR badges IS NULL OR badges NOT BETWEEN '1 min' AND '1 day' THEN
		RAISE EXCEPTION 'nightly must be a time of day, leaderboards and badges intervals of 1 minute to 1 day'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM @extschema@.reputation_unschedule();
	FOR wanted IN
		SELECT j.name, j.at_time, j.every, CASE WHEN cron IS NOT NULL THEN coalesce(reputation.cron_daily(j.at_time), reputation.cron_every(j.every)) END AS as_cron
		FROM (VALUES ('nightly', nightly, NULL), ('leaderboards', NULL, leaderboards), ('badges', NULL, badges)) AS j (name, at_time, every)
	LOOP
		-- What pg_cron cannot do exactly is left to the worker, if there is one.
		IF cron IS NOT NULL AND wanted.as_cron IS NULL
			AND NOT (reputation.preloaded() AND current_setting('reputation.workers', true)::int > 0) THEN
			RAISE EXCEPTION 'pg_cron cannot start a job %', coalesce('at ' || wanted.at_time, 'every ' || wanted.every)
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'It can at a full minute, and at intervals of whole minutes that divide an hour or whole hours that divide a day. A worker can at any; none is running.';
		END IF;
		INSERT INTO reputation.schedule (job_name, at_time, every, next_run_at, started_by)
		VALUES (wanted.name, wanted.at_time, wanted.every,
			coalesce(reputation.next_daily(wanted.at_time, reputation.clock()), reputation.clock() + wanted.every),
			CASE WHEN wanted.as_cron IS NULL THEN 'worker' ELSE 'pg_cron' END);
		IF wanted.as_cron IS NOT NULL THEN
			PERFORM cron.schedule('reputation ' || wanted.name, wanted.as_cron, format('CALL @extschema@.reputation_run(%L, %L)', wanted.name, 'cron'));
		END IF;
	END LOOP;
	PERFORM reputation.wake();
	RETURN QUERY SELECT s.job_name, coalesce('daily at ' || s.at_time || ' UTC', 'every ' || s.every), s.started_by
		FROM reputation.schedule s ORDER BY 1;
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_schedule(time, interval, interval) IS
'Schedules the batch jobs: the nightly recomputation (time of day, UTC), the leaderboards and the check of the badges (intervals). With pg_cron in this database it starts them, otherwise, or where it cannot do so exactly (every 45 minutes), the worker. Replaces an earlier schedule. 22023 bad argument, or an interval that pg_cron cannot do and no worker.';

CREATE FUNCTION @extschema@.reputation_unschedule() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM reputation.schedule;
	IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
		PERFORM cron.unschedule(j.jobid) FROM cron.job j
		WHERE j.jobname IN ('reputation nightly', 'reputation leaderboards', 'reputation badges')
			AND j.database = current_database() AND j.username = current_user;
	END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_unschedule() IS
'Removes the batch jobs'' schedule, also from pg_cron.';

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

CREATE FUNCTION reputation.forget_user(user_id text, mode text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	removed bigint := 0;
	n bigint;
	alias text := 'anonymous-' || gen_random_uuid();
	engine record;
BEGIN
	FOR engine IN SELECT e.score_table, e.audit_table FROM reputation.engines() e LOOP
		-- A score row that was added after the first statement's snapshot keeps its audit row in
		-- the second, and both go the next time.
		LOOP
			EXECUTE format('DELETE FROM reputation.%I WHERE user_id = $1', engine.score_table) USING forget_user.user_id;
			GET DIAGNOSTICS n = ROW_COUNT;
			removed := removed + n;
			EXIT WHEN engine.audit_table IS NULL;
			IF mode = 'erase' THEN
				EXECUTE format('DELETE FROM reputation.%I WHERE user_id = $1 AND NOT EXISTS (SELECT FROM reputation.%I s WHERE s.user_id = $1)',
					engine.audit_table, engine.score_table) USING forget_user.user_id;
			ELSE
				EXECUTE format('UPDATE reputation.%I SET user_id = $2 WHERE user_id = $1 AND NOT EXISTS (SELECT FROM reputation.%I s WHERE s.user_id = $1)',
					engine.audit_table, engine.score_table) USING forget_user.user_id, alias;
			END IF;
			GET DIAGNOSTICS n = ROW_COUNT;
			removed := removed + n;
			EXECUTE format('SELECT count(*) FROM reputation.%I WHERE user_id = $1', engine.score_table) INTO n USING forget_user.user_id;
			EXIT WHEN n = 0;
		END LOOP;
	END LOOP;
	-- The badges before the ledger: for who is just taking one is waited here, and the
	-- next statement sees the row that takes the bonus back.
	DELETE FROM reputation.user_badge h WHERE h.user_id = forget_user.user_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	removed := removed + n;
	removed := removed + reputation.ledger_forget(forget_user.user_id, CASE WHEN mode = 'anonymize' THEN alias END);
	DELETE FROM reputation.leaderboard_cache c WHERE c.user_id = forget_user.user_id;
	DELETE FROM reputation.recent_run r WHERE r.key = forget_user.user_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	removed := removed + n;
	DELETE FROM reputation.crash c WHERE c.kind <= 0 AND c.key = forget_user.user_id;
	UPDATE reputation.job_runs r SET cursor = NULL WHERE r.cursor = forget_user.user_id AND r.status <> 'running';
	IF mode = 'erase' THEN
		DELETE FROM reputation.dead_letter d WHERE d.kind <= 0 AND d.key = forget_user.user_id;
	ELSE
		UPDATE reputation.dead_letter d SET key = alias, error = 'anonymized'
		WHERE d.kind <= 0 AND d.key = forget_user.user_id;
	END IF;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN removed + n;
END
$$;
COMMENT ON FUNCTION reputation.forget_user(text, text) IS
'The part of reputation_forget() that is done in the extension''s own tables.';

CREATE FUNCTION reputation.follow_user(user_id text, new_id text, of_points boolean, of_badges boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- While nobody has the ledger, what was paid with the badges goes with them.
	bonuses CONSTANT boolean := NOT of_points;
BEGIN
	-- The badges first, as where they are settled.
	IF of_badges THEN
		DELETE FROM reputation.user_badge h WHERE h.user_id = coalesce(new_id, follow_user.user_id);
		UPDATE reputation.user_badge h SET user_id = new_id WHERE h.user_id = follow_user.user_id AND new_id IS NOT NULL;
	END IF;
	IF of_points OR NOT EXISTS (SELECT FROM reputation.engine e WHERE e.name = 'points') THEN
		IF new_id IS NULL THEN
			PERFORM reputation.ledger_forget(follow_user.user_id, NULL, bonuses);
		ELSE
			PERFORM reputation.ledger_move(follow_user.user_id, new_id, bonuses);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION reputation.follow_user(text, text, boolean, boolean) IS
'What cannot be computed again of a user whose row goes (new_id null) or gets another id: the ledger''s rows go along where it is a user of the points engine, the badges where it is one of the badges engine.';

CREATE FUNCTION @extschema@.reputation_forget(uid anycompatible, mode text DEFAULT 'erase') RETURNS bigint
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_forget';
COMMENT ON FUNCTION @extschema@.reputation_forget(anycompatible, text) IS
'Removes all that is kept about a user (erase), or what can be kept without the name (anonymize); returns the number of rows. The cached column of a user that still exists becomes 0 until its next computation, which is queued and takes everything along that waits for the user. Deleting the row of the users table does the same. 22P02 malformed id; 22023 bad mode; 55000 no engine attached.';

CREATE FUNCTION reputation.lane(key text) RETURNS smallint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reputation_lane';
COMMENT ON FUNCTION reputation.lane(text) IS
'The lane of the job table a key belongs to.';

CREATE FUNCTION @extschema@.reputation_version() RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'reputation_library_version';
COMMENT ON FUNCTION @extschema@.reputation_version() IS
'The version of the loaded library.';

-- What a DBA looks at.

CREATE FUNCTION reputation.sample(engine text, OUT sampled int, OUT differing int) RETURNS record
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_sample';
COMMENT ON FUNCTION reputation.sample(text) IS
'Recomputes up to 100 users picked at random and counts those that differ from what is stored although no work is pending.';

CREATE FUNCTION @extschema@.reputation_status()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	library text := reputation.library_version();	-- first: it loads the settings
	preloaded boolean := reputation.preloaded();
	wanted int := current_setting('reputation.workers')::int;
	patience int := (SELECT s.setting FROM pg_settings s WHERE s.name = 'reputation.application_timeout')::int;
	version text := (SELECT extversion FROM pg_extension WHERE extname = 'reputation');
	now timestamptz := reputation.clock();
	e record;
	n bigint;
	oldest timestamptz;
	t text;
	age interval;
	slow int[];
BEGIN
	RETURN QUERY SELECT 'preload', CASE WHEN preloaded THEN 'OK' ELSE 'WARN' END,
		CASE WHEN preloaded THEN 'reputation is preloaded' ELSE 'reputation is not preloaded: there are no workers' END,
		CASE WHEN NOT preloaded THEN 'Add reputation to shared_preload_libraries and restart, or call reputation_process() regularly.' END;

	RETURN QUERY SELECT 'version', CASE WHEN version = library THEN 'OK' ELSE 'ERROR' END,
		format('extension %s, library %s', version, library),
		CASE WHEN version <> library THEN 'Run ALTER EXTENSION reputation UPDATE, or restart with the new library.' END;

	SELECT count(*) INTO n FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database WHERE d.datname = current_database();
	RETURN QUERY SELECT 'workers', CASE WHEN n >= wanted THEN 'OK' WHEN n > 0 OR NOT preloaded THEN 'WARN' ELSE 'ERROR' END,
		format('%s of %s running', n, wanted),
		CASE WHEN n < wanted AND preloaded THEN 'See the server log; max_worker_processes may be exhausted.' END;

	-- Of what is slow a worker is in: code of the application's, or all else that a unit does.
	SELECT string_agg(format('worker %s has been %s s in %s', u.pid, u.ms / 1000, u.place), '; ' ORDER BY u.ms DESC), array_agg(u.engine)
	INTO t, slow
	FROM (SELECT w.pid, w.engine, coalesce(w.code_ms, w.unit_ms) AS ms, CASE WHEN w.code_ms IS NULL THEN 'a unit'
			ELSE coalesce((SELECT format('code of the engine %s (role %s, table %s)', en.name, en.role, en.users)
				FROM reputation.engine en WHERE en.id = w.engine), 'code of a table''s owner') END AS place
		FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
		WHERE d.datname = current_database()
			AND (w.code_ms >= least(5000, coalesce(nullif(patience, 0), 10000) / 2) OR w.unit_ms >= 60000)) u;
	RETURN QUERY SELECT 'units', CASE WHEN t IS NULL THEN 'OK' ELSE 'WARN' END,
		coalesce(t, 'no worker has been at one thing for long'),
		CASE WHEN t IS NULL THEN NULL
			WHEN patience > 0 THEN format('Code of the application''s is cancelled after %s s (reputation.application_timeout), and the engine then suspended by name.', patience / 1000.0)
			ELSE 'reputation.application_timeout = 0: nothing ends it but pg_cancel_backend().' END;

	FOR e IN SELECT en.*, EXISTS (SELECT FROM reputation.algorithm a WHERE a.engine = en.name AND a.active) AS has_algorithm,
			EXISTS (SELECT FROM reputation.engines() l WHERE l.id = en.id) AS loaded
		FROM reputation.engine en ORDER BY en.id
	LOOP
		IF NOT e.loaded THEN
			RETURN QUERY SELECT 'engine ' || e.name, 'ERROR', format('its class %s is not loaded: nothing of it is computed', e.class),
				'Add the library that has it to shared_preload_libraries, and restart; then everybody is computed.';
			CONTINUE;
		END IF;
		RETURN QUERY SELECT 'engine ' || e.name, CASE WHEN e.has_algorithm AND e.suspended_error IS NULL THEN 'OK' ELSE 'ERROR' END,
			CASE WHEN NOT e.has_algorithm THEN 'no version of its algorithm is active'
				ELSE coalesce('suspended: ' || e.suspended_error, format('attached to %s, works as %s', e.users, e.role)) END,
			CASE WHEN NOT e.has_algorithm THEN format('Call algorithm_activate(%L, version); its jobs wait.', e.name)
				WHEN e.suspended_error IS NOT NULL THEN format('Mend the cause, then SELECT reputation_retry(%L), or attach the engine again; its jobs wait.', e.name) END;
		IF (SELECT rolsuper FROM pg_roles WHERE oid = e.role) THEN
			RETURN QUERY SELECT 'role ' || e.name, 'WARN', format('the engine works as the superuser %s', e.role),
				'Let an ordinary role own the users table and attach again.';
		END IF;
	END LOOP;
	IF NOT FOUND THEN
		RETURN QUERY SELECT 'engines', 'WARN', 'no engine is attached', 'Attach one, for instance with builder_score_attach().';
	END IF;

	RETURN QUERY WITH found AS MATERIALIZED (SELECT * FROM reputation.source_check()), of_source AS (
			SELECT f.relation, min(f.level) AS level, string_agg(DISTINCT f.detail, '; ') AS detail, string_agg(DISTINCT f.remedy, ' ') AS remedy
			FROM found f GROUP BY f.relation)
		SELECT 'capture', coalesce(min(o.level), 'OK'), CASE WHEN count(*) = 0 THEN 'all sources are as they were attached'
			ELSE 'see the rows of ' || string_agg(o.relation, ', ' ORDER BY o.relation) END, NULL FROM of_source o
		UNION ALL (SELECT 'source ' || o.relation, o.level, o.detail, o.remedy FROM of_source o ORDER BY o.relation);

	RETURN QUERY SELECT 'ranks ' || u.engine, 'ERROR', format('triggers of %s that are missing or do not always fire: %s', u.relation, string_agg(u.trigger, ', ' ORDER BY u.trigger)),
		format('SELECT reputation_repair(%L).', u.engine)
	FROM reputation.rank_untracked() u GROUP BY u.engine, u.relation ORDER BY 1;

	SELECT count(*), min(due_at) INTO n, oldest FROM reputation.job WHERE due_at <= now;
	age := now - oldest;
	RETURN QUERY SELECT 'queue', CASE WHEN age > interval '10 min' THEN 'ERROR' WHEN age > interval '1 min' THEN 'WARN' ELSE 'OK' END,
		format('%s due, %s deferred, inbox of %s pages', n, (SELECT count(*) FROM reputation.job WHERE due_at > now),
			(SELECT sum(pages) FROM reputation.inbox_pages())),
		CASE WHEN age > interval '1 min' THEN format('The oldest job is due since %s.', oldest) END;

	SELECT count(*) INTO n FROM reputation.dead_letter;
	RETURN QUERY SELECT 'dead letters', CASE WHEN n = 0 THEN 'OK' ELSE 'WARN' END, format('%s', n),
		CASE WHEN n > 0 THEN 'See reputation.dead_letter for the errors; reputation_retry() queues them again.' END;

	-- Whom time makes due becomes a job only when somebody looks. Dead letters are told of above.
	FOR e IN SELECT r.name, r.score_table FROM reputation.engines() r JOIN reputation.engine en ON en.id = r.id WHERE r.timed ORDER BY r.id LOOP
		EXECUTE format('SELECT count(*), min(s.next_due_at) FROM reputation.%I s WHERE s.next_due_at <= $1 AND NOT EXISTS
			(SELECT FROM reputation.dead_letter d WHERE d.key = s.user_id AND d.engine = $2 AND d.kind = 0)', e.score_table)
			INTO n, oldest USING now, e.name;
		age := now - oldest;
		RETURN QUERY SELECT 'time ' || e.name, CASE WHEN age > interval '10 min' THEN 'ERROR' WHEN age > interval '1 min' THEN 'WARN' ELSE 'OK' END,
			format('%s users whose score changes with time alone are due', n),
			CASE WHEN age > interval '1 min' THEN format('The first is since %s. A worker sees to it, or reputation_process().', oldest) END;
	END LOOP;

	FOR e IN SELECT en.name, en.retry_at > now AS suspended, en.id = ANY (slow) AS slow FROM reputation.engine en
		WHERE en.id IN (SELECT l.id FROM reputation.engines() l) ORDER BY en.id LOOP
		-- A view that hangs would hang here, too.
		IF e.suspended OR e.slow THEN
			RETURN QUERY SELECT 'drift ' || e.name, 'WARN', 'not sampled: ' || CASE WHEN e.suspended THEN 'the engine is suspended'
				ELSE 'a worker has been in its code for long' END, NULL;
			CONTINUE;
		END IF;
		BEGIN
			RETURN QUERY SELECT 'drift ' || e.name, CASE WHEN s.differing = 0 THEN 'OK' ELSE 'ERROR' END,
				format('%s of %s sampled users differ with no work pending', s.differing, s.sampled),
				CASE WHEN s.differing > 0 THEN format('Run reputation_verify(%L) and reputation_repair(%L).', e.name, e.name) END
			FROM reputation.sample(e.name) s;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS t = PG_EXCEPTION_HINT;
			RETURN QUERY SELECT 'drift ' || e.name, 'ERROR', 'a sample cannot be computed: ' || SQLERRM, nullif(t, '');
		END;
	END LOOP;

	IF EXISTS (SELECT FROM reputation.engine en WHERE en.class = 'session') THEN
		RETURN QUERY SELECT 'read cache', CASE WHEN s.max_entries = 0 AND preloaded THEN 'WARN' ELSE 'OK' END,
			CASE WHEN s.max_entries = 0 THEN 'off: every user_reputation() computes'
				ELSE format('%s of %s entries; hit ratio %s', s.entries, s.max_entries, coalesce(round(s.hit_ratio::numeric, 3)::text, 'unknown')) END,
			CASE WHEN s.max_entries = 0 AND preloaded THEN 'Set reputation.cache_size and restart.' END
		FROM @extschema@.user_reputation_cache_stats() s;
	END IF;

	RETURN QUERY SELECT j.check_name, j.status, j.detail, j.hint FROM reputation.job_status() j;
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_status() IS
'The state of the extension: a row per check with OK, WARN or ERROR, what was found, and what to do.';

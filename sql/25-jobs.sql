-- Batch jobs: which there are, when each is run, and its runs. A module registers its
-- own in its file; nothing here knows any of them.

-- Written by the scripts alone, and so not dumped. The functions are names, for what refers
-- to a function by its OID does not survive pg_upgrade.
CREATE TABLE reputation.batch_job (
	name			text		COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$' AND name NOT IN ('backfill', 'recompute')),
	description		text		NOT NULL,
	begin_function	name		NOT NULL,
	step_function	name,
	class			text,
	audited			boolean		NOT NULL,
	cause			text,
	at_time			time,
	time_zone		text,
	every			interval	CHECK (every BETWEEN '1 min' AND '1 day'),
	recommended		boolean		NOT NULL,
	by_default		boolean		NOT NULL,
	next_run_at		timestamptz	NOT NULL,
	CHECK ((at_time IS NULL) <> (every IS NULL)),
	CHECK ((at_time IS NULL) = (time_zone IS NULL))
);
COMMENT ON TABLE reputation.batch_job IS 'the batch jobs that the modules of the extension have; written by their scripts alone';
COMMENT ON COLUMN reputation.batch_job.begin_function IS 'reputation.NAME(engine text, job_name text, trigger text) returns bigint: begins a run of an engine, or has the one that is on start over; called once with a null engine when there is none';
COMMENT ON COLUMN reputation.batch_job.step_function IS 'reputation.NAME(run_id bigint) returns boolean: does a run''s next step, a transaction; is there more? Null: the run is a sweep, worked off through the job table';
COMMENT ON COLUMN reputation.batch_job.class IS 'whose attached engines it is of; null: all of them';
COMMENT ON COLUMN reputation.batch_job.audited IS 'of engines that keep an audit alone';
COMMENT ON COLUMN reputation.batch_job.cause IS 'what an audit row says of why a run of it computed a user; null: what asked for the run';
COMMENT ON COLUMN reputation.batch_job.every IS 'the usual schedule, or at_time with time_zone';
COMMENT ON COLUMN reputation.batch_job.recommended IS 'reputation_status() warns when it is not scheduled';
COMMENT ON COLUMN reputation.batch_job.by_default IS 'while reputation.schedule has no row of it a worker runs it at its usual times';
COMMENT ON COLUMN reputation.batch_job.next_run_at IS 'of one that is run by default: when';

CREATE TABLE reputation.schedule (
	job_name	text		COLLATE "C" PRIMARY KEY,
	at_time		time,
	time_zone	text,
	every		interval,
	next_run_at	timestamptz,
	started_by	text		NOT NULL CHECK (started_by IN ('pg_cron', 'worker', 'nobody')),
	CHECK (at_time IS NULL OR every IS NULL),
	CHECK ((at_time IS NULL) = (time_zone IS NULL)),
	CHECK ((started_by = 'nobody') = (at_time IS NULL AND every IS NULL)),
	CHECK ((started_by = 'nobody') = (next_run_at IS NULL))
);
COMMENT ON TABLE reputation.schedule IS 'when batch jobs are run: daily at a time in a time zone, or at an interval; and who starts them';
COMMENT ON COLUMN reputation.schedule.started_by IS 'nobody: a job that is run by default was unscheduled';
COMMENT ON COLUMN reputation.schedule.next_run_at IS 'of pg_cron: when the first run was to be';
SELECT pg_catalog.pg_extension_config_dump('reputation.schedule', '');

-- What a module registers is called with the owner's rights, so it has to be the owner's.
CREATE VIEW reputation.job_schedule AS
SELECT b.name AS job_name, b.description, b.begin_function, b.step_function, b.class, b.audited, b.recommended,
	CASE WHEN s.job_name IS NOT NULL THEN s.at_time WHEN b.by_default THEN b.at_time END AS at_time,
	CASE WHEN s.job_name IS NOT NULL THEN s.time_zone WHEN b.by_default THEN b.time_zone END AS time_zone,
	CASE WHEN s.job_name IS NOT NULL THEN s.every WHEN b.by_default THEN b.every END AS every,
	CASE WHEN s.job_name IS NOT NULL THEN s.next_run_at WHEN b.by_default THEN b.next_run_at END AS next_run_at,
	CASE WHEN s.job_name IS NOT NULL THEN nullif(s.started_by, 'nobody') WHEN b.by_default THEN 'worker' END AS started_by,
	s.job_name IS NOT NULL AS chosen,
	EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'reputation'::regnamespace AND p.proname = b.begin_function
		AND p.proargtypes = '25 25 25' AND p.prorettype = 'bigint'::regtype AND p.prokind = 'f' AND NOT p.proretset AND p.proowner = x.extowner)
	AND (b.step_function IS NULL OR EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'reputation'::regnamespace AND p.proname = b.step_function
		AND p.proargtypes = '20' AND p.prorettype = 'boolean'::regtype AND p.prokind = 'f' AND NOT p.proretset AND p.proowner = x.extowner)) AS works
FROM reputation.batch_job b LEFT JOIN reputation.schedule s ON s.job_name = b.name
JOIN pg_extension x ON x.extname = 'reputation';
COMMENT ON VIEW reputation.job_schedule IS 'each batch job with when it is run: as chosen, or by default; started_by null: it is not scheduled; works: its functions are there, and owned by the owner of the extension';

CREATE FUNCTION reputation.batch_job_register(
	name text,
	description text,
	begin_function text,
	step_function text DEFAULT NULL,
	class text DEFAULT NULL,
	audited boolean DEFAULT false,
	cause text DEFAULT NULL,
	every interval DEFAULT NULL,
	at_time time DEFAULT NULL,
	time_zone text DEFAULT 'UTC',
	recommended boolean DEFAULT false,
	by_default boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	wanted record;
	found_owner oid;
BEGIN
	FOR wanted IN SELECT v.* FROM (VALUES
		(begin_function, 'text, text, text', '25 25 25'::oidvector, 'bigint'::regtype),
		(step_function, 'bigint', '20'::oidvector, 'boolean'::regtype)) v (name, arguments, types, result)
		WHERE v.name IS NOT NULL
	LOOP
		SELECT p.proowner INTO found_owner FROM pg_proc p
		WHERE p.pronamespace = 'reputation'::regnamespace AND p.proname = wanted.name AND p.proargtypes = wanted.types
			AND p.prorettype = wanted.result AND p.prokind = 'f' AND NOT p.proretset;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is no function reputation.%(%) that returns %', quote_ident(wanted.name), wanted.arguments, wanted.result
				USING ERRCODE = 'undefined_function', HINT = 'The functions of a job are in the schema reputation.';
		ELSIF found_owner <> (SELECT x.extowner FROM pg_extension x WHERE x.extname = 'reputation') THEN
			RAISE EXCEPTION 'the function reputation.%(%) is not owned by the owner of the extension', quote_ident(wanted.name), wanted.arguments
				USING ERRCODE = 'insufficient_privilege', DETAIL = format('Its owner is %s; it would run with the rights of the owner of the extension.', found_owner::regrole);
		END IF;
	END LOOP;
	IF (batch_job_register.every IS NULL) = (batch_job_register.at_time IS NULL) THEN
		RAISE EXCEPTION 'the usual schedule of the job "%" must be an interval or a time of day', batch_job_register.name
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- 22023 when there is no such time zone.
	PERFORM reputation.next_run(batch_job_register.at_time, batch_job_register.time_zone, batch_job_register.every, now());
	INSERT INTO reputation.batch_job AS b
		(name, description, begin_function, step_function, class, audited, cause, every, at_time, time_zone, recommended, by_default, next_run_at)
	VALUES (batch_job_register.name, batch_job_register.description, batch_job_register.begin_function, batch_job_register.step_function,
		batch_job_register.class, batch_job_register.audited, batch_job_register.cause, batch_job_register.every, batch_job_register.at_time,
		CASE WHEN batch_job_register.at_time IS NOT NULL THEN batch_job_register.time_zone END,
		batch_job_register.recommended, batch_job_register.by_default, reputation.clock())
	ON CONFLICT (name) DO UPDATE SET description = excluded.description, begin_function = excluded.begin_function,
		step_function = excluded.step_function, class = excluded.class, audited = excluded.audited, cause = excluded.cause,
		every = excluded.every, at_time = excluded.at_time, time_zone = excluded.time_zone,
		recommended = excluded.recommended, by_default = excluded.by_default;
END
$$;
COMMENT ON FUNCTION reputation.batch_job_register(text, text, text, text, text, boolean, text, interval, time, text, boolean, boolean) IS
'Registers a batch job, or changes what was registered: for scripts; see reputation.batch_job. 42883 no such function in the schema reputation; 42501 it is not owned by the owner of the extension; 22023 not one usual schedule, or no such time zone; 23514 another name or interval.';

CREATE FUNCTION reputation.next_run(at_time time, time_zone text, every interval, after timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
-- A day is 24 hours of an interval, whatever the session's time zone. A time that a
-- day has twice, or not at all, is one moment: each day has one run.
RETURN CASE WHEN every IS NOT NULL THEN after + make_interval(secs => extract(epoch FROM every)::float8)
	ELSE (SELECT min(m.moment) FROM generate_series(-1, 2) AS d (n)
		CROSS JOIN LATERAL (SELECT ((after AT TIME ZONE time_zone)::date + d.n + at_time) AT TIME ZONE time_zone AS moment) m
		WHERE m.moment > after) END;
COMMENT ON FUNCTION reputation.next_run(time, text, interval, timestamptz) IS
'The next moment after the one given at which a job is run that is daily at a time in a time zone, or at an interval. 22023 no such time zone.';

CREATE FUNCTION reputation.schedule_text(at_time time, time_zone text, every interval) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce('daily at ' || at_time || ' ' || time_zone, 'every ' || every);
COMMENT ON FUNCTION reputation.schedule_text(time, text, interval) IS
'A schedule in words.';

CREATE FUNCTION reputation.job_engines(class text, audited boolean) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	-- An engine of another database is being restored.
	SELECT e.name FROM reputation.engine e JOIN reputation.engines() g ON g.id = e.id
	WHERE e.home = reputation.home() AND (job_engines.class IS NULL OR e.class = job_engines.class)
		AND (NOT job_engines.audited OR g.audit_table IS NOT NULL)
	ORDER BY e.id;
END;
COMMENT ON FUNCTION reputation.job_engines(text, boolean) IS
'The attached engines that a job is of.';

CREATE FUNCTION reputation.preloaded() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM unnest(string_to_array(replace(current_setting('shared_preload_libraries'), '"', ''), ',')) l
				   WHERE trim(l) IN ('reputation', '$libdir/reputation'));
END;
COMMENT ON FUNCTION reputation.preloaded() IS
'Is the library preloaded, so that there are workers?';

-- Runs.

CREATE FUNCTION reputation.run_begin(engine text, job_name text, trigger text) RETURNS bigint
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO reputation.job_runs AS r (job_name, status, trigger, scope, started_at)
	VALUES (run_begin.job_name, 'running', run_begin.trigger, run_begin.engine, reputation.clock())
	ON CONFLICT (job_name, scope) WHERE status = 'running' DO UPDATE SET again = true, trigger = excluded.trigger
	RETURNING r.id;
END;
COMMENT ON FUNCTION reputation.run_begin(text, text, text) IS
'Begins a run in steps of an engine, or has the one that is on start over at its end; returns its id.';

CREATE FUNCTION reputation.job_run_done(run_id bigint, error text DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE reputation.job_runs
	SET status = CASE WHEN job_run_done.error IS NULL THEN 'succeeded' ELSE 'failed' END,
		error = job_run_done.error,
		finished_at = reputation.clock(),
		duration_ms = round(1000 * extract(epoch FROM reputation.clock() - started_at))
	WHERE id = run_id AND status = 'running';
	DELETE FROM reputation.rank_portion p WHERE p.run_id = job_run_done.run_id;
END;
COMMENT ON FUNCTION reputation.job_run_done(bigint, text) IS
'Ends a run in reputation.job_runs.';

CREATE FUNCTION reputation.batch_step() RETURNS boolean
LANGUAGE C VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_batch_step';
COMMENT ON FUNCTION reputation.batch_step() IS
'Does the next step of a run in steps, of one after the other where several are on; a run whose step fails has failed. False when no run needs a step.';

CREATE FUNCTION reputation.require_job(job_name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	works boolean := (SELECT s.works FROM reputation.job_schedule s WHERE s.job_name = require_job.job_name);
	hint text := (SELECT 'The jobs are: ' || string_agg(b.name, ', ' ORDER BY b.name) || '.' FROM reputation.batch_job b);
BEGIN
	IF require_job.job_name IS NULL THEN
		RAISE EXCEPTION 'the job must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = hint;
	ELSIF works IS NULL THEN
		RAISE EXCEPTION 'there is no job "%"', require_job.job_name USING ERRCODE = 'invalid_parameter_value', HINT = hint;
	ELSIF NOT works THEN
		RAISE EXCEPTION 'the functions of the job "%" are gone, or not owned by the owner of the extension', require_job.job_name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Install what has the job, or SELECT reputation_unschedule(%L).', require_job.job_name);
	END IF;
END
$$;
COMMENT ON FUNCTION reputation.require_job(text) IS
'Raises 22023 unless a module has a job of that name, 22004 for null, 55000 when its functions are gone.';

CREATE FUNCTION reputation.run_job(job_name text, trigger text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	job record;
	of_engine text;
BEGIN
	PERFORM reputation.require_job(run_job.job_name);
	IF run_job.trigger IS NULL THEN
		RAISE EXCEPTION 'the trigger must not be null' USING ERRCODE = 'null_value_not_allowed';
	ELSIF run_job.trigger NOT IN ('manual', 'cron', 'worker') THEN
		RAISE EXCEPTION 'trigger must be manual, cron or worker, not "%"', run_job.trigger
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT s.* INTO job FROM reputation.job_schedule s WHERE s.job_name = run_job.job_name;
	FOR of_engine IN SELECT e FROM reputation.job_engines(job.class, job.audited) e LOOP
		BEGIN
			EXECUTE format('SELECT reputation.%I($1, $2, $3)', job.begin_function) USING of_engine, run_job.job_name, run_job.trigger;
		EXCEPTION WHEN OTHERS THEN
			-- Of a worker the other engines and jobs go on; what may work the next moment is left due.
			IF run_job.trigger <> 'worker' OR reputation.is_transient(SQLSTATE) THEN
				RAISE;
			END IF;
			PERFORM reputation.begin_failed(run_job.job_name, of_engine, SQLERRM);
		END;
	END LOOP;
	IF NOT FOUND THEN
		EXECUTE format('SELECT reputation.%I($1, $2, $3)', job.begin_function) USING NULL::text, run_job.job_name, run_job.trigger;
	END IF;
	PERFORM reputation.wake();
END
$$;
COMMENT ON FUNCTION reputation.run_job(text, text) IS
'Starts a batch job of each attached engine it is of; a run that is on will start over at its end. 22023 unknown job or trigger; 22004 null; 55000 its functions are gone.';

CREATE FUNCTION reputation.is_transient(state text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN state = '55P03' OR left(state, 2) IN ('40', '53', '58');
COMMENT ON FUNCTION reputation.is_transient(text) IS
'Does an SQLSTATE (a lock, a lack of resources) say nothing about what was tried, so that it may work the next time?';

CREATE FUNCTION reputation.begin_failed(job_name text, scope text, error text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO reputation.job_runs (job_name, status, trigger, scope, started_at, finished_at, duration_ms, error)
	VALUES (begin_failed.job_name, 'failed', 'worker', begin_failed.scope, reputation.clock(), reputation.clock(), 0, left(begin_failed.error, 1000));
END;
COMMENT ON FUNCTION reputation.begin_failed(text, text, text) IS
'Notes that a job could not be begun.';

CREATE FUNCTION reputation.run_due_job(job_name text, now timestamptz) RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	due record;
	next timestamptz;
BEGIN
	-- Who starts a job, or changes its schedule, has this row.
	PERFORM FROM reputation.batch_job b WHERE b.name = run_due_job.job_name FOR UPDATE NOWAIT;
	PERFORM FROM reputation.schedule s WHERE s.job_name = run_due_job.job_name FOR UPDATE NOWAIT;
	SELECT s.* INTO due FROM reputation.job_schedule s
	WHERE s.job_name = run_due_job.job_name AND s.works AND s.started_by = 'worker' AND (s.next_run_at <= now OR s.next_run_at > now + interval '26 h');
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	-- From now on, not from when it was due: a far jump of the clock starts it once.
	next := reputation.next_run(due.at_time, due.time_zone, due.every, now);
	IF due.chosen THEN
		UPDATE reputation.schedule s SET next_run_at = next WHERE s.job_name = run_due_job.job_name;
	ELSE
		UPDATE reputation.batch_job b SET next_run_at = next WHERE b.name = run_due_job.job_name;
	END IF;
	IF due.next_run_at > now THEN
		RETURN 0;
	END IF;
	PERFORM reputation.run_job(run_due_job.job_name, 'worker');
	RETURN 1;
END
$$;
COMMENT ON FUNCTION reputation.run_due_job(text, timestamptz) IS
'Starts a scheduled job if it is due and the worker''s to start, and notes when it is next; returns 1 if so. 55P03 somebody is just changing its schedule.';

CREATE FUNCTION reputation.run_due_jobs() RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	due text;
	count int := 0;
	now timestamptz := reputation.clock();
BEGIN
	FOR due IN
		SELECT s.job_name FROM reputation.job_schedule s
		WHERE s.started_by = 'worker' AND s.works AND (s.next_run_at <= now OR s.next_run_at > now + interval '26 h')
		ORDER BY s.next_run_at, s.job_name
	LOOP
		BEGIN
			count := count + reputation.run_due_job(due, now);
		EXCEPTION WHEN OTHERS THEN
			-- Another time of day may be right: a dump's time zone need not be known here.
			IF NOT reputation.is_transient(SQLSTATE) THEN
				PERFORM reputation.begin_failed(due, 'all', SQLERRM);
				UPDATE reputation.schedule s SET next_run_at = now + interval '1 h' WHERE s.job_name = due;
				UPDATE reputation.batch_job b SET next_run_at = now + interval '1 h' WHERE b.name = due;
			END IF;
		END;
	END LOOP;
	RETURN count;
END
$$;
COMMENT ON FUNCTION reputation.run_due_jobs() IS
'Starts the scheduled jobs that are due and are the worker''s to start; returns how many. One that cannot be begun has a failed run, and stops no other.';

CREATE FUNCTION reputation.run_step(step int) RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF step IS NULL THEN
		-- Where a worker is, it is at it already.
		RETURN CASE WHEN NOT EXISTS (SELECT FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
			WHERE d.datname = current_database()) THEN 1 END;
	ELSIF step = 1 THEN
		RETURN CASE WHEN reputation.batch_step() THEN 1 ELSE 2 END;
	END IF;
	RETURN CASE WHEN @extschema@.reputation_process(NULL::text, 1000::bigint) > 0 THEN 2 END;
END
$$;
COMMENT ON FUNCTION reputation.run_step(int) IS
'The next transaction of reputation_run(): 1 a step of a run, 2 drains; returns the step that follows, null after the last. Null is the first.';

-- It commits, and so cannot have a search_path of its own: it is not to look up an
-- operator, a type, or a function whose name is not qualified.
CREATE PROCEDURE @extschema@.reputation_run(job_name text, trigger text DEFAULT 'manual')
LANGUAGE plpgsql AS $$
DECLARE
	step pg_catalog.int4;
BEGIN
	PERFORM reputation.run_job(job_name, trigger);
	LOOP
		COMMIT;
		step := reputation.run_step(step);
		EXIT WHEN step IS NULL;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE @extschema@.reputation_run(text, text) IS
'Runs a batch job of reputation.batch_job now. With a worker it only starts it; without one it does the work itself, committing as it goes. 22023 unknown job, or a trigger other than manual, cron, worker; 22004 null; 55000 the job''s functions are gone.';

-- The schedule, and pg_cron.

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

CREATE FUNCTION reputation.cron_keeps(at_time time, time_zone text, cron_zone text, from_day date) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
-- pg_cron skips a time that a day does not have, and runs twice at one that it has twice.
RETURN (SELECT CASE WHEN at_time IS NULL THEN count(DISTINCT t.there AT TIME ZONE 'UTC' - l.local) = 1
		ELSE bool_and(l.local AT TIME ZONE time_zone = t.there AND t.there AT TIME ZONE cron_zone = l.local
			AND (t.there - interval '1 h') AT TIME ZONE cron_zone <> l.local AND (t.there + interval '1 h') AT TIME ZONE cron_zone <> l.local
			AND (t.there - interval '30 min') AT TIME ZONE cron_zone <> l.local AND (t.there + interval '30 min') AT TIME ZONE cron_zone <> l.local) END
	FROM generate_series(0, 730) AS d (n)
	CROSS JOIN LATERAL (SELECT from_day + d.n + coalesce(at_time, '12:00') AS local) l
	CROSS JOIN LATERAL (SELECT l.local AT TIME ZONE cron_zone AS there) t);
COMMENT ON FUNCTION reputation.cron_keeps(time, text, text, date) IS
'In the next two years, is a time of day in pg_cron''s zone once each day, and at the moment that it is in another? Without a time: has pg_cron''s zone no summer time, so that it keeps intervals of hours?';

CREATE FUNCTION reputation.cron_entry(at_time time, time_zone text, every interval) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT CASE WHEN every < interval '1 h' THEN reputation.cron_every(every)
		WHEN reputation.cron_keeps(at_time, time_zone, c.zone, reputation.clock()::date) THEN coalesce(reputation.cron_daily(at_time), reputation.cron_every(every)) END
	FROM (SELECT coalesce(nullif(current_setting('cron.timezone', true), ''), 'UTC') AS zone) c
	WHERE EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron'));
COMMENT ON FUNCTION reputation.cron_entry(time, text, interval) IS
'A schedule as pg_cron writes it; null when pg_cron is not in this database or cannot keep it exactly.';

CREATE FUNCTION reputation.cron_remove(job_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
		PERFORM cron.unschedule(j.jobid) FROM cron.job j
		WHERE j.database = current_database() AND j.username = current_user
			AND starts_with(j.jobname, 'reputation ') AND starts_with(j.command, 'CALL @extschema@.reputation_run(')
			AND (cron_remove.job_name IS NULL OR j.jobname = 'reputation ' || cron_remove.job_name);
	END IF;
END
$$;
COMMENT ON FUNCTION reputation.cron_remove(text) IS
'Removes the entry of a job from pg_cron; null: those of all jobs, of unknown ones, too.';

CREATE FUNCTION reputation.cron_lacks(job_name text, entry text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
		RETURN true;
	END IF;
	RETURN NOT EXISTS (SELECT FROM cron.job j WHERE j.database = current_database() AND j.active
		AND j.jobname = 'reputation ' || cron_lacks.job_name AND j.schedule = cron_lacks.entry);
END
$$;
COMMENT ON FUNCTION reputation.cron_lacks(text, text) IS
'Has pg_cron no active entry of a job with that schedule, or is it not in this database any more?';

CREATE FUNCTION reputation.schedule_usual(job_name text, at_once boolean) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO reputation.schedule (job_name, at_time, time_zone, every, next_run_at, started_by)
	SELECT b.name, b.at_time, b.time_zone, b.every,
		CASE WHEN at_once THEN reputation.clock() ELSE reputation.next_run(b.at_time, b.time_zone, b.every, reputation.clock()) END, 'worker'
	FROM reputation.batch_job b WHERE b.name = schedule_usual.job_name
	ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION reputation.schedule_usual(text, boolean) IS
'Has the worker run a job at its usual times, the first time at once or when it comes, unless it is scheduled.';

CREATE FUNCTION reputation.schedule_set(job_name text, at_time time, time_zone text, every interval, as_it_is boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	as_cron text := reputation.cron_entry(schedule_set.at_time, schedule_set.time_zone, schedule_set.every);
BEGIN
	-- What pg_cron cannot do exactly is left to the worker, if there is one.
	IF as_cron IS NULL AND NOT as_it_is AND EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron')
		AND NOT (reputation.preloaded() AND current_setting('reputation.workers', true)::int > 0) THEN
		RAISE EXCEPTION 'pg_cron cannot start the job % %', schedule_set.job_name,
			reputation.schedule_text(schedule_set.at_time, schedule_set.time_zone, schedule_set.every)
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'It can at a full minute of its own time zone (cron.timezone) that each day has once, and at intervals of whole minutes that divide an hour or whole hours that divide a day. A worker can at any; none is running.';
	END IF;
	INSERT INTO reputation.schedule AS s (job_name, at_time, time_zone, every, next_run_at, started_by)
	VALUES (schedule_set.job_name, schedule_set.at_time, schedule_set.time_zone, schedule_set.every,
		reputation.next_run(schedule_set.at_time, schedule_set.time_zone, schedule_set.every, reputation.clock()),
		CASE WHEN as_cron IS NULL THEN 'worker' ELSE 'pg_cron' END)
	ON CONFLICT (job_name) DO UPDATE SET at_time = excluded.at_time, time_zone = excluded.time_zone, every = excluded.every, started_by = excluded.started_by,
		next_run_at = CASE WHEN as_it_is AND s.started_by = excluded.started_by THEN s.next_run_at ELSE excluded.next_run_at END;
	PERFORM reputation.cron_remove(schedule_set.job_name);
	IF as_cron IS NOT NULL THEN
		PERFORM cron.schedule('reputation ' || schedule_set.job_name, as_cron, format('CALL @extschema@.reputation_run(%L, %L)', schedule_set.job_name, 'cron'));
	END IF;
END
$$;
COMMENT ON FUNCTION reputation.schedule_set(text, time, text, interval, boolean) IS
'The part of reputation_schedule() that is done for each job: its row and its entry in pg_cron. 22023 neither pg_cron nor a worker can, unless it is only kept as it is.';

CREATE FUNCTION @extschema@.reputation_schedule(
	job text DEFAULT NULL, every interval DEFAULT NULL, at time DEFAULT NULL, time_zone text DEFAULT NULL)
RETURNS TABLE (job_name text, schedule text, started_by text, next_run_at timestamptz, last_success timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	now timestamptz := reputation.clock();
	wanted record;
BEGIN
	IF reputation_schedule.job IS NULL AND num_nonnulls(reputation_schedule.every, reputation_schedule.at, reputation_schedule.time_zone) > 0 THEN
		RAISE EXCEPTION 'the arguments "every", "at" and "time_zone" are for one job'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Name it: job => ''...''.';
	ELSIF reputation_schedule.every IS NOT NULL AND reputation_schedule.at IS NOT NULL THEN
		RAISE EXCEPTION 'a job is run at a time of day or at an interval, not both'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give "at" or "every".';
	ELSIF reputation_schedule.time_zone IS NOT NULL AND reputation_schedule.at IS NULL THEN
		RAISE EXCEPTION 'the argument "time_zone" is for a time of day'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give "at", too.';
	ELSIF reputation_schedule.every NOT BETWEEN '1 min' AND '1 day' THEN
		RAISE EXCEPTION 'argument "every" must be an interval of 1 minute to 1 day, not %', reputation_schedule.every
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF reputation_schedule.job IS NOT NULL THEN
		PERFORM reputation.require_job(reputation_schedule.job);
	END IF;
	-- 22023 when there is no such time zone.
	PERFORM reputation.next_run(reputation_schedule.at, coalesce(reputation_schedule.time_zone, 'UTC'), reputation_schedule.every, now);

	PERFORM FROM reputation.batch_job b WHERE reputation_schedule.job IS NULL OR b.name = reputation_schedule.job ORDER BY b.name FOR UPDATE;
	FOR wanted IN
		SELECT b.name, b.at_time, b.time_zone, b.every, s.chosen AND s.started_by IS NOT NULL AS chosen, s.at_time AS at_chosen, s.time_zone AS zone_chosen, s.every AS every_chosen
		FROM reputation.batch_job b JOIN reputation.job_schedule s ON s.job_name = b.name
		WHERE s.works AND (reputation_schedule.job IS NULL OR b.name = reputation_schedule.job) ORDER BY b.name
	LOOP
		IF num_nonnulls(reputation_schedule.every, reputation_schedule.at) > 0 THEN
			PERFORM reputation.schedule_set(wanted.name, reputation_schedule.at,
				CASE WHEN reputation_schedule.at IS NOT NULL THEN coalesce(reputation_schedule.time_zone, 'UTC') END, reputation_schedule.every, false);
		ELSIF wanted.chosen AND reputation_schedule.job IS NULL THEN
			PERFORM reputation.schedule_set(wanted.name, wanted.at_chosen, wanted.zone_chosen, wanted.every_chosen, true);
		ELSE
			PERFORM reputation.schedule_set(wanted.name, wanted.at_time, wanted.time_zone, wanted.every, false);
		END IF;
	END LOOP;
	PERFORM reputation.wake();
	RETURN QUERY
		SELECT s.job_name, reputation.schedule_text(s.at_time, s.time_zone, s.every), s.started_by,
			CASE WHEN s.started_by = 'pg_cron' THEN reputation.cron_next(s.at_time, s.time_zone, s.every, now) ELSE s.next_run_at END,
			(SELECT max(r.finished_at) FROM reputation.job_runs r WHERE r.job_name = s.job_name AND r.status = 'succeeded')
		FROM reputation.job_schedule s
		WHERE s.works AND (reputation_schedule.job IS NULL OR s.job_name = reputation_schedule.job) ORDER BY 1;
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_schedule(text, interval, time, text) IS
'Without arguments schedules each batch job that is not scheduled at its usual time, has pg_cron''s entries made anew, and lists the jobs. Of one job: at an interval of 1 minute to 1 day (every), or daily at a time in a time zone (at, time_zone, default UTC), or, with neither, at its usual time. With pg_cron in this database it starts them, otherwise, or where it cannot do so exactly, the worker. 22023 no such job, a bad argument, or what pg_cron cannot do and no worker; 55000 the job''s functions are gone.';

CREATE FUNCTION reputation.cron_next(at_time time, time_zone text, every interval, now timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN every IS NULL THEN reputation.next_run(at_time, time_zone, NULL, now)
	ELSE date_bin(every, now, date_trunc('day', now, coalesce(nullif(current_setting('cron.timezone', true), ''), 'UTC'))) + every END;
COMMENT ON FUNCTION reputation.cron_next(time, text, interval, timestamptz) IS
'When pg_cron will start a job next.';

CREATE FUNCTION @extschema@.reputation_unschedule(job text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF job IS NOT NULL AND NOT EXISTS (SELECT FROM reputation.schedule s WHERE s.job_name = job)
		AND NOT EXISTS (SELECT FROM reputation.job_runs r WHERE r.job_name = job AND r.status = 'running' AND r.fed_all IS NULL)
		AND NOT EXISTS (SELECT FROM reputation.batch_job b WHERE b.name = job) THEN
		PERFORM reputation.require_job(job);
	END IF;
	PERFORM FROM reputation.batch_job b WHERE job IS NULL OR b.name = job ORDER BY b.name FOR UPDATE;
	-- What an extension that is gone has left behind.
	DELETE FROM reputation.batch_job b USING reputation.job_schedule s WHERE s.job_name = b.name AND NOT s.works AND (job IS NULL OR b.name = job);
	UPDATE reputation.job_runs r SET status = 'cancelled', finished_at = reputation.clock(), error = 'no module has the job'
	WHERE r.status = 'running' AND r.fed_all IS NULL AND (job IS NULL OR r.job_name = job)
		AND NOT EXISTS (SELECT FROM reputation.batch_job b WHERE b.name = r.job_name);
	DELETE FROM reputation.schedule s WHERE job IS NULL OR s.job_name = job;
	INSERT INTO reputation.schedule (job_name, started_by)
	SELECT b.name, 'nobody' FROM reputation.batch_job b WHERE b.by_default AND (job IS NULL OR b.name = job);
	PERFORM reputation.cron_remove(job);
END
$$;
COMMENT ON FUNCTION @extschema@.reputation_unschedule(text) IS
'Removes a batch job from the schedule and from pg_cron, or all of them; also one that no module has, with its runs, and one that is run by default. A run that is on goes on. 22023 no such job.';

CREATE FUNCTION reputation.job_state(job reputation.job_schedule, OUT status text, OUT detail text, OUT hint text) RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	now timestamptz := reputation.clock();
	-- A run counts from when it was begun.
	last timestamptz := (SELECT max(r.started_at) FROM reputation.job_runs r WHERE r.job_name = job.job_name AND r.status = 'succeeded');
	failed text;
	late text;
	lacks boolean;
BEGIN
	lacks := job.started_by = 'pg_cron' AND reputation.cron_lacks(job.job_name, reputation.cron_entry(job.at_time, job.time_zone, job.every));
	WITH ended AS (
		SELECT DISTINCT ON (r.scope) r.scope, r.id, r.status, r.error FROM reputation.job_runs r
		WHERE r.job_name = job.job_name AND r.status IN ('succeeded', 'failed') ORDER BY r.scope, r.id DESC
	)
	SELECT string_agg(format('%s: %s', e.scope, e.error), '; ' ORDER BY e.scope) INTO failed FROM ended e
	WHERE e.status = 'failed' AND (e.scope IN (SELECT reputation.job_engines(job.class, job.audited))
		OR (e.scope = 'all' AND NOT EXISTS (SELECT FROM ended o WHERE o.id > e.id AND o.status = 'succeeded')));
	-- Of each engine: its last success or, as long as it has none, its first run, or when that was to be.
	SELECT string_agg(o.engine, ', ' ORDER BY o.engine) INTO late FROM (
		SELECT e AS engine, max(r.started_at) FILTER (WHERE r.status = 'succeeded') AS success, min(r.started_at) AS first
		FROM reputation.job_engines(job.class, job.audited) e LEFT JOIN reputation.job_runs r ON r.job_name = job.job_name AND r.scope = e
		GROUP BY e) o
	WHERE coalesce(reputation.next_run(job.at_time, job.time_zone, job.every, coalesce(o.success, o.first)), job.next_run_at) < now - interval '1 h';
	status := CASE WHEN job.started_by IS NULL OR lacks OR failed IS NOT NULL OR late IS NOT NULL THEN 'WARN' ELSE 'OK' END;
	detail := concat_ws('; ',
		CASE WHEN job.started_by IS NULL THEN 'not scheduled'
			ELSE format('%s by %s, next at %s', reputation.schedule_text(job.at_time, job.time_zone, job.every), job.started_by,
				CASE job.started_by WHEN 'worker' THEN job.next_run_at ELSE reputation.cron_next(job.at_time, job.time_zone, job.every, now) END) END,
		'last success ' || coalesce(last::text, 'never'),
		CASE WHEN lacks THEN 'pg_cron has no such entry of it' END,
		'the last run failed: ' || failed,
		'no success in time of ' || late);
	hint := CASE WHEN job.started_by IS NULL THEN format('SELECT reputation_schedule(%L) schedules it.', job.job_name)
		WHEN lacks THEN 'SELECT reputation_schedule() makes its entry anew, or leaves it to the worker.'
		WHEN failed IS NOT NULL THEN format('Mend the cause; it is tried again at its next time, or by CALL reputation_run(%L).', job.job_name)
		WHEN late IS NOT NULL THEN format('CALL reputation_run(%L) runs it now; see that %s is running.', job.job_name,
			CASE job.started_by WHEN 'worker' THEN 'a worker' ELSE job.started_by END) END;
EXCEPTION WHEN OTHERS THEN
	status := 'WARN';
	detail := format('cannot be run: %s', SQLERRM);
	hint := format('SELECT reputation_schedule(%L) schedules it anew.', job.job_name);
END
$$;
COMMENT ON FUNCTION reputation.job_state(reputation.job_schedule) IS
'The row of a batch job in reputation_status().';

CREATE FUNCTION reputation.job_status() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT format('job %s', s.job_name), c.status, c.detail, c.hint
	FROM reputation.job_schedule s CROSS JOIN LATERAL reputation.job_state(s) c
	WHERE s.works AND (s.started_by IS NOT NULL
		OR (s.recommended AND (s.class IS NULL OR EXISTS (SELECT FROM reputation.engine e WHERE e.class = s.class))))
	UNION ALL
	SELECT format('job %s', u.name), 'WARN', 'scheduled or running, but no module of the extension has it, or its functions are gone',
		format('Install what has it, or SELECT reputation_unschedule(%L).', u.name)
	FROM (SELECT s.job_name AS name FROM reputation.schedule s WHERE s.started_by <> 'nobody'
		UNION SELECT r.job_name FROM reputation.job_runs r WHERE r.status = 'running' AND r.fed_all IS NULL
		UNION SELECT b.job_name FROM reputation.job_schedule b WHERE b.started_by IS NOT NULL) u
	WHERE NOT EXISTS (SELECT FROM reputation.job_schedule k WHERE k.job_name = u.name AND k.works)
	ORDER BY 1;
END;
COMMENT ON FUNCTION reputation.job_status() IS
'The rows of reputation_status() for the batch jobs: those that are scheduled or should be.';

-- Waits until no run is on, nothing is in the inbox, and no job is due (:deferred
-- false) or none is left at all (true). Looks twice: a TRUNCATE of the inbox is
-- visible to a snapshot that does not see the jobs which replace it.
SELECT set_config('bench.deferred', :'deferred', false) \g /dev/null

DO $$
DECLARE
	deferred boolean := current_setting('bench.deferred');
	began timestamptz := clock_timestamp();
	clear int := 0;
BEGIN
	LOOP
		IF EXISTS (SELECT FROM reputation.inbox_0) OR EXISTS (SELECT FROM reputation.inbox_1)
			OR EXISTS (SELECT FROM reputation.inbox_2) OR EXISTS (SELECT FROM reputation.inbox_3)
			OR EXISTS (SELECT FROM reputation.inbox_4)
			OR EXISTS (SELECT FROM reputation.job_runs WHERE status = 'running')
			OR EXISTS (SELECT FROM reputation.job WHERE deferred OR due_at <= clock_timestamp())
		THEN
			clear := 0;
		ELSE
			clear := clear + 1;
		END IF;
		EXIT WHEN clear = 2;
		IF clock_timestamp() - began > interval '10 min' THEN
			RAISE EXCEPTION 'there is still work pending after 10 minutes';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.002);
	END LOOP;
END
$$;

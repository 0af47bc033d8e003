-- From the moment a client's COMMIT has returned until that client sees the
-- owner's new score; it looks, sleeps 0.1 ms and looks again, so that it leaves
-- the processors to the worker. Each time a user at random and a project of its
-- own. Prints p50, p99 and the maximum in ms.
-- Variables: users, projects (those with collaborators), samples.
SELECT set_config('bench.users', :'users', false), set_config('bench.projects', :'projects', false),
	set_config('bench.samples', :'samples', false) \g /dev/null

DO $$
DECLARE
	projects int := current_setting('bench.projects');
	users int := current_setting('bench.users');
	candidate bigint;
	picked record;
	now_score int;
	committed timestamptz;
	waited interval;
	latencies float8[];
BEGIN
	FOR n IN 1 .. current_setting('bench.samples')::int LOOP
		PERFORM pg_sleep(0.005 + 0.01 * random());
		LOOP
			candidate := 1 + floor(random() * users);
			SELECT p.id AS project, u.id AS owner, u.builder_score AS score INTO picked
			FROM users u JOIN projects p ON p.owner_id = u.id
			WHERE u.id = candidate AND p.id <= projects
			ORDER BY p.id LIMIT 1;
			EXIT WHEN FOUND;
		END LOOP;
		COMMIT;

		UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END
		WHERE id = picked.project;
		COMMIT;
		committed := clock_timestamp();

		LOOP
			SELECT builder_score INTO now_score FROM users WHERE id = picked.owner;
			waited := clock_timestamp() - committed;
			EXIT WHEN now_score <> picked.score;
			IF waited > interval '10 s' THEN
				RAISE EXCEPTION 'the score of user % did not follow within 10 s', picked.owner;
			END IF;
			PERFORM pg_sleep(0.0001);
		END LOOP;
		latencies[n] := 1000 * extract(epoch FROM waited);
		COMMIT;
	END LOOP;
	PERFORM set_config('bench.latencies', latencies::text, false);
END
$$;

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ms), percentile_disc(0.99) WITHIN GROUP (ORDER BY ms), max(ms)
FROM unnest(current_setting('bench.latencies')::float8[]) AS ms;

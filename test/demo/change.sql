-- One change by the application, and the time until both scores have followed.
-- The application knows nothing of the scores: it writes its own rows, as its
-- own role. The time runs from just before its commit until another look at
-- the users table shows both new scores.
SET SESSION AUTHORIZATION app;

-- Two builders from the middle of the field who never worked together.
SELECT o.id AS owner, o.username AS owner_name, o.builder_score AS owner_before,
	   c.id AS collaborator, c.username AS collaborator_name, c.builder_score AS collaborator_before
FROM users o, users c
WHERE o.kind = 'person' AND c.kind = 'person' AND o.id < c.id
  AND o.builder_score BETWEEN 40 AND 120 AND c.builder_score BETWEEN 40 AND 120
  AND NOT EXISTS (SELECT FROM projects p JOIN project_collaborators pc ON pc.project_id = p.id
				  WHERE (p.owner_id, pc.user_id) IN ((o.id, c.id), (c.id, o.id)))
ORDER BY o.id, c.id
LIMIT 1 \gset

SELECT set_config('demo.owner', :'owner', false), set_config('demo.collaborator', :'collaborator', false) \g /dev/null

DO $$
DECLARE
	owner int := current_setting('demo.owner');
	collaborator int := current_setting('demo.collaborator');
	before int[] := ARRAY(SELECT builder_score FROM users WHERE id IN (owner, collaborator) ORDER BY id);
	project int;
	committed timestamptz;
	waited interval;
BEGIN
	INSERT INTO projects (name, owner_id, status, section)
	VALUES ('demo', owner, 'shipped', 'misc') RETURNING id INTO project;
	INSERT INTO project_collaborators VALUES (project, collaborator, 'confirmed');
	committed := clock_timestamp();
	COMMIT;

	LOOP
		waited := clock_timestamp() - committed;
		EXIT WHEN (SELECT bool_and(now.score <> was.score)
				   FROM unnest(ARRAY(SELECT builder_score FROM users
									 WHERE id IN (owner, collaborator) ORDER BY id))
						WITH ORDINALITY AS now (score, n)
				   JOIN unnest(before) WITH ORDINALITY AS was (score, n) USING (n));
		IF waited > '30 s' THEN
			RAISE EXCEPTION 'the scores did not follow within 30 s';
		END IF;
		PERFORM pg_sleep(0.0005);
	END LOOP;
	PERFORM set_config('demo.ms', round(1000 * extract(epoch FROM waited), 1)::text, false);
END $$;

SELECT format(E'%s ships a project with %s\n  %s: %s -> %s\n  %s: %s -> %s\nboth scores followed %s ms after the commit began',
			  :'owner_name', :'collaborator_name',
			  :'owner_name', :owner_before, o.builder_score,
			  :'collaborator_name', :collaborator_before, c.builder_score, current_setting('demo.ms'))
FROM users o, users c
WHERE o.id = :owner AND c.id = :collaborator;

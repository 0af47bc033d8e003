-- The ten best builders, and how their scores come about. First the ranks, without
-- waiting for the quarter of an hour.
DO $$
BEGIN
	PERFORM reputation.run_job('leaderboards', 'manual');
	COMMIT;
	WHILE EXISTS (SELECT FROM reputation.job_progress WHERE job_name = 'leaderboards') LOOP
		PERFORM reputation.batch_step();
		COMMIT;
	END LOOP;
END $$;
SELECT u.builder_rank AS rank, u.username AS builder, u.builder_score AS score,
	   format('%s own: %s, %s shared: %s, %s vouches: %s, impact %s: %s',
			  s->>'own_shipped', t->>'own_shipped', s->>'collab_shipped', t->>'collab_shipped',
			  s->>'vouches', t->>'vouches', s->>'impact', t->>'impact') AS explanation
FROM (SELECT * FROM users ORDER BY builder_score DESC, id LIMIT 10) u,
	 LATERAL builder_score_explain(u.id) e,
	 LATERAL (SELECT e->'signals' AS s, e->'terms' AS t) st
ORDER BY u.builder_score DESC, u.id;

-- The builder score of the :due users, by hand: CALL recalc_due(batch size)
-- updates them in sets, each in a transaction of its own. The fastest statement
-- that was found (against = ANY instead of IN, lateral subqueries, and a join
-- with a table of the ids). Variables: projects, due.
SET SESSION AUTHORIZATION app;

CREATE TABLE due AS
SELECT owner_id AS id, row_number() OVER (ORDER BY owner_id) AS n
FROM projects WHERE id > :projects - :due;
CREATE INDEX ON due (n);
ANALYZE due;

CREATE PROCEDURE recalc_due(batch_size int) LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	done int := 0;
BEGIN
	LOOP
		ids := ARRAY(SELECT id FROM due WHERE n > done AND n <= done + batch_size);
		EXIT WHEN ids = '{}';
		UPDATE users u SET builder_score = s.score
		FROM (
			SELECT id, 10 * own + 6 * collab + 5 * least(vouches, 10) + greatest(vouches - 10, 0)
				+ least(50, round(10 * log(1 + impact::float8))) AS score
			FROM (
				SELECT id, sum(own) AS own, sum(collab) AS collab, count(DISTINCT other) AS vouches,
					sum(impact) AS impact
				FROM (
					SELECT id, 0 AS own, 0 AS collab, NULL::bigint AS other, 0 AS impact
					FROM unnest(ids) AS id
					UNION ALL
					SELECT owner_id, 1, 0, NULL, impact FROM projects
					WHERE status = 'shipped' AND owner_id IN (SELECT unnest(ids))
					UNION ALL
					SELECT c.user_id, 0, (p.status = 'shipped')::int, p.owner_id, 0
					FROM project_collaborators c JOIN projects p ON p.id = c.project_id
					WHERE c.status = 'confirmed' AND p.owner_id <> c.user_id
						AND c.user_id IN (SELECT unnest(ids))
					UNION ALL
					SELECT p.owner_id, 0, 0, c.user_id, 0
					FROM project_collaborators c JOIN projects p ON p.id = c.project_id
					WHERE c.status = 'confirmed' AND p.owner_id <> c.user_id
						AND p.owner_id IN (SELECT unnest(ids))
				) e GROUP BY id
			) g
		) s
		WHERE u.id = s.id AND u.builder_score <> s.score;
		COMMIT;
		done := done + batch_size;
	END LOOP;
END
$$;

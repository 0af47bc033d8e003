-- The builder score of everybody, by hand: the fastest single UPDATE that was
-- found (against one union as in the extension's view, one lateral subquery per
-- user, and separate aggregates over a hashed set of pairs).
WITH edge AS MATERIALIZED (
	SELECT c.user_id, p.owner_id, (p.status = 'shipped')::int AS shipped
	FROM project_collaborators c JOIN projects p ON p.id = c.project_id
	WHERE c.status = 'confirmed' AND p.owner_id <> c.user_id
)
UPDATE users u SET builder_score = s.score
FROM (
	SELECT id, 10 * coalesce(own, 0) + 6 * coalesce(collab, 0)
		+ 5 * least(coalesce(vouches, 0), 10) + greatest(coalesce(vouches, 0) - 10, 0)
		+ least(50, round(10 * log(1 + coalesce(impact, 0)::float8))) AS score
	FROM users
	LEFT JOIN (
		SELECT owner_id AS id, count(*) AS own, sum(impact) AS impact
		FROM projects WHERE status = 'shipped' GROUP BY 1
	) o USING (id)
	LEFT JOIN (
		SELECT id, sum(shipped) AS collab, count(DISTINCT other) AS vouches
		FROM (
			SELECT user_id AS id, shipped, owner_id AS other FROM edge
			UNION ALL
			SELECT owner_id, 0, user_id FROM edge
		) e GROUP BY 1
	) v USING (id)
) s
WHERE u.id = s.id AND u.builder_score <> s.score;

-- An application's tables, with data that looks like one's: few users own and
-- join much, most little. Users, projects and collaborations are in two halves
-- that have nothing to do with each other, so that a load on the first leaves
-- the rows of the second alone. The last :due projects belong to that many
-- different users of the second half and have no collaborators: a change of
-- each makes exactly these users due.
-- Variables: users, projects, collaborations, due.
SET SESSION AUTHORIZATION app;

CREATE TABLE users (
	id				bigint		PRIMARY KEY,
	name			text		NOT NULL,
	last_seen		timestamptz	NOT NULL,
	builder_score	int			NOT NULL DEFAULT 0
);
CREATE TABLE projects (
	id				bigint		PRIMARY KEY,
	owner_id		bigint		NOT NULL,
	status			text		NOT NULL,
	impact			int			NOT NULL,
	title			text		NOT NULL
);
CREATE TABLE project_collaborators (
	project_id		bigint,
	user_id			bigint,
	status			text		NOT NULL,
	PRIMARY KEY (project_id, user_id)
);

SELECT setseed(0.5) \g /dev/null

INSERT INTO users
SELECT n, 'user ' || n, '2024-01-01'::timestamptz + random() * interval '365 days'
FROM generate_series(1, :users) AS n;

INSERT INTO projects
SELECT n,
	CASE WHEN n <= :projects / 2 THEN 1 + floor(power(random(), 2) * (:users / 2))
		 WHEN n <= :projects - :due THEN :users / 2 + 1 + floor(power(random(), 2) * (:users / 2))
		 ELSE :users / 2 + 1 + floor((n - (:projects - :due) - 1) * (:users / 2.0) / :due) END,
	CASE WHEN random() < 0.6 THEN 'shipped' ELSE 'active' END,
	floor(power(random(), 4) * 1000),
	'project ' || n
FROM generate_series(1, :projects) AS n;

-- More than are wanted, for some come twice.
INSERT INTO project_collaborators
WITH picked AS MATERIALIZED (
	SELECT n, n % 2 AS half, power(random(), 1.5) AS project, power(random(), 2) AS collaborator, random() AS status
	FROM generate_series(1, :collaborations * 13 / 10) AS n
), pair AS (
	SELECT 1 + half * (:projects / 2)
			+ floor(project * (:projects / 2 - half * :due)) AS project_id,
		1 + half * (:users / 2) + floor(collaborator * (:users / 2)) AS user_id,
		min(n) AS n, min(status) AS status
	FROM picked GROUP BY 1, 2
)
SELECT project_id, user_id, CASE WHEN status < 0.8 THEN 'confirmed' ELSE 'pending' END
FROM pair ORDER BY n LIMIT :collaborations;

CREATE INDEX ON users (builder_score DESC);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON project_collaborators (user_id);
ANALYZE users, projects, project_collaborators;

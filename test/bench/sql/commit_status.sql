-- pgbench: a transaction that changes a column that matters to the score.
\set id random(1, :projects)
UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END WHERE id = :id;

-- pgbench: a transaction that changes another column of the same table.
\set id random(1, :projects)
\set n random(1, 1000000)
UPDATE projects SET title = 'project ' || :n::int WHERE id = :id;

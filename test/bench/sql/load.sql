-- pgbench: a transaction of 100 events, on the first half of the data.
\set first 1 + 100 * random(0, :projects / 200 - 1)
UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END
WHERE id BETWEEN :first AND :first + 99;

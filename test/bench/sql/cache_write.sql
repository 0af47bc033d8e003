-- pgbench: a session of a user changes; of those that are asked for often, more often.
\set id (random_zipfian(1, :users, 1.1) - 1) * 9 + random(1, 9)
UPDATE wingman_sessions SET status = CASE status WHEN 'completed' THEN 'no_show' ELSE 'completed' END WHERE id = :id;

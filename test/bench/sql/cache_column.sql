-- pgbench: one column of a user, by the primary key.
\set id random(1, 1000)
SELECT name FROM users WHERE id = :id;

-- pgbench: nothing, with the same work for the client.
\set id random(1, 1000)
SELECT 1;

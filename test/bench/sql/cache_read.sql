-- pgbench: a user's reputation, of few users, who are all in the cache.
\set id random(1, 1000)
SELECT user_reputation(:id);

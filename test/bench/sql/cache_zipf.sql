-- pgbench: a user's reputation; some users are asked for much more often.
\set id random_zipfian(1, :users, 1.1)
SELECT user_reputation(:id);

-- pgbench: a transaction that changes what matters to the builder score, or to the trust score.
\set which random(0, 1)
\set id random(1, :projects)
\set user random(1, :users)
\if :which
UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END WHERE id = :id;
\else
UPDATE users SET last_seen = now() WHERE id = :user;
\endif

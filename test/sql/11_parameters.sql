-- Parameters that an engine does not have, or that are too great, are refused when they are written or tried out.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_trust_tables('parameters');
INSERT INTO users VALUES
	(1, 'Ann', 'a.jpg', repeat('x', 50), '{a,b,c}', '1990-01-01', 'Rome', 'cook', true, true, true, '2025-01-01', '2025-12-31', '2025-01-01'),
	(2, 'Bob', 'b.jpg', 'x', '{a}', NULL, NULL, NULL, NULL, NULL, NULL, '2025-01-01', '2025-12-01', '2025-12-31');
INSERT INTO users (id) VALUES (3);
SELECT trust_score_attach(activity => 'activity') IS NOT NULL AS attached;
INSERT INTO activity SELECT 1, timestamptz '2025-12-31' - i * interval '1 day' FROM generate_series(1, 9) i;
SELECT reputation_process() > 0 AS computed;

SELECT * FROM algorithm_preview('trust', '{"phote": 0, "nam": 1}');
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('trust', 2, '{"nose": 1}');
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('builder', 2, '{"own": 1, "owm": 10, "photo": 1}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('trust', '{"photo": 1e400}');
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('trust', 2, '{"name": 1e308, "photo": 1e308}');
\echo SQLSTATE :SQLSTATE
INSERT INTO reputation.algorithm VALUES ('builder', 2, '{"own": 1000000001}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('trust', '{"debounce": "3 days"}');
\echo SQLSTATE :SQLSTATE
SELECT * FROM algorithm_preview('trust', '{"debounce": "3 min", "name": 0}') ORDER BY user_id;

-- With the greatest and the smallest there are everybody is computed and explained.
INSERT INTO reputation.algorithm VALUES
	('trust', 2, '{"profile": 1e9, "verification": 1e9, "activity": 1e9, "photo": 1e9, "bio": 1e9, "bio_full": 1e-300, "interests": 1e9, "name": 1e9, "job": 1e9, "id_verified": 1e9, "activity_full": 1e-300, "activity_days": 1e9, "half_life_days": 1e-300, "new_days": 1e9}'),
	('trust', 3, '{"activity_full": 1e9, "half_life_days": 1e9, "grace_days": 1e9, "decay_min": 1e-300, "active_days": 1e9, "trusted_score": 1e9, "new_days": 1e-300}');
SELECT algorithm_activate('trust', 2) > 0 AS run;
SELECT reputation_process() > 0 AS computed;
SELECT user_id, score, (breakdown ->> 'points')::float8 AS points, badges, next_due_at FROM reputation.trust_scores ORDER BY user_id;
SELECT count(trust_score_explain(id)) AS explained, (SELECT count(*) FROM reputation.job) AS jobs FROM users;
SELECT * FROM reputation_verify();
SELECT algorithm_activate('trust', 3) > 0 AS run;
SELECT reputation_process() > 0 AS computed;
SELECT user_id, score, badges, next_due_at FROM reputation.trust_scores ORDER BY user_id;
SELECT count(trust_score_explain(id)) AS explained, (SELECT count(*) FROM reputation.job) AS jobs FROM users;
SELECT * FROM reputation_verify();
CALL test.clean('parameters');

-- A board of :members members, straight into the tables: scores as of a long tail, a tree made of them.
CREATE EXTENSION reputation;
CREATE TABLE users (id int PRIMARY KEY);
SELECT points_attach();
ALTER TABLE users DISABLE TRIGGER ALL;
INSERT INTO users SELECT generate_series(1, :members);
ALTER TABLE users ENABLE TRIGGER ALL;
UPDATE reputation.job_runs SET status = 'cancelled';
ALTER TABLE reputation.points_scores DISABLE TRIGGER rank_track;
ALTER TABLE reputation.points_scores DROP CONSTRAINT points_scores_pkey;
DROP INDEX reputation.points_scores_next_due_at, reputation.points_scores_all_time, reputation.points_scores_weekly, reputation.points_scores_daily;
ALTER TABLE reputation.point_ledger DISABLE TRIGGER reputation_capture;
INSERT INTO reputation.point_ledger (user_id, points, source_key, created_at)
SELECT i::text, (-ln(1 - random() * 0.999999) * 5000)::int, 'first', now() - interval '30 days' FROM generate_series(1, :members) i WHERE :ledger;
ALTER TABLE reputation.point_ledger ENABLE TRIGGER reputation_capture;
INSERT INTO reputation.points_scores
SELECT x.i::text, s, s, 0, 0, '2026-01-01', 1, now(), NULL
FROM (SELECT i, CASE WHEN :ledger THEN NULL ELSE (-ln(1 - random() * 0.999999) * 5000)::int END AS r FROM generate_series(1, :members) i OFFSET 0) x
LEFT JOIN reputation.point_ledger l ON l.user_id = x.i::text
CROSS JOIN LATERAL (SELECT coalesce(r, l.points)::int AS s) y;
ALTER TABLE reputation.points_scores ADD CONSTRAINT points_scores_pkey PRIMARY KEY (user_id);
CREATE INDEX points_scores_next_due_at ON reputation.points_scores (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX points_scores_all_time ON reputation.points_scores (all_time DESC, reached_at, user_id);
CREATE INDEX points_scores_weekly ON reputation.points_scores (weekly DESC, reached_at, user_id) WHERE weekly > 0;
CREATE INDEX points_scores_daily ON reputation.points_scores (daily DESC, reached_at, user_id) WHERE daily > 0;
ALTER TABLE reputation.points_scores ENABLE ALWAYS TRIGGER rank_track;
SELECT reputation.rank_rebuild('points');
VACUUM (FREEZE, ANALYZE) users;
VACUUM (FREEZE, ANALYZE) reputation.points_scores;
VACUUM (FREEZE, ANALYZE) reputation.point_ledger;
VACUUM reputation.rank_node;

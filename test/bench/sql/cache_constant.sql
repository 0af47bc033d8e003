-- pgbench: what a served read gives, without the read: what jsonb's output takes.
\set id random(1, 1000)
SELECT '{"score": 12, "no_shows": 3, "badge_color": "gold", "cache_timestamp": "2026-01-01T00:00:00.000000Z", "completed_sessions": 15}'::jsonb;

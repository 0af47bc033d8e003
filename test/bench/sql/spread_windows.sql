-- Everybody's debounce windows close at some moment of the next five minutes.
TRUNCATE reputation.recent_run;
INSERT INTO reputation.recent_run
SELECT e.id, u.id::text, clock_timestamp() + random() * interval '5 min' FROM users u, reputation.engine e;

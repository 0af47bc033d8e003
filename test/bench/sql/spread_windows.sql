-- Everybody's debounce window closes at some moment of the next five minutes.
TRUNCATE reputation.recent_run;
INSERT INTO reputation.recent_run
SELECT (SELECT id FROM reputation.engine), id::text, clock_timestamp() + random() * interval '5 min' FROM users;

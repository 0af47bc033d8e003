-- Deferred work is due now.
UPDATE reputation.job SET due_at = clock_timestamp();

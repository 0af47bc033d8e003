-- Who may do what.

-- Internals are nobody's, but an administrator may look at them.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reputation FROM PUBLIC;
-- No CREATE: whoever can make functions here can have the extension's owner run them.
GRANT USAGE ON SCHEMA reputation TO reputation_admin;
GRANT USAGE ON SCHEMA reputation TO reputation_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA reputation TO reputation_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON reputation.algorithm TO reputation_admin;
-- Not the slug, by which a badge is known.
GRANT INSERT, UPDATE (name, description, icon, metric, threshold, bonus_points, revocable), DELETE ON reputation.badge TO reputation_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reputation TO reputation_admin;
REVOKE EXECUTE ON FUNCTION reputation.forget_user(text, text), reputation.run_due_jobs(),
	reputation.sweep_start(text, text, text), reputation.job_run_done(bigint, text),
	reputation.rank_track(), reputation.rank_attach(regclass, text[]), reputation.rank_rebuild(text), reputation.rank_make(text),
	reputation.rank_drop(int), reputation.board_touch(int)
	FROM reputation_admin;
GRANT SELECT ON reputation.job_runs, reputation.job_progress TO reputation_reader;

-- Public functions: readers look, administrators do. Those of an engine are in its module.
REVOKE ALL ON FUNCTION
	@extschema@.reputation_process(text, bigint),
	@extschema@.reputation_wait(anycompatible, text, interval),
	@extschema@.reputation_verify(text),
	@extschema@.reputation_repair(text),
	@extschema@.reputation_retry(text, text),
	@extschema@.reputation_forget(anycompatible, text),
	@extschema@.reputation_schedule(time, interval, interval),
	@extschema@.reputation_unschedule(),
	@extschema@.reputation_status(),
	@extschema@.algorithm_preview(text, jsonb),
	@extschema@.algorithm_activate(text, int)
	FROM PUBLIC;
REVOKE ALL ON PROCEDURE @extschema@.reputation_run(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.reputation_wait(anycompatible, text, interval),
	@extschema@.reputation_verify(text),
	@extschema@.reputation_status()
	TO reputation_reader, reputation_admin;
-- Who writes users may wait for their scores, and look at nobody's.
GRANT EXECUTE ON FUNCTION @extschema@.reputation_wait(anycompatible, text, interval) TO reputation_writer;
GRANT EXECUTE ON FUNCTION
	@extschema@.reputation_process(text, bigint),
	@extschema@.reputation_repair(text),
	@extschema@.reputation_retry(text, text),
	@extschema@.reputation_forget(anycompatible, text),
	@extschema@.reputation_schedule(time, interval, interval),
	@extschema@.reputation_unschedule(),
	@extschema@.algorithm_preview(text, jsonb),
	@extschema@.algorithm_activate(text, int)
	TO reputation_admin;
GRANT EXECUTE ON PROCEDURE @extschema@.reputation_run(text, text) TO reputation_admin;

-- Last: the script's own statements need not be looked at.
CREATE EVENT TRIGGER reputation_triggers_check ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER', 'ALTER TABLE', 'CREATE SCHEMA')
EXECUTE FUNCTION reputation.triggers_check();
COMMENT ON EVENT TRIGGER reputation_triggers_check IS
'Has reputation''s capture triggers adapt to a new BEFORE UPDATE trigger of a table they are on.';
ALTER EVENT TRIGGER reputation_triggers_check ENABLE ALWAYS;

-- Start the workers of this database.
SELECT reputation.wake();

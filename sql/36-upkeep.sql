-- The jobs of no engine in particular: everybody is computed at night, and old audit rows go.

SELECT reputation.batch_job_register('nightly', 'recomputes everybody, and so mends what no trigger saw', 'sweep_start',
	cause => 'nightly', at_time => '03:00', recommended => true);

CREATE FUNCTION reputation.prune_step(run_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'reputation_prune_step';
COMMENT ON FUNCTION reputation.prune_step(bigint) IS
'The next step of a run: removes the audit rows of its engine that are older than reputation.audit_retention, but for each user''s last, among the next reputation.batch_size rows; is there more? 22023 no such run; 55000 not attached.';
SELECT reputation.batch_job_register('prune', 'removes audit rows older than reputation.audit_retention, but for each user''s last', 'run_begin', 'prune_step',
	audited => true, every => '1 day', recommended => true, by_default => true);

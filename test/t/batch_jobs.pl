# Batch jobs in steps, with two workers: each step is done once, a job that is slow or
# fails stops no other, what failed is in the status and comes again at its next time, and
# a run outlives the crash of whoever is at it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 2');

set_up_app($node, 'app', 20);
$node->safe_psql('app', q{
	CREATE TABLE public.step (job text, run bigint, no bigint, pid int, PRIMARY KEY (run, no));
	CREATE TABLE public.stop (job text);
	CREATE FUNCTION reputation.test_note(run_id bigint) RETURNS public.step LANGUAGE sql AS $$
		WITH r AS (UPDATE reputation.job_runs r SET done = r.done + 1 WHERE r.id = run_id RETURNING r.job_name, r.id, r.done)
		INSERT INTO public.step SELECT r.job_name, r.id, r.done, pg_backend_pid() FROM r RETURNING *
	$$;
	CREATE FUNCTION reputation.test_slow(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM reputation.test_note(run_id), pg_sleep(0.05);
		RETURN NOT EXISTS (SELECT FROM public.stop);
	END $$;
	CREATE FUNCTION reputation.test_quick(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		RETURN (reputation.test_note(run_id)).no < 5;
	END $$;
	CREATE FUNCTION reputation.test_bad(run_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'there is a mistake in it';
	END $$;
	SELECT reputation.batch_job_register('slow', 'slow', 'run_begin', 'test_slow', every => '1 hour'),
		reputation.batch_job_register('quick', 'quick', 'run_begin', 'test_quick', every => '1 hour'),
		reputation.batch_job_register('bad', 'bad', 'run_begin', 'test_bad', every => '1 hour')});
$node->safe_psql('app', q{SELECT reputation.run_job('slow', 'manual')});
my $slow = q{SELECT count(*) FROM public.step WHERE job = 'slow'};
wait_until($node, 'app', "SELECT ($slow) > 2", 'the slow job is at it');

$node->safe_psql('app', q{
	SELECT count(*) FROM reputation_schedule();
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name IN ('bad', 'quick');
	SELECT reputation.wake()});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'bad' AND trigger = 'worker' AND status = 'failed')}, 'one fails');
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'quick' AND status = 'succeeded' AND done = 5)}, 'another is done');
is($node->safe_psql('app', q{SELECT status FROM reputation.job_runs WHERE job_name = 'slow'}), 'running', 'the slow one is on');
my $steps = $node->safe_psql('app', $slow);
wait_until($node, 'app', "SELECT ($slow) > $steps + 2", 'and goes on');
is($node->safe_psql('app', q{SELECT status, detail LIKE '%; the last run failed: builder: there is a mistake in it, in PL/pgSQL function reputation.test_bad(bigint) line 3 at RAISE%', hint
	FROM reputation_status() WHERE check_name = 'job bad'}),
	q{WARN|t|Mend the cause; it is tried again at its next time, or by CALL reputation_run('bad').}, 'the status tells which, and why');
is($node->safe_psql('app', q{SELECT status FROM reputation_status() WHERE check_name = 'job quick'}), 'OK', 'and that the other is well');
ok(log_count($node, qr/WARNING:  the job bad of the engine "builder" failed: there is a mistake in it/) > 0, 'so does the log');

# Scores are computed meanwhile.
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 100');
wait_until($node, 'app', q{SELECT NOT EXISTS (SELECT FROM reputation_verify())}, 'scores follow while it is on');

# Mended, it comes again at its next time.
$node->safe_psql('app', q{
	CREATE OR REPLACE FUNCTION reputation.test_bad(run_id bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name = 'bad';
	SELECT reputation.wake()});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation_status() WHERE check_name = 'job bad' AND status = 'OK')}, 'mended, it succeeds the next time');

# A schedule that somebody is just changing keeps no other job waiting, nor the worker busy.
my $session = open_session($node, 'app');
$session->query_safe(q{BEGIN; UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name = 'bad'});
$node->safe_psql('app', q{
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name = 'quick';
	SELECT reputation.wake()});
wait_until($node, 'app', q{SELECT count(*) = 2 FROM reputation.job_runs WHERE job_name = 'quick' AND status = 'succeeded'}, 'another starts meanwhile');
$session->query_safe('COMMIT');
$session->quit;
wait_until($node, 'app', q{SELECT count(*) = 3 FROM reputation.job_runs WHERE job_name = 'bad' AND status <> 'running'}, 'and then that one');

# All processes crash; the run goes on where the last commit left it.
kill_server($node);
wait_for_worker($node, 'app', 'there are workers again');
$steps = $node->safe_psql('app', $slow);
wait_until($node, 'app', "SELECT ($slow) > $steps", 'the run outlives a crash');
is($node->safe_psql('app', q{SELECT count(*), min(status) FROM reputation.job_runs WHERE job_name = 'slow'}), '1|running', 'and is the same run');
$node->safe_psql('app', q{INSERT INTO public.stop VALUES ('slow')});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'slow' AND status = 'succeeded')}, 'until it is done');
is($node->safe_psql('app', q{SELECT r.done = count(*) AND r.done = max(s.no) FROM reputation.job_runs r JOIN public.step s ON s.run = r.id WHERE r.job_name = 'slow' GROUP BY r.done}),
	't', 'each step was done once');

# The audit is pruned by default, with nobody's doing.
$node->safe_psql('app', q{
	SELECT reputation_unschedule('slow'), reputation_unschedule('quick'), reputation_unschedule('bad');
	DELETE FROM reputation.schedule;
	SET client_min_messages = warning;
	SELECT trust_score_attach();
	UPDATE reputation.batch_job SET next_run_at = now() WHERE by_default;
	SELECT reputation.wake()});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'prune' AND scope = 'trust' AND trigger = 'worker' AND status = 'succeeded')}, 'old audit rows go by default');

$node->stop;
done_testing();

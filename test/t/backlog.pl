# A backlog that lasts does not keep the worker from what is due by the clock: the
# scheduled jobs, and a look at the clock itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

set_up_app($node, 'app', 300);
make_gate($node, 'app');

sub computation_takes
{
	my ($seconds) = @_;

	$node->safe_psql('app', qq{
		CREATE OR REPLACE FUNCTION app.gate(id int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS \$\$
		BEGIN
			PERFORM pg_sleep($seconds);
			RETURN true;
		END \$\$});
	return;
}

# Work for half a minute; a job that is due; and one of a user that is not in
# the backlog, as a clock that was ahead has left it.
reload_with($node, 'reputation.workers' => 0, 'reputation.batch_size' => 1);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
computation_takes(0.1);
$node->safe_psql('app', q{
	SELECT count(*) FROM reputation_schedule();
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name = 'nightly';
	UPDATE projects SET impact = impact + 100 WHERE id NOT IN (9, 10);
	INSERT INTO reputation.job (engine, key, lane, priority, due_at)
	SELECT id, '10', reputation.lane('10'), 1, now() + interval '2 days' FROM reputation.engine});
reload_with($node, 'reputation.workers' => 1);

my $backlog = q{SELECT count(*) > 50 FROM reputation.job WHERE run_id IS NULL};
wait_until($node, 'app', q{SELECT NOT EXISTS (SELECT FROM reputation.job WHERE priority = 1)},
	'the job that was too far ahead is done');
is($node->safe_psql('app', $backlog), 't', 'before the backlog');
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'nightly')},
	'the job that is due is started');
is($node->safe_psql('app', $backlog), 't', 'before the backlog, too');

computation_takes(0);
reload_with($node, 'reputation.batch_size' => 1000);
all_computed($node, 'app', 'after the backlog');
is($node->safe_psql('app', q{SELECT status, done FROM reputation.job_runs WHERE job_name = 'nightly'}),
	'succeeded|300', 'the nightly run ended');

$node->stop;
done_testing();

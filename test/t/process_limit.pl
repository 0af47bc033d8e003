# No process is left for a worker: the server runs on, the log says so once, and
# the worker starts when there is room.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use Reputation;
use Test::More;

# Two of the three are the launchers of reputation and of logical replication.
my $node = start_server('main', 'max_worker_processes = 3', 'reputation.workers = 0');

# Somebody else has the third: a parallel query.
create_app($node, 'app', 50);
my $out = '';
my $query = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SET force_parallel_mode = on',
		'-c', 'SELECT pg_sleep(600)' ], '&>', \$out);
wait_until($node, 'postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'parallel worker')},
	'no background process is left');

my $offset = -s $node->logfile;
reload_with($node, 'reputation.workers' => 1);
attach($node, 'app');
my $warning = qr/WARNING: .*no background worker process is left for reputation/;
$node->wait_for_log($warning, $offset);
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.workers()'), '0', 'there is no worker');
like($node->safe_psql('app', q{SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'workers'}),
	qr/^ERROR\|0 of 1 running\|.*max_worker_processes/, 'the status says so');

# It goes on, changes are captured, a session can drain them; and the launcher,
# woken by all of that, does not repeat itself.
for my $i (1 .. 20)
{
	$node->safe_psql('app', "UPDATE projects SET impact = $i WHERE id = $i");
	$node->safe_psql('postgres', 'CREATE DATABASE another; DROP DATABASE another') if $i % 5 == 0;
}
cmp_ok($node->safe_psql('app', 'SELECT reputation_process()'), '>', 0, 'a session drains');
all_computed($node, 'app', 'without a worker');
is(log_count($node, $warning, $offset), 1, 'the log has one warning');

$node->safe_psql('app', 'UPDATE projects SET impact = impact * 3');
$node->safe_psql('postgres', q{
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'
	  AND backend_type = 'client backend' AND pid <> pg_backend_pid()});
$query->finish;
wait_for_worker($node, 'app', 'a worker starts when there is room');
all_computed($node, 'app', 'and does what was left');
is(log_count($node, $warning, $offset), 1, 'the log still has one warning');
is($node->safe_psql('app', q{SELECT status FROM reputation_status() WHERE check_name = 'workers'}), 'OK',
	'the status is well again');

$node->stop;
done_testing();

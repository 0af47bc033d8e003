# A change that found no inbox leaves only a request in shared memory. Whoever takes
# that has the run over everybody on disk before the request is gone, even in a
# session that commits asynchronously, as the worker does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

# Nobody else writes the log out soon: the WAL writer hardly ever comes by, and there
# is little to make it come.
my $node = start_server('main', 'wal_writer_delay = 10s', 'full_page_writes = off', 'autovacuum = off');

set_up_app($node, 'app', 10);
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');

my $holder = open_session($node, 'app');
$holder->query_safe('BEGIN; LOCK TABLE '
		. join(', ', map { "reputation.inbox_$_" } 0 .. 4)
		. ' IN ACCESS EXCLUSIVE MODE');
$node->safe_psql('app', q{UPDATE projects SET status = 'draft'});
$holder->query_safe('COMMIT');
$holder->quit;
isnt(drifted($node, 'app'), '', 'the change is not computed');

$node->safe_psql('app', 'SET synchronous_commit = off; SELECT reputation_process(max_users => 0)');
$node->stop('immediate');
$node->start;
is($node->safe_psql('app', q{SELECT status FROM reputation.job_runs WHERE trigger = 'resync'}),
	'running', 'the run that took the request outlived the crash');
reload_with($node, 'reputation.workers' => 1);
all_computed($node, 'app', 'after the crash');

$node->stop;
done_testing();

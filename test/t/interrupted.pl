# Workers and servers that are cancelled, terminated, killed, in the middle of a
# batch: nothing is lost, nobody becomes a dead letter.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

set_up_app($node, 'app', 200);
make_gate($node, 'app');
my $round = 0;

# Gets a worker into the middle of a batch, with changes to compute in it, in
# the job table and in the inbox; returns its process id.
sub worker_in_batch
{
	my ($name) = @_;

	$round++;
	close_gate($node, 'app', 100);
	$node->safe_psql('app', qq{
		UPDATE projects SET impact = $round * 100, status = CASE WHEN id % 3 = $round % 3 THEN 'draft' ELSE 'shipped' END
		WHERE id BETWEEN 1 AND 150});
	my $pid = wait_at_gate($node, 'app', "$name: in the middle of a batch");
	$node->safe_psql('app', "UPDATE projects SET impact = $round * 1000 WHERE id BETWEEN 140 AND 200");
	$node->safe_psql('app', "DELETE FROM project_collaborators WHERE project_id = $round");
	return $pid;
}

sub recovered
{
	my ($name) = @_;

	wait_until($node, 'app', 'SELECT true', "$name: the server is up");
	open_gate($node, 'app');
	all_computed($node, 'app', $name);
	return;
}

# A cancelled worker goes on.
my $pid = worker_in_batch('cancelled');
is($node->safe_psql('app', "SELECT pg_cancel_backend($pid)"), 't', 'the worker is cancelled');
recovered('cancelled');
is(worker_pid($node, 'app'), $pid, 'a cancelled worker stays');

wait_until($node, 'app', q{SELECT state = 'idle' FROM reputation.workers()}, 'the worker is idle');
$node->safe_psql('app', "SELECT pg_cancel_backend($pid)");
$node->safe_psql('app', 'UPDATE projects SET impact = 77 WHERE id = 150');
recovered('cancelled while idle');
is(worker_pid($node, 'app'), $pid, 'a worker that is cancelled while idle stays');

# Cancelled again and again, with the gate shut: it says nothing about the users.
$pid = worker_in_batch('cancelled often');
for (1 .. 10)
{
	$pid = wait_at_gate($node, 'app', 'at the gate again');
	$node->safe_psql('app', "SELECT pg_cancel_backend($pid)");
}
recovered('cancelled often');

# A terminated worker is replaced.
$pid = worker_in_batch('terminated');
$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
$pid = wait_for_worker($node, 'app', 'terminated: there is another worker', $pid);
recovered('terminated');

# So is the launcher.
my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'reputation launcher'};
my $old = $node->safe_psql('app', $launcher);
$node->safe_psql('app', "SELECT pg_terminate_backend($old)");
wait_until($node, 'app', "SELECT EXISTS ($launcher AND pid <> $old)", 'the launcher is replaced');
is(worker_pid($node, 'app'), $pid, 'its workers stay');
$pid = worker_in_batch('terminated under a new launcher');
$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
wait_for_worker($node, 'app', 'the new launcher starts workers', $pid);
recovered('terminated under a new launcher');

# Killed, a worker takes the server with it, which restarts.
my $started = 'SELECT pg_postmaster_start_time()';
for my $time (1, 2)
{
	$pid = worker_in_batch("killed $time");
	kill('KILL', $pid);
	wait_for_worker($node, 'app', "killed $time: there is a worker after the restart", $pid);
	recovered("killed $time");
}

# A worker that works carefully after a crash is terminated over the same user
# again and again: that is nobody's fault, and its successor is as careful.
$pid = worker_in_batch('careful');
kill('KILL', $pid);
wait_for_worker($node, 'app', 'careful: there is a worker after the restart', $pid);
for my $time (1 .. 3)
{
	wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.worker_mark WHERE key = '100')},
		"careful $time: the user is marked");
	$pid = wait_at_gate($node, 'app', "careful $time: and worked on");
	$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
	wait_for_worker($node, 'app', "careful $time: there is another worker", $pid);
}
recovered('careful');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.crash'), '0', 'no crash is counted');

# The server is stopped while a worker is that careful.
$pid = worker_in_batch('careful, stopped');
kill('KILL', $pid);
wait_for_worker($node, 'app', 'careful, stopped: there is a worker after the restart', $pid);
for my $time (1 .. 3)
{
	wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.worker_mark WHERE key = '100')},
		"stopped $time: the user is marked");
	wait_at_gate($node, 'app', "stopped $time: and worked on");
	$node->restart;
}
recovered('careful, stopped');

# A worker that is terminated in a batch leaves no mark: its successor is not
# careful for nothing.
$pid = worker_in_batch('no mark');
reload_with($node, 'reputation.workers' => 0);
$node->safe_psql('app', "SELECT pg_terminate_backend($pid)");
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'no mark: the worker is gone');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.worker_mark'), '0', 'it left in good order');
reload_with($node, 'reputation.workers' => 1);
recovered('no mark');

# The server is killed, or stopped without a checkpoint.
worker_in_batch('server killed');
kill_server($node);
recovered('server killed');

worker_in_batch('server stopped immediately');
$node->stop('immediate');
$node->start;
recovered('server stopped immediately');

worker_in_batch('server stopped fast');
$node->stop('fast');
$node->start;
recovered('server stopped fast');

# A crash right after the commits, which were asynchronous: what was computed
# and not yet on disk is computed again.
for my $time (1 .. 3)
{
	$node->safe_psql('app', "UPDATE projects SET impact = $time * 7 + id, owner_id = 1 + (id + $time) % 200");
	kill_server($node);
	recovered("killed after a commit $time");
}

is($node->safe_psql('app', 'SELECT count(*) FROM reputation.worker_mark'), '1', 'one worker, one mark');
$node->stop;
done_testing();

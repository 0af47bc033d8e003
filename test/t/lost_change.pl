# A change that found no inbox leaves only a request, in shared memory, and a mark on disk. Until the run over everybody
# is on disk, the request outlives a crash and a restart, for a change that is only prepared, too. And whoever
# takes it has the run on disk before the mark is gone, even in a session that commits asynchronously, as the worker
# does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

# Nobody else writes the log out soon: the WAL writer hardly ever comes by, and there
# is little to make it come.
my $node = start_server('main', 'wal_writer_delay = 10s', 'full_page_writes = off', 'autovacuum = off', 'max_prepared_transactions = 5');

set_up_app($node, 'app', 10);
my $mark = $node->data_dir . '/pg_stat/reputation_lost.' . database_oid($node, 'app');

# Without a worker, which would take the request at once.
sub stop_workers
{
	reload_with($node, 'reputation.workers' => 0);
	wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
	return;
}

# What must end well, with statements of the application's that find no inbox.
sub without_inbox
{
	my @statements = @_;
	my $holder = open_session($node, 'app');

	$holder->query_safe('BEGIN; LOCK TABLE '
			. join(', ', map { "reputation.inbox_$_" } 0 .. 4)
			. ' IN ACCESS EXCLUSIVE MODE');
	$node->safe_psql('app', $_) foreach @statements;
	$holder->query_safe('COMMIT');
	$holder->quit;
	isnt(drifted($node, 'app'), '', 'the change is not computed');
	ok(-e $mark, 'there is a mark');
	return;
}

sub resyncs { return $node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}); }

sub drain { return $node->safe_psql('app', 'DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM reputation_process(); COMMIT; END LOOP; END $$'); }

stop_workers();
without_inbox(q{UPDATE projects SET status = 'draft'});
$node->safe_psql('app', 'SET synchronous_commit = off; SELECT reputation_process(max_users => 0)');
ok(!-e $mark, 'the run is there, the mark is gone');
$node->stop('immediate');
$node->start;
is($node->safe_psql('app', q{SELECT status FROM reputation.job_runs WHERE trigger = 'resync'}),
	'running', 'the run that took the request outlived the crash');
reload_with($node, 'reputation.workers' => 1);
all_computed($node, 'app', 'after the crash');
is(resyncs(), 1, 'there was one run');

# Nobody took the request before the server stopped; part of what changed is prepared, and becomes visible after the run.
stop_workers();
my $status = 'draft';
foreach my $mode ('immediate', 'fast')
{
	my $before = resyncs();

	$status = $status eq 'draft' ? 'shipped' : 'draft';
	without_inbox("UPDATE projects SET status = '$status' WHERE id % 2 = 0",
		"BEGIN; UPDATE projects SET status = '$status' WHERE id % 2 = 1; PREPARE TRANSACTION 'lost'");
	$node->stop($mode);
	$node->start;
	drain();
	is(drifted($node, 'app'), '', "$mode: what was committed is computed");
	ok(-e $mark, "$mode: the mark of what is prepared is there");
	$node->stop($mode);
	$node->start;
	$node->safe_psql('app', q{COMMIT PREPARED 'lost'});
	isnt(drifted($node, 'app'), '', "$mode: what was prepared is not computed");
	drain();
	is(drifted($node, 'app'), '', "$mode: nor forgotten");
	ok(!-e $mark, "$mode: nothing is left to remember");
	cmp_ok(resyncs(), '>', $before, "$mode: there were runs over everybody");
	$node->restart;
	$before = resyncs();
	drain();
	is(resyncs(), $before, "$mode: no more of them");
}

# A database that is dropped takes the mark along.
without_inbox(q{UPDATE projects SET status = 'shipped'});
$node->safe_psql('postgres', 'DROP DATABASE app');
reload_with($node, 'reputation.workers' => 1);
wait_until($node, 'postgres', 'SELECT (pg_stat_file(' . "'pg_stat/" . ($mark =~ s{.*/}{}r) . "', true)).size IS NULL",
	'the mark went with the database');

$node->stop;
done_testing();

# A change that found no inbox leaves only a request, in shared memory, and a mark on disk. Until the run over everybody
# is on disk, the request outlives a crash and a restart, for a change that is only prepared, too. And whoever
# takes it has the run on disk before the mark is gone, even in a session that commits asynchronously, as the worker
# does.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
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

# Who has all of the inbox locked until it commits.
sub lock_inbox
{
	my $holder = open_session($node, 'app');

	$holder->query_safe('BEGIN; LOCK TABLE '
			. join(', ', map { "reputation.inbox_$_" } 0 .. 4)
			. ' IN ACCESS EXCLUSIVE MODE');
	return $holder;
}

sub unlock_inbox
{
	my $holder = shift;

	$holder->query_safe('COMMIT');
	$holder->quit;
	return;
}

# Statements of the application's that find no inbox.
sub without_inbox
{
	my @statements = @_;
	my $holder = lock_inbox();

	$node->safe_psql('app', $_) foreach @statements;
	unlock_inbox($holder);
	isnt(drifted($node, 'app'), '', 'the change is not computed');
	ok(-e $mark, 'there is a mark');
	return;
}

sub resyncs { return $node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}); }

sub drain { return $_[0]->safe_psql('app', 'DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM reputation_process(); COMMIT; END LOOP; END $$'); }

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
	drain($node);
	is(drifted($node, 'app'), '', "$mode: what was committed is computed");
	ok(-e $mark, "$mode: the mark of what is prepared is there");
	$node->stop($mode);
	$node->start;
	$node->safe_psql('app', q{COMMIT PREPARED 'lost'});
	isnt(drifted($node, 'app'), '', "$mode: what was prepared is not computed");
	drain($node);
	is(drifted($node, 'app'), '', "$mode: nor forgotten");
	ok(!-e $mark, "$mode: nothing is left to remember");
	cmp_ok(resyncs(), '>', $before, "$mode: there were runs over everybody");
	$node->restart;
	$before = resyncs();
	drain($node);
	is(resyncs(), $before, "$mode: no more of them");
}

# One takes a request at a time: what is lost while its run is not visible waits, and is not forgotten with the mark.
without_inbox(q{UPDATE projects SET status = 'shipped' WHERE id % 2 = 0});
my $taker = open_session($node, 'app');
$taker->query_safe('BEGIN; SELECT reputation_process()');
without_inbox(q{UPDATE projects SET status = 'shipped' WHERE id % 2 = 1});
my $second = open_session($node, 'app');
$second->query_until(qr/begun/, "\\echo begun\nBEGIN;\nSELECT reputation_process();\n");
wait_until($node, 'app', q{SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') = 1 OR count(*) FILTER (WHERE state = 'idle in transaction') = 2
	FROM pg_stat_activity}, 'the second goes as far as it can');
$taker->query_safe('COMMIT');
$taker->quit;
wait_until($node, 'app', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'idle in transaction'}, 'the second goes on');
ok(-e $mark, 'the mark of the second request is there');
isnt($node->psql('app', q{SELECT reputation_wait(1, 'builder', '0')}), 0, 'which is pending');
$second->query_safe('ROLLBACK');
$second->quit;
$node->stop('immediate');
$node->start;
drain($node);
is(drifted($node, 'app'), '', 'two requests: nothing is forgotten');
ok(!-e $mark, 'two requests: nothing is left to remember');

# A writer is durable, but not visible yet, while the run of another request becomes visible: it waits for a standby that
# is not there.
reload_with($node, synchronous_standby_names => 'nobody');
my $holder = lock_inbox();
my $writer = open_session($node, 'app');
$writer->query_until(qr/begun/, "\\echo begun\nUPDATE projects SET status = 'draft' WHERE id % 2 = 1;\n");
wait_until($node, 'app', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 'the writer is in its commit');
$node->safe_psql('app', q{SET synchronous_commit = local; UPDATE projects SET status = 'draft' WHERE id % 2 = 0});
$holder->query_safe('SET LOCAL synchronous_commit = local');
unlock_inbox($holder);
$node->safe_psql('app', 'SET synchronous_commit = local; ' . 'SELECT reputation_process();' x 3);
ok(-e $mark, 'in a commit: the mark is there');
$node->stop('immediate');
$node->start;
reload_with($node, synchronous_standby_names => '');
is($node->safe_psql('app', q{SELECT DISTINCT status FROM projects}), 'draft', 'in a commit: it is visible');
drain($node);
is(drifted($node, 'app'), '', 'in a commit: it is not forgotten');
ok(!-e $mark, 'in a commit: nothing is left to remember');

# A writer that fails in its commit, after it left the mark: here as the pivot of two serializable transactions.
$node->safe_psql('app', 'CREATE TABLE a (); CREATE TABLE b ()');
$holder = lock_inbox();
my $pivot = $node->background_psql('app', on_error_stop => 0);
$pivot->query_safe(q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM a; INSERT INTO b DEFAULT VALUES; UPDATE projects SET status = 'shipped'});
$node->safe_psql('app', 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM b; INSERT INTO a DEFAULT VALUES; COMMIT');
$pivot->query('COMMIT');
$pivot->quit;
unlock_inbox($holder);
is($node->safe_psql('app', 'SELECT count(*) FROM b'), '0', 'rolled back: it is');
ok(!-e $mark, 'rolled back: nothing is left to remember');
my $before = resyncs();
drain($node);
is(resyncs(), $before, 'rolled back: nobody was recomputed');

# A standby comes with the mark of its backup: it computes when it is promoted, and nothing is pending before that.
without_inbox(q{UPDATE projects SET status = 'shipped'});
$node->backup('marked');
drain($node);
ok(!-e $mark, 'a standby: the mark is gone here');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'marked', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $standby_mark = $mark =~ s{^.*/pg_stat/}{$standby->data_dir . '/pg_stat/'}er;
ok(-e $standby_mark, 'a standby: the mark is there');
is($standby->safe_psql('app', q{SELECT reputation_wait(1, 'builder', '0')}), '', 'a standby: nothing is pending');
$standby->promote;
drain($standby);
ok(!-e $standby_mark, 'a standby: promoted, it has everybody computed');
$standby->stop;

# A database that is dropped takes the mark along.
without_inbox(q{UPDATE projects SET status = 'draft'});
$node->safe_psql('postgres', 'DROP DATABASE app');
reload_with($node, 'reputation.workers' => 1);
wait_until($node, 'postgres', 'SELECT (pg_stat_file(' . "'pg_stat/" . ($mark =~ s{.*/}{}r) . "', true)).size IS NULL",
	'the mark went with the database');

$node->stop;
done_testing();

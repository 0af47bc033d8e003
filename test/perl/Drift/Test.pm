# The randomised drift test of all engines at the same users: clients write in every way the product has to
# follow, the server is shaken meanwhile, and in the end every score, rank, badge and bonus must
# equal a recomputation from the source, by the extension and by SQL of our own.
#
# Everything is drawn from one seed, which is printed and can be given in
# REPUTATION_SEED. How the clients interleave is not: a seed repeats what is
# done, not the race.
#
# A drift shows only as long as nothing else has the user computed again. So
# the run goes through phases, each with a check at its end; the ids are drawn
# so that some users are hot and most are seldom touched; and what computes
# everybody happens in the first third of a phase, or soon after it.
#
# Time goes on while a check looks, and rows leave windows. A check compares in one
# snapshot, by a clock that stands still at the moment right after it was taken. When nobody
# is due at that moment all that is stored must be right, without any exemption: it was computed
# before, and is the same until somebody is due.

package Drift::Test;

use strict;
use warnings;

use Drift::App;
use Drift::Badges;
use Drift::Points;
use Drift::Seconds;
use Drift::Sessions;
use IO::Select;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Errors that the application's own statements may meet, by SQLSTATE: conflicts
# with each other, and the ends of sessions that the test itself brings about.
my %expected = map { $_ => 1 } (
	'23503',    # foreign key
	'23505',    # unique
	'25P02',    # in failed transaction
	'3B001',    # savepoint of a failed transaction
	'40001',    # serialization
	'40P01',    # deadlock
	'42704',    # prepared transaction gone
	'55000',    # prepared transaction belongs to a busy session
	'55P03',    # lock timeout
	'57014',    # cancelled
	'57P01',    # terminated
	'57P02',    # crash of another
	'57P03',    # starting up
	'P0002');   # recalculation of a user that is gone

# Runs psql, with its errors appended to a file. From a file: psql may be gone
# before it has read its input.
sub psql
{
	my ($node, $database, $script, $errors) = @_;
	my $file = "$errors.sql";
	my ($out, $err) = ('', '');

	open my $handle, '>', $file or die "$file: $!";
	print $handle $script;
	close $handle;
	IPC::Run::run([ 'psql', '-XqAt', '-f', $file, '-d', $node->connstr($database) ],
		'<', \undef, '>', \$out, '2>', \$err);
	append_to_file($errors, $err);
	return;
}

# Waits until the server accepts connections; dies when that takes a minute.
sub wait_for_server
{
	my ($node, $database) = @_;

	for (1 .. 600)
	{
		my ($out, $err) = ('', '');
		return if IPC::Run::run([ 'psql', '-XqAt', '-c', 'SELECT 1', '-d', $node->connstr($database) ],
			'<', \undef, '>', \$out, '2>', \$err);
		usleep(100_000);
	}
	die "the server does not come back";
}

# Ends the prepared transactions that a crash left to a client, or to everybody.
sub resolve_prepared
{
	my ($node, $database, $like, $errors) = @_;

	psql($node, $database,
		"SELECT CASE WHEN random() < 0.7 THEN 'COMMIT' ELSE 'ROLLBACK' END || ' PREPARED ' || quote_literal(gid)
		 FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE '$like' \\gexec\n", $errors);
	return;
}

# A client's life, in a process of its own.
sub client_main
{
	my ($node, $database, $client, $chunks, $seed, $progress, $errors) = @_;

	srand($seed + $client);
	for my $chunk (1 .. $chunks)
	{
		my $script = Drift::App::script($database, $client, $chunk <= $chunks / 3);

		wait_for_server($node, $database);
		resolve_prepared($node, $database, "c${client}\\_%", $errors);
		psql($node, $database, $script, $errors);
		syswrite $progress, 'x';
	}
	return;
}

sub start_client
{
	my ($progress, @arguments) = @_;
	my $pid = fork();

	die "fork: $!" if !defined $pid;
	if ($pid == 0)
	{
		# Without the parent's END blocks, which would stop the server.
		my $ok = eval { client_main(@arguments); 1 };
		print STDERR $@ if !$ok;
		POSIX::_exit($ok ? 0 : 1);
	}
	return $pid;
}

# Runs statements in a session, which may end in the middle, or not begin: then
# psql has not read them all, and the write fails.
sub in_a_session
{
	my ($node, $database, $sql) = @_;

	eval { $node->psql($database, $sql, on_error_stop => 0); };
	return;
}

# The same until nothing fails in it; dies when that takes half a minute. Returns what it gave.
sub until_it_works
{
	my ($node, $database, $sql) = @_;

	for (1 .. 600)
	{
		my ($status, $out) = eval { $node->psql($database, $sql) };

		return $out if defined $status && $status == 0;
		usleep(50_000);
	}
	die "it never works: $sql";
}

# What is done to the server while the clients are at it.
sub signal_backend
{
	my ($node, $database, $function, $whom) = @_;
	my $condition = $whom eq 'worker'
	  ? 'pid IN (SELECT w.pid FROM reputation.workers() w)' : q{application_name = 'drift'};

	$node->psql($database, "SELECT $function(pid) FROM pg_stat_activity WHERE $condition
		AND datname = current_database() ORDER BY random() LIMIT 1", on_error_stop => 0);
	return;
}

sub kill_process
{
	my ($node, $database, $query) = @_;
	my ($status, $pid) = $node->psql($database, $query, on_error_stop => 0);

	return if $status != 0 || $pid !~ /^\d+$/;
	kill 'KILL', $pid;
	return $pid;
}

# The clock stands still while it is set. The server may be crashing.
my $clock_is_ahead = 0;

sub move_clock
{
	my ($node, $ahead) = @_;
	my $time = $ahead ? POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime(time + $ahead)) : '';

	$clock_is_ahead = $ahead ? 1 : 0;
	until_it_works($node, 'postgres', "ALTER SYSTEM SET reputation.clock = '$time'; SELECT pg_reload_conf();");
	until_it_works($node, 'postgres', "SELECT 1 / (current_setting('reputation.clock') = '$time')::int");
	return;
}

# Sets it back, which has everybody computed again; once more when the last is through who was at work with the clock as
# it was: it may have come to those that the first run had queued. (A real clock is set for all at once.)
sub set_clock_back
{
	my ($node) = @_;

	move_clock($node);
	my $now = until_it_works($node, 'postgres', 'SELECT clock_timestamp()');
	until_it_works($node, 'postgres', qq{SELECT 1 / (count(*) = 0)::int FROM pg_stat_activity WHERE backend_type ~ 'client|reputation'
		AND CASE WHEN backend_type ~ 'client' THEN CASE state WHEN 'active' THEN query_start END ELSE xact_start END < '$now'});
	until_it_works($node, $_, q{SELECT reputation.run_job('nightly', 'manual')}) foreach Drift::App::names();
	return;
}

my @sweeping_trouble = ('clock ahead', 'lock of the inbox', 'old snapshot');
my %trouble = (
	'kill -9 of a worker' => sub {
		kill_process(@_, q{SELECT pid FROM reputation.workers() ORDER BY random() LIMIT 1});
	},
	'kill -9 of a client' => sub {
		kill_process(@_, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'drift' ORDER BY random() LIMIT 1});
	},
	'immediate stop' => sub { $_[0]->stop('immediate'); $_[0]->start; },
	'restart' => sub { $_[0]->restart; },
	'clock ahead' => sub { move_clock($_[0], 3600 * Drift::App::pick(7, 25, 192)); },
	'termination of a worker' => sub { signal_backend(@_, 'pg_terminate_backend', 'worker') },
	'cancel of a worker' => sub { signal_backend(@_, 'pg_cancel_backend', 'worker') for 1 .. 20; },
	'termination of a client' => sub { signal_backend(@_, 'pg_terminate_backend', 'client') },
	'cancel of a client' => sub { signal_backend(@_, 'pg_cancel_backend', 'client') for 1 .. 5; },
	'lock of the inbox' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3, reputation.inbox_4;
			SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'lock of the segments' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3;
			SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'lock of the jobs' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.job; SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'old snapshot' => sub {
		in_a_session(@_, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users, generate_series(1, 30000);
			SELECT builder_score_recalc_all(); COMMIT;});
	});

sub start_server
{
	my $node = PostgreSQL::Test::Cluster->new('drift');

	$node->init;
	$node->append_conf('postgresql.conf', q{
		shared_preload_libraries = 'reputation'
		reputation.workers = 2
		max_worker_processes = 20
		max_connections = 60
		max_prepared_transactions = 30
		restart_after_crash = on
		synchronous_commit = on
		autovacuum_naptime = 1
		timezone = 'UTC'
		log_line_prefix = '%m [%p] %b %d '
		log_statement = none});
	$node->start;
	foreach my $database (Drift::App::names())
	{
		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database, Drift::App::setup($database));
	}
	return $node;
}

# Lets the clients run and makes trouble each time they got another $every
# chunks done.
sub shake
{
	my ($node, $progress, $total, $every, $patience) = @_;
	my $select = IO::Select->new($progress);
	my @databases = Drift::App::names();
	my $done = 0;

	set_clock_back($node) if $clock_is_ahead;
	while ($done < $total)
	{
		my $byte;

		die "the clients got stuck after $done of $total chunks" if !$select->can_read($patience);
		last if !sysread $progress, $byte, 1;
		next if ++$done % $every != 0;

		my $kind = Drift::App::pick(sort keys %trouble);
		$kind = 'kill -9 of a worker' if $done > $total / 3 && grep { $_ eq $kind } @sweeping_trouble;
		my $was_ahead = $clock_is_ahead;
		note "after $done of $total chunks: $kind";
		$trouble{$kind}->($node, Drift::App::pick(@databases));
		wait_for_server($node, 'postgres');
		# In the next trouble it still was.
		set_clock_back($node) if $was_ahead;
	}
	return $done;
}

# One phase: starts the clients, shakes the server, waits for the clients'
# ends, and ends what they left prepared.
sub phase
{
	my ($node, $phase, $seed, $option) = @_;
	my ($progress, $report);
	my (@pids, @errors);

	pipe($progress, $report) or die "pipe: $!";
	foreach my $database (Drift::App::names())
	{
		for (1 .. Drift::App::clients($database))
		{
			my $client = @pids + 1;

			push @errors, "$PostgreSQL::Test::Utils::tmp_check/client_${phase}_$client.log";
			append_to_file($errors[-1], '');
			push @pids, start_client($report, $node, $database, $client, $option->{chunks},
				1000 * $seed + 20 * $phase, $report, $errors[-1]);
		}
	}
	close $report;

	my $total = @pids * $option->{chunks};
	is(shake($node, $progress, $total, $option->{every}, $option->{patience}), $total,
		"phase $phase: the clients did their work");
	set_clock_back($node) if $clock_is_ahead;
	my $failed = 0;
	foreach my $pid (@pids)
	{
		waitpid $pid, 0;
		$failed++ if $? != 0;
	}
	is($failed, 0, "phase $phase: every client ended well");

	foreach my $database (Drift::App::names())
	{
		resolve_prepared($node, $database, '%', $errors[0]);
		$node->safe_psql($database, $option->{sabotage}) if $option->{sabotage};
	}
	return @errors;
}

# Errors of the clients that no statement of theirs should have met.
sub unexpected_errors
{
	my @lines;

	foreach my $file (@_)
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			next if $line !~ /(ERROR|FATAL|PANIC|WARNING):  (\w{5}): (.*)/;
			my ($level, $code, $message) = ($1, $2, $3);

			next if $level eq 'WARNING' && $code !~ /^(XX|53)/ && $message !~ /reputation/;
			next if $expected{$code} && $message !~ /reputation|inbox|builder_scores|trust_score|session_scores|point_ledger|points_scores|board|rank_|badge/;
			push @lines, $line;
		}
	}
	return @lines;
}

# Deadlocks with a worker that an application's transaction had to give up in.
sub lost_deadlocks
{
	my $node = shift;
	my @lost;

	foreach my $entry (split /\n(?=\d{4}-)/, slurp_file($node->logfile))
	{
		push @lost, $entry
		  if $entry =~ / client backend .*DETAIL:  Process \d+ waits for/ && $entry =~ /: draining$/m;
	}
	return @lost;
}

sub is_none
{
	my ($node, $database, $query, $name) = @_;

	return is($node->safe_psql($database, $query), '', $name);
}

# Is nothing to be done?
sub idle
{
	my @due = map { "NOT EXISTS (SELECT FROM reputation.$_ WHERE next_due_at <= reputation.clock())" } 'trust_scores', Drift::Points::timed_tables($_[0]),
	  Drift::Seconds::timed_tables();
	my @work = map { "NOT EXISTS (SELECT FROM reputation.$_)" } (map { "inbox_$_" } 0 .. 4), 'job', q{job_runs WHERE status = 'running'};

	return join ' AND ', @work, @due;
}

sub drained
{
	my ($node, $database, $when) = @_;

	# Also of what nobody has begun, a run over everybody because of a lost change.
	until_it_works($node, $database, q{SELECT reputation_wait(id, 'builder', '20 s') FROM users LIMIT 1});
	ok($node->poll_query_until($database, "SELECT @{[idle($database)]}"), "$when: drained")
	  or diag $node->safe_psql($database, 'SELECT * FROM reputation.job LIMIT 20; SELECT * FROM reputation.job_runs ORDER BY id DESC LIMIT 5');
	return;
}

# That queries find nothing, or what they found first: in one snapshot, with the clock standing still at the moment right
# after it was taken, which must be one at which nothing is to be done. So it does not matter whom time changes meanwhile.
sub are_none
{
	my ($node, $database, $name, @queries) = @_;
	my $set_clock = $clock_is_ahead ? '' : q{SELECT set_config('reputation.clock', clock_timestamp()::text, true) \gset};
	my $sql = '';
	my $found;

	while (my ($what, $query) = splice @queries, 0, 2)
	{
		$sql .= "SELECT '$what', q.* FROM ($query) q;\n";
	}
	for (1 .. 200)
	{
		$found = $node->safe_psql($database, qq{
			BEGIN ISOLATION LEVEL REPEATABLE READ;
			$set_clock
			SELECT @{[idle($database)]} AS idle \\gset
			\\if :idle
			$sql
			\\else
			SELECT 'not idle';
			\\endif
			COMMIT;});
		last if $found ne 'not idle';
		usleep(100_000);
	}
	my $fine = ok($found eq '', $found =~ /(.+)/ ? "$name, but $1" : $name);

	diag $found if !$fine;
	return $fine;
}

# Whom time alone changes, all at once: the clock is moved, and the server crashes while the workers are at it. As the
# clock stands still, so do the ranks that the job "leaderboards" writes.
sub check_ahead
{
	my ($node, $when) = @_;

	move_clock($node, 3600 * Drift::App::pick(25, 85, 192));

	my $pid = kill_process($node, Drift::App::pick(Drift::App::names()), q{SELECT pid FROM reputation.workers() ORDER BY random() LIMIT 1});
	until_it_works($node, 'postgres', "SELECT 1 / (NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid))::int") if $pid;
	foreach my $database (Drift::App::names())
	{
		drained($node, $database, "$when, $database, the clock ahead");
		$node->safe_psql($database, q{CALL reputation_run('leaderboards')});
		drained($node, $database, "$when, $database, the ranks written");
		are_none($node, $database, "$when, $database, the clock ahead: nothing is wrong", Drift::App::wrong($database), Drift::Points::wrong_outputs());
	}
	return;
}

# What must hold when nobody writes any more.
sub check
{
	my ($node, $database, $when) = @_;
	my @numbers = Drift::App::numbers();

	drained($node, $database, $when);
	Drift::Badges::remember($node, $database) if are_none($node, $database, "$when: nothing is wrong", Drift::App::wrong($database));
	# A transaction with a snapshot of its own computes it, others are served.
	is_none($node, $database, Drift::App::wrong_sessions($database), "$when: what is served is right");

	is_none($node, $database, 'SELECT * FROM reputation.dead_letter', "$when: no dead letter");
	is_none($node, $database, q{SELECT * FROM reputation.job_runs WHERE status <> 'succeeded'}, "$when: every run came to its end");
	is_none($node, $database, 'SELECT * FROM reputation.source_check()', "$when: the triggers are there");
	while (my ($what, $query) = splice @numbers, 0, 2)
	{
		cmp_ok($node->safe_psql($database, $query), '>', 3, "$when: there are $what to be wrong about");
	}
	return;
}

# run(phases, chunks => of each client in a phase, every => chunks between two
# troubles, patience => seconds that a chunk may take, sabotage => SQL): the whole
# test. The sabotage, for trying whether the test can fail, is done at the end of
# each phase in every database.
sub run
{
	my %option = @_;
	my $seed = $ENV{REPUTATION_SEED} // int(rand(1_000_000));
	my @errors;

	diag "REPUTATION_SEED=$seed";
	srand($seed);
	my $node = start_server();

	for my $phase (1 .. $option{phases})
	{
		push @errors, phase($node, $phase, $seed, \%option);
		check($node, $_, "phase $phase, $_") foreach Drift::App::names();
		check_ahead($node, "phase $phase");
	}

	my @unexpected = unexpected_errors(@errors);
	is(scalar(@unexpected), 0, 'no client met an error of the extension');
	diag join "\n", @unexpected[ 0 .. ($#unexpected < 20 ? $#unexpected : 20) ] if @unexpected;
	my @lost = lost_deadlocks($node);
	is(scalar(@lost), 0, 'no client gave up in a deadlock with a worker');
	diag join "\n", @lost if @lost;
	unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|was terminated by signal (?!9:|3:)/,
		'no process crashed by itself');
	$node->stop;
	done_testing();
	return;
}

1;

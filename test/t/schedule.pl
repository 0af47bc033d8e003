# Who starts the batch jobs: pg_cron where it is installed, otherwise the worker;
# never two at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my ($library_dir) = run_command([ 'pg_config', '--pkglibdir' ]);
my $has_cron = -e "$library_dir/pg_cron.so";
my $node = start_server('main', $has_cron ?
	("shared_preload_libraries = 'reputation,pg_cron'", "cron.database_name = 'app'") : ());

set_up_app($node, 'app', 100);
make_gate($node, 'app');

# Without pg_cron in the database.
my $columns = 'job_name, schedule, started_by';
is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule()"),
	"badges|every 01:00:00|worker\nleaderboards|every 00:15:00|worker\nnightly|daily at 03:00:00 UTC|worker\nprune|every 1 day|worker",
	'the worker starts the jobs');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.job_runs WHERE trigger = \'worker\''), '0',
	'none is started before its time');
is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule('leaderboards', '30 min')"), 'leaderboards|every 00:30:00|worker', 'one is changed');
$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
is($node->safe_psql('app', 'SELECT job_name, at_time, time_zone, every FROM reputation.schedule ORDER BY 1'),
	"badges|||01:00:00\nleaderboards|||00:30:00\nnightly|03:00:00|UTC|\nprune|||1 day", 'and keeps its schedule');

# The nightly run is due. It mends what nobody captured.
$node->safe_psql('app', q{
	SET session_replication_role = replica;
	UPDATE users SET builder_score = 1 WHERE id < 20;
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 min' WHERE job_name = 'nightly';
	SELECT reputation.wake()});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs
	WHERE job_name = 'nightly' AND trigger = 'worker' AND status = 'succeeded' AND done = 100 AND changed = 19)},
	'the worker runs the nightly job');
all_computed($node, 'app', 'after the nightly run');
is($node->safe_psql('app', q{
	SELECT next_run_at > now() AND (next_run_at AT TIME ZONE 'UTC')::time = '03:00'
	FROM reputation.schedule WHERE job_name = 'nightly'}), 't', 'the next one is due at three');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE job_name = 'nightly'}), '1', 'it ran once');

# Due once more while it is on, and asked for by hand: one run at a time.
close_gate($node, 'app', 50);
$node->safe_psql('app', q{CALL reputation_run('nightly')});
wait_at_gate($node, 'app', 'a nightly run is on');
$node->safe_psql('app', q{CALL reputation_run('nightly')});
$node->safe_psql('app', q{CALL reputation_run('nightly', 'cron')});
is($node->safe_psql('app', q{
	SELECT count(*), bool_and(again) FROM reputation.job_runs WHERE job_name = 'nightly' AND status = 'running'}),
	'1|t', 'there is one run, which will start over');
open_gate($node, 'app');
all_computed($node, 'app', 'after both');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE job_name = 'nightly'}), '2',
	'it was one run');

$node->safe_psql('app', 'SELECT reputation_unschedule()');
is($node->safe_psql('app', 'SELECT job_name, started_by FROM reputation.schedule'), 'prune|nobody', 'unscheduled');
my ($status, undef, $error) = $node->psql('app', "CALL reputation_run('weekly')");
like($error, qr/there is no job "weekly"/, 'an unknown job is refused');

SKIP:
{
	skip 'pg_cron is not installed', 1 unless $has_cron;

	my $jobs = q{SELECT jobname, schedule, command FROM cron.job ORDER BY jobname};
	my $entry = sub {
		my ($job, $schedule) = @_;
		return "reputation $job|$schedule|CALL public.reputation_run('$job', 'cron')";
	};
	$node->safe_psql('app', q{
		CREATE EXTENSION pg_cron;
		SELECT cron.schedule('mine', '0 0 * * *', 'SELECT 1'), cron.schedule('reputation of mine', '0 0 * * *', 'SELECT 2')});
	is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule('nightly', at => '04:30')"),
		'nightly|daily at 04:30:00 UTC|pg_cron', 'pg_cron starts a job');
	is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule()"),
		"badges|every 01:00:00|pg_cron\nleaderboards|every 00:15:00|pg_cron\nnightly|daily at 04:30:00 UTC|pg_cron\nprune|every 1 day|pg_cron", 'pg_cron starts the others, too');
	my $mine = "mine|0 0 * * *|SELECT 1\n";
	my $ours = join("\n", $entry->('badges', '0 */1 * * *'), $entry->('leaderboards', '*/15 * * * *'),
		$entry->('nightly', '30 4 * * *'), "reputation of mine|0 0 * * *|SELECT 2", $entry->('prune', '0 0 * * *'));
	is($node->safe_psql('app', $jobs), $mine . $ours, 'pg_cron has them');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
	$node->safe_psql('app', q{SELECT count(*) FROM reputation_schedule('nightly')});
	is($node->safe_psql('app', $jobs), $mine . $ours =~ s/30 4/0 3/r, 'its own entries are replaced, the others are kept');
	is($node->safe_psql('app', q{SELECT next_run_at > now() AND (next_run_at AT TIME ZONE 'UTC')::time = '03:00' FROM reputation_schedule() WHERE job_name = 'nightly'}),
		't', 'it is known when pg_cron starts one next');
	is($node->safe_psql('app', q{SELECT next_run_at - now() <= interval '15 min' AND extract(minute FROM next_run_at) IN (0, 15, 30, 45)
		FROM reputation_schedule() WHERE job_name = 'leaderboards'}), 't', 'at an interval, too');

	# What pg_cron cannot do exactly the worker does; not without one.
	for my $case ([ 'leaderboards', "every => '45 min'", 'every 00:45:00' ], [ 'nightly', "at => '04:30:30'", 'daily at 04:30:30 UTC' ],
		[ 'prune', "at => '03:00', time_zone => 'Europe/Berlin'", 'daily at 03:00:00 Europe/Berlin' ])
	{
		is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule('$case->[0]', $case->[1])"), "$case->[0]|$case->[2]|worker", "$case->[2] is the worker's");
	}
	is($node->safe_psql('app', "SELECT $columns FROM reputation_schedule('badges', '12 hours')"), 'badges|every 12:00:00|pg_cron', '12 hours are not');
	is($node->safe_psql('app', $jobs), $mine . $entry->('badges', '0 */12 * * *') . "\nreputation of mine|0 0 * * *|SELECT 2", 'pg_cron has the other');
	my $schedule = 'SELECT job_name, at_time, time_zone, every, started_by FROM reputation.schedule ORDER BY 1';
	my $before = $node->safe_psql('app', $schedule);
	reload_with($node, 'reputation.workers' => 0);
	for my $arguments ("'leaderboards', every => '90 min'", "'badges', every => '45 min'", "'nightly', at => '04:30:30'",
		"'nightly', at => '03:00', time_zone => 'Europe/Berlin'")
	{
		($status, undef, $error) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT reputation_schedule($arguments)");
		like($error, qr/22023: pg_cron cannot start the job .*HINT:  .* whole hours that divide a day/s,
			"no worker: $arguments is refused");
	}
	is($node->safe_psql('app', $schedule), $before, 'the schedule is as it was');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
	is($node->safe_psql('app', $schedule), $before, 'and stays so when it is looked at');
	reload_with($node, 'reputation.workers' => 1);
	wait_for_worker($node, 'app', 'the worker is back');
	$node->safe_psql('app', q{SELECT count(*) FROM unnest('{badges,leaderboards,nightly,prune}'::text[]) j, reputation_schedule(j)});
	is($node->safe_psql('app', $jobs), $mine . $ours =~ s/30 4/0 3/r, 'all are at their usual times again');

	# The worker leaves to pg_cron what is pg_cron's, even when it is due.
	$node->safe_psql('app', q{
		UPDATE reputation.schedule SET next_run_at = now() - interval '1 h';
		SELECT reputation.wake()});
	is($node->safe_psql('app', 'SELECT reputation.run_due_jobs()'), '0', 'nothing is the worker\'s to start');
	all_computed($node, 'app', 'the worker had time');
	is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'worker'}), '1',
		'it started nothing');
	my $state = q{SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'job nightly'};
	like($node->safe_psql('app', $state), qr/^OK\|daily at 03:00:00 UTC by pg_cron, next at /, 'the status says who starts it');
	$node->safe_psql('app', q{SELECT cron.unschedule('reputation nightly')});
	like($node->safe_psql('app', $state), qr/^WARN\|.*; pg_cron has no such entry of it\|SELECT reputation_schedule\(\)/, 'and when pg_cron does not know of it');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
	like($node->safe_psql('app', $state), qr/^OK\|/, 'which that call mends');

	# An entry of a job that there is no more.
	$node->safe_psql('app', q{SELECT cron.schedule('reputation former', '0 0 * * *', $$CALL public.reputation_run('former', 'cron')$$)});
	$node->safe_psql('app', q{SELECT reputation_unschedule('badges')});
	is($node->safe_psql('app', 'SELECT string_agg(jobname, \',\' ORDER BY jobname) FROM cron.job'),
		'mine,reputation former,reputation leaderboards,reputation nightly,reputation of mine,reputation prune', 'one is unscheduled');
	$node->safe_psql('app', 'SELECT reputation_unschedule()');
	is($node->safe_psql('app', $jobs), "${mine}reputation of mine|0 0 * * *|SELECT 2", 'all are unscheduled, others are kept');
	is($node->safe_psql('app', 'SELECT job_name, started_by FROM reputation.schedule'), 'prune|nobody', 'in both places');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule(); DROP EXTENSION pg_cron');
	like($node->safe_psql('app', $state), qr/^WARN\|.*; pg_cron has no such entry of it\|SELECT reputation_schedule\(\)/, 'the status says that pg_cron is gone');
	is($node->safe_psql('app', 'SELECT DISTINCT started_by FROM reputation_schedule()'), 'worker',
		'without pg_cron the worker starts them again');
}

$node->stop;
done_testing();

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
is($node->safe_psql('app', "SELECT * FROM reputation_schedule('04:30', '30 min', '2 hours')"),
	"badges|every 02:00:00|worker\nleaderboards|every 00:30:00|worker\nnightly|daily at 04:30:00 UTC|worker", 'the worker starts the jobs');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.job_runs WHERE trigger = \'worker\''), '0',
	'none is started before its time');
$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
is($node->safe_psql('app', 'SELECT job_name, at_time, every FROM reputation.schedule ORDER BY 1'),
	"badges||01:00:00\nleaderboards||00:15:00\nnightly|03:00:00|", 'another schedule replaces the first');

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
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.schedule'), '0', 'unscheduled');
my ($status, undef, $error) = $node->psql('app', "CALL reputation_run('weekly')");
like($error, qr/there is no job "weekly"/, 'an unknown job is refused');

SKIP:
{
	skip 'pg_cron is not installed', 1 unless $has_cron;

	my $jobs = q{SELECT jobname, schedule, command FROM cron.job ORDER BY jobname};
	$node->safe_psql('app', q{
		CREATE EXTENSION pg_cron;
		SELECT cron.schedule('mine', '0 0 * * *', 'SELECT 1')});
	is($node->safe_psql('app', "SELECT * FROM reputation_schedule('04:30', '30 min')"),
		"badges|every 01:00:00|pg_cron\nleaderboards|every 00:30:00|pg_cron\nnightly|daily at 04:30:00 UTC|pg_cron", 'pg_cron starts the jobs');
	is($node->safe_psql('app', $jobs),
		"mine|0 0 * * *|SELECT 1\n"
		. "reputation badges|0 */1 * * *|CALL public.reputation_run('badges', 'cron')\n"
		. "reputation leaderboards|*/30 * * * *|CALL public.reputation_run('leaderboards', 'cron')\n"
		. "reputation nightly|30 4 * * *|CALL public.reputation_run('nightly', 'cron')", 'pg_cron has them');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');
	is($node->safe_psql('app', $jobs),
		"mine|0 0 * * *|SELECT 1\n"
		. "reputation badges|0 */1 * * *|CALL public.reputation_run('badges', 'cron')\n"
		. "reputation leaderboards|*/15 * * * *|CALL public.reputation_run('leaderboards', 'cron')\n"
		. "reputation nightly|0 3 * * *|CALL public.reputation_run('nightly', 'cron')",
		'its own entries are replaced, the others are kept');

	# What pg_cron cannot do exactly the worker does; not without one.
	is($node->safe_psql('app', "SELECT * FROM reputation_schedule('04:30', '45 min')"),
		"badges|every 01:00:00|pg_cron\nleaderboards|every 00:45:00|worker\nnightly|daily at 04:30:00 UTC|pg_cron", 'every 45 minutes is the worker\'s');
	is($node->safe_psql('app', "$jobs OFFSET 1"),
		"reputation badges|0 */1 * * *|CALL public.reputation_run('badges', 'cron')\n"
		. "reputation nightly|30 4 * * *|CALL public.reputation_run('nightly', 'cron')", 'pg_cron has the others');
	is($node->safe_psql('app', "SELECT * FROM reputation_schedule('04:30:30', '12 hours')"),
		"badges|every 01:00:00|pg_cron\nleaderboards|every 12:00:00|pg_cron\nnightly|daily at 04:30:30 UTC|worker", 'so is half a minute');
	reload_with($node, 'reputation.workers' => 0);
	for my $arguments ("leaderboards => '90 min'", "badges => '45 min'", "nightly => '04:30:30'")
	{
		($status, undef, $error) = $node->psql('app', "\\set VERBOSITY verbose\nSELECT reputation_schedule($arguments)");
		like($error, qr/22023: pg_cron cannot start a job .*HINT:  .* whole hours that divide a day/s,
			"no worker: $arguments is refused");
	}
	is($node->safe_psql('app', $jobs),
		"mine|0 0 * * *|SELECT 1\n"
		. "reputation badges|0 */1 * * *|CALL public.reputation_run('badges', 'cron')\n"
		. "reputation leaderboards|0 */12 * * *|CALL public.reputation_run('leaderboards', 'cron')", 'the schedule is as it was');
	reload_with($node, 'reputation.workers' => 1);
	wait_for_worker($node, 'app', 'the worker is back');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule()');

	# The worker leaves to pg_cron what is pg_cron's, even when it is due.
	$node->safe_psql('app', q{
		UPDATE reputation.schedule SET next_run_at = now() - interval '1 h';
		SELECT reputation.wake()});
	is($node->safe_psql('app', 'SELECT reputation.run_due_jobs()'), '0', 'nothing is the worker\'s to start');
	all_computed($node, 'app', 'the worker had time');
	is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'worker'}), '1',
		'it started nothing');
	is($node->safe_psql('app', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'schedule'}) =~
		/^OK\|nightly by pg_cron/, 1, 'the status says who starts it');

	$node->safe_psql('app', 'SELECT reputation_unschedule()');
	is($node->safe_psql('app', $jobs), 'mine|0 0 * * *|SELECT 1', 'unscheduled, others are kept');
	is($node->safe_psql('app', 'SELECT count(*) FROM reputation.schedule'), '0', 'in both places');
	$node->safe_psql('app', 'SELECT count(*) FROM reputation_schedule(); DROP EXTENSION pg_cron');
	is($node->safe_psql('app', 'SELECT DISTINCT started_by FROM reputation_schedule()'), 'worker',
		'without pg_cron the worker starts them again');
}

$node->stop;
done_testing();

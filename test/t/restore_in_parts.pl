# A restore in parts, of points and badges, which nothing can compute again: the worker
# waits until all of it is there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main');
my $dump = $node->basedir . '/paid.dump';

sub command
{
	my ($name, @command) = @_;
	my ($out, $error) = run_command([ @command ]);

	is($error, '', $name);
	return;
}

# A run is on, and a schedule overdue.
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE paid OWNER app');
$node->safe_psql('paid', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, wins int);
	INSERT INTO users SELECT i, 1 FROM generate_series(1, 50) i;
	RESET SESSION AUTHORIZATION;
	SELECT points_attach(), badges_attach(), reputation_schedule();
	SELECT award_points(i, 7, 'by hand', 'once') FROM generate_series(1, 50) i});
my $kept = q{SELECT md5(string_agg(l::text, ' ' ORDER BY l.id)), count(*), sum(points),
	(SELECT md5(string_agg(h::text, ' ' ORDER BY user_id, slug)) FROM reputation.user_badge h) FROM reputation.point_ledger l};
wait_computed($node, 'paid', 'points and badges are computed');
my $expected = $node->safe_psql('paid', $kept);
like($expected, qr/\|100\|2850\|/, 'everybody was paid a bonus');
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'paid', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
$node->safe_psql('paid', q{
	SELECT reputation.run_job('badges', 'manual');
	UPDATE reputation.schedule SET next_run_at = now() - interval '1 day'});
command('pg_dump of points and badges', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('paid'));
reload_with($node, 'reputation.workers' => 1);
wait_computed($node, 'paid', 'the original has done its run');

# The ledger, and who has which badge, come late: nobody is paid a bonus that is in the dump.
my ($contents) = run_command([ 'pg_restore', '-l', '--section=data', $dump ]);
my $late = qr/ (point_ledger|points_scores|user_badge|badges_scores) /;
for my $part ([ 'first', grep { !/$late/ } split /\n/, $contents ], [ 'second', grep { /$late/ } split /\n/, $contents ])
{
	append_to_file($node->basedir . "/$part->[0].list", join("\n", @{$part}[ 1 .. $#{$part} ]) . "\n");
}
$node->safe_psql('postgres', 'CREATE DATABASE repaid OWNER app');
command('pg_restore, before the data', 'pg_restore', '--section=pre-data', '-d', $node->connstr('repaid'), $dump);
wait_for_worker($node, 'repaid', 'there is a worker before the data');
command('pg_restore, without the ledger', 'pg_restore', '-L', $node->basedir . '/first.list', '-d', $node->connstr('repaid'), $dump);
my $runs = $node->safe_psql('repaid', 'SELECT id, job_name, scope, status, fed FROM reputation.job_runs ORDER BY id');
like($runs, qr/\|badges\|badges\|running\|0/, 'a run that was on is on');
my $units = $node->safe_psql('repaid', q{SELECT sum(units) FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
	WHERE datname = 'repaid'});
wait_until($node, 'repaid', qq{SELECT sum(units) > $units + 2 FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
	WHERE datname = 'repaid'}, 'the worker looks at it');
is($node->safe_psql('repaid', 'SELECT reputation_process()'), '0', 'so does a session');
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'repaid', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker to leave it to');
$node->safe_psql('repaid', q{CALL reputation_run('badges')});
is($node->safe_psql('repaid', q{SELECT (SELECT count(*) FROM reputation.user_badge), (SELECT count(*) FROM reputation.point_ledger),
	(SELECT count(*) FROM reputation.points_scores), (SELECT count(*) FROM reputation.job)}), '0|0|0|0', 'nobody computes anything');
is($node->safe_psql('repaid', 'SELECT id, job_name, scope, status, fed FROM reputation.job_runs ORDER BY id'), $runs, 'starts and feeds no run');
is($node->safe_psql('repaid', 'SELECT count(*) FROM reputation.schedule WHERE next_run_at < now()'), '4', 'nor a scheduled job');
reload_with($node, 'reputation.workers' => 1);
command('pg_restore, the ledger', 'pg_restore', '-L', $node->basedir . '/second.list', '-d', $node->connstr('repaid'), $dump);
command('pg_restore, after the data', 'pg_restore', '--section=post-data', '-d', $node->connstr('repaid'), $dump);
wait_until($node, 'repaid', q{SELECT count(DISTINCT scope) = 2 FROM reputation.job_runs
	WHERE trigger = 'resync' AND status = 'succeeded' AND done = 50}, 'in parts: everybody is computed');
wait_until($node, 'repaid', 'SELECT count(*) = 0 FROM reputation.schedule WHERE next_run_at < now()', 'in parts: the scheduled jobs start');
wait_computed($node, 'repaid', 'in parts: all is computed');
is($node->safe_psql('repaid', $kept), $expected, 'in parts: what was paid is what was paid before');
is($node->safe_psql('repaid', 'SELECT * FROM reputation_verify()'), '', 'in parts: nothing differs');
$node->safe_psql('repaid', 'SET SESSION AUTHORIZATION app; DELETE FROM users WHERE id = 5');
is($node->safe_psql('repaid', q{SELECT count(*) FROM reputation.point_ledger WHERE user_id = '5'}), '0', 'in parts: the ledger follows its users');

is(log_count($node, 'PANIC|TRAP|terminated by signal'), 0, 'nothing crashed');

$node->stop;
done_testing();

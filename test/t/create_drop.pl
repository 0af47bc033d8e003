# CREATE EXTENSION, attach and DROP EXTENSION CASCADE again and again while writers
# are at work on the tables: no writer ever hears of it, nothing crashes, and in
# the end everything is computed. 30 times; test/long has it 200 times.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;
use Time::HiRes qw(usleep);

our $cycles //= 30;
my $node = start_server('main', 'reputation.workers = 2', 'deadlock_timeout = 100ms',
	'reputation.drain_interval = 10ms');

create_app($node, 'app', 300);

# A deadlock with the locks of CREATE and DROP on whole tables is the server's
# affair: the writers try again.
my $script = $node->basedir . '/writer.sql';
append_to_file($script, q{
\set id random(1, 300)
\set other random(1, 300)
UPDATE projects SET impact = impact + 1, status = CASE WHEN impact % 3 = 0 THEN 'draft' ELSE 'shipped' END WHERE id = :id;
INSERT INTO project_collaborators VALUES (:id, :other, 'confirmed') ON CONFLICT (project_id, user_id)
	DO UPDATE SET status = CASE project_collaborators.status WHEN 'confirmed' THEN 'pending' ELSE 'confirmed' END;
BEGIN;
UPDATE users SET name = 'a' WHERE id = :other;
DELETE FROM project_collaborators WHERE project_id = :other AND user_id = :id;
UPDATE projects SET owner_id = :other WHERE id = :id;
COMMIT;
});
my ($out, $error) = ('', '');
my $offset = -s $node->logfile;
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '4', '-T', '1000', '--max-tries=1000', '-f', $script, $node->connstr('app') ],
	'>', \$out, '2>', \$error);
wait_until($node, 'app', q{SELECT sum(impact) > 7350 + 100 FROM projects}, 'the writers are at work');

# Runs a statement; again if it was the victim of a deadlock.
sub run_again
{
	my ($sql) = @_;

	for (1 .. 100)
	{
		my ($status, undef, $failure) = $node->psql('app', $sql);

		return '' if $status == 0;
		return $failure if $failure !~ /deadlock detected/;
	}
	return 'always a deadlock';
}

my @failures;
for my $cycle (1 .. $cycles)
{
	push @failures, grep { $_ ne '' } run_again('CREATE EXTENSION reputation'),
		run_again('SELECT builder_score_attach()');
	# Wherever the workers are by then.
	usleep(1000 * ($cycle % 40));
	push @failures, grep { $_ ne '' } $cycle % 3 == 0
		? run_again('SELECT builder_score_detach(); DROP EXTENSION reputation CASCADE')
		: run_again('DROP EXTENSION reputation CASCADE');
	last if @failures > 5 || !$writers->pumpable;
}
is(join("\n", @failures), '', "$cycles times CREATE EXTENSION, attach, DROP EXTENSION");

attach($node, 'app');
my $before = $node->safe_psql('app', 'SELECT sum(impact) FROM projects');
wait_until($node, 'app', "SELECT sum(impact) > $before + 50 FROM projects", 'the writers are still at work');
$writers->signal('INT');
$writers->finish;
$node->poll_query_until('app', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench')});

my $log = substr(slurp_file($node->logfile), $offset);
# A worker gives up when it does not get a lock within 100 ms.
my $expected = qr/deadlock detected|due to lock timeout|canceling autovacuum|connection to client lost/;
is(join("\n", grep { !/$expected/ } $log =~ /^.*(?:ERROR|FATAL|PANIC|TRAP): .*$/mg), '',
	'the log has no error but of locks');
is(join("\n", $log =~ /^.*WARNING: .*$/mg), '', 'and no warning');
unlike($error, qr/reputation|aborted/, 'no writer was stopped');
unlike($log, qr/terminated by signal|server process .* exited/, 'no process crashed');

all_computed($node, 'app', 'in the end');
# A worker that found no extension is back within seconds.
wait_until($node, 'app', q{SELECT bool_and(status = 'OK') FROM reputation_status()
	WHERE check_name IN ('workers', 'capture')}, 'and the status is well');

$node->stop;
done_testing();

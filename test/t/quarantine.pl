# A user whose computation ends the process, each time: after a few restarts it
# is a dead letter, and everybody else is computed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use Reputation;
use Test::More;

my $node = start_server('main', 'max_worker_processes = 20');

# A database whose signals view runs a command for each user in app.deadly, and
# whose engine works as the role given.
sub set_up
{
	my ($database, $role, $command) = @_;

	create_app($node, $database, 300);
	$node->safe_psql($database, "ALTER TABLE users OWNER TO $role");
	attach($node, $database);
	all_computed($node, $database, "$database: attached");
	$node->safe_psql($database, qq{
		CREATE SCHEMA app AUTHORIZATION $role;
		SET ROLE $role;
		CREATE TABLE app.deadly (user_id int);
		CREATE FUNCTION app.strike(id int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS \$\$
		BEGIN
			IF EXISTS (SELECT FROM app.deadly d WHERE d.user_id = id) THEN
				$command;
				PERFORM pg_sleep(600);
			END IF;
			RETURN true;
		END \$\$;
		RESET ROLE;
		DO \$\$
		DECLARE
			signals text := rtrim(pg_get_viewdef('reputation.builder_signals'::regclass), ';');
		BEGIN
			EXECUTE 'CREATE OR REPLACE VIEW reputation.builder_signals AS SELECT * FROM ('
				|| signals || ') s WHERE app.strike(s.user_id)';
		END \$\$;
	});
	return;
}

# User 50 is deadly and due, with many others; returns once it is given up.
sub strike
{
	my ($database, $sql) = @_;

	$node->safe_psql($database, "INSERT INTO app.deadly VALUES (50); $sql");
	wait_until($node, $database, q{SELECT EXISTS (SELECT FROM reputation.dead_letter WHERE key = '50')},
		"$database: the culprit is given up");
	return;
}

# Everybody else is computed, and the worker stays; then the culprit is mended.
sub others_go_on
{
	my ($database) = @_;

	wait_computed($node, $database, "$database: no work is left");
	like(drifted($node, $database), qr/^(50\|\d+\|\d+)?$/, "$database: all others are computed");
	is($node->safe_psql($database, q{
		SELECT string_agg(key, ' '), max(error) FROM reputation.dead_letter}),
		'50|the server process crashed twice while it was computed', "$database: nobody else is given up");

	my $pid = worker_pid($node, $database);
	$node->safe_psql($database, 'UPDATE projects SET impact = impact + 3000 WHERE id BETWEEN 100 AND 200');
	wait_computed($node, $database, "$database: later changes are computed");
	like(drifted($node, $database), qr/^(50\|\d+\|\d+)?$/, "$database: with the right result");
	is(worker_pid($node, $database), $pid, "$database: by the same worker");

	is($node->safe_psql($database, 'DELETE FROM app.deadly; SELECT reputation_retry()'), '1',
		"$database: it is mended and queued again");
	all_computed($node, $database, "$database: after the retry");
	return;
}

# Ended in order, by a signal to itself; the worker alone restarts.
set_up('ended', 'postgres', 'PERFORM pg_terminate_backend(pg_backend_pid())');
my $offset = -s $node->logfile;
strike('ended', 'UPDATE projects SET impact = impact + 1000');
cmp_ok(log_count($node, 'terminating background worker', $offset), '<=', 4, 'ended: after few restarts');
others_go_on('ended');

# A crash that takes the server along.
$node->safe_psql('postgres', 'GRANT pg_execute_server_program TO app');
set_up('crashed', 'app', q{COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'});
$offset = -s $node->logfile;
strike('crashed', 'UPDATE projects SET impact = impact + 1000');
cmp_ok(log_count($node, 'was terminated by signal 9', $offset), '<=', 4, 'crashed: after few restarts');
others_go_on('crashed');
is($node->safe_psql('ended', 'SELECT count(*) FROM reputation.dead_letter'), '0',
	'the users of other databases are not blamed');

# The same while changes of other users, which come before it, keep coming in.
my $out = '';
my $stream = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('ended'), '-c', q{
		DO $$
		BEGIN
			WHILE NOT EXISTS (SELECT FROM reputation.dead_letter) LOOP
				UPDATE projects SET impact = impact + 1 WHERE id = 100 + impact % 100;
				UPDATE projects SET impact = impact + 1 WHERE id = 100 + (random() * 100)::int;
				COMMIT;
				PERFORM pg_sleep(0.01);
			END LOOP;
		END $$} ], '&>', \$out);
$offset = -s $node->logfile;
strike('ended', 'UPDATE users SET builder_score = 1 WHERE id = 50');
cmp_ok(log_count($node, 'terminating background worker', $offset), '<=', 6,
	'ended under load: after few restarts');
$node->safe_psql('ended', 'DELETE FROM app.deadly');
$stream->pump_nb;
$node->safe_psql('ended', q{
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
$stream->finish;
$node->safe_psql('ended', 'SELECT reputation_retry()');
all_computed($node, 'ended', 'after the retry');

# With several workers.
reload_with($node, 'reputation.workers' => 3);
wait_until($node, 'ended', q{SELECT count(*) = 3 FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'ended'}, 'three workers');
strike('ended', 'UPDATE projects SET impact = impact + 1000');
wait_computed($node, 'ended', 'three workers: no work is left');
like(drifted($node, 'ended'), qr/^(50\|\d+\|\d+)?$/, 'three workers: all others are computed');
is($node->safe_psql('ended', q{SELECT string_agg(key, ' ') FROM reputation.dead_letter}), '50',
	'three workers: nobody else is given up');

$node->stop;
done_testing();

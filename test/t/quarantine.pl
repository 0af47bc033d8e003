# A user whose computation crashes the process, and with it the server, each time:
# after a few restarts it is a dead letter, and everybody else is computed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'max_worker_processes = 20');

# The signals view kills the process that computes a user in app.deadly.
set_up_app($node, 'other', 100);
set_up_app($node, 'app', 300);
$node->safe_psql('app', q{
	GRANT pg_execute_server_program TO app;
	CREATE SCHEMA app AUTHORIZATION app;
	SET ROLE app;
	CREATE TABLE app.deadly (user_id int);
	CREATE FUNCTION app.strike(id int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
	BEGIN
		IF EXISTS (SELECT FROM app.deadly d WHERE d.user_id = id) THEN
			COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';
			PERFORM pg_sleep(600);
		END IF;
		RETURN true;
	END $$;
	RESET ROLE;
	DO $$
	DECLARE
		signals text := rtrim(pg_get_viewdef('reputation.builder_signals'::regclass), ';');
	BEGIN
		EXECUTE 'CREATE OR REPLACE VIEW reputation.builder_signals AS SELECT * FROM ('
			|| signals || ') s WHERE app.strike(s.user_id)';
	END $$;
});

# User 50 is deadly and due, with many others; returns once it is given up, after
# so many crashes at most.
sub strike
{
	my ($name, $most, $sql) = @_;
	my $offset = -s $node->logfile;

	$node->safe_psql('app', "INSERT INTO app.deadly VALUES (50); $sql");
	wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.dead_letter WHERE key = '50')},
		"$name: the culprit is given up");
	my $crashes = log_count($node, 'was terminated by signal 9', $offset);
	cmp_ok($crashes, '<=', $most, "$name: after $crashes crashes");
	return;
}

# Everybody but the culprit is computed, and nobody else was given up.
sub others_are_computed
{
	my ($name) = @_;

	wait_computed($node, 'app', "$name: no work is left");
	like(drifted($node, 'app'), qr/^(50\|\d+\|\d+)?$/, "$name: all others are computed");
	is($node->safe_psql('app', q{SELECT string_agg(key, ' '), max(error) FROM reputation.dead_letter}),
		'50|the server process crashed three times while it was computed', "$name: nobody else is given up");
	return;
}

sub mend
{
	my ($name) = @_;

	is($node->safe_psql('app', 'DELETE FROM app.deadly; SELECT reputation_retry()'), '1',
		"$name: it is mended and queued again");
	all_computed($node, 'app', "$name: after the retry");
	wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.crash', "$name: no crash is remembered");
	return;
}

strike('crashed', 5, 'UPDATE projects SET impact = impact + 1000');
others_are_computed('crashed');
my $pid = worker_pid($node, 'app');
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 3000 WHERE id BETWEEN 100 AND 200');
others_are_computed('crashed, later changes');
is(worker_pid($node, 'app'), $pid, 'crashed, later changes: by the same worker');
mend('crashed');
is($node->safe_psql('other', 'SELECT (SELECT count(*) FROM reputation.dead_letter), (SELECT count(*) FROM reputation.crash)'),
	'0|0', 'the users of other databases are not blamed');

# A crash that is counted is forgotten when the user is computed in a batch, too.
$node->safe_psql('app', q{
	INSERT INTO reputation.crash (engine, kind, key, crashes) SELECT id, 0, '60', 1 FROM reputation.engine;
	UPDATE projects SET impact = impact + 5000 WHERE id BETWEEN 55 AND 65});
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.crash', 'a count is forgotten');
all_computed($node, 'app', 'with a crash that was counted');

# The same while changes of other users, which come before it, keep coming in.
my $stop = $node->basedir . '/stop';
my $out = '';
my $stream = IPC::Run::start(
	[ 'sh', '-c', 'until [ -e "$0" ]; do psql -XAtq -d "$1" -c "$2"; done', $stop, $node->connstr('app'),
		'UPDATE projects SET impact = impact + 1 WHERE id = 100 + (random() * 100)::int' ], '&>', \$out);
strike('under load', 8, q{INSERT INTO reputation.job (engine, key, lane, priority, due_at)
	SELECT id, '50', reputation.lane('50'), 3, reputation.clock() FROM reputation.engine});
append_to_file($stop, '');
$stream->finish;
others_are_computed('under load');
mend('under load');

# With several workers.
reload_with($node, 'reputation.workers' => 3);
wait_until($node, 'app', q{SELECT count(*) = 3 FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'app'}, 'three workers');
strike('three workers', 8, 'UPDATE projects SET impact = impact + 1000');
others_are_computed('three workers');
mend('three workers');

$node->stop;
done_testing();

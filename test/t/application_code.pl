# Code of the application's that hangs in a worker: a trigger on the users table, a view.
# It is cancelled, whose it is is told by name, and other people's engines go on. Code
# that catches the cancel, and code that relies on a search_path.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 1', 'reputation.application_timeout = 300ms',
	'reputation.max_attempts = 2');

set_up_app($node, 'app', 100);

# Another administrator's board, over tables of another owner.
$node->safe_psql('app', q{
	CREATE ROLE other LOGIN;
	CREATE SCHEMA other AUTHORIZATION other;
	SET SESSION AUTHORIZATION other;
	CREATE TABLE other.members (id int PRIMARY KEY);
	CREATE TABLE other.clicks (user_id int, points int, created_at timestamptz);
	CREATE INDEX ON other.clicks (user_id);
	INSERT INTO other.members SELECT generate_series(1, 10);
	RESET SESSION AUTHORIZATION;
	SET client_min_messages = warning;
	SELECT leaderboard_create('clicks', 'other.clicks', users => 'other.members')});
wait_computed($node, 'app', 'the board is computed');

my $clicks = 0;

# The other engine computes, whatever the builder's code is at.
sub others_go_on
{
	my ($when) = @_;

	$clicks++;
	$node->safe_psql('app', 'INSERT INTO other.clicks VALUES (3, 1, now())');
	return wait_until($node, 'app',
		"SELECT score = $clicks FROM reputation.clicks_board_scores WHERE user_id = '3'", "$when: the other engine goes on");
}

# The body of a trigger function on users; the name is the trigger's, too.
sub make_trigger
{
	my ($name, $body) = @_;

	$node->safe_psql('app', qq{
		SET SESSION AUTHORIZATION app;
		CREATE FUNCTION public.$name() RETURNS trigger LANGUAGE plpgsql AS \$f\$ $body \$f\$;
		CREATE TRIGGER $name BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION public.$name()});
	return;
}

# The owner takes the trigger away, and has the engine tried at once.
sub mend
{
	my ($name, $when) = @_;

	$node->safe_psql('app', qq{SET SESSION AUTHORIZATION app; DROP TRIGGER $name ON users; DROP FUNCTION public.$name()});
	$node->safe_psql('app', q{SELECT reputation_retry('builder')});
	all_computed($node, 'app', "$when: it is mended");
	is($node->safe_psql('app', 'SELECT count(*) FROM reputation.engine WHERE suspended_error IS NOT NULL OR retry_at IS NOT NULL'),
		'0', "$when: nothing is suspended");
	return;
}

sub change_everybody
{
	$node->safe_psql('app', q{UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'draft' ELSE 'shipped' END});
	return;
}

# Waits until the builder is suspended, with words in the reason.
sub suspended
{
	my ($when, $words) = @_;

	wait_until($node, 'app', qq{SELECT suspended_error LIKE \$t\$$words\$t\$ FROM reputation.engine WHERE name = 'builder'},
		"$when: the engine is suspended, and the reason says whose code it was");
	return;
}

# All users. What the trigger sets does not keep it from being cancelled.
my $told = 'the application\'s code took longer than reputation.application_timeout (300 ms), in PL/pgSQL function public.hang() line % at PERFORM, as app';
make_trigger('hang', q{
	BEGIN
		PERFORM set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', false);
		PERFORM pg_sleep(600);
		RETURN NEW;
	END});
change_everybody();
others_go_on('all hang');
suspended('all hang', $told);
is($node->safe_psql('app', q{SELECT status, detail LIKE '%public.hang()%', hint LIKE '%SELECT reputation_retry(''builder'')%'
	FROM reputation_status() WHERE check_name = 'engine builder'}), 'ERROR|t|t', 'all hang: so does the status, with the remedy');
others_go_on('all hang, suspended');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.engine WHERE suspended_error IS NOT NULL}), '1', 'the other engine is not suspended');
mend('hang', 'all hang');

# A lock that the code waits for.
my $holder = open_session($node, 'app');
$holder->query_safe('SELECT pg_advisory_lock(42)');
make_trigger('hang', q{
	BEGIN
		PERFORM set_config('lock_timeout', '0', true);
		PERFORM pg_advisory_xact_lock(42);
		RETURN NEW;
	END});
change_everybody();
suspended('a lock', $told);
others_go_on('a lock');
$holder->quit;
mend('hang', 'a lock');

# One user alone: given up after as many attempts as any, and the others are computed.
make_trigger('hang', q{
	BEGIN
		IF NEW.id = 7 THEN
			PERFORM pg_sleep(600);
		END IF;
		RETURN NEW;
	END});
change_everybody();
others_go_on('one hangs');
wait_until($node, 'app', qq{SELECT count(*) = 1 AND bool_and(key = '7' AND error LIKE \$t\$$told%\$t\$) FROM reputation.dead_letter},
	'one hangs: the user is a dead letter, which says where');
wait_computed($node, 'app', 'one hangs: everybody else is through');
like(drifted($node, 'app'), qr/^7\|\d+\|\d+$/, 'one hangs: everybody else is computed');
mend('hang', 'one hangs');

# The view hangs, over nobody, too: no user is to blame.
$node->safe_psql('app', q{
	CREATE TABLE public.kept AS SELECT rtrim(pg_get_viewdef('reputation.builder_signals'::regclass), ';') AS view;
	DO $$ BEGIN EXECUTE (SELECT 'CREATE OR REPLACE VIEW reputation.builder_signals AS SELECT * FROM (' || view
		|| ') s WHERE (SELECT pg_sleep(600)) IS NOT NULL' FROM public.kept); END $$});
change_everybody();
others_go_on('the view hangs');
suspended('the view hangs', 'the application\'s code took longer than %, in SQL statement "SELECT v.user_id%, as app');
is($node->safe_psql('app', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'drift builder'}),
	'WARN|not sampled: the engine is suspended', 'the view hangs: the status does not run it');
is($node->safe_psql('app', 'SELECT (SELECT count(*) FROM reputation.job WHERE attempt > 0), (SELECT count(*) FROM reputation.dead_letter)'),
	'0|0', 'the view hangs: no user is blamed');
$node->safe_psql('app', q{
	DO $$ BEGIN EXECUTE (SELECT 'CREATE OR REPLACE VIEW reputation.builder_signals AS ' || view FROM public.kept); END $$;
	SELECT reputation_retry('builder')});
all_computed($node, 'app', 'the view is mended');

# Code that catches the cancel has it raised again where it went on: the worker stays.
my $worker = worker_pid($node, 'app');
make_trigger('stubborn', q{
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(600);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END});
change_everybody();
suspended('the cancel is caught', 'the application\'s code took longer than %, in PL/pgSQL function public.stubborn() line %, as app');
others_go_on('the cancel is caught');
is(worker_pid($node, 'app'), $worker, 'the cancel is caught: by the same worker');
mend('stubborn', 'the cancel is caught');

# Again and again, wherever it is raised: the worker ends, and the next one knows why.
make_trigger('stubborn', q{
	BEGIN
		BEGIN
			BEGIN
				BEGIN
					PERFORM pg_sleep(600);
				EXCEPTION WHEN query_canceled THEN
					PERFORM pg_sleep(600);
				END;
			EXCEPTION WHEN query_canceled THEN
				PERFORM pg_sleep(600);
			END;
		EXCEPTION WHEN query_canceled THEN
			PERFORM pg_sleep(600);
		END;
		RETURN NEW;
	EXCEPTION WHEN query_canceled THEN
		PERFORM pg_sleep(600);
	END});
change_everybody();
suspended('every cancel is caught', '%catches the cancel, in PL/pgSQL function public.stubborn() line %, as app');
isnt(worker_pid($node, 'app'), $worker, 'every cancel is caught: the worker has ended');
others_go_on('every cancel is caught');
mend('stubborn', 'every cancel is caught');

# Names that are found in the application's search_path, and not in a worker's.
$node->safe_psql('app', 'SET SESSION AUTHORIZATION app; CREATE TABLE public.noted (id int)');
make_trigger('note', q{
	BEGIN
		INSERT INTO noted VALUES (NEW.id);
		RETURN NEW;
	END});
$node->safe_psql('app', q{UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'draft' ELSE 'shipped' END WHERE id = 5});
my $letter = q{SELECT error FROM reputation.dead_letter WHERE key = '5'};
wait_until($node, 'app', "SELECT EXISTS ($letter)", 'unqualified names: the user is a dead letter');
my $error = $node->safe_psql('app', $letter);
like($error, qr/^relation "noted" does not exist, in PL\/pgSQL function public\.note\(\) line 3 at SQL statement, as app\. /,
	'unqualified names: the error says where');
my ($statement) = $error =~ /(ALTER FUNCTION public\.note\(\) SET search_path = public, pg_temp), or/;
ok(defined $statement, 'unqualified names: and what mends it');
$node->safe_psql('app', "SET SESSION AUTHORIZATION app; $statement") if defined $statement;
$node->safe_psql('app', q{SELECT reputation_retry('builder')});
all_computed($node, 'app', 'unqualified names: after that statement');
is($node->safe_psql('app', 'SELECT count(*) > 0 FROM public.noted'), 't', 'unqualified names: the trigger has fired');
$node->safe_psql('app', 'SET SESSION AUTHORIZATION app; DROP TRIGGER note ON users');

# Writing ranks: the run fails, and the engine is suspended, too.
$node->safe_psql('app', q{SELECT builder_score_attach(rank_column => 'builder_rank')});
wait_computed($node, 'app', 'everybody is computed after an attach with ranks');
make_trigger('hang', q{
	BEGIN
		IF NEW.builder_rank IS DISTINCT FROM OLD.builder_rank THEN
			PERFORM pg_sleep(600);
		END IF;
		RETURN NEW;
	END});
$node->safe_psql('app', q{CALL reputation_run('leaderboards')});
suspended('ranks', $told);
is($node->safe_psql('app', qq{SELECT status, error LIKE \$t\$$told%\$t\$ FROM reputation.job_runs
	WHERE job_name = 'leaderboards' AND scope = 'builder' ORDER BY id DESC LIMIT 1}), 'failed|t', 'ranks: the run failed, and says where');
others_go_on('ranks');
mend('hang', 'ranks');

# Without a timeout the status says whose code a worker is in.
reload_with($node, 'reputation.application_timeout' => '0');
make_gate($node, 'app');
close_gate($node, 'app', 30);
$node->safe_psql('app', q{UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'draft' ELSE 'shipped' END WHERE id = 30});
wait_at_gate($node, 'app', 'a worker waits in the view');
is($node->safe_psql('app', 'SELECT w.code_ms <= w.unit_ms, e.name FROM reputation.workers() w JOIN reputation.engine e ON e.id = w.engine'),
	't|builder', 'the engine whose code it is in is known');
wait_until($node, 'app', 'SELECT code_ms > 5000 FROM reputation.workers()', 'it is there for long');
is($node->safe_psql('app', q{SELECT string_agg(check_name || ' ' || status, ', ' ORDER BY check_name) FROM reputation_status()
	WHERE status <> 'OK' AND check_name NOT LIKE 'job %'}), 'drift builder WARN, units WARN', 'the status warns, and does not run the view');
is($node->safe_psql('app', q{SELECT status = 'WARN'
	AND detail ~ '^worker \d+ has been \d+ s in code of the engine builder \(role app, table public.users\)$'
	FROM reputation_status() WHERE check_name = 'units'}), 't', 'it says whose code it is');
open_gate($node, 'app');
all_computed($node, 'app', 'after that');
is($node->safe_psql('app', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'units'}),
	'OK|no worker has been at one thing for long', 'the status does not warn any more');

$node->stop;
done_testing();

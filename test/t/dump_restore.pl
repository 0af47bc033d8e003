# pg_dump carries the engine, its triggers and views, and the scores; whatever
# was pending is made up for by computing everybody in the restored database.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use Reputation;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_server('main');

create_app($node, 'app', 2000);
# A column that is dropped: those behind it have other numbers in a restored database.
$node->safe_psql('app', 'ALTER TABLE users ADD spare int');
attach($node, 'app');
all_computed($node, 'app', 'the users are computed after the attach');
$node->safe_psql('app', 'ALTER TABLE users DROP spare');
is($node->safe_psql('app', q{SELECT attnum FROM reputation.source_column WHERE name = 'builder_score'}), '4', 'the number of a column');
$node->safe_psql('app', q{SET client_min_messages = warning; SELECT trust_score_attach()});
all_computed($node, 'app', 'trust is attached, too');
my $dump = $node->basedir . '/app.dump';

my $schedule = q{SELECT job_name, at_time, time_zone, every, started_by FROM reputation.schedule ORDER BY 1};
my $scheduled = "elsewhere|||01:00:00|worker\nleaderboards|||00:45:00|worker\nnightly|02:30:00|Europe/Berlin||worker\nprune||||nobody";

sub command
{
	my ($name, @command) = @_;
	my ($out, $error) = run_command([ @command ]);

	is($error, '', $name);
	return;
}

# Restored, a database has all that belongs to the engine, and everybody is
# computed, by a run of its own.
sub restored
{
	my ($database, $name) = @_;

	wait_for_worker($node, $database, "$name: there is a worker");
	wait_until($node, $database, q{SELECT count(DISTINCT scope) = 2 FROM reputation.job_runs
		WHERE trigger = 'resync' AND status = 'succeeded' AND done = 2000}, "$name: everybody is computed");
	all_computed($node, $database, $name);
	is($node->safe_psql($database, q{
		SELECT name, role, users, cached_column, home = reputation.home() FROM reputation.engine ORDER BY id}),
		"builder|app|users|builder_score|t\ntrust|app|users||t", "$name: the engines are attached");
	is($node->safe_psql($database, q{SELECT status FROM reputation_status() WHERE check_name = 'capture'}),
		'OK', "$name: the triggers are there");
	is($node->safe_psql($database, q{
		ALTER TABLE users RENAME builder_score TO score;
		ALTER TABLE users RENAME score TO builder_score;
		SELECT attnum, (SELECT count(*) FROM reputation.source_check()) FROM reputation.source_column WHERE name = 'builder_score'}), '3|0',
		"$name: columns are found by their names, and followed by their numbers");
	is($node->safe_psql($database, q{SELECT count(*) FROM reputation.builder_scores}), '2000',
		"$name: the score rows are there");
	is($node->safe_psql($database, q{SELECT count(*), min(score) FROM reputation.trust_scores}), '2000|4',
		"$name: so are those of trust");
	is($node->safe_psql($database, q{SELECT count(*), count(DISTINCT user_id), min(new_score) FROM reputation.trust_score_audit}),
		'2000|2000|4', "$name: and its audit, to which a recomputation adds nothing");
	is($node->safe_psql($database, q{
		SELECT count(*) FROM reputation.job_runs WHERE job_name = 'backfill' AND status = 'succeeded'}), '2',
		"$name: the history is there");
	is($node->safe_psql($database, $schedule), $scheduled, "$name: the schedule is as it was chosen");
	is($node->safe_psql($database, q{SELECT status, hint FROM reputation_status() WHERE check_name = 'job elsewhere'}),
		"WARN|Install what has it, or SELECT reputation_unschedule('elsewhere').", "$name: but told of");

	# Capture works as the application.
	$node->safe_psql($database, q{
		SET SESSION AUTHORIZATION app;
		UPDATE projects SET status = 'draft' WHERE id = 5;
		DELETE FROM users WHERE id = 10;
		INSERT INTO users VALUES (3000, 'new');
		UPDATE users SET name = '' WHERE id = 6});
	all_computed($node, $database, "$name: after changes");
	is($node->safe_psql($database, 'SELECT trust_score(6), (SELECT count(*) FROM get_audit_rows(6))'), '0|2',
		"$name: trust follows, and so does its audit");
	$node->safe_psql($database, 'SELECT builder_score_attach()');
	all_computed($node, $database, "$name: attached once more");
	return;
}

# A dump taken while work is pending: the scores in it are not those of its rows.
# The schedule has what its user chose: a job at another time, one that is not to run, and one
# of an extension that is not there any more.
$node->safe_psql('app', q{
	SELECT count(*) FROM reputation_schedule('nightly', at => '02:30', time_zone => 'Europe/Berlin');
	SELECT count(*) FROM reputation_schedule('leaderboards', '45 min');
	SELECT reputation_unschedule('prune');
	INSERT INTO reputation.schedule (job_name, every, next_run_at, started_by) VALUES ('elsewhere', '1 hour', now(), 'worker')});
is($node->safe_psql('app', $schedule), $scheduled, 'what is scheduled');

reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 500 WHERE id > 1000');
cmp_ok($node->safe_psql('app', "SELECT @{[work_left()]}"), '>', 0, 'work is pending');
command('pg_dump', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app'));
reload_with($node, 'reputation.workers' => 1);
all_computed($node, 'app', 'the original');

$node->safe_psql('postgres', 'CREATE DATABASE one OWNER app');
command('pg_restore, in one transaction', 'pg_restore', '-1', '-d', $node->connstr('one'), $dump);
restored('one', 'in one transaction');

# Not in one transaction: the worker is there from CREATE EXTENSION on.
$node->safe_psql('postgres', 'CREATE DATABASE two OWNER app');
command('pg_restore, step by step', 'pg_restore', '-d', $node->connstr('two'), $dump);
restored('two', 'step by step');

# With parallel jobs, and as text.
$node->safe_psql('postgres', 'CREATE DATABASE three OWNER app');
command('pg_restore, parallel', 'pg_restore', '-j', '3', '-d', $node->connstr('three'), $dump);
restored('three', 'parallel');

is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}), '0',
	'the original was not computed for that');

# The dump of a restored database is as good.
command('pg_dump of a restored database', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('one'));
$node->safe_psql('postgres', 'CREATE DATABASE four OWNER app');
command('pg_restore of that', 'pg_restore', '-d', $node->connstr('four'), $dump);
wait_for_worker($node, 'four', 'a worker in the restored database of a restored database');
all_computed($node, 'four', 'restored twice');

# A trigger that its user disabled is restored disabled: nothing is missing.
$node->safe_psql('one', 'ALTER TABLE users DISABLE TRIGGER reputation_capture');
command('pg_dump with a disabled trigger', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('one'));
$node->safe_psql('postgres', 'CREATE DATABASE five OWNER app');
command('pg_restore of that', 'pg_restore', '-d', $node->connstr('five'), $dump);
wait_until($node, 'five', q{SELECT count(*) = 4 FROM reputation.job_runs
	WHERE trigger = 'resync' AND status = 'succeeded'}, 'a disabled trigger: everybody is computed');
all_computed($node, 'five', 'a disabled trigger');
is($node->safe_psql('five', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'source public.users'}),
	'ERROR|trigger reputation_capture of public.users is disabled', 'a disabled trigger: the status says so');

# A pg_dump that takes long: it has its snapshot and all its locks but the last,
# for which it waits. Writers and the worker go on, and the inbox stays small.
$node->safe_psql('app', 'CREATE TABLE the_last ()');
my $holder = open_session($node, 'app');
$holder->query_safe('BEGIN; LOCK TABLE the_last IN ACCESS EXCLUSIVE MODE');
my ($out, $error) = ('', '');
my $dumping = IPC::Run::start([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app') ],
	'>', \$out, '2>', \$error);
my $waiting = q{SELECT EXISTS (SELECT FROM pg_stat_activity
	WHERE query LIKE 'LOCK TABLE %' AND wait_event_type = 'Lock')};
wait_until($node, 'app', $waiting, 'a pg_dump is under way');
$node->safe_psql('app', q{
	DO $$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			UPDATE projects SET impact = impact + 1;
			COMMIT;
		END LOOP;
	END $$});
all_computed($node, 'app', 'during pg_dump');
my $pages = $node->safe_psql('app', 'SELECT sum(pages) FROM reputation.inbox_pages()');
cmp_ok($pages, '<', 4 * 128, "the inbox was truncated during pg_dump ($pages pages)");
is($node->safe_psql('app', $waiting), 't', 'which still waits');
$holder->query_safe('COMMIT');
$holder->quit;
$dumping->finish;
is($error, '', 'pg_dump ends well');
is(log_count($node, 'PANIC|TRAP|terminated by signal'), 0, 'nothing crashed');

$node->stop;
done_testing();

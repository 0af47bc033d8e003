# The worker in everyday life: it starts with the extension, computes what
# changed, says so, and costs nothing while there is nothing to do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

create_app($node, 'app', 100);
is(worker_pid($node, 'app'), '', 'there is no worker without the extension');
$node->safe_psql('app', 'CREATE EXTENSION reputation');
my $worker = wait_for_worker($node, 'app', 'CREATE EXTENSION starts a worker');
$node->safe_psql('app', 'SELECT builder_score_attach()');
all_computed($node, 'app', 'the backfill is done');
is($node->safe_psql('app', q{
	SELECT job_name, status, trigger, done, total, error IS NULL FROM reputation.job_runs}),
	'backfill|succeeded|attach|100|100|t', 'the backfill is recorded');
is($node->safe_psql('app', q{
	SELECT count(*) FROM reputation_status() WHERE check_name IN ('preload', 'workers') AND status = 'OK'}),
	'2', 'the status says that all is well');

# A change becomes a score without anybody draining.
$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 7");
wait_until($node, 'app', 'SELECT builder_score = 16 FROM users WHERE id = 7', 'an update becomes a score');
all_computed($node, 'app', 'after an update');

# A BEFORE trigger that the event trigger did not see: its changes are found, and
# captured from then on.
$node->safe_psql('app', q{
	ALTER EVENT TRIGGER reputation_triggers_check DISABLE;
	CREATE FUNCTION ship() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := 'shipped'; RETURN NEW; END $$;
	CREATE TRIGGER ship BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION ship();
	ALTER EVENT TRIGGER reputation_triggers_check ENABLE ALWAYS;
	UPDATE projects SET id = id WHERE id = 8});
is($node->safe_psql('app', 'SELECT relation, finding FROM reputation.source_check()'), 'public.projects|before_trigger', 'a BEFORE trigger is missed');
$node->safe_psql('app', 'SELECT reputation.wake()');
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.source_check()', 'the worker mends that');
all_computed($node, 'app', 'what the trigger changed');
$node->safe_psql('app', 'DROP TRIGGER ship ON projects');

# Columns that exchange their names unseen: the worker has the trigger follow.
$node->safe_psql('app', q{
	ALTER EVENT TRIGGER reputation_triggers_check DISABLE;
	ALTER TABLE projects RENAME owner_id TO x;
	ALTER TABLE projects RENAME id TO owner_id;
	ALTER TABLE projects RENAME x TO id;
	ALTER EVENT TRIGGER reputation_triggers_check ENABLE ALWAYS;
	UPDATE projects SET status = 'draft' WHERE owner_id = 9});
$node->safe_psql('app', 'SELECT reputation.wake()');
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.source_check()', 'the worker finds columns by their numbers');
wait_computed($node, 'app', 'columns that exchanged their names');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'what was captured by the wrong one is computed');
$node->safe_psql('app', q{
	ALTER TABLE projects RENAME id TO x;
	ALTER TABLE projects RENAME owner_id TO id;
	ALTER TABLE projects RENAME x TO owner_id;
	UPDATE projects SET status = 'shipped' WHERE id = 9});
all_computed($node, 'app', 'columns that have their own names again');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.source_check()'), '0', 'the event trigger follows');

# A trigger that was off for a while: once it fires again what was missed is computed.
my $resyncs = $node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'});
$node->safe_psql('app', q{ALTER TABLE projects DISABLE TRIGGER reputation_capture});
$node->safe_psql('app', q{UPDATE projects SET status = 'draft' WHERE id = 9});
is($node->safe_psql('app', q{SELECT status, hint FROM reputation_status() WHERE check_name = 'source public.projects'}),
	q{ERROR|SELECT reputation_repair('builder').}, 'the status tells how to mend it');
$node->safe_psql('app', q{ALTER TABLE projects ENABLE TRIGGER reputation_capture});
wait_until($node, 'app', qq{SELECT count(*) = $resyncs + 1 FROM reputation.job_runs WHERE trigger = 'resync' AND status = 'succeeded'},
	'everybody is computed once it fires again');
all_computed($node, 'app', 'what was missed');
$node->safe_psql('app', q{UPDATE projects SET status = 'shipped' WHERE id = 9});
all_computed($node, 'app', 'as before');

# Notifications.
my $listener = open_session($node, 'app');
$listener->query_safe('LISTEN reputation_scores; LISTEN reputation_work');

# Asks until the pattern was heard or the time is over; returns the channels and
# payloads since the last time.
sub hear
{
	my ($pattern) = @_;
	my $text = '';
	my $left = 10 * $PostgreSQL::Test::Utils::timeout_default;

	while ($text !~ $pattern && $left-- > 0)
	{
		$text .= $listener->query_safe('SELECT pg_sleep(0.1)');
	}
	my @notifications = $text =~
		/^Asynchronous notification "(\w+)" (?:with payload "(.*)" )?received/mg;
	return join("\n", map { $notifications[2 * $_] . ' ' . ($notifications[2 * $_ + 1] // '') }
		0 .. @notifications / 2 - 1);
}

$node->safe_psql('app', "UPDATE projects SET status = 'shipped' WHERE id = 7");
is(hear(qr/Asynchronous/), 'reputation_scores {"engine": "builder", "ids": [7, 8]}',
	'changed scores are notified');
is($listener->query_safe('SELECT builder_score FROM users WHERE id = 7'), '35',
	'the score is visible when the notification comes');

# What is sent for a sentinel comes after everything that was sent before.
sub sentinel
{
	my ($status) = @_;

	wait_computed($node, 'app', 'no work is left before the sentinel');
	$node->safe_psql('app', "UPDATE projects SET status = '$status' WHERE id = 50");
	return hear(qr/\[50, 51\]/);
}

$node->safe_psql('app', "UPDATE projects SET impact = impact + 1 WHERE id = 49");
is(sentinel('draft'), 'reputation_scores {"engine": "builder", "ids": [50, 51]}',
	'nothing is sent for an equal score');

reload_with($node, 'reputation.notify' => 'off');
$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 20");
wait_until($node, 'app', 'SELECT builder_score = 16 FROM users WHERE id = 20', 'it is computed with notify = off');
wait_computed($node, 'app', 'all of it');
reload_with($node, 'reputation.notify' => 'worker');
is(sentinel('shipped'), 'reputation_scores {"engine": "builder", "ids": [50, 51]}',
	'nothing is sent with notify = off');

reload_with($node, 'reputation.notify' => 'writer');
is(sentinel('draft'), "reputation_work \nreputation_scores " . '{"engine": "builder", "ids": [50, 51]}',
	'with notify = writer the commit notifies, too');
reload_with($node, 'reputation.notify' => 'worker');
$listener->quit;

# What the server shows of it.
wait_until($node, 'app', q{
	SELECT count(*) = 1 AND bool_and(state = 'idle' AND wait_event_type = 'Extension')
	FROM pg_stat_activity WHERE backend_type = 'reputation worker' AND datname = 'app'},
	'an idle worker shows as idle');
make_gate($node, 'app');
close_gate($node, 'app', 30);
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 100 WHERE id = 30');
wait_at_gate($node, 'app', 'a worker is in the middle of a batch');
is($node->safe_psql('app', q{
	SELECT state, query FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'app'}),
	'active|draining', 'it shows as active');
is($node->safe_psql('app', 'SELECT state FROM reputation.workers()'), 'busy', 'and as busy');
open_gate($node, 'app');
all_computed($node, 'app', 'after the gate opened');

# A worker with nothing to do runs no transaction: over two seconds, none or the
# last few of falling asleep.
my $idle = q{SELECT count(*) = 1 AND bool_and(state = 'idle') FROM reputation.workers()};
wait_until($node, 'app', $idle, 'the worker sleeps');
my $units = $node->safe_psql('app', 'SELECT sum(units) FROM reputation.workers()');
$node->safe_psql('app', 'SELECT pg_sleep(2)');
my $more = $node->safe_psql('app', 'SELECT sum(units) FROM reputation.workers()') - $units;
cmp_ok($more, '<=', 3, "an idle worker does no work ($more units)");

# A batch of writers that changes nothing that matters wakes nobody.
$node->safe_psql('app', "UPDATE users SET name = name || '!'");
is($node->safe_psql('app', 'SELECT sum(units) FROM reputation.workers()') - $units, $more,
	'nor for a change that does not matter');

# The number of workers follows the setting.
my $workers = q{SELECT count(*) = %d FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'app'};
my $asleep = q{SELECT coalesce(bool_and(state = 'idle' AND wait_event_type = 'Extension'), true)
	FROM pg_stat_activity WHERE backend_type = 'reputation worker'};
for my $count (3, 1, 0)
{
	reload_with($node, 'reputation.workers' => $count);
	wait_until($node, 'postgres', sprintf($workers, $count), "reputation.workers = $count");
	$node->poll_query_until('postgres', $asleep) or die 'the workers do not sleep';
}
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.worker_mark'), '0',
	'workers that were sent away left in good order');
$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 60");
cmp_ok($node->safe_psql('app', "SELECT @{[work_left()]}"), '>', 0, 'without workers work waits');
cmp_ok($node->safe_psql('app', 'SELECT reputation_process()'), '>=', 2, 'a session drains it');
all_computed($node, 'app', 'after reputation_process()');
$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 61");
reload_with($node, 'reputation.workers' => 1);
all_computed($node, 'app', 'a worker is back and drains what waited');

# The extension may go and come back.
$node->safe_psql('app', q{
	DROP EXTENSION reputation CASCADE;
	UPDATE users SET builder_score = -1 WHERE id = 5});
attach($node, 'app');
all_computed($node, 'app', 'after DROP and CREATE EXTENSION');
is(log_count($node, 'ERROR|FATAL|PANIC'), 0, 'the log has no error');

$node->stop;
done_testing();

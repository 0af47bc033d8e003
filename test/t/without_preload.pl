# Without shared_preload_libraries everything but the workers works.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main', "shared_preload_libraries = ''");

create_app($node, 'app', 100);

# Settings, of a library that is loaded in a session.
is($node->safe_psql('app', "LOAD 'reputation'; SHOW reputation.workers"), '1', 'settings are there after LOAD');
is($node->safe_psql('app', "LOAD 'reputation'; SHOW reputation.debounce"), '0', 'with their values from the file');
my ($status, $out, $error) = $node->psql('app', "LOAD 'reputation'; SET reputation.bogus = 1");
like($error, qr/invalid configuration parameter name "reputation.bogus"/, 'an unknown one is refused');
($status, $out, $error) = $node->psql('app', "LOAD 'reputation'; SET reputation.workers = 2");
like($error, qr/cannot be changed now/, 'the number of workers is the server\'s');

attach($node, 'app');
is($node->safe_psql('app', 'SELECT reputation_process()'), '100', 'reputation_process() drains the backfill');
all_computed($node, 'app', 'the backfill');

# A session that never called a function of the library, too.
$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id <= 10");
is($node->safe_psql('app', 'SELECT reputation_process(max_users => 5)'), '5', 'a part of the work');
is($node->safe_psql('app', 'SELECT reputation_process()'), '6', 'and the rest');
all_computed($node, 'app', 'a change');

is($node->safe_psql('app', 'SELECT builder_score(1), builder_score_recalc(1)'), '16|16', 'reads and recalc');
is($node->safe_psql('app', "SELECT builder_score_explain(1) ->> 'score'"), '16', 'explain');
$node->safe_psql('app', 'UPDATE users SET builder_score = 1000 WHERE id <= 3');
is($node->safe_psql('app', 'SELECT count(DISTINCT user_id) FROM reputation_verify()'), '3', 'verify');
is($node->safe_psql('app', 'SELECT reputation_repair()'), '3', 'repair');
is($node->safe_psql('app', 'SELECT builder_score_recalc_all()'), '0', 'recalc_all');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.workers()'), '0', 'no workers');

is($node->safe_psql('app', q{
	SELECT check_name, status FROM reputation_status()
	WHERE check_name IN ('preload', 'version', 'workers', 'capture') ORDER BY 1}),
	"capture|OK\npreload|WARN\nversion|OK\nworkers|WARN", 'the status says what is missing');
like($node->safe_psql('app', q{SELECT hint FROM reputation_status() WHERE check_name = 'preload'}),
	qr/shared_preload_libraries/, 'and how to mend it');

$node->safe_psql('app', 'SELECT reputation_process()');
($status, $out, $error) = $node->psql('app', q{
	UPDATE projects SET impact = 5 WHERE id = 20;
	SELECT reputation_wait(20, timeout => '100 ms')}, on_error_stop => 0);
like($error, qr/ERROR/, 'reputation_wait() gives up when nobody drains');
$node->safe_psql('app', q{CALL reputation_run('nightly')});
all_computed($node, 'app', 'reputation_run() drains what it starts');
is($node->safe_psql('app', q{SELECT status FROM reputation.job_runs WHERE job_name = 'nightly'}), 'succeeded',
	'and the nightly run is recorded');

# Debounce windows that are closed do not pile up, those that are open stay.
$node->safe_psql('app', q{
	INSERT INTO reputation.recent_run SELECT 1, 'nobody ' || i, clock_timestamp() - interval '1 s' FROM generate_series(1, 40000) i;
	INSERT INTO reputation.recent_run SELECT 1, 'nobody ' || i, clock_timestamp() + interval '1 h' FROM generate_series(1, 10) i});
cmp_ok($node->safe_psql('app', q{SELECT pg_relation_size('reputation.recent_run') / 8192}), '>', 256, 'there are many windows');
$node->safe_psql('app', 'SELECT reputation_process()');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation.recent_run'), '10', 'reputation_process() removes the closed ones');
$node->safe_psql('app', 'TRUNCATE reputation.recent_run');

# Notifications come from whoever computes.
my ($heard) = ($node->safe_psql('app', q{
	LISTEN reputation_scores;
	UPDATE projects SET status = 'shipped' WHERE id = 1;
	SELECT reputation_process();
}) =~ /payload "(.*)" received/);
is($heard, '{"engine": "builder", "ids": [1, 2]}', 'a session that drains notifies');

# Statements on databases.
is($node->safe_psql('postgres', q{
	ALTER DATABASE app RENAME TO app2;
	CREATE DATABASE copy TEMPLATE app2;
	DROP DATABASE copy;
	ALTER DATABASE app2 RENAME TO app}), '', 'statements on databases succeed');

# With all segments locked a change cannot be captured, but the writer goes on.
my $holder = open_session($node, 'app');
$holder->query_safe(q{BEGIN;
	LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3, reputation.inbox_4
	IN ACCESS EXCLUSIVE MODE});
($status, $out, $error) = $node->psql('app', 'UPDATE projects SET impact = 40 WHERE id = 30');
is($status, 0, 'a writer does not wait for the inbox');
like($error, qr/WARNING:.*not captured/, 'it is warned');
$holder->query_safe('COMMIT');
$holder->quit;
$node->safe_psql('app', 'SELECT reputation_process(); SELECT reputation_repair()');
$node->safe_psql('app', 'SELECT reputation_process()');
all_computed($node, 'app', 'after reputation_repair()');

# The preload later: the workers do what was left.
$node->safe_psql('app', 'UPDATE projects SET impact = impact * 7');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'reputation'");
$node->restart;
all_computed($node, 'app', 'a worker takes over after the preload');
is($node->safe_psql('app', q{SELECT status FROM reputation_status() WHERE check_name IN ('preload', 'workers')}),
	"OK\nOK", 'and the status is well');

$node->stop;
done_testing();

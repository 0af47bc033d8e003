# A session recalculates a user without a score row and keeps its transaction open:
# the worker computes everybody else, of the same lane and batch too, and that user
# when it ends; whether it commits or not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 0', 'reputation.debounce = 0');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, name text)});
$node->safe_psql('app', q{
	SET client_min_messages = error;
	CREATE EXTENSION reputation;
	SELECT trust_score_attach()});

my $users = 0;
for my $end ('COMMIT', 'ROLLBACK')
{
	my ($first, $last) = ($users + 1, $users += 200);
	$node->safe_psql('app', "INSERT INTO users SELECT i, 'user' FROM generate_series($first, $last) i");
	my $session = open_session($node, 'app');
	is($session->query_safe("BEGIN; SELECT trust_score_recalc($last)"), '4', "$end: a new user is recalculated");
	reload_with($node, 'reputation.workers' => 1);
	wait_until($node, 'app', "SELECT count(*) = $last - 1 FROM reputation.trust_scores",
		"$end: the others are computed meanwhile");
	is($node->safe_psql('app', "SELECT count(*) FROM reputation.job WHERE key = '$last'"), '1',
		"$end: that user's job waits");
	$session->query_safe($end);
	$session->quit;
	wait_computed($node, 'app', "$end: it is computed after that");
	is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', "$end: nothing differs");
	is($node->safe_psql('app', "SELECT count(*), min(score) FROM reputation.trust_scores"), "$last|4", "$end: all have a score");
	reload_with($node, 'reputation.workers' => 0);
	wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', "$end: the worker is gone");
}

# Two sessions that recalculate the same new user: the second waits for the first.
$node->safe_psql('app', "INSERT INTO users VALUES (1000, 'user')");
my $session = open_session($node, 'app');
$session->query_safe('BEGIN; SELECT trust_score_recalc(1000)');
my $second = open_session($node, 'app');
$second->query_until(qr/started/, "\\echo started\nSELECT trust_score_recalc(1000);\n");
wait_until($node, 'app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 'the second waits');
$session->query_safe('COMMIT');
like($second->query_safe('SELECT trust_score(1000)'), qr/4$/, 'and stores when the first has committed');
is($node->safe_psql('app', q{SELECT string_agg(cause, ',') FROM get_audit_rows(1000)}), 'manual,manual', 'both are in the audit');
$_->quit for $session, $second;

$node->stop;
done_testing();

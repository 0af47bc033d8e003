# An engine of another extension (test/engine_example): it is captured, computed,
# verified, instantiated, dumped and forgotten like the others; and when its library is not
# loaded it says so, stops nobody, and makes up for what it missed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 1', 'reputation.debounce = 0', 'reputation.drain_interval = 10ms',
	q{shared_preload_libraries = 'reputation, reputation_example'});

set_up_app($node, 'app', 20);
$node->safe_psql('app', q{
	CREATE EXTENSION reputation_example;
	CREATE SCHEMA other AUTHORIZATION app;
	SET SESSION AUTHORIZATION app;
	CREATE TABLE answers (user_id int, helpful boolean, flagged boolean);
	CREATE INDEX ON answers (user_id);
	CREATE TABLE other.users (id int PRIMARY KEY);
	CREATE TABLE other.answers (LIKE answers INCLUDING ALL);
	INSERT INTO other.users VALUES (1), (2);
	RESET SESSION AUTHORIZATION;
	SELECT karma_attach();
	SELECT karma_attach('other.users', 'other.answers', name => 'other_karma');
});

# What everybody may ask waits until all that was committed is computed.
sub karma
{
	my ($id, $engine) = @_;
	my ($status, $out, $error) = $node->psql('app', "SELECT reputation_wait($id, '$engine', '60 s'); SELECT karma_score($id, '$engine')");

	return $error ne '' ? $error : (split /\n/, $out)[-1];
}

$node->safe_psql('app', q{INSERT INTO answers VALUES (1, true, false), (1, true, false), (2, false, true)});
$node->safe_psql('app', q{INSERT INTO other.answers VALUES (1, true, false)});
is(karma(1, 'karma'), 4, 'a change is computed');
is(karma(2, 'karma'), 0, 'not less than 0');
is(karma(1, 'other_karma'), 2, 'a second engine of the class has its own');
is($node->safe_psql('app', q{SELECT karma_explain(1) -> 'terms'}), '{"flagged": 0, "helpful": 4}', 'it is explained');
is($node->safe_psql('app', q{INSERT INTO reputation.algorithm VALUES ('other_karma', 2, '{"helpful": 10}');
	SELECT algorithm_activate('other_karma', 2) IS NOT NULL}), 't', 'its parameters are its own');
ok($node->poll_query_until('app', q{SELECT karma_score(1, 'other_karma') = 10}), 'and everybody is computed with them');
is(karma(1, 'karma'), 4, 'but nobody of the other engine');
is($node->safe_psql('app', q{SELECT leaderboard_create('by_karma', 'karma'); SELECT calculate_user_rank(1, board => 'by_karma')}), "\n1", 'a board goes by it');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation_verify()'), 0, 'nothing drifts');

# Without its library.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'reputation'");
$node->restart;
like($node->safe_psql('app', q{SELECT check_name, status, detail FROM reputation_status() WHERE check_name = 'engine karma'}),
	qr/^engine karma\|ERROR\|its class karma is not loaded/, 'the status says that its class is missing');
$node->safe_psql('app', q{INSERT INTO answers VALUES (1, true, false); UPDATE projects SET status = 'shipped'});
$node->safe_psql('app', q{SELECT reputation_wait(1, 'builder', '60 s')});
is($node->safe_psql('app', q{SELECT count(*) FROM reputation_verify('builder')}), 0, 'the other engines go on');
my (undef, undef, $error) = $node->psql('app', q{SELECT reputation_wait(1, 'karma')});
like($error, qr/the class "karma" of the engine "karma" is not loaded/, 'who asks for it hears why');

# And with it again.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'reputation, reputation_example'");
$node->restart;
ok($node->poll_query_until('app', q{SELECT karma_score(1) = 6}), 'what was missed is computed');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation_verify()'), 0, 'and nothing drifts');

# A dump has the engines and their scores.
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('app') ], 'it is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], 'and restored');
ok($node->poll_query_until('restored', q{SELECT NOT EXISTS (SELECT FROM reputation.engine WHERE home <> reputation.home())
	AND NOT EXISTS (SELECT FROM reputation.job_runs WHERE status = 'running') AND NOT EXISTS (SELECT FROM reputation.job)}), 'the restored database is computed');
is($node->safe_psql('restored', q{SELECT karma_score(1), karma_score(1, 'other_karma'), (SELECT count(*) FROM reputation_verify())}), '6|10|0', 'and right');

# It goes, and nothing of it stays.
$node->safe_psql('app', q{SELECT leaderboard_drop('by_karma'); SELECT karma_detach('other_karma'); SELECT reputation_drop('other_karma'); SELECT karma_detach()});
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.instance WHERE class = 'karma'}), 1, 'the engine of the class stays until its tables go');
$node->safe_psql('app', q{DROP EXTENSION reputation_example; DELETE FROM reputation.instance WHERE class = 'karma'});
is($node->safe_psql('app', q{SELECT count(*) FROM reputation_status() WHERE status = 'ERROR'}), 0, 'nothing is amiss without it');

$node->stop;
done_testing();

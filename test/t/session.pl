# Session reputation where it takes a server: the worker follows, a standby answers, a dump carries it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_server('main');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	CREATE EXTENSION reputation;
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY);
	CREATE TABLE wingman_matches (id int PRIMARY KEY, user1_id int REFERENCES users ON DELETE CASCADE,
		user2_id int REFERENCES users ON DELETE CASCADE);
	CREATE TABLE wingman_sessions (match_id int REFERENCES wingman_matches ON DELETE CASCADE, status text,
		user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean, cancelled_by int);
	CREATE INDEX ON wingman_matches (user1_id, id);
	CREATE INDEX ON wingman_matches (user2_id) INCLUDE (id, user1_id);
	CREATE INDEX ON wingman_sessions (match_id) INCLUDE (status, user1_completed_confirmed_by_user2,
		user2_completed_confirmed_by_user1, cancelled_by);
	INSERT INTO users SELECT generate_series(1, 500);
	INSERT INTO wingman_matches SELECT i, 1 + i % 500, 1 + i * 7 % 500 FROM generate_series(1, 1000) i;
	INSERT INTO wingman_sessions SELECT 1 + i % 1000, (ARRAY['completed', 'completed', 'no_show', 'cancelled'])[1 + i % 4],
		i % 3 = 0, i % 5 > 0, CASE WHEN i % 4 = 3 THEN 1 + (1 + i % 1000) % 500 END FROM generate_series(1, 5000) i;});
$node->safe_psql('app', q{SELECT session_reputation_attach(policy => 'own')});

# Score rows that are not what user_reputation() says, or are missing.
my $differing = q{SELECT u.id, user_reputation(u.id), s.* FROM users u LEFT JOIN reputation.session_scores s ON s.user_id = u.id::text
	WHERE user_reputation(u.id) - 'cache_timestamp' IS DISTINCT FROM jsonb_build_object('score', s.score,
		'badge_color', s.badge_color, 'completed_sessions', s.completed_sessions, 'no_shows', s.no_shows) LIMIT 5};

sub computed
{
	my ($server, $database, $name) = @_;

	wait_computed($server, $database, $name);
	is($server->safe_psql($database, 'SELECT * FROM reputation_verify() LIMIT 5'), '', "$name: verify finds nothing");
	is($server->safe_psql($database, $differing), '', "$name: what is stored is what is told");
	return;
}

sub command
{
	my ($name, @command) = @_;
	my ($out, $error) = run_command([@command]);

	is($error, '', $name);
	return;
}

computed($node, 'app', 'attached');
is($node->safe_psql('app', q{SELECT count(DISTINCT badge_color) FROM reputation.session_scores}), '3', 'there is every badge');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	UPDATE wingman_sessions SET user1_completed_confirmed_by_user2 = true WHERE match_id < 300;
	DELETE FROM users WHERE id = 10;
	UPDATE wingman_matches SET user1_id = 20 WHERE id BETWEEN 40 AND 60;});
computed($node, 'app', 'after changes');

# A standby answers, and so it does when it was promoted, of what it writes itself.
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->safe_psql('app', q{INSERT INTO wingman_sessions VALUES (500, 'completed', true, true)});
$node->wait_for_catchup($standby);
my $everybody = q{SELECT md5(string_agg((user_reputation(id) - 'cache_timestamp')::text, ',' ORDER BY id)) FROM users};
is($standby->safe_psql('app', $everybody), $node->safe_psql('app', $everybody), 'a standby says the same of everybody');
like($standby->safe_psql('app', q{SELECT session_reputation_explain(1) ->> 'policy'}), qr/^own$/, 'and explains it');
$standby->promote;
wait_for_worker($standby, 'app', 'the promoted standby has a worker');
$standby->safe_psql('app', q{UPDATE wingman_sessions SET status = 'cancelled' WHERE match_id = 500});
computed($standby, 'app', 'the promoted standby');
$standby->stop;

# A dump has the engine, its parameters and scores.
my $dump = $node->basedir . '/app.dump';
computed($node, 'app', 'before the dump');
my $scores = q{SELECT md5(string_agg(s::text, ',' ORDER BY user_id)) FROM reputation.session_scores s};
my $dumped = $node->safe_psql('app', $scores);
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
command('pg_dump', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app'));
$node->safe_psql('postgres', 'CREATE DATABASE restored OWNER app');
command('pg_restore', 'pg_restore', '-d', $node->connstr('restored'), $dump);
is($node->safe_psql('restored', $scores), $dumped, 'the scores are restored');
is($node->safe_psql('restored', $everybody), $node->safe_psql('app', $everybody), 'the restored database says the same');
is($node->safe_psql('restored', q{SELECT version, parameters ->> 'policy' FROM reputation.algorithm WHERE active}), '2|own',
	'by the same policy');
reload_with($node, 'reputation.workers' => 1);
wait_for_worker($node, 'restored', 'the restored database has a worker');
$node->safe_psql('restored', q{DELETE FROM wingman_sessions WHERE match_id = 500});
computed($node, 'restored', 'the restored database');
is(log_count($node, 'PANIC|TRAP|terminated by signal'), 0, 'nothing crashed');

$node->stop;
done_testing();

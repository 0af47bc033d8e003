# The cache of the boards' tops follows every change of the top, whoever made it, with
# a worker and no refresh by the clock: changes that add up to none, a session's own,
# a new board over known scores, one with a dropped one's number; and it does not stop
# where an open transaction holds it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 1', "reputation.clock = '2026-01-01 00:00:00+00'", 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	CREATE TABLE clicks (user_id int, points int, created_at timestamptz);
	CREATE INDEX ON clicks (user_id);
	INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 300) i;
	INSERT INTO clicks SELECT i, 100000 + i, '2025-12-01' FROM generate_series(1, 300) i});
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SELECT points_attach();
	SELECT leaderboard_create('clicks', 'clicks');
	SELECT award_points(i, 10 * i) FROM generate_series(1, 300) i});
wait_computed($node, 'app', 'everybody is computed after the attach');

# Has a board's cache what the board has?
sub cached
{
	my ($board, $when) = @_;

	return wait_until($node, 'app', qq{SELECT count(*) = 100 AND NOT EXISTS (
		SELECT row_number() OVER (), l.* FROM leaderboard('$board') l
		EXCEPT SELECT position, rank, user_id, score, reached_at FROM reputation.leaderboard_cache WHERE board = '$board' AND period = 'all_time')
		FROM reputation.leaderboard_cache WHERE board = '$board' AND period = 'all_time'}, $when);
}

cached('points', 'the top is cached');
cached('clicks', 'and of the other board');

# From here on nothing is refreshed but what was touched: a new board schedules the job, too.
$node->safe_psql('app', q{
	CREATE FUNCTION keep_away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER keep_away BEFORE INSERT ON reputation.schedule FOR EACH ROW EXECUTE FUNCTION keep_away();
	DELETE FROM reputation.schedule});
wait_computed($node, 'app', 'the runs that the attach and the schedule began are over');
my $runs = q{SELECT count(*) FROM reputation.job_runs WHERE job_name = 'leaderboards'};
my $runs_before = $node->safe_psql('app', $runs);

$node->safe_psql('app', q{INSERT INTO reputation.point_ledger (user_id, points) VALUES ('300', -10), ('299', 10)});
wait_computed($node, 'app', 'two have changed places');
cached('points', 'and so they have in the cache');

# The order within a tie changes: 297 and 298 have the same, and 297 at first the earlier.
$node->safe_psql('app', q{UPDATE reputation.points_scores SET all_time = 2980, reached_at = '2025-12-01' WHERE user_id = '297'});
cached('points', 'one has as many points as another');
$node->safe_psql('app', q{UPDATE reputation.points_scores SET reached_at = '2025-12-31' WHERE user_id = '297'});
cached('points', 'the one who reached the score earlier is first in the cache');

$node->safe_psql('app', 'BEGIN; SELECT award_points(6, 2000000), points_recalc(6); COMMIT');
cached('points', 'what a session computes is cached');

$node->safe_psql('app', q{SELECT leaderboard_create('points_dense', 'points', ties => 'dense')});
cached('points_dense', 'a new board over known scores is cached');

$node->safe_psql('app', q{
	SELECT leaderboard_drop('clicks');
	UPDATE clicks SET points = points - 100000;
	SELECT leaderboard_create('fewer', 'clicks')});
wait_computed($node, 'app', 'a board with the number of another is computed');
cached('fewer', 'and cached, though its scores are below the other one');

# An open transaction has rows of the cache; other boards are refreshed all the same.
my $session = open_session($node, 'app');
$session->query_safe(q{BEGIN; SELECT reputation_forget(6, 'erase')});
$node->safe_psql('app', q{UPDATE reputation.points_scores SET all_time = all_time + 50 WHERE user_id = '298'});
$node->safe_psql('app', q{UPDATE reputation.fewer_board_scores SET all_time = all_time + 50 WHERE user_id = '297'});
cached('fewer', 'a board is refreshed while a user of another one is being forgotten');
$session->query_safe('COMMIT');
cached('points', 'and that one afterwards');
$session->query_safe(q{BEGIN; SELECT leaderboard_drop('points_dense')});
$node->safe_psql('app', q{UPDATE reputation.points_scores SET all_time = all_time + 50 WHERE user_id = '297'});
$node->safe_psql('app', q{UPDATE reputation.fewer_board_scores SET all_time = all_time + 50 WHERE user_id = '296'});
cached('fewer', 'a board is refreshed while another one is being dropped');
$session->query_safe('ROLLBACK');
cached('points', 'and that one afterwards, too');
cached('points_dense', 'with both of its names');
$session->quit;
is($node->safe_psql('app', $runs), $runs_before, 'and that by no job');

# A board that cannot be read is no other's business, nor that of the scores.
$node->safe_psql('app', q{ALTER TABLE reputation.points_scores DISABLE TRIGGER USER; ALTER TABLE reputation.points_scores ENABLE TRIGGER USER;
	SELECT award_points(7, 3000000), award_points(8, 3000001)});
wait_computed($node, 'app', 'scores are computed while a board cannot be cached');
$node->safe_psql('app', q{UPDATE reputation.fewer_board_scores SET all_time = all_time + 50 WHERE user_id = '295'});
cached('fewer', 'and other boards are');
ok(log_count($node, qr/WARNING:  the first of the boards over "points" could not be cached/) > 0, 'the log tells');
$node->safe_psql('app', q{SELECT reputation_repair('points')});
cached('points', 'after the repair so is that one');
is(log_count($node, qr/ERROR/), 0, 'no unit failed');

$node->stop;
done_testing();

# Points with workers: awards, revocations and deletes of many sessions at once, rows
# that leave the windows as the clock moves, crashes in between, a dump. In the end
# everybody's rank is the one that rank() gives over the ledger.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $start = '2026-01-01 00:00:00+00';
my $node = start_server('main', 'reputation.workers = 2', "reputation.clock = '$start'", 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	CREATE TABLE clicks (user_id int, points int, created_at timestamptz);
	CREATE INDEX ON clicks (user_id);
	INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 1000) i});
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SELECT points_attach();
	SELECT leaderboard_create('clicks', 'clicks');
	SELECT leaderboard_create('points_dense', 'points', ties => 'dense')});
wait_computed($node, 'app', 'everybody is computed after the attach');

# The users whose rank is not the one of a count over the source, in any period.
sub wrong_ranks
{
	my ($board, $source, $now) = @_;

	return $node->safe_psql('app', qq{
		SELECT p.period, u.id FROM users u
		CROSS JOIN (VALUES ('all_time', '-infinity'::timestamptz), ('weekly', timestamptz '$now' - interval '168 h'),
			('daily', timestamptz '$now' - interval '24 h')) AS p (period, since)
		LEFT JOIN (
			SELECT period, id, rank() OVER (PARTITION BY period ORDER BY points DESC) AS rank FROM (
				SELECT p.period, u.id, coalesce(sum(l.points), 0) AS points
				FROM users u
				CROSS JOIN (VALUES ('all_time', '-infinity'::timestamptz), ('weekly', timestamptz '$now' - interval '168 h'),
					('daily', timestamptz '$now' - interval '24 h')) AS p (period, since)
				LEFT JOIN $source l ON l.user_id::text = u.id::text AND l.created_at > p.since AND l.created_at <= '$now'
				GROUP BY 1, 2) s
			WHERE period = 'all_time' OR points > 0) r ON r.id = u.id AND r.period = p.period
		WHERE calculate_user_rank(u.id, p.period, '$board') IS DISTINCT FROM r.rank ORDER BY 1, 2 LIMIT 5});
}

sub all_right
{
	my ($now, $when) = @_;

	wait_until($node, 'app', qq{SELECT NOT EXISTS (SELECT FROM reputation.points_scores WHERE next_due_at <= '$now')
		AND NOT EXISTS (SELECT FROM reputation.clicks_board_scores WHERE next_due_at <= '$now')}, "$when: what is due is computed");
	wait_computed($node, 'app', "$when: everything is computed");
	is(wrong_ranks('points', 'reputation.point_ledger', $now), '', "$when: the ranks of points");
	is(wrong_ranks('clicks', 'clicks', $now), '', "$when: the ranks of clicks");
	is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', "$when: nothing differs");
	wait_until($node, 'app', q{SELECT NOT EXISTS (SELECT FROM reputation.board b, unnest('{all_time,weekly,daily}'::text[]) p
		WHERE EXISTS ((SELECT row_number() OVER (), l.* FROM leaderboard(b.name, p) l)
			EXCEPT SELECT position, rank, user_id, score, reached_at FROM reputation.leaderboard_cache c WHERE c.board = b.name AND c.period = p))},
		"$when: the caches have the tops");
	return;
}

# Sessions that change what they like, some of it rolled back.
my $change = q{
	\set u random(1, 1000)
	\set n random(1, 100)
	\set k random(1, 4000)
	BEGIN;
	SELECT count(award_points(id, :n, 'test', 'k' || :k)) FROM users WHERE id = :u;
	SAVEPOINT s;
	SELECT count(revoke_points(l.user_id, l.source_key)) FROM reputation.point_ledger l
	WHERE l.source_key = 'k' || :k AND l.user_id = :u::text AND :n % 3 = 0;
	INSERT INTO clicks SELECT :u, :n % 7, reputation.clock() - :n * interval '1 h' WHERE :n % 2 = 0;
	DELETE FROM clicks WHERE user_id = :u AND :n % 11 = 0;
	DELETE FROM users WHERE id = :u AND :n = 50;
	ROLLBACK TO s;
	INSERT INTO users SELECT :u, 'again' WHERE :n > 80 ON CONFLICT DO NOTHING;
	INSERT INTO clicks VALUES (:u, :n, reputation.clock());
	SELECT count(revoke_points(l.user_id, l.source_key)) FROM reputation.point_ledger l JOIN users v ON v.id::text = l.user_id
	WHERE l.source_key = 'k' || (:k + 1) AND l.user_id = (:u % 50)::text;
	COMMIT;
	DELETE FROM users WHERE id = :u AND :n = 13;
};
my $script = $node->basedir . '/change.sql';
append_to_file($script, $change);

sub change
{
	my ($transactions) = @_;
	my ($out, $error) = run_command([ 'pgbench', '-n', '-c', '4', '-t', $transactions, '-f', $script, $node->connstr('app') ]);

	unlike($error, qr/aborted|ERROR/, 'the sessions got through');
	return;
}

my @times = ('2026-01-01 06:00:00+00', '2026-01-02 06:00:00+00', '2026-01-02 18:00:00+00', '2026-01-08 06:00:00+00', '2026-01-20 00:00:00+00');
change(100);
all_right($start, 'at first');
for my $time (@times)
{
	reload_with($node, 'reputation.clock' => $time);
	change(50);
	all_right($time, $time);
}

# A server that ends in the middle, with work that is pending and a window to move.
my $session = open_session($node, 'app');
$session->query_safe('BEGIN; SELECT award_points(min(id), 5) FROM users');
change(50);
kill_server($node);
$session->quit;
reload_with($node, 'reputation.clock' => '2026-01-21 00:00:00+00');
change(20);
all_right('2026-01-21 00:00:00+00', 'after a crash of the server');
my $pid = wait_for_worker($node, 'app', 'there is a worker');
kill 'KILL', $pid;
wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'it is gone');
change(20);
all_right('2026-01-21 00:00:00+00', 'after a crash of a worker');

# A dump carries the ledger and the boards; triggers, indexes and trees are made anew.
my $dump = $node->basedir . '/app.dump';
$node->safe_psql('app', q{SET client_min_messages = warning; SELECT trust_score_attach(); SELECT leaderboard_create('trusted', 'trust')});
wait_computed($node, 'app', 'trust is computed');
run_command([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app') ]);
$node->safe_psql('postgres', 'CREATE DATABASE copy OWNER app');
my ($out, $error) = run_command([ 'pg_restore', '-d', $node->connstr('copy'), $dump ]);
is($error, '', 'it is restored');
wait_until($node, 'copy', q{SELECT count(*) = 3 FROM reputation.engine WHERE home = reputation.home()}, 'the restored database is taken over');
wait_computed($node, 'copy', 'the restored database is computed');
is($node->safe_psql('copy', 'SELECT * FROM reputation_verify()'), '', 'nothing differs in it');
my $ranks = q{SELECT string_agg(concat_ws(' ', id, calculate_user_rank(id), calculate_user_rank(id, 'weekly', 'clicks'), calculate_user_rank(id, board => 'trusted')), ',' ORDER BY id) FROM users};
is($node->safe_psql('copy', $ranks), $node->safe_psql('app', $ranks), 'it has the same ranks');
$node->safe_psql('copy', 'SELECT award_points(min(id), 1000000) FROM users');
wait_computed($node, 'copy', 'an award in it is computed');
is($node->safe_psql('copy', 'SELECT calculate_user_rank(min(id)) FROM users'), '1', 'the ledger is captured in it');

$node->stop;
done_testing();

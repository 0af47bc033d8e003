# Badges with workers: eight sessions race for the same badges, which rise and fall,
# while workers drain, sessions drain and recalculate, thresholds change and processes
# end. No badge and no bonus is given twice, and the sums are right.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 2', 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, wins int NOT NULL DEFAULT 0, beta boolean);
	CREATE TABLE ballots (user_id int);
	CREATE INDEX ON ballots (user_id);
	INSERT INTO users SELECT i FROM generate_series(1, 20) i});
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SELECT points_attach(), badges_attach(votes => 'ballots');
	UPDATE reputation.badge SET revocable = true WHERE metric IN ('wins', 'beta');

	-- Every badge that is given in a transaction that commits, with its bonus.
	CREATE TABLE given (user_id text, slug text);
	CREATE FUNCTION given() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.given VALUES (NEW.user_id, NEW.slug); RETURN NULL; END $$;
	CREATE TRIGGER given AFTER INSERT ON reputation.user_badge FOR EACH ROW EXECUTE FUNCTION given()});
wait_computed($node, 'app', 'everybody is computed after the attach');

# What the ledger and the badges must be, in plain SQL that shares nothing with the extension.
sub all_right
{
	my ($database, $when) = @_;

	wait_computed($node, $database, "$when: everything is computed");
	is($node->safe_psql($database, 'SELECT * FROM reputation_verify()'), '', "$when: nothing differs");
	is($node->safe_psql($database, 'SELECT key, error FROM reputation.dead_letter'), '', "$when: no dead letter");
	is($node->safe_psql($database, q{
		SELECT u.id, b.slug, h.slug FROM users u CROSS JOIN reputation.badge b
		LEFT JOIN reputation.user_badge h ON h.user_id = u.id::text AND h.slug = b.slug
		WHERE (h.slug IS NOT NULL) <> CASE b.metric WHEN 'wins' THEN u.wins >= b.threshold WHEN 'beta' THEN u.beta IS TRUE
			WHEN 'votes' THEN (SELECT count(*) FROM ballots v WHERE v.user_id = u.id) >= b.threshold ELSE false END}),
		'', "$when: everybody has the right badges");
	is($node->safe_psql($database, q{
		SELECT u.id, b.slug, l.n FROM users u CROSS JOIN reputation.badge b
		LEFT JOIN reputation.user_badge h ON h.user_id = u.id::text AND h.slug = b.slug
		CROSS JOIN LATERAL (SELECT count(*) AS n FROM reputation.point_ledger l WHERE l.user_id = u.id::text
			AND split_part(l.source_key, ':', 1) = 'badge' AND split_part(l.source_key, ':', 2) = b.slug
			AND NOT EXISTS (SELECT FROM reputation.point_ledger r WHERE r.revokes = l.id)) l
		WHERE l.n <> (h.slug IS NOT NULL)::int}), '', "$when: each badge has one bonus, and nothing else has");
	is($node->safe_psql($database, q{
		SELECT u.id, total_points(u.id), p.all_time, sum(h.bonus_points) FROM users u JOIN reputation.points_scores p ON p.user_id = u.id::text
		LEFT JOIN reputation.user_badge h ON h.user_id = u.id::text GROUP BY 1, 2, 3
		HAVING total_points(u.id) <> coalesce(sum(h.bonus_points), 0) OR p.all_time <> coalesce(sum(h.bonus_points), 0)}),
		'', "$when: the points are the sums of the bonuses");
	return;
}

# As often as a badge was given a bonus was paid; what is for good was given once.
sub given_once
{
	my ($when) = @_;

	is($node->safe_psql('app', q{
		SELECT coalesce(g.user_id, l.user_id), coalesce(g.slug, l.slug), g.n, l.n
		FROM (SELECT user_id, slug, count(*) AS n FROM given WHERE user_id IN (SELECT id::text FROM users) GROUP BY 1, 2) g
		FULL JOIN (SELECT user_id, split_part(source_key, ':', 2) AS slug, count(*) AS n FROM reputation.point_ledger
			WHERE source_key LIKE 'badge:%' GROUP BY 1, 2) l USING (user_id, slug)
		WHERE g.n IS DISTINCT FROM l.n}), '', "$when: each time with one bonus");
	is($node->safe_psql('app', q{SELECT user_id, slug, count(*) FROM given WHERE slug = 'dedicated_voter' GROUP BY 1, 2 HAVING count(*) > 1}),
		'', "$when: once and for all");
	return;
}

# Five users, so that all want the same.
my $script = $node->basedir . '/change.sql';
append_to_file($script, q{
	\set u random(1, 5)
	\set n random(0, 11)
	\set k random(1, 100)
	BEGIN;
	UPDATE users SET wins = :n, beta = :k % 2 = 0 WHERE id = :u;
	SAVEPOINT s;
	UPDATE users SET wins = 100 WHERE id = :u;
	ROLLBACK TO s;
	INSERT INTO ballots SELECT :u FROM generate_series(1, 3);
	COMMIT;
	SELECT reputation_process('badges') WHERE :k > 90;
	SELECT badges_recalc(:u) WHERE :k BETWEEN 80 AND 90;
	SELECT reputation_repair('badges') WHERE :k = 79;
	UPDATE reputation.badge SET threshold = 4 + :n % 3 WHERE slug = 'five_wins' AND :k BETWEEN 70 AND 75;
});

sub race
{
	my ($transactions) = @_;
	my ($out, $error) = run_command([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', $transactions, '-f', $script, $node->connstr('app') ]);

	unlike($error, qr/aborted|ERROR/, 'the sessions got through');
	return;
}

race(40);
all_right('app', 'eight sessions');
given_once('eight sessions');
is($node->safe_psql('app', q{SELECT string_agg(DISTINCT user_id, ' ' ORDER BY user_id) FROM reputation.user_badge WHERE slug = 'dedicated_voter'}),
	'1 2 3 4 5', 'those who were raced for have it');

# Three users whose badges come and go, each computed by everybody at once.
my $all = $node->basedir . '/all.sql';
append_to_file($all, q{
	\set u random(6, 8)
	\set w 10 * random(0, 1)
	UPDATE users SET wins = :w WHERE id = :u;
	BEGIN;
	SELECT badges_recalc(:u);
	SELECT badges_recalc(:u);
	COMMIT;
	SELECT reputation_process('badges');
});
my ($out, $error) = run_command([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '40', '-f', $all, $node->connstr('app') ]);
unlike($error, qr/aborted|ERROR/, 'the sessions got through');
all_right('app', 'everybody at once');
given_once('everybody at once');

# Somebody is writing the same key into the ledger: no worker waits for that.
my $session = open_session($node, 'app');
$session->query_safe(q{BEGIN; SELECT award_points(20, 1, 'by hand', 'badge:first_win')});
$node->safe_psql('app', 'UPDATE users SET wins = 1 WHERE id > 17');
wait_until($node, 'app', q{SELECT count(*) = 2 FROM reputation.user_badge WHERE slug = 'first_win' AND user_id IN ('18', '19')}, 'others get theirs');
wait_until($node, 'app', q{SELECT count(*) > 0 FROM reputation.job WHERE key = '20' AND lock_tries > 0}, 'that one comes again');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.user_badge WHERE slug = 'first_win' AND user_id = '20'}), '0', 'and has it not yet');
$session->query_safe('COMMIT');
$session->quit;
all_right('app', 'with a key that somebody else wrote');
given_once('with a key that somebody else wrote');

# The server and a worker end in the middle.
$session = open_session($node, 'app');
$session->query_safe('BEGIN; UPDATE users SET wins = 0 WHERE id > 10; SELECT badges_recalc(11)');
race(10);
kill_server($node);
$session->quit;
race(10);
all_right('app', 'after a crash of the server');
given_once('after a crash of the server');
my $pid = wait_for_worker($node, 'app', 'there is a worker');
$node->safe_psql('app', 'UPDATE users SET wins = (wins + 5) % 11');
kill 'KILL', $pid;
wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'it is gone');
race(10);
all_right('app', 'after a crash of a worker');
given_once('after a crash of a worker');

# A user who goes takes badges and bonuses along, whatever is just being given.
$node->safe_psql('app', q{
	UPDATE users SET wins = 10;
	DELETE FROM users WHERE id IN (3, 13)});
all_right('app', 'without those who went');
is($node->safe_psql('app', q{SELECT (SELECT count(*) FROM reputation.user_badge WHERE user_id IN ('3', '13')),
	(SELECT count(*) FROM reputation.point_ledger WHERE user_id IN ('3', '13'))}), '0|0', 'nothing is left of them');

# A dump has who has what; nothing is paid again, and a change of a badge is seen.
my $dump = $node->basedir . '/app.dump';
my $content = q{SELECT string_agg(concat_ws(' ', user_id, slug, earned_at, bonus_points, source_key), ',' ORDER BY user_id, slug),
	(SELECT count(*) FROM reputation.point_ledger), (SELECT string_agg(b::text, ',' ORDER BY id) FROM reputation.badge b) FROM reputation.user_badge};
my $before = $node->safe_psql('app', $content);
$node->safe_psql('app', 'DROP TRIGGER given ON reputation.user_badge');
($out, $error) = run_command([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('app') ]);
is($error, '', 'it is dumped');
for my $jobs (1, 3)
{
	my $copy = "copy$jobs";

	$node->safe_psql('postgres', "CREATE DATABASE $copy OWNER app");
	($out, $error) = run_command([ 'pg_restore', '-j', $jobs, '-d', $node->connstr($copy), $dump ]);
	is($error, '', "restored by $jobs");
	wait_until($node, $copy, q{SELECT count(*) = 2 FROM reputation.engine WHERE home = reputation.home()}, "restored by $jobs: it is taken over");
	all_right($copy, "restored by $jobs");
	is($node->safe_psql($copy, $content), $before, "restored by $jobs: it has the same badges");
	$node->safe_psql($copy, q{INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold, bonus_points)
		VALUES ('winner', 'Winner', '', '', 'wins', 10, 5)});
	all_right($copy, "restored by $jobs, with another badge");
	is($node->safe_psql($copy, q{SELECT count(*) FROM reputation.user_badge WHERE slug = 'winner'}), '18', "restored by $jobs: everybody has it");
}
is(log_count($node, 'PANIC|TRAP'), 0, 'nothing crashed by itself');

$node->stop;
done_testing();

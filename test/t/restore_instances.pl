# A dump carries the tables of engines that an attach made, with their grants, triggers and
# sequences: ledgers and sets of badges, of which nothing is paid twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main');
my $dump = $node->basedir . '/instances.dump';

sub command
{
	my ($name, @command) = @_;
	my ($out, $error) = run_command([ @command ]);

	is($error, '', $name);
	return;
}

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE paid OWNER app');
$node->safe_psql('paid', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SET SESSION AUTHORIZATION app;
	CREATE SCHEMA acme;
	CREATE TABLE users (id int PRIMARY KEY, wins int);
	CREATE TABLE acme.users (id int PRIMARY KEY, wins int);
	INSERT INTO users SELECT i, 1 FROM generate_series(1, 50) i;
	INSERT INTO acme.users SELECT i, 5 FROM generate_series(1, 30) i;
	RESET SESSION AUTHORIZATION;
	SELECT points_attach(), badges_attach();
	SELECT points_attach('acme.users', name => 'acme');
	SELECT badges_attach('acme.users', name => 'medals', points => 'acme');
	SELECT leaderboard_create('acme_board', 'acme');
	SELECT award_points(i, 7, 'by hand', 'once', 'acme') FROM generate_series(1, 30) i});
wait_computed($node, 'paid', 'points and badges are computed');

# What is kept, and who may do what with it.
my $kept = q{SELECT (SELECT md5(string_agg(l::text, ' ' ORDER BY l.id)) FROM reputation.acme_point_ledger l),
	(SELECT md5(string_agg(l::text, ' ' ORDER BY l.id)) FROM reputation.point_ledger l),
	(SELECT md5(string_agg(h::text, ' ' ORDER BY user_id, slug)) FROM reputation.medals_user_badge h),
	(SELECT md5(string_agg(b::text, ' ' ORDER BY id)) FROM reputation.medals_badge b),
	(SELECT count(*) FROM reputation.acme_point_ledger), (SELECT sum(points) FROM reputation.acme_point_ledger)};
my $rights = q{SELECT string_agg(c.relname || ' ' || x.item, E'\n' ORDER BY c.relname COLLATE "C", x.item COLLATE "C") FROM pg_class c
	CROSS JOIN LATERAL (SELECT format('%s %s', a.grantee::regrole, a.privilege_type) FROM aclexplode(c.relacl) a
		UNION ALL SELECT format('%s %s %s', a.grantee::regrole, a.privilege_type, n.attname) FROM pg_attribute n, aclexplode(n.attacl) a WHERE n.attrelid = c.oid
		UNION ALL SELECT format('%s %s', t.tgname, t.tgenabled) FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) x (item)
	WHERE c.relnamespace = 'reputation'::regnamespace AND c.relname ~ '^(acme|medals)_' AND c.relkind IN ('r', 'S')};
my $expected = $node->safe_psql('paid', $kept);
my $granted = $node->safe_psql('paid', $rights);
like($expected, qr/\|90\|7710$/, 'everybody was paid two bonuses');
like($granted, qr/acme_point_ledger ledger_guard O/, 'the ledger is guarded');
like($granted, qr/acme_point_ledger reputation_capture/, 'and captured');
command('pg_dump', 'pg_dump', '-Fc', '-f', $dump, $node->connstr('paid'));

for my $way ([ 'in one transaction', '-1' ], [ 'step by step' ], [ 'parallel', '-j', '3' ])
{
	my ($name, @options) = @$way;
	my $database = 'again_' . $name =~ s/ /_/gr;

	$node->safe_psql('postgres', "CREATE DATABASE $database OWNER app");
	command("$name: pg_restore", 'pg_restore', @options, '-d', $node->connstr($database), $dump);
	wait_for_worker($node, $database, "$name: there is a worker");
	wait_until($node, $database, q{SELECT count(DISTINCT scope) = 4 FROM reputation.job_runs
		WHERE trigger = 'resync' AND status = 'succeeded'}, "$name: everybody is computed");
	wait_computed($node, $database, "$name: nothing is pending");
	is($node->safe_psql($database, $kept), $expected, "$name: all is there, and nobody was paid twice");
	is($node->safe_psql($database, $rights), $granted, "$name: with its grants and triggers");
	is($node->safe_psql($database, 'SELECT name, class, pays_into FROM reputation.engine ORDER BY id'),
		"points|points|\nbadges|badges|points\nacme|points|\nmedals|badges|acme", "$name: the engines are attached");
	is($node->safe_psql($database, 'SELECT count(*) FROM reputation_verify()'), '0', "$name: it is right");
	is($node->safe_psql($database, q{SELECT count(*), max(score) FROM leaderboard('acme_board')}), '30|257', "$name: so is the board");

	# They go on where they were: ids, keys that are used, users who go.
	is($node->safe_psql($database, q{SELECT award_points(1, 7, 'by hand', 'once', 'acme'), award_points(1, 3, engine => 'acme')}), 'f|t',
		"$name: nothing is awarded twice");
	$node->safe_psql($database, 'DELETE FROM acme.users WHERE id = 2');
	wait_computed($node, $database, "$name: changes are computed");
	is($node->safe_psql($database, q{SELECT (SELECT count(*) FROM reputation.acme_point_ledger), (SELECT count(*) FROM reputation.point_ledger),
		total_points(1, 'acme'), (SELECT count(*) FROM reputation.medals_user_badge WHERE user_id = '2')}), '88|50|260|0', "$name: and go with their user");
	is($node->safe_psql($database, q{
		SET client_min_messages = warning;
		SELECT badges_detach('medals'), points_detach('acme'), leaderboard_drop('acme_board');
		SELECT reputation_drop('medals'), reputation_drop('acme');
		SELECT count(*) FROM pg_class WHERE relnamespace = 'reputation'::regnamespace AND relname ~ '^(acme|medals)'}) =~ s/^[|\n]*//r,
		'0', "$name: and can be dropped");
}
is(log_count($node, 'PANIC|TRAP|terminated by signal'), 0, 'nothing crashed');

$node->stop;
done_testing();

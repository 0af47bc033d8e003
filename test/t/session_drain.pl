# A session that drains very many: it claims them at once, since what it deletes stays
# in its way; and it stores them in haste without waiting for a row that somebody holds.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $users = 12000;
my $node = start_server('main', 'reputation.workers = 0', 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', qq{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY);
	INSERT INTO users SELECT generate_series(1, $users)});
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SELECT points_attach()});

# Drains, and checks how often an entry of the index by due time was read for it.
sub drains
{
	my ($expected, $what) = @_;
	my $result = $node->safe_psql('app', q{
		BEGIN;
		SELECT reputation_process('points');
		SELECT pg_stat_get_xact_tuples_returned('reputation.job_due'::regclass);
		COMMIT});
	my ($computed, $read) = split /\n/, $result;

	is($computed, $expected, "$what: all are computed");
	cmp_ok($read, '<', 8 * $users, "$what: the job table is not read again and again");
	return;
}

sub award
{
	my ($points) = @_;

	$node->safe_psql('app', "INSERT INTO reputation.point_ledger (user_id, points) SELECT id::text, $points FROM users");
	return;
}

drains($users, 'everybody');
award(1);
drains($users, 'an award each');

# One of the rows is held, of the second batch or a later one.
award(10);
my $session = open_session($node, 'app');
$session->query_safe(q{BEGIN; SELECT FROM reputation.points_scores WHERE user_id = '9000' FOR UPDATE});
is($node->safe_psql('app', q{SET statement_timeout = '60 s'; SELECT reputation_process('points') >= (SELECT count(*) FROM users)}), 't',
	'it does not wait for a row that is held');
is($node->safe_psql('app', 'SELECT string_agg(user_id, $$ $$) FROM reputation.points_scores WHERE all_time <> 11'), '9000',
	'it stored all others');
is($node->safe_psql('app', 'SELECT string_agg(key, $$ $$) FROM reputation.job'), '9000', 'the user comes again');
$session->query_safe('COMMIT');
$session->quit;
wait_until($node, 'app', q{SELECT reputation_process('points') > 0}, 'and does');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'nothing differs');

$node->stop;
done_testing();

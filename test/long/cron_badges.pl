# A run that pg_cron has one of its background workers do is a session: it waits for who
# writes the key of a bonus into the ledger, and does not fail like one of the extension's
# workers, which come again. pg_cron takes up to a minute.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my ($library_dir) = run_command([ 'pg_config', '--pkglibdir' ]);
plan skip_all => 'pg_cron is not installed' unless -e "$library_dir/pg_cron.so";

my $node = start_server('main', "shared_preload_libraries = 'reputation,pg_cron'", "cron.database_name = 'app'",
	'cron.use_background_workers = on', 'max_worker_processes = 20', 'reputation.workers = 0');

$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE TABLE users (id int PRIMARY KEY, wins int);
	INSERT INTO users VALUES (1, 0), (2, 0);
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION reputation;
	SELECT points_attach(), badges_attach();
	SELECT reputation_process()});
$node->safe_psql('app', 'UPDATE users SET wins = 1');

my $session = open_session($node, 'app');
$session->query_safe(q{BEGIN; SELECT award_points(1, 1, 'by hand', 'badge:first_win')});
$node->safe_psql('app', q{SELECT cron.schedule('badges', '* * * * *', $$CALL reputation_run('badges', 'cron')$$)});
my $waits = q{SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')};
my $over = q{EXISTS (SELECT FROM cron.job_run_details WHERE status IN ('succeeded', 'failed'))};
wait_until($node, 'app', "$waits OR $over", 'pg_cron has it run');
is($node->safe_psql('app', $waits), 't', 'the run waits');
$session->query_safe('COMMIT');
$session->quit;
wait_until($node, 'app', "SELECT $over", 'it is over');
is($node->safe_psql('app', q{SELECT DISTINCT status, return_message FROM cron.job_run_details WHERE status = 'failed'}), '', 'and did not fail');
is($node->safe_psql('app', q{SELECT string_agg(concat_ws(' ', user_id, slug, bonus_points), ', ' ORDER BY user_id) FROM reputation.user_badge}),
	'1 first_win 1, 2 first_win 50', 'both have the badge');

$node->stop;
done_testing();

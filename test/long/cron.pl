# pg_cron really starts the jobs; it takes it up to a minute.
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
	'cron.use_background_workers = on', 'max_worker_processes = 20');

create_app($node, 'app', 100);
$node->safe_psql('app', q{
	ALTER TABLE users ADD COLUMN builder_rank int;
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION reputation;
	SELECT builder_score_attach(rank_column => 'builder_rank')});
all_computed($node, 'app', 'attached');
# Until there is a schedule the worker refreshes the ranks.
my $by_worker = q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'worker' AND status = 'succeeded'};
wait_until($node, 'app', "SELECT ($by_worker) = 1", 'the worker has ranked them');

# Leaderboards each minute; the nightly run at a time that is about to come.
$node->safe_psql('app', q{
	UPDATE projects SET status = 'draft' WHERE id > 50;
	SELECT count(*) FROM reputation_schedule('nightly', at => date_trunc('minute', now() AT TIME ZONE 'UTC' + interval '70 s')::time);
	SELECT count(*) FROM reputation_schedule('leaderboards', '1 min')});
$node->safe_psql('app', 'SET session_replication_role = replica; UPDATE users SET builder_score = 1 WHERE id = 7');
for my $job ('leaderboards', 'nightly')
{
	my $query = qq{SELECT EXISTS (SELECT FROM reputation.job_runs
		WHERE job_name = '$job' AND trigger = 'cron' AND status = 'succeeded')};

	ok($node->poll_query_until('app', $query) || $node->poll_query_until('app', $query), "pg_cron has $job run");
}
all_computed($node, 'app', 'after the nightly run');
is($node->safe_psql('app', q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), '0',
	'no run of pg_cron failed');
$node->safe_psql('app', q{CALL reputation_run('leaderboards')});
is($node->safe_psql('app', q{
	SELECT count(*) FROM (SELECT builder_rank, rank() OVER (ORDER BY builder_score DESC) AS r FROM users) x
	WHERE builder_rank IS DISTINCT FROM r}), '0', 'the ranks are right');
is($node->safe_psql('app', $by_worker), '1', 'the worker started nothing more');

$node->stop;
done_testing();

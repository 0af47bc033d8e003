# A change that commits while one worker computes its user, and that the other
# worker folds meanwhile, leads to another computation: the job row that the
# first one is working on, still visible to the second, does not cover it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'reputation'
	reputation.workers = 2
	reputation.debounce = 0});
$node->start;

# The signals view is replaced by one that takes as long as there is a row in
# "brake": its snapshot is taken before, its result comes after.
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE EXTENSION reputation;
	CREATE TABLE users (id int PRIMARY KEY);
	CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int);
	CREATE TABLE project_collaborators (project_id int, user_id int, status text);
	INSERT INTO users VALUES (1);
	INSERT INTO projects VALUES (1, 1, 'draft', 0), (2, 1, 'draft', 0);
	CREATE TABLE brake (on_it int);
	CREATE FUNCTION braked() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.brake) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN 0;
	END $$;
	SELECT builder_score_attach();
	DO $$
	BEGIN
		EXECUTE format('CREATE OR REPLACE VIEW reputation.builder_signals AS
			SELECT v.user_id, v.own_shipped, v.collab_shipped, v.vouches, v.impact + b.zero AS impact
			FROM (%s) v CROSS JOIN LATERAL (SELECT public.braked() + 0 * v.own_shipped AS zero OFFSET 0) b',
			rtrim(pg_get_viewdef('reputation.builder_signals'), ';'));
	END $$;});

my $inbox_empty = q{
	SELECT NOT EXISTS (SELECT FROM reputation.inbox_0) AND NOT EXISTS (SELECT FROM reputation.inbox_1)
		AND NOT EXISTS (SELECT FROM reputation.inbox_2) AND NOT EXISTS (SELECT FROM reputation.inbox_3) AND NOT EXISTS (SELECT FROM reputation.inbox_4)};
my $drained = "$inbox_empty AND NOT EXISTS (SELECT FROM reputation.job)
	AND NOT EXISTS (SELECT FROM reputation.job_runs WHERE status = 'running')";
my $computing = q{
	SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN reputation.workers() w ON w.pid = a.pid
				   WHERE a.wait_event = 'PgSleep')};

ok($node->poll_query_until('postgres', $drained), 'the first computation is done');

for my $round (1 .. 3)
{
	# A session has the right to fold, so that the worker computes without it.
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; SELECT reputation_process(NULL, 0)');

	$node->safe_psql('postgres', q{
		INSERT INTO brake VALUES (1);
		INSERT INTO reputation.dead_letter (engine, kind, key, attempts, error, failed_at)
		VALUES ('builder', 0, '1', 5, 'test', now());
		SELECT reputation_retry();});
	ok($node->poll_query_until('postgres', $computing), "round $round: a worker computes");
	$session->query_safe('COMMIT');
	$session->quit;

	# Its snapshot does not show these. The first wake-up may go to the worker
	# that is busy, so there are two. Both are of the user at work: another's
	# computation would be braked, too, in the transaction that folds.
	$node->safe_psql('postgres', "UPDATE projects SET status = 'shipped' WHERE id = $_") for 1, 2;
	ok($node->poll_query_until('postgres', $inbox_empty), 'the other worker has folded the change');

	$node->safe_psql('postgres', 'DELETE FROM brake');
	ok($node->poll_query_until('postgres', $drained), 'drained');
	is($node->safe_psql('postgres', 'SELECT builder_score FROM users'), '20',
		'the change is in the scores');
	is($node->safe_psql('postgres', 'SELECT * FROM reputation_verify()'), '', 'verify finds nothing');

	$node->safe_psql('postgres', q{UPDATE projects SET status = 'draft'});
	ok($node->poll_query_until('postgres', $drained), 'drained');
}

$node->stop;
done_testing();

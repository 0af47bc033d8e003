# Several workers share the work: nobody is computed twice for one event.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run ();
use Reputation;
use Test::More;

my $users = 20000;
my $node = start_server('main', 'reputation.workers = 3', 'reputation.batch_size = 200',
	'shared_buffers = 128MB');

create_app($node, 'app', $users);
attach($node, 'app');
all_computed($node, 'app', 'the backfill');
is($node->safe_psql('app', 'SELECT done, total, fed, changed FROM reputation.job_runs'),
	join('|', ($users) x 4), 'each user was fed and computed once');

# Who stores what.
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE stored (user_id int, score int, pid int);
	CREATE FUNCTION log_store() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.stored VALUES (NEW.id, NEW.builder_score, pg_backend_pid());
		RETURN NULL;
	END $$;
	CREATE TRIGGER log_store AFTER UPDATE OF builder_score ON users FOR EACH ROW EXECUTE FUNCTION log_store()});

# One transaction that changes everybody's score.
$node->safe_psql('app', q{UPDATE projects SET status = 'draft'});
all_computed($node, 'app', 'one event for each');
is($node->safe_psql('app', 'SELECT count(*), count(DISTINCT user_id) FROM stored'), "$users|$users",
	'each score was stored once');
cmp_ok($node->safe_psql('app', 'SELECT count(DISTINCT pid) FROM stored'), '>', 1, 'by several workers');

# Many transactions, one for a range of users each.
$node->safe_psql('app', q{
	TRUNCATE stored;
	DO $$
	BEGIN
		FOR i IN 0 .. 199 LOOP
			UPDATE projects SET status = 'shipped' WHERE id BETWEEN i * 100 + 1 AND i * 100 + 100;
			COMMIT;
		END LOOP;
	END $$});
all_computed($node, 'app', 'many events');
# A user is concerned by its own project and by its predecessor's.
is($node->safe_psql('app', 'SELECT count(DISTINCT user_id), max(n) <= 2 FROM (SELECT user_id, count(*) n FROM stored GROUP BY 1) s'),
	"$users|t", 'each score was stored once for an event');
is($node->safe_psql('app', q{
	SELECT count(*) FROM (SELECT user_id FROM stored GROUP BY user_id, score HAVING count(*) > 1) s}), '0',
	'and never twice with the same value');

# Several writers of the same users, while a nightly run is on.
$node->safe_psql('app', 'TRUNCATE stored');
my @writers;
my @out = ('') x 3;
for my $writer (0 .. 2)
{
	push @writers, IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('app'), '-c', qq{
			DO \$\$
			BEGIN
				FOR i IN 1 .. 300 LOOP
					UPDATE projects SET impact = impact + 1 + $writer, status = CASE WHEN random() < .5 THEN 'draft' ELSE 'shipped' END
					WHERE id = 1 + (random() * 500)::int;
					IF i % 3 = 0 THEN
						DELETE FROM project_collaborators WHERE project_id = i * 3 + $writer;
					END IF;
					COMMIT;
				END LOOP;
			END \$\$} ], '&>', \$out[$writer]);
}
$node->safe_psql('app', q{CALL reputation_run('nightly')});
$_->finish for @writers;
is(join('', @out), '', 'no writer failed');
all_computed($node, 'app', 'several writers and a nightly run');
is($node->safe_psql('app', q{
	SELECT status, done = fed FROM reputation.job_runs WHERE job_name = 'nightly'}), 'succeeded|t', 'the run ended');
is(log_count($node, 'ERROR|WARNING|FATAL'), 0, 'the log has no complaint');

# The ranks of everybody, a batch a transaction.
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	ALTER TABLE users ADD COLUMN place int;
	RESET SESSION AUTHORIZATION;
	SELECT builder_score_attach(rank_column => 'place');
	CALL reputation_run('leaderboards')});
wait_computed($node, 'app', 'the leaderboards');
is($node->safe_psql('app', q{
	SELECT count(*), count(DISTINCT xmin::text) FROM users}), "$users|" . $users / 200, 'each batch was written on its own');
is($node->safe_psql('app', q{
	SELECT count(*) FROM users JOIN (SELECT id, rank() OVER (ORDER BY builder_score DESC) FROM users) r USING (id)
	WHERE place IS DISTINCT FROM rank}), '0', 'the ranks are right');

# A worker that ends leaves its share to the others.
my $pid = worker_pid($node, 'app');
$node->safe_psql('app', "UPDATE projects SET impact = impact + 100; SELECT pg_terminate_backend($pid)");
all_computed($node, 'app', 'one worker ended');
wait_until($node, 'app', 'SELECT count(*) = 3 FROM reputation.workers()', 'there are three again');

$node->stop;
done_testing();

# The application holds locks: the worker never makes it wait, computes whom it
# can, and returns to the others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

set_up_app($node, 'app', 300);

# A row of the users table, held by an open transaction.
my $holder = open_session($node, 'app');
for my $lock ('SELECT 1 FROM users WHERE id = 10 FOR UPDATE', "UPDATE users SET name = name || '!' WHERE id = 10",
	'SELECT 1 FROM users WHERE id = 10 FOR SHARE')
{
	$holder->query_safe("BEGIN; $lock");
	$node->safe_psql('app', 'UPDATE projects SET impact = impact + 1 + impact * 3');
	wait_until($node, 'app', q{SELECT count(*) = 1 FROM reputation.job}, 'one user is left');
	like(drifted($node, 'app'), qr/^(10\|\d+\|\d+)?$/, 'all others are computed');
	$node->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 20");
	wait_until($node, 'app', q{SELECT count(*) = 1 FROM reputation.job}, 'later changes are computed, too');
	$holder->query_safe('COMMIT');
	all_computed($node, 'app', "after $lock");
	$node->safe_psql('app', "UPDATE projects SET status = 'shipped' WHERE id = 20");
	wait_computed($node, 'app', 'and back');
}

# A lock that does not concern the update is not in its way.
$holder->query_safe('BEGIN; SELECT 1 FROM users WHERE id = 10 FOR KEY SHARE');
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 1 + impact * 3 WHERE id = 10');
wait_computed($node, 'app', 'computed despite a foreign key\'s lock');
$holder->query_safe('COMMIT');

# Many rows, for so long that the worker comes back often.
$holder->query_safe('BEGIN; SELECT count(*) FROM (SELECT 1 FROM users WHERE id <= 200 FOR UPDATE) x');
$node->safe_psql('app', q{UPDATE projects SET status = 'draft'});
wait_until($node, 'app', q{SELECT count(*) = 200 AND min(lock_tries) >= 5 FROM reputation.job},
	'the worker has tried five times');
like(drifted($node, 'app'), qr/^(1?\d?\d\|\d+\|\d+\n?)+$/, 'all others are computed');
$holder->query_safe('ROLLBACK');
all_computed($node, 'app', 'after many rows');

# The whole table: the worker gives way, and what it holds meanwhile is in
# nobody's way.
$holder->query_safe('BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
my $units = $node->safe_psql('app', 'SELECT units FROM reputation.workers()');
$node->safe_psql('app', q{UPDATE projects SET status = 'shipped'});
wait_until($node, 'app', "SELECT units > $units + 5 FROM reputation.workers()", 'the worker tries');
$holder->query_safe(q{
	SET lock_timeout = '5s';
	UPDATE users SET name = 'x' WHERE id <= 50;
	UPDATE projects SET impact = 7 WHERE id <= 50;
	ALTER TABLE users ADD COLUMN more int});
$node->safe_psql('app', 'UPDATE projects SET impact = 700 WHERE id > 50');
$holder->query_safe('COMMIT');
all_computed($node, 'app', 'after LOCK TABLE');

# A table that only the views read.
$holder->query_safe('BEGIN; LOCK TABLE project_collaborators IN ACCESS EXCLUSIVE MODE');
$units = $node->safe_psql('app', 'SELECT units FROM reputation.workers()');
$node->safe_psql('app', q{UPDATE projects SET impact = impact + 3});
wait_until($node, 'app', "SELECT units > $units + 5 FROM reputation.workers()", 'the worker tries');
$holder->query_safe('TRUNCATE project_collaborators');
$holder->query_safe('COMMIT');
all_computed($node, 'app', 'after TRUNCATE');
is($node->safe_psql('app', 'SELECT suspended_error FROM reputation.engine'), '', 'the engine is not suspended');

# One segment of the inbox: the others are emptied meanwhile, and it when it is
# free again.
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 1 WHERE id = 29');
wait_computed($node, 'app', 'before the locks of segments');
my $drafted = 29;
sub draft_is_computed
{
	my ($name) = @_;

	$drafted++;
	$node->safe_psql('app', qq{SET statement_timeout = '20s'; UPDATE projects SET status = 'draft' WHERE id = $drafted});
	wait_until($node, 'app', "SELECT builder_score = 0 FROM users WHERE id = $drafted", $name);
	return;
}
my $offset = -s $node->logfile;
for my $mode ('ACCESS EXCLUSIVE', 'SHARE')
{
	$holder->query_safe("BEGIN; LOCK TABLE reputation.inbox_1 IN $mode MODE");
	draft_is_computed("computed while another segment is locked in $mode mode");
	$holder->query_safe('COMMIT');
}

# The four that writers use: they append to the reserve.
my $four = 'LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3 IN ACCESS EXCLUSIVE MODE';
$holder->query_safe("BEGIN; $four");
draft_is_computed('computed while four segments are locked');
$holder->query_safe('COMMIT');
is(log_count($node, 'ERROR|WARNING', $offset), 0, 'the worker met no error');
all_computed($node, 'app', 'after locked segments');

# And the server crashes before anybody has folded that.
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'there is no worker');
$holder->query_safe("BEGIN; $four");
$node->safe_psql('app', q{UPDATE projects SET status = 'draft' WHERE id BETWEEN 50 AND 60});
kill_server($node);
eval { $holder->quit };
reload_with($node, 'reputation.workers' => 1);
all_computed($node, 'app', 'after a crash with four segments locked');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}), '0',
	'without computing everybody');

# All of the inbox: writers do not wait, everybody is computed afterwards.
$holder = open_session($node, 'app');
$holder->query_safe("BEGIN; $four; LOCK TABLE reputation.inbox_4 IN ACCESS EXCLUSIVE MODE");
$node->safe_psql('app', q{SET statement_timeout = '20s'; UPDATE projects SET impact = impact + 31 WHERE id <= 100});
$holder->query_safe('COMMIT');
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs
	WHERE trigger = 'resync' AND status = 'succeeded')}, 'everybody was computed');
all_computed($node, 'app', 'after a locked inbox');

# The tables of the queue, as another worker does that compacts one of them.
for my $table (qw(job recent_run run_tally))
{
	my $offset = -s $node->logfile;

	$holder->query_safe("BEGIN; LOCK TABLE reputation.$table IN ACCESS EXCLUSIVE MODE");
	$units = $node->safe_psql('app', 'SELECT units FROM reputation.workers()');
	$node->safe_psql('app', q{UPDATE projects SET impact = impact + 1});
	wait_until($node, 'app', "SELECT units > $units + 5 FROM reputation.workers()", "the worker comes back for reputation.$table");
	$holder->query_safe('COMMIT');
	all_computed($node, 'app', "after a locked reputation.$table");
	is(log_count($node, 'ERROR', $offset), 0, 'no unit has failed');
}

# Transactions that lock users in opposite orders while the worker stores.
$node->safe_psql('app', q{
	CREATE PROCEDURE shuffle(up boolean) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			PERFORM FROM (SELECT id FROM users WHERE id % 10 = i % 10
						  ORDER BY CASE WHEN up THEN id ELSE -id END FOR UPDATE) x;
			UPDATE projects SET impact = (impact + i) % 1000 WHERE id % 10 = i % 10;
			COMMIT;
		END LOOP;
	END $$});
$offset = -s $node->logfile;
$node->safe_psql('app', 'CALL shuffle(true)');
$node->safe_psql('app', 'CALL shuffle(false)');
all_computed($node, 'app', 'after transactions that lock users');
is(log_count($node, 'deadlock detected', $offset), 0, 'no deadlock');

# A lock that waits for a unit is there when the next one begins, whatever that does:
# after sixteen that worked it looks at the tables' sizes.
make_gate($node, 'app');
$offset = -s $node->logfile;
for my $unit (1 .. 17)
{
	close_gate($node, 'app', 10);
	$node->safe_psql('app', 'UPDATE projects SET impact = impact + 1 WHERE id = 10');
	wait_at_gate($node, 'app', "unit $unit");
	$holder->query_safe('BEGIN');
	$holder->query_until(qr/asks/, qq{\\echo asks\nLOCK TABLE reputation.job IN ACCESS EXCLUSIVE MODE;\n});
	wait_until($node, 'app', qq{SELECT EXISTS (SELECT FROM pg_locks
		WHERE relation = 'reputation.job'::regclass AND NOT granted)}, 'the lock waits for it');
	$units = $node->safe_psql('app', 'SELECT units FROM reputation.workers()');
	open_gate($node, 'app');
	wait_until($node, 'app', "SELECT units > $units + 3 FROM reputation.workers()", 'the worker comes back');
	$holder->query_safe('COMMIT');
	wait_computed($node, 'app', "after unit $unit");
}
is(log_count($node, 'ERROR', $offset), 0, 'no unit has failed');

$holder->quit;
$node->stop;
done_testing();

# Something pins the xmin horizon under load: dead rows cannot be removed, but
# the inbox and the job table are truncated and stay small.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main', 'max_prepared_transactions = 5', 'shared_buffers = 64MB');

set_up_app($node, 'app', 2000);

# Many transactions, of 500 captured rows each; they leave the project 1 alone.
sub load
{
	my ($transactions) = @_;

	$node->safe_psql('app', qq{
		SET SESSION AUTHORIZATION app;
		SET synchronous_commit = off;
		DO \$\$
		BEGIN
			FOR i IN 1 .. $transactions LOOP
				UPDATE projects SET impact = (i * 7 + id) % 90
				WHERE id BETWEEN 1 + (i % 4) * 500 AND 500 + (i % 4) * 500 AND id > 1;
				COMMIT;
			END LOOP;
		END \$\$});
	return;
}

sub pages
{
	my ($what) = @_;

	return $node->safe_psql('app', $what eq 'inbox'
		? 'SELECT sum(pages) FROM reputation.inbox_pages()'
		: "SELECT pg_relation_size('reputation.$what') / 8192");
}

# 200,000 events while a transaction holds its snapshot.
my $reader = open_session($node, 'app');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users');
my $most = 0;
for my $part (1 .. 8)
{
	load(50);
	my $pages = pages('inbox');
	$most = $pages if $pages > $most;
}
all_computed($node, 'app', 'with an old snapshot');
# Not truncated, the load would fill 1,300 pages.
cmp_ok(pages('inbox'), '<', 4 * 128, "the inbox stays small (@{[pages('inbox')]} pages)");
cmp_ok($most, '<', 4 * 128 + 400, "also in between ($most pages)");
wait_until($node, 'app', q{SELECT pg_relation_size('reputation.job') / 8192 < 512}, 'so does the job table');
note('job table: ' . pages('job') . ' pages');
# The tallies of as many units, which were added up.
$node->safe_psql('app', q{
	BEGIN;
	INSERT INTO reputation.run_tally SELECT 0, 1, 0 FROM generate_series(1, 60000);
	DELETE FROM reputation.run_tally;
	COMMIT;
	CALL reputation_run('nightly')});
wait_until($node, 'app', q{SELECT pg_relation_size('reputation.run_tally') / 8192 < 64}, 'so does the table of tallies');
is($reader->query_safe('SELECT count(*) FROM users'), '2000', 'the transaction is still open');
$reader->query_safe('COMMIT');
$reader->quit;

# A prepared transaction holds the segment it wrote to, and the horizon.
$node->safe_psql('app', q{
	BEGIN;
	UPDATE projects SET impact = 89 WHERE id = 1;
	PREPARE TRANSACTION 'held'});
for my $part (1 .. 4)
{
	load(50) if $part < 4;
	$node->safe_psql('app', q{UPDATE projects SET impact = 1 + impact WHERE id = 2});
}
wait_computed($node, 'app', 'with a prepared transaction: the writers went on, and all was computed');
is($node->safe_psql('app', 'SELECT count(*) FROM reputation_verify()'), '0', 'nothing has drifted');
my $held = pages('inbox');
$node->safe_psql('app', q{COMMIT PREPARED 'held'});
wait_until($node, 'app', 'SELECT builder_score = least(50, round(10 * log(1 + 89))) + 26 FROM users WHERE id = 1',
	'the prepared change is computed when it commits');
all_computed($node, 'app', 'after the prepared transaction');
load(100);
all_computed($node, 'app', 'after more load');
cmp_ok(pages('inbox'), '<', 4 * 128, "the inbox is small again ($held pages before, @{[pages('inbox')]} now)");

# A prepared transaction that is rolled back, and one that survives a crash.
$node->safe_psql('app', q{
	BEGIN; UPDATE projects SET impact = 3 WHERE id = 1; PREPARE TRANSACTION 'undone';
	BEGIN; UPDATE projects SET status = 'draft' WHERE id = 3; PREPARE TRANSACTION 'kept';
	ROLLBACK PREPARED 'undone'});
wait_computed($node, 'app', 'nothing was left by the one rolled back');
kill_server($node);
$node->safe_psql('app', q{COMMIT PREPARED 'kept'});
wait_until($node, 'app', 'SELECT builder_score = 16 FROM users WHERE id = 3',
	'a change that was prepared before a crash is computed');
all_computed($node, 'app', 'in the end');

$node->stop;
done_testing();

# A worker that cannot do its work looks again now and then, however many commits
# there are to wake it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;
use Time::HiRes qw(time);

my $node = start_server('main');

set_up_app($node, 'app', 100);

sub units { return $node->safe_psql('app', 'SELECT units FROM reputation.workers()'); }

# Commits for three seconds; returns how long it was, and how many units the
# worker did meanwhile.
sub commit_for_a_while
{
	my $before = units();
	my $start = time();

	$node->safe_psql('app', q{
		DO $$
		BEGIN
			FOR i IN 1 .. 150 LOOP
				UPDATE projects SET impact = impact + 1 WHERE id = 1 + i % 100;
				COMMIT;
				PERFORM pg_sleep(0.02);
			END LOOP;
		END $$});
	return (time() - $start, units() - $before);
}

# Every unit fails: one a second, not one a commit.
my $offset = -s $node->logfile;
$node->safe_psql('app', q{
	ALTER TABLE reputation.engine RENAME home TO away;
	UPDATE projects SET impact = impact + 1 WHERE id = 1});
$node->wait_for_log(qr/column e\.home does not exist/, $offset);
my ($seconds, $units) = commit_for_a_while();
cmp_ok($units, '<=', $seconds + 1, "a worker whose units fail ($units in $seconds s)");
$node->safe_psql('app', 'ALTER TABLE reputation.engine RENAME away TO home');
all_computed($node, 'app', 'after failed units');

# A session keeps the inbox and the lanes to itself.
my $holder = open_session($node, 'app');
$holder->query_safe('BEGIN; SELECT reputation_process()');
$node->safe_psql('app', q{
	INSERT INTO reputation.job (engine, key, lane, priority, due_at)
	SELECT id, '10', reputation.lane('10'), 2, now() FROM reputation.engine;
	UPDATE projects SET impact = impact + 100 WHERE id = 50});
my ($first, $from) = split /\|/, $node->safe_psql('app', 'SELECT units, extract(epoch FROM clock_timestamp()) FROM reputation.workers()');
wait_until($node, 'app', "SELECT units >= $first + 25 FROM reputation.workers()", 'the worker tries');
my ($last, $to) = split /\|/, $node->safe_psql('app', 'SELECT units, extract(epoch FROM clock_timestamp()) FROM reputation.workers()');
my $rate = ($last - $first) / ($to - $from);
cmp_ok($rate, '<=', 8, "but less and less often ($rate a second)");
$holder->query_safe('COMMIT');
all_computed($node, 'app', 'after the session');
$holder->quit;

$node->stop;
done_testing();

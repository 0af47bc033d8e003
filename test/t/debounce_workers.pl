# The debounce with two workers: an event that one of them folds while the other
# is computing the user waits for the window that this opens.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

# A unit folds and then works on one user; having found five keys or more a worker
# folds no more for a minute.
my $node = start_server('main', 'reputation.batch_size = 1', 'reputation.drain_interval = 1min');

set_up_app($node, 'app', 60);
$node->safe_psql('app', q{
	INSERT INTO users VALUES (100);
	UPDATE reputation.algorithm SET parameters = parameters || '{"debounce": "1 h"}'});
all_computed($node, 'app', 'a user more');
make_gate($node, 'app');
close_gate($node, 'app', 50);

# The deleted user comes first, together with the fold. Then the worker computes
# 50 in a unit that folds nothing, and stays in it.
$node->safe_psql('app', q{
	BEGIN;
	DELETE FROM users WHERE id = 100;
	INSERT INTO users SELECT generate_series(101, 105);
	UPDATE projects SET impact = 9 WHERE id = 50;
	COMMIT});
wait_at_gate($node, 'app', 'a worker is computing the user');

# Another one folds the next event.
reload_with($node, 'reputation.workers' => 2);
wait_until($node, 'app', 'SELECT count(*) = 2 FROM reputation.workers()', 'there is a second worker');
$node->safe_psql('app', 'UPDATE projects SET impact = 99 WHERE id = 50');
wait_until($node, 'app', q{
	SELECT count(*) = 2 FROM reputation.job WHERE key = '50' AND due_at < now()},
	'it queues another computation beside the one that is being done');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.recent_run WHERE key = '50'}), '0',
	'it knows of no window');
open_gate($node, 'app');
wait_until($node, 'app', q{
	SELECT count(*) = 1 FROM reputation.job j JOIN reputation.recent_run r USING (key)
	WHERE key = '50' AND j.due_at = r.closes_at AND r.closes_at > now() + interval '50 min'},
	'which waits for the window to close');
is($node->safe_psql('app', 'SELECT builder_score FROM users WHERE id = 50'), '36', 'so far the first event counts');

# When it closes there is one more.
my $later = $node->safe_psql('app', q{SELECT date_trunc('second', now() + interval '61 min')});
reload_with($node, 'reputation.clock' => $later);
all_computed($node, 'app', 'when the window closed');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.recent_run WHERE key = '50'}), '2',
	'the user was computed twice in all');

$node->stop;
done_testing();

# The library and the extension differ in version: the worker touches nothing,
# says so once, and goes on when they agree.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

set_up_app($node, 'app', 50);
my $pid = worker_pid($node, 'app');
my $offset = -s $node->logfile;

$node->safe_psql('app', q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'reputation'});
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 100');
wait_until($node, 'app', q{SELECT state = 'mismatch' FROM reputation.workers()}, 'the worker sees it');
is($node->safe_psql('app', q{
	SELECT state, query FROM pg_stat_activity WHERE backend_type = 'reputation worker' AND datname = 'app'}),
	'idle|library and extension versions differ', 'and shows it');
is($node->safe_psql('app', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'version'}),
	'ERROR|extension 0.9, library 1.0', 'so does the status');

# It looks again and again, without a word more.
my $units = $node->safe_psql('app', 'SELECT units FROM reputation.workers()');
wait_until($node, 'app', "SELECT units >= $units + 3 FROM reputation.workers()", 'it looks again');
for my $i (1 .. 10)
{
	$node->safe_psql('app', "UPDATE projects SET impact = impact + 1 WHERE id = $i");
}
my $message = qr/reputation is loaded in version 1\.0, but the extension in database "app" has version 0\.9/;
is(log_count($node, $message, $offset), 1, 'the log has one message');
is(log_count($node, 'WARNING|ERROR', $offset), 1, 'and no other');
is($node->safe_psql('app', "SELECT count(*) FROM users WHERE builder_score > 60"), '0', 'nothing was computed');
cmp_ok($node->safe_psql('app', "SELECT @{[work_left()]}"), '>', 0, 'but everything was captured');
is($node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO app2; ALTER DATABASE app2 RENAME TO app'), '',
	'statements on the database succeed');
wait_until($node, 'app', q{SELECT state = 'mismatch' FROM reputation.workers()}, 'the next worker sees it, too');

$node->safe_psql('app', q{UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'reputation'});
all_computed($node, 'app', 'the versions agree again');
wait_until($node, 'app', q{SELECT state = 'idle' FROM reputation.workers()}, 'the worker is idle');

# Another mismatch is another message.
$offset = -s $node->logfile;
$node->safe_psql('app', q{UPDATE pg_extension SET extversion = '0.8' WHERE extname = 'reputation'});
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 100');
$node->wait_for_log(qr/has version 0\.8/, $offset);
$node->safe_psql('app', q{UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'reputation'});
all_computed($node, 'app', 'and again they agree');

$node->stop;
done_testing();

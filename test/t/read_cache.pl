# The read cache of user_reputation(): expiry on a clock of the test's, one refresher
# whatever becomes of it, eviction, several databases, races with the change of a
# match, and servers without one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# No worker: nothing but a writer's own commit makes anybody forget.
my $node = start_server('main', 'reputation.workers = 0', 'max_connections = 60',
	"reputation.cache_ttl = '5 min'", 'autovacuum = off');

# The tables of sessions, with as many users; user i and the next one have a
# completed session.
sub create_sessions
{
	my ($server, $database, $users) = @_;

	$server->safe_psql('postgres', "CREATE DATABASE $database");
	$server->safe_psql($database, qq{
		CREATE TABLE users (id int PRIMARY KEY, name text);
		CREATE TABLE wingman_matches (id int PRIMARY KEY, user1_id int, user2_id int);
		CREATE TABLE wingman_sessions (id int PRIMARY KEY, match_id int, status text,
			user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean);
		INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, $users) i;
		INSERT INTO wingman_matches SELECT i, i, i % $users + 1 FROM generate_series(1, $users) i;
		INSERT INTO wingman_sessions SELECT i, i, 'completed', true, true FROM generate_series(1, $users) i;
		CREATE INDEX ON wingman_matches (user1_id);
		CREATE INDEX ON wingman_matches (user2_id);
		CREATE INDEX ON wingman_sessions (match_id);
		ANALYZE});
	attach_sessions($server, $database);
	return;
}

sub attach_sessions
{
	my ($server, $database) = @_;

	$server->safe_psql($database, q{
		SET client_min_messages = error;
		CREATE EXTENSION IF NOT EXISTS reputation;
		SELECT session_reputation_attach();
		SELECT reputation_process()});
	return;
}

# How many completed sessions a read says the user has, and at which minute and
# second that was computed; the clock stands at that time of the hour.
sub query_at
{
	my ($time, $user) = @_;

	return qq{SET reputation.clock = '2026-01-01 00:$time+00';
		SELECT r ->> 'completed_sessions', substr(r ->> 'cache_timestamp', 15, 5)
		FROM user_reputation($user) r};
}

sub read_at
{
	my ($time, $user, $database, $server) = @_;

	return ($server // $node)->safe_psql($database // 'app', query_at($time, $user));
}

sub stat_of
{
	my ($name, $database, $server) = @_;

	return ($server // $node)->safe_psql($database // 'app', "SELECT $name FROM user_reputation_cache_stats()");
}

sub run
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'app', $sql);
}

create_sessions($node, 'app', 200);

# Expiry.
is(read_at('00:00', 1), '2|00:00', 'the first read computes');
is(read_at('04:59', 1), '2|00:00', 'before the TTL is over it is served');
is(read_at('05:00', 1), '2|05:00', 'then it is computed anew');
is(read_at('06:00', 1), '2|05:00', 'and served again');
is(stat_of('hits, stale_hits, misses, refreshes, entries, round(hit_ratio::numeric, 2)'), '2|0|1|1|1|0.50', 'all of that was counted');
reload_with($node, 'reputation.cache_ttl' => '10s');
is(read_at('05:11', 1), '2|05:11', 'a shorter TTL takes effect on reload');
is(read_at('00:00', 1), '2|00:00', 'nor is a value of a time to come served for long');
reload_with($node, 'reputation.cache_ttl' => '5min');

# What commits is seen at once; by those who hold a plan, too.
run("UPDATE wingman_sessions SET status = 'planned' WHERE id = 1");
is(read_at('00:01', 1), '1|00:01', 'an update');
is(read_at('00:01', 2), '1|00:01', 'of the partner, too');
is(read_at('00:02', 3), '2|00:02', 'somebody else');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 1; INSERT INTO wingman_sessions VALUES (1001, 1, 'completed', true, true)");
is(read_at('00:03', 1), '3|00:03', 'several changes at once');
run('DELETE FROM wingman_sessions WHERE id = 1001');
is(read_at('00:04', 1), '2|00:04', 'a delete');
run('UPDATE wingman_matches SET user2_id = 4 WHERE id = 1');
is(read_at('00:05', 4) . ' ' . read_at('00:05', 2), '3|00:05 1|00:05', 'another partner');
run('UPDATE wingman_matches SET user2_id = 2 WHERE id = 1');
is(read_at('00:06', 3), '2|00:02', 'whom that did not concern is served');
is(run('SELECT user_reputation_invalidate(3), user_reputation_invalidate(3)'), 't|f', 'forgotten by hand');
is(read_at('00:07', 3), '2|00:07', 'and computed');

# Bulk: everybody is forgotten rather than thousands looked up.
read_at('00:07', $_) for 1, 2;
my $before = stat_of('invalidations');
run('INSERT INTO wingman_sessions SELECT 10000 + i, i, NULL, NULL, NULL FROM generate_series(1, 10001) i');
is(stat_of('invalidations') - $before, 1, 'a bulk change forgets all at once');
is(read_at('00:08', 3), '2|00:08', 'whoever it was');
run('DELETE FROM wingman_sessions WHERE id > 10000; TRUNCATE wingman_sessions');
is(read_at('00:09', 3), '0|00:09', 'and so does TRUNCATE');
run("INSERT INTO wingman_sessions SELECT i, i, 'completed', true, true FROM generate_series(1, 200) i");
is(read_at('00:10', 3), '2|00:10', 'an insert of 200');

# A match that changes its users between a writer's look and its commit: the writer
# is held right before that is visible, by a standby that does not exist.
sub held_commit
{
	my ($sql) = @_;
	my $writer = open_session($node, 'app');

	reload_with($node, synchronous_standby_names => 'nobody');
	$writer->query_until(qr/go/, "\\echo go\nSET synchronous_commit = on;\n$sql;\n\\echo done\n");
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'", 'the writer is in its commit');
	return $writer;
}

sub let_commit
{
	my ($writer) = @_;

	reload_with($node, synchronous_standby_names => '');
	$writer->query_until(qr/done/, '');
	$writer->quit;
	return;
}

$ENV{PGOPTIONS} = '-c synchronous_commit=local';
my $writer = held_commit("UPDATE wingman_sessions SET status = 'planned' WHERE match_id = 50");
run('UPDATE wingman_matches SET user1_id = 60 WHERE id = 50');
is(read_at('01:00', 60), '3|01:00', 'the new user of the match has its session, which is completed yet');
is(read_at('01:00', 70), '2|01:00', 'another user');
let_commit($writer);
is(read_at('01:01', 60), '2|01:01', 'when the session is not any more, the new user is computed anew');
is(read_at('01:02', 70), '2|01:02', 'for everybody was forgotten');

# The same where the match comes into being meanwhile.
$writer = held_commit("INSERT INTO wingman_sessions VALUES (2000, 2000, 'completed', true, true)");
run('INSERT INTO wingman_matches VALUES (2000, 61, 62)');
is(read_at('01:03', 61), '2|01:03', 'a match without a session');
let_commit($writer);
is(read_at('01:04', 61), '3|01:04', 'has one when that is visible');

# And where it is there, but nobody's.
run('INSERT INTO wingman_matches VALUES (2001, NULL, NULL)');
$writer = held_commit("INSERT INTO wingman_sessions VALUES (2001, 2001, 'completed', true, true)");
run('UPDATE wingman_matches SET user1_id = 63, user2_id = 64 WHERE id = 2001');
is(read_at('01:04', 63), '2|01:04', 'a match that was nobody\'s');
let_commit($writer);
is(read_at('01:05', 63), '3|01:05', 'and is somebody\'s when its session is visible');

# And without such a race nobody else is forgotten.
is(read_at('01:05', 71), '2|01:05', 'another user');
$writer = held_commit("UPDATE wingman_sessions SET status = 'planned' WHERE match_id = 80");
is(read_at('01:06', 80), '2|01:06', 'before the commit is visible the old value is right');
run('UPDATE wingman_matches SET user1_id = 90 WHERE id = 91');
let_commit($writer);
is(read_at('01:07', 80), '1|01:07', 'afterwards the new one is');
is(read_at('01:08', 71), '2|01:05', 'the other user is served');
delete $ENV{PGOPTIONS};

# One refresher. It is held by a lock on the table that it reads.
sub hold_tables
{
	my $holder = open_session($node, 'app');

	$holder->query_safe('BEGIN; LOCK TABLE wingman_sessions');
	return $holder;
}

sub start_read
{
	my ($time, $user) = @_;
	my $reader = open_session($node, 'app');

	$reader->query_until(qr/go/, "\\echo go\n" . query_at($time, $user) . ";\n\\echo done\n");
	return $reader;
}

my $stuck = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%user_reputation(10)%' AND datname = 'app'";
my $stuck_pid = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%user_reputation(10)%' AND datname = 'app'";

is(read_at('02:00', 10), '2|02:00', 'a value');
my $holder = hold_tables();
my $reader = start_read('07:00', 10);
wait_until($node, 'postgres', $stuck, 'its refresher is held');
$before = stat_of('stale_hits');
is(read_at('07:01', 10), '2|02:00', 'others are served the old value');
is(read_at('08:01', 10), '2|02:00', 'and again');
is(stat_of('stale_hits') - $before, 2, 'which is counted');

# It is cancelled: the next one refreshes.
run("SELECT pg_cancel_backend(pid) FROM ($stuck_pid) s", 'postgres');
$reader->query_until(qr/done/, '');
wait_until($node, 'postgres', "SELECT NOT EXISTS ($stuck_pid)", 'the refresher was cancelled');
my $second = start_read('07:02', 10);
wait_until($node, 'postgres', $stuck, 'the next reader is the refresher');
is(read_at('07:03', 10), '2|02:00', 'others are served the old value still');

# It dies.
run("SELECT pg_terminate_backend(pid) FROM ($stuck_pid) s", 'postgres');
wait_until($node, 'postgres', "SELECT NOT EXISTS ($stuck_pid)", 'the refresher was terminated');
my ($status, undef, $error) = $node->psql('app', "SET statement_timeout = '100ms';" . query_at('07:04', 10));
like($error, qr/statement timeout/, 'the next one is the refresher, until its timeout');
my $third = start_read('07:05', 10);
wait_until($node, 'postgres', $stuck, 'and the next');
$holder->query_safe('COMMIT');
$third->query_until(qr/done/, '');
is(read_at('07:06', 10), '2|07:05', 'its value is served');
$_->quit for $holder, $reader, $third;

# One that takes very long is joined by another.
$holder = hold_tables();
$reader = start_read('13:00', 10);
wait_until($node, 'postgres', $stuck, 'a refresher is held');
is(read_at('17:59', 10), '2|07:05', 'others are served the old value');
$second = start_read('18:00', 10);
wait_until($node, 'postgres', $stuck =~ s/= 1/= 2/r, 'after another TTL there is a second refresher');
is(read_at('18:01', 10), '2|07:05', 'but no third');
$holder->query_safe('COMMIT');
$_->query_until(qr/done/, '') for $reader, $second;
is(read_at('18:02', 10), '2|18:00', 'the value of the second one got in');
$_->quit for $holder, $reader, $second;

# Without a value to serve they wait for the one who computes; a second at most, so
# on a slow machine it may take several users until one is seen to.
my $waits = 0;
for my $user (11 .. 20)
{
	my $at_it = "FROM pg_stat_activity WHERE query LIKE '%user_reputation($user)%' AND wait_event_type";

	$holder = hold_tables();
	$reader = start_read('19:00', $user);
	wait_until($node, 'postgres', "SELECT count(*) = 1 $at_it = 'Lock'", 'a read computes');
	$before = stat_of('misses');
	$second = start_read('19:01', $user);
	wait_until($node, 'postgres', "SELECT count(*) = 2 $at_it IN ('Lock', 'Extension')", 'another one comes');
	$waits = $node->safe_psql('postgres', "SELECT count(*) $at_it = 'Extension'");
	$holder->query_safe('COMMIT');
	$_->query_until(qr/done/, '') for $reader, $second;
	$waits = 0 if stat_of('misses') > $before;
	is(read_at('19:02', $user), '2|19:00', 'the value of the first one got in');
	$_->quit for $holder, $reader, $second;
	last if $waits;
}
is($waits, 1, 'it waited and was served');

# Two databases with the same ids; DROP EXTENSION; DROP DATABASE.
create_sessions($node, 'other', 20);
run("DELETE FROM wingman_sessions", 'other');
is(read_at('20:00', 1), '2|20:00', 'a user of one database');
is(read_at('20:01', 1, 'other'), '0|20:01', 'one of another with the same id');
is(read_at('20:02', 1), '2|20:00', 'they are not mixed up');
run("UPDATE wingman_sessions SET status = 'planned'", 'other');
run('TRUNCATE wingman_sessions', 'other');
is(read_at('20:03', 1), '2|20:00', 'nor are they when one forgets all');
is(stat_of('entries', 'other'), '0', 'it has none then');
read_at('20:03', 1, 'other');
is(stat_of('entries', 'other'), '1', 'and one after a read');
run("DROP EXTENSION reputation CASCADE; INSERT INTO wingman_sessions VALUES (1, 1, 'completed', true, true)", 'other');
attach_sessions($node, 'other');
is(read_at('20:04', 1, 'other'), '1|20:04', 'an extension that was dropped and made anew has forgotten');
my $other = database_oid($node, 'other');
run('DROP DATABASE other', 'postgres');
is(read_at('20:05', 1), '2|20:00', 'the other database goes on');
create_sessions($node, 'other', 20);
is(stat_of('entries', 'other'), '0', 'a database of the same name has none of the old');
is(read_at('20:06', 1, 'other'), '2|20:06', 'and computes');

# Where the users of a match cannot be looked up everybody is forgotten.
run('ALTER TABLE wingman_matches DROP CONSTRAINT wingman_matches_pkey', 'other');
is(read_at('21:00', 1, 'other') . ' ' . read_at('21:00', 10, 'other'), '2|20:06 2|21:00', 'two users');
run("UPDATE wingman_sessions SET status = 'planned' WHERE id = 1", 'other');
is(read_at('21:01', 1, 'other') . ' ' . read_at('21:01', 10, 'other'), '1|21:01 2|21:01', 'without an index both are computed');
run('CREATE UNIQUE INDEX ON wingman_matches (id)', 'other');
run("UPDATE wingman_sessions SET status = 'planned' WHERE id = 2", 'other');
is(read_at('21:02', 2, 'other') . ' ' . read_at('21:02', 10, 'other'), '0|21:02 2|21:01', 'with one only whom it concerns');
$holder = open_session($node, 'other');
$holder->query_safe('BEGIN; LOCK TABLE wingman_matches');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 2", 'other');
$holder->query_safe('COMMIT');
$holder->quit;
is(read_at('21:03', 2, 'other') . ' ' . read_at('21:03', 10, 'other'), '1|21:03 2|21:03', 'a lock keeps no writer waiting');

# The transaction's own change of the algorithm.
is($node->safe_psql('other', q{
	SET reputation.clock = '2026-01-01 00:21:03+00';
	SELECT user_reputation(8) \g /dev/null
	BEGIN;
	INSERT INTO reputation.algorithm VALUES ('session', 2, '{"completed": []}');
	SELECT algorithm_activate('session', 2) \g /dev/null
	SELECT user_reputation(8) ->> 'completed_sessions';
	ROLLBACK;
	SELECT user_reputation(8) ->> 'completed_sessions'}), "0\n2", 'one\'s own new algorithm is gone by, until it is rolled back');

# Rows of a table's children, which its index does not have.
run('CREATE TABLE child () INHERITS (wingman_matches); INSERT INTO child VALUES (5000, 7, 8)', 'other');
run("INSERT INTO wingman_sessions VALUES (5000, 5000, 'planned', true, true)", 'other');
is(read_at('21:03', 7, 'other'), '2|21:03', 'a match in a child');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 5000", 'other');
is(read_at('21:03', 7, 'other'), '3|21:03', 'its session has changed');
run("UPDATE wingman_sessions SET status = 'planned' WHERE id = 5000", 'other');

# A partitioned table: the attach says so.
run(q{SELECT session_reputation_detach();
	ALTER TABLE wingman_matches RENAME TO matches;
	CREATE TABLE wingman_matches (id int PRIMARY KEY, user1_id int, user2_id int) PARTITION BY RANGE (id);
	CREATE TABLE wingman_matches_1 PARTITION OF wingman_matches DEFAULT;
	INSERT INTO wingman_matches SELECT * FROM matches}, 'other');
my (undef, undef, $warnings) = $node->psql('other', 'SELECT session_reputation_attach()');
like($warnings, qr/wingman_matches is not an ordinary table: every change of a session empties the read cache/, 'a warning');
is(read_at('21:04', 1, 'other') . ' ' . read_at('21:04', 10, 'other'), '1|21:04 2|21:04', 'two users');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 1", 'other');
is(read_at('21:05', 1, 'other') . ' ' . read_at('21:05', 10, 'other'), '2|21:05 2|21:05', 'both are computed');

# Prepared transactions are on from here; the cache is so small that it is always full.
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nreputation.cache_size = '9kB'");
$node->restart;
is(stat_of('max_entries'), '128', 'a small cache');
run('SELECT reputation_process()');
is(read_at('22:00', 1), '2|22:00', 'it is empty after a restart');
is(run("SELECT status, detail FROM reputation_status() WHERE check_name = 'read cache'"), 'OK|1 of 128 entries; hit ratio 0.000',
	'the status has a row for it');
run("BEGIN; UPDATE wingman_sessions SET status = 'planned' WHERE id = 1; PREPARE TRANSACTION 'p'");
is(read_at('22:01', 1), '2|22:00', 'a prepared change is not visible');
run("COMMIT PREPARED 'p'");
is(run("SELECT reputation_process() > 0"), 't', 'the fold finds it');
is(read_at('22:02', 1), '1|22:02', 'and makes the cache forget');

my $script = $node->basedir . '/fill.sql';
append_to_file($script, "\\set uid random(1, 200)\nSELECT user_reputation(:uid);\n");
$node->command_ok(['pgbench', '-n', '-c', '8', '-j', '2', '-t', '500', '-f', $script, '-h', $node->host, '-p', $node->port, 'app'],
	'eight clients fill it to the brim');
is(stat_of('entries <= 128 AND entries > 90 AND evictions > 72'), 't', 'it has evicted');
is(stat_of('hits + stale_hits + misses + refreshes >= 4000'), 't', 'every read was counted');
is(run(q{SELECT count(*) FROM users u, user_reputation(u.id) r
	WHERE r ->> 'score' IS DISTINCT FROM session_reputation_explain(u.id) ->> 'score'}), '0', 'and every value is right');

# Filled to the last place, by eight clients that come to the users in orders of
# their own; no read may lack memory. Then the places of a database that was
# dropped go first.
$node->append_conf('postgresql.conf', "reputation.cache_size = '1MB'");
$node->restart;
create_sessions($node, 'brim', 6000);
$script = $node->basedir . '/brim.sql';
append_to_file($script, "SELECT count(user_reputation(id)) FROM (SELECT id FROM users ORDER BY hashint4extended(id, :client_id)) u;\n");
$node->command_ok(['pgbench', '-n', '-c', '8', '-j', '2', '-t', '2', '-f', $script, '-h', $node->host, '-p', $node->port, 'brim'],
	'eight clients read everybody');
is(stat_of('entries = max_entries AND max_entries > 1000 AND evictions > 6000', 'brim'), 't', 'every place has a value');
is(log_count($node, 'out of memory'), 0, 'nobody lacked memory');
is(run(q{SELECT count(*) FROM generate_series(1, 6000, 10) i, user_reputation(i) r WHERE r ->> 'completed_sessions' <> '2'}, 'brim'), '0',
	'every value is right');
read_at('22:10', 1);
is(stat_of('evictions'), '1', 'another database evicts');
run('DROP DATABASE brim', 'postgres');
my ($next, $evictions) = (1, 0);
do
{
	$evictions = stat_of('evictions');
	read_at('22:10', ++$next);
	# All of them take longer than the launcher, if nobody wakes it, takes from one look to the next.
	usleep(100_000);
} while (stat_of('evictions') > $evictions && $next < 150);
cmp_ok($next, '<', 150, 'until the one that filled it was dropped, and the launcher saw it');
$evictions = stat_of('evictions');
run('SELECT user_reputation(id) FROM users');
is(stat_of('entries'), '200', 'then there is room');
is(stat_of('evictions'), $evictions, 'without eviction');

# Off.
$node->append_conf('postgresql.conf', 'reputation.cache_size = 0');
$node->restart;
is(read_at('23:00', 1) . ' ' . read_at('23:01', 1), '1|23:00 1|23:01', 'without a cache every read computes');
is(run('SELECT max_entries, hit_ratio IS NULL, user_reputation_invalidate(1) FROM user_reputation_cache_stats()'), '0|t|f',
	'the statistics say so');
is(run("SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'read cache'"),
	'WARN|off: every user_reputation() computes|Set reputation.cache_size and restart.', 'and so does the status');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 1");
is(read_at('23:02', 1), '2|23:02', 'after a change, too');
$node->append_conf('postgresql.conf', "reputation.cache_size = '1MB'\nshared_preload_libraries = ''");
$node->restart;
is(read_at('24:00', 1) . ' ' . read_at('24:01', 1), '2|24:00 2|24:01', 'and without the preload');

# A standby has a cache of its own, which goes by the TTL.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'reputation'");
$node->restart;
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is(read_at('30:00', 1, 'app', $standby) . ' ' . read_at('30:01', 1, 'app', $standby), '2|30:00 2|30:00', 'a standby serves');
run("UPDATE wingman_sessions SET status = 'planned' WHERE id = 1");
$node->wait_for_catchup($standby);
is(read_at('34:59', 1, 'app', $standby), '2|30:00', 'a change is seen there');
is(read_at('35:00', 1, 'app', $standby), '1|35:00', 'when the TTL is over');
is(read_at('36:00', 1, 'app', $standby), '1|35:00', 'the refreshed value is served');
run("UPDATE wingman_sessions SET status = 'completed' WHERE id = 1");
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
is(read_at('37:00', 1, 'app', $standby), '2|37:00', 'after the promotion nothing of that is served');
is(read_at('37:01', 1, 'app', $standby), '2|37:00', 'but what is put in since');
$standby->safe_psql('app', "UPDATE wingman_sessions SET status = 'planned' WHERE id = 1");
is(read_at('37:02', 1, 'app', $standby), '1|37:02', 'and a commit makes it forget');
is(log_count($standby, 'PANIC|TRAP') + log_count($node, 'PANIC|TRAP'), 0, 'nothing crashed');
$standby->stop;

done_testing();

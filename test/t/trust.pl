# Trust with a worker: what time alone changes is computed when it is due, by the
# clock, and nobody else is looked at; upsert_user_and_wait().
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', "reputation.workers = 2", "reputation.debounce = '1 h'",
	"reputation.clock = '2026-01-01 00:00:00+00'");

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, name text, photo text, last_active_at timestamptz, created_at timestamptz);
	INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 2000) i;
	UPDATE users SET last_active_at = '2025-12-31', created_at = '2025-12-31' WHERE id <= 5});
$node->safe_psql('app', q{
	SET client_min_messages = warning;
	CREATE EXTENSION reputation;
	SELECT trust_score_attach()});
wait_computed($node, 'app', 'the users are computed after the attach');
is($node->safe_psql('app', q{SELECT count(*), count(next_due_at) FROM reputation.trust_scores}), '2000|5',
	'time changes the score of five of them');

# The clock is moved from due time to due time; only who is due is computed.
my $computed = q{SELECT sum(users) FROM reputation.workers()};
my $before = $node->safe_psql('app', $computed);
my %badges = ('2026-01-06 23:59:59+00' => '{active,new}', '2026-01-07 00:00:00+00' => '{active}',
	'2026-01-07 00:00:01+00' => '{}');
for my $time (sort keys %badges)
{
	reload_with($node, 'reputation.clock' => $time);
	wait_until($node, 'app', "SELECT NOT EXISTS (SELECT FROM reputation.trust_scores WHERE next_due_at <= '$time')",
		"$time: the worker was there");
	is($node->safe_psql('app', q{SELECT DISTINCT badges FROM reputation.trust_scores WHERE user_id::int <= 5}),
		$badges{$time}, "$time: the badges are those of the moment");
}
is($node->safe_psql('app', $computed), $before + 10, 'nobody else was computed');
is($node->safe_psql('app', q{SELECT cause, count(*) FROM reputation.trust_score_audit GROUP BY 1 ORDER BY 1}),
	"manual|2000\ntime|10", 'the audit says why');

# A year at once.
reload_with($node, 'reputation.clock' => '2027-01-01 00:00:00+00');
wait_until($node, 'app', 'SELECT count(next_due_at) = 0 FROM reputation.trust_scores', 'a far jump: all are at the bottom');
is($node->safe_psql('app', $computed), $before + 15, 'by one computation each');
wait_computed($node, 'app', 'nothing is left');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'nothing differs');

# Old audit rows go, but for each user's last, by default and without any run over everybody.
my $old = q{FROM reputation.trust_score_audit a WHERE computed_at < '2026-12-02'
	AND EXISTS (SELECT FROM reputation.trust_score_audit b WHERE b.user_id = a.user_id AND b.id > a.id)};
cmp_ok($node->safe_psql('app', "SELECT count(*) $old"), '>', 10, 'there are old audit rows');
reload_with($node, 'reputation.audit_retention' => 30, 'reputation.batch_size' => 4, 'reputation.clock' => '2027-01-02 00:10:00+00');
$node->safe_psql('app', 'SELECT reputation.wake()');
wait_until($node, 'app', "SELECT NOT EXISTS (SELECT $old)", 'a worker removes them');
is($node->safe_psql('app', 'SELECT count(DISTINCT user_id) FROM reputation.trust_score_audit'), '2000', 'each user has its last');
is($node->safe_psql('app', 'SELECT DISTINCT job_name FROM reputation.job_runs ORDER BY 1'), "backfill\nprune", 'there was no run over everybody for that');
wait_until($node, 'app', q{SELECT changed > 10 AND done > changed FROM reputation.job_runs WHERE job_name = 'prune' AND status = 'succeeded' ORDER BY id DESC LIMIT 1},
	'the run has counted them');
reload_with($node, 'reputation.audit_retention' => 0, 'reputation.batch_size' => 1000);

# The clock is set back: scores of the future are computed again, by a worker that notices.
reload_with($node, 'reputation.clock' => '2026-01-03 00:00:00+00');
$node->safe_psql('app', 'SELECT reputation.wake()');
wait_until($node, 'app', q{SELECT bool_and(badges = '{active,new}') FROM reputation.trust_scores WHERE user_id::int <= 5},
	'the clock is set back: so are the scores');
wait_computed($node, 'app', 'nothing is left after that');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'nothing differs after that');

# A user is written and waited for, although its debounce window is open; with either protocol.
$node->safe_psql('app', q{CALL upsert_user_and_wait('{"id": 7, "photo": "a.jpg"}', '60 s')});
is($node->safe_psql('app', 'SELECT trust_score(7)'), '14', 'the first upsert is computed when it returns');
for my $photo ('', 'b.jpg')
{
	$node->safe_psql('app', qq{CALL upsert_user_and_wait('{"id": 7, "photo": "$photo"}', '60 s')});
	is($node->safe_psql('app', 'SELECT trust_score(7)'), $photo eq '' ? '4' : '14', "so is the one to '$photo'");
}
$node->safe_psql('app', q{CALL upsert_user_and_wait('{"id": 5000, "name": "new"}', '60 s')});
is($node->safe_psql('app', 'SELECT trust_score(5000)'), '4', 'and a new user');
is($node->safe_psql('app', q{SELECT string_agg(cause || ' ' || new_score, ', ' ORDER BY id) FROM get_audit_rows(7)}),
	'manual 4, event 14, event 4, event 14', 'one audit row each');
my ($status, undef, $error) = $node->psql('app', q{\set VERBOSITY verbose
	BEGIN; CALL upsert_user_and_wait('{"id": 8}')});
like($error, qr/25001: .*transaction block.*HINT:/s, 'not in a transaction block');
reload_with($node, 'reputation.workers' => 0);
wait_until($node, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'the workers are gone');
($status, undef, $error) = $node->psql('app', q{\set VERBOSITY verbose
	CALL upsert_user_and_wait('{"id": 8, "photo": "x"}', '200 ms')});
like($error, qr/55P03: timed out waiting for user "8".*DETAIL:  Still pending: changes that were not folded/s,
	'without a worker it says what is pending');
is($node->safe_psql('app', 'SELECT photo FROM users WHERE id = 8'), 'x', 'the user was written');
reload_with($node, 'reputation.workers' => 1);
wait_computed($node, 'app', 'a worker sees to it');

# A user whom time makes due, and whose computation the process does not survive.
make_gate($node, 'app', 'trust');
close_gate($node, 'app', 3);
reload_with($node, 'reputation.clock' => '2026-01-08 00:00:00+00');
for my $crash (1 .. 4)
{
	my $pid = wait_at_gate($node, 'app', "crash $crash: a worker is at it");
	kill 'KILL', $pid;
	wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "crash $crash: it is gone");
}
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.dead_letter WHERE engine = 'trust' AND key = '3')},
	'it is given up');
wait_until($node, 'app', q{SELECT count(*) = 1 FROM reputation.trust_scores WHERE next_due_at <= '2026-01-08 00:00:00+00'},
	'the others are computed');
open_gate($node, 'app');
$node->safe_psql('app', 'SELECT reputation_retry()');
wait_until($node, 'app', q{SELECT count(*) = 0 FROM reputation.trust_scores WHERE next_due_at <= '2026-01-08 00:00:00+00'},
	'and it, when that is mended');
wait_computed($node, 'app', 'nothing is left in the end');

# A user whose computation fails for good: who waits is told, until it succeeds.
reload_with($node, 'reputation.max_attempts' => 1);
$node->safe_psql('app', q{
	CREATE OR REPLACE FUNCTION app.gate(id int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
	BEGIN
		IF EXISTS (SELECT FROM app.closed c WHERE c.user_id = id) THEN
			RAISE 'user % is odd', id;
		END IF;
		RETURN true;
	END $$});
close_gate($node, 'app', 9);
for my $wait (q{CALL upsert_user_and_wait('{"id": 9, "photo": "x"}', '60 s')}, q{SELECT reputation_wait(9, 'trust', '60 s')})
{
	($status, undef, $error) = $node->psql('app', "\\set VERBOSITY verbose\n$wait");
	like($error, qr/55000: the engine "trust" gave up user "9"\nDETAIL:  Attempts: 1; the last error: user 9 is odd/,
		"$wait tells that the user was given up");
}
is($node->safe_psql('app', 'SELECT photo FROM users WHERE id = 9'), 'x', 'the user was written for all that');
open_gate($node, 'app');
$node->safe_psql('app', q{CALL upsert_user_and_wait('{"id": 9, "photo": "y"}', '60 s')});
is($node->safe_psql('app', 'SELECT trust_score(9), count(*) FROM reputation.dead_letter'), '14|0',
	'it is mended: computed, and given up no longer');
wait_computed($node, 'app', 'nothing is left after that, too');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'nothing differs in the end');

$node->stop;
done_testing();

# Physical copies: a standby reads the scores; promoted, or restored from a base
# backup, it goes on where the primary was.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = start_server('primary');

set_up_app($primary, 'app', 300);
$primary->safe_psql('app', q{SET client_min_messages = warning; SELECT trust_score_attach()});
all_computed($primary, 'app', 'trust is attached, too');
make_gate($primary, 'app');

# A base backup in the middle of a batch.
close_gate($primary, 'app', 10);
$primary->safe_psql('app', 'UPDATE projects SET impact = impact + 100');
wait_at_gate($primary, 'app', 'the worker is busy');
$primary->safe_psql('app', 'UPDATE projects SET impact = impact + 1 WHERE id <= 100');
$primary->backup('busy');
open_gate($primary, 'app');
all_computed($primary, 'app', 'the primary after the backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'busy', has_streaming => 1);
$standby->start;

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($primary, 'busy');
$restored->start;
$restored->safe_psql('app', 'SELECT 1');
open_gate($restored, 'app');
all_computed($restored, 'app', 'the base backup');
is($restored->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}), '0',
	'it is at home and recomputes nobody without need');
$restored->stop;

# Reads on the standby.
$primary->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 1");
all_computed($primary, 'app', 'a change on the primary');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('app', 'SELECT builder_score(1)'), $primary->safe_psql('app', 'SELECT builder_score(1)'),
	'a score is read on the standby');
is($standby->safe_psql('app', 'SELECT sum(builder_score) FROM users'),
	$primary->safe_psql('app', 'SELECT sum(builder_score) FROM users'), 'all are the same');
is($standby->safe_psql('app', 'SELECT count(*) FROM reputation_verify()'), '0', 'verify runs on the standby');
is($standby->safe_psql('app', q{SELECT trust_score(1), (get_trust_score(1)).score, (SELECT count(*) FROM get_audit_rows(1)),
	trust_score_explain(1) ->> 'cached'}), '4|4|1|4', 'trust is read on the standby');
is(worker_pid($standby, 'app'), '', 'there is no worker on the standby');
is($standby->safe_psql('app', q{SELECT status FROM reputation_status() WHERE check_name = 'capture'}), 'OK',
	'the status can be asked for');
is($standby->safe_psql('app', "SELECT builder_score_explain(1) ->> 'cached'"),
	$primary->safe_psql('app', 'SELECT builder_score(1)'), 'explain runs on the standby');
# What is pending when the primary dies is done by the promoted standby.
reload_with($primary, 'reputation.workers' => 0);
wait_until($primary, 'app', 'SELECT count(*) = 0 FROM reputation.workers()', 'the worker has left');
$primary->safe_psql('app', 'UPDATE projects SET impact = impact + 50 WHERE id > 100');
$primary->safe_psql('app', q{DELETE FROM users WHERE id = 200; UPDATE users SET name = '' WHERE id = 201});
cmp_ok($primary->safe_psql('app', "SELECT @{[work_left()]}"), '>', 0, 'work is pending');
$primary->wait_for_catchup($standby);
for my $call ('builder_score_recalc(150)', 'trust_score_recalc(150)', 'builder_score_recalc_all()', 'reputation_process()', 'reputation_repair()')
{
	my ($status, undef, $error) = $standby->psql('app', "SELECT $call");
	like($error, qr/ERROR:.*(read-only transaction|during recovery)/, "$call on the standby is refused");
}
cmp_ok($standby->safe_psql('app', 'SELECT count(*) FROM reputation_verify()'), '>', 0,
	'verify on the standby shows what is pending');
$primary->stop('immediate');
$standby->promote;
wait_for_worker($standby, 'app', 'the promoted standby has a worker');
all_computed($standby, 'app', 'it did what was pending');
is($standby->safe_psql('app', 'SELECT trust_score(201)'), '0', 'of trust, too');
$standby->safe_psql('app', "UPDATE projects SET status = 'draft' WHERE id = 7");
all_computed($standby, 'app', 'and goes on');
is($standby->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}), '0',
	'without recomputing everybody');
is($standby->safe_psql('app', q{SELECT status FROM reputation_status() WHERE check_name IN ('workers', 'capture')}),
	"OK\nOK", 'its status is well');
is(log_count($standby, 'PANIC|TRAP'), 0, 'nothing crashed');

$standby->stop;
done_testing();

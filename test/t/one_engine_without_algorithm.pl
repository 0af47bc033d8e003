# One engine has no active algorithm: the worker folds and computes for the other,
# starts the nightly run of both, and has the one catch up when a version is active.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

my $node = start_server('main', 'reputation.workers = 1', 'reputation.debounce = 0');

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', q{
	SET SESSION AUTHORIZATION app;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int);
	CREATE TABLE project_collaborators (project_id int, user_id int, status text);
	INSERT INTO users SELECT i FROM generate_series(1, 100) i;
	INSERT INTO projects SELECT i, i, 'draft', 0 FROM generate_series(1, 100) i});
$node->safe_psql('app', q{
	SET client_min_messages = error;
	CREATE EXTENSION reputation;
	SELECT builder_score_attach(), trust_score_attach()});
wait_computed($node, 'app', 'the users are computed after the attach');

$node->safe_psql('app', q{UPDATE reputation.algorithm SET active = false WHERE engine = 'trust'});
$node->safe_psql('app', q{UPDATE projects SET status = 'shipped'; UPDATE users SET name = 'x'});
wait_until($node, 'app', q{SELECT min(builder_score) = 10 FROM users}, 'the other engine follows');
$node->safe_psql('app', q{SELECT reputation_wait(1, 'builder', '60 s')});
pass('and is waited for');
wait_until($node, 'app', q{SELECT suspended_error LIKE '%no active algorithm. Activate a version with algorithm_activate().' FROM reputation.engine WHERE name = 'trust'},
	'the one without an algorithm is suspended');
is($node->safe_psql('app', q{SELECT count(DISTINCT key) FROM reputation.job WHERE engine = 2}), '100', 'its jobs wait');
is($node->safe_psql('app', q{SELECT status, detail FROM reputation_status() WHERE check_name = 'engine trust'}),
	'ERROR|no version of its algorithm is active', 'the status says so');
$node->safe_psql('app', q{CALL reputation_run('nightly')});
wait_until($node, 'app', q{SELECT EXISTS (SELECT FROM reputation.job_runs WHERE job_name = 'nightly' AND scope = 'builder' AND status = 'succeeded')},
	'the nightly run of the other ends');

$node->safe_psql('app', q{SELECT algorithm_activate('trust', 1)});
wait_until($node, 'app', q{SELECT min(score) = 4 FROM reputation.trust_scores}, 'it catches up when a version is active');
wait_computed($node, 'app', 'nothing is left');
is($node->safe_psql('app', 'SELECT * FROM reputation_verify()'), '', 'nothing differs');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.engine WHERE suspended_error IS NOT NULL}), '0', 'it is not suspended any more');

$node->stop;
done_testing();

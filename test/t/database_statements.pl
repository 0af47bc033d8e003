# Statements that want a database for themselves, while its workers are busy.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main', 'max_worker_processes = 20');

$node->safe_psql('postgres', 'CREATE ROLE other LOGIN CREATEDB; CREATE ROLE app LOGIN CREATEDB');
set_up_app($node, 'app', 100);
make_gate($node, 'app');

# A worker in the middle of a batch that does not end by itself.
sub make_busy
{
	my ($database, $name) = @_;

	close_gate($node, $database, 10);
	$node->safe_psql($database, 'UPDATE projects SET impact = impact + 100');
	return wait_at_gate($node, $database, "$name: the worker is busy");
}

# The workers are back and do what was left.
sub back
{
	my ($database, $name) = @_;

	open_gate($node, $database);
	wait_for_worker($node, $database, "$name: a worker is back");
	all_computed($node, $database, $name);
	return;
}

# Runs a statement as a role; the error or ''.
sub error_of
{
	my ($sql, $role) = @_;
	my ($status, undef, $error) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role // 'postgres' ]);

	return $status == 0 ? '' : $error;
}

make_busy('app', 'RENAME');
is(error_of('ALTER DATABASE app RENAME TO renamed'), '', 'RENAME succeeds');
back('renamed', 'RENAME');

make_busy('renamed', 'RENAME by the owner');
is(error_of('ALTER DATABASE renamed RENAME TO app', 'app'), '', 'RENAME by the owner succeeds');
back('app', 'RENAME by the owner');

make_busy('app', 'RENAME rolled back');
is(error_of('BEGIN; ALTER DATABASE app RENAME TO renamed; SELECT pg_sleep(1.5); ROLLBACK'), '',
	'RENAME in a transaction succeeds');
back('app', 'RENAME rolled back');

make_busy('app', 'RENAME failed');
like(error_of('ALTER DATABASE app RENAME TO postgres'), qr/already exists/, 'a RENAME that fails');
back('app', 'RENAME failed');

# A copy has its own worker, and computes everybody.
make_busy('app', 'TEMPLATE');
is(error_of('CREATE DATABASE copy TEMPLATE app OWNER app', 'app'), '', 'CREATE DATABASE ... TEMPLATE succeeds');
back('app', 'TEMPLATE');
back('copy', 'the copy');
is($node->safe_psql('copy', q{
	SELECT status, trigger, done FROM reputation.job_runs WHERE id = (SELECT max(id) FROM reputation.job_runs)}),
	'succeeded|resync|100', 'the copy computed everybody');
is($node->safe_psql('copy', 'SELECT home = reputation.home() FROM reputation.engine'), 't',
	'and is at home now');
is($node->safe_psql('app', q{SELECT count(*) FROM reputation.job_runs WHERE trigger = 'resync'}), '0',
	'the original did not');
isnt(worker_pid($node, 'app'), worker_pid($node, 'copy'), 'each has a worker');

make_busy('app', 'file copy');
is(error_of('CREATE DATABASE copy2 TEMPLATE app STRATEGY file_copy'), '', 'so does one by file copy');
back('app', 'file copy');
back('copy2', 'the second copy');

# To another tablespace, with several workers.
reload_with($node, 'reputation.workers' => 3);
$node->safe_psql('postgres', q{
	SET allow_in_place_tablespaces = on;
	CREATE TABLESPACE elsewhere LOCATION ''});
wait_until($node, 'postgres', q{SELECT count(*) = 3 FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'app'}, 'three workers');
make_busy('app', 'SET TABLESPACE');
is(error_of('ALTER DATABASE app SET TABLESPACE elsewhere'), '', 'SET TABLESPACE succeeds');
back('app', 'SET TABLESPACE');
reload_with($node, 'reputation.workers' => 1);
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'reputation worker' AND datname = 'app'}, 'one worker');

# Whoever may not do it does not harm the workers either.
my $pid = make_busy('app', 'by another');
for my $statement ('DROP DATABASE app', 'DROP DATABASE app WITH (FORCE)', 'ALTER DATABASE app RENAME TO mine',
	'ALTER DATABASE app SET TABLESPACE pg_default')
{
	like(error_of($statement, 'other'), qr/must be owner of database app/, "another's $statement fails");
}
like(error_of('CREATE DATABASE mine TEMPLATE app', 'other'), qr/permission denied to copy database/,
	"another's CREATE DATABASE ... TEMPLATE fails");
is(worker_pid($node, 'app'), $pid, 'and the worker is still the same');
is(error_of("ALTER DATABASE app CONNECTION LIMIT 50; ALTER DATABASE app SET work_mem = '5MB'"), '',
	'other changes of a database succeed');
is(worker_pid($node, 'app'), $pid, 'and leave the worker');
back('app', 'by another');

# A database that nobody may connect to, and a template, have no workers.
for my $change ('ALLOW_CONNECTIONS %s', 'IS_TEMPLATE %s')
{
	my @values = $change =~ /ALLOW/ ? ('false', 'true') : ('true', 'false');

	is(error_of('ALTER DATABASE copy ' . sprintf($change, $values[0])), '', sprintf($change, $values[0]));
	wait_until($node, 'postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'copy')},
		'the worker leaves');
	is(error_of('ALTER DATABASE copy ' . sprintf($change, $values[1])), '', sprintf($change, $values[1]));
	back('copy', sprintf($change, $values[1]));
}

# DROP.
make_busy('copy', 'DROP');
is(error_of('DROP DATABASE copy', 'app'), '', 'DROP succeeds');
make_busy('copy2', 'DROP FORCE');
is(error_of('ALTER DATABASE copy2 OWNER TO app'), '', 'the owner changes');
is(error_of('DROP DATABASE copy2 WITH (FORCE)', 'app'), '', 'DROP WITH (FORCE) by the owner succeeds');

# Again and again, with a session that writes until a moment before.
for my $time (1 .. 10)
{
	is(error_of('CREATE DATABASE copy TEMPLATE app'), '', "copied $time");
	$node->safe_psql('copy', 'UPDATE projects SET impact = impact + 1') if $time % 2;
	is(error_of('DROP DATABASE copy'), '', "dropped $time");
}
$node->safe_psql('app', 'UPDATE projects SET impact = impact + 10');
back('app', 'in the end');
is(log_count($node, 'PANIC|TRAP|terminated by signal'), 0, 'nothing crashed');

$node->stop;
done_testing();

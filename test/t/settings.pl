# What databases and roles are set to does not disturb the worker.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Reputation;
use Test::More;

my $node = start_server('main');

set_up_app($node, 'app', 50);

# Things of the names that the extension uses, in a schema that comes first.
$node->safe_psql('app', q{
	CREATE SCHEMA hostile;
	CREATE TABLE hostile.job (x int);
	CREATE TABLE hostile.engine (x int);
	CREATE TABLE hostile.users (x int);
	CREATE TABLE hostile.pg_extension (oid oid, extname text, extversion text);
	CREATE FUNCTION hostile.count("any") RETURNS bigint LANGUAGE internal AS 'pg_backend_pid';
	CREATE FUNCTION hostile.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';

	CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';
	CREATE FUNCTION hostile.never(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';
	CREATE FUNCTION hostile.never(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''hostile''; END';
	CREATE OPERATOR hostile.= (FUNCTION = hostile.never, LEFTARG = int, RIGHTARG = int);
	CREATE OPERATOR hostile.= (FUNCTION = hostile.never, LEFTARG = text, RIGHTARG = text);
	CREATE OPERATOR hostile.<= (FUNCTION = hostile.never, LEFTARG = int, RIGHTARG = int);
	GRANT ALL ON SCHEMA hostile TO PUBLIC});

# Our own sessions go without the settings.
$ENV{PGOPTIONS} = join(' ', map { "-c $_" } 'statement_timeout=0', 'lock_timeout=0',
	'idle_in_transaction_session_timeout=0', 'idle_session_timeout=0', 'default_transaction_read_only=off',
	'default_transaction_isolation=read\\ committed', 'default_transaction_deferrable=off',
	'session_replication_role=origin', 'search_path=public', 'client_min_messages=warning', 'row_security=on');
my $round = 0;

# Has a worker start under the settings, and checks that it computes; sessions
# that start later are without them again.
sub worker_computes
{
	my ($name, @settings) = @_;
	my $offset = -s $node->logfile;
	my $pid = worker_pid($node, 'app');

	$round++;
	$node->safe_psql('postgres', "ALTER $_") for @settings;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_worker($node, 'app', "$name: a worker starts", $pid);
	for my $setting (@settings)
	{
		(my $reset = $setting) =~ s/ SET (\w+).*/ RESET $1/s;
		$node->safe_psql('postgres', "ALTER $reset");
	}
	$node->safe_psql('app', qq{
		UPDATE projects SET impact = $round * 40, status = CASE WHEN id % 5 = $round % 5 THEN 'draft' ELSE 'shipped' END;
		DELETE FROM project_collaborators WHERE project_id = 40 + $round});
	all_computed($node, 'app', $name);
	is(log_count($node, 'ERROR|WARNING|hostile', $offset), 0, "$name: without a complaint");
	return;
}

my %groups = (
	timeouts => [ q{statement_timeout = '1ms'}, q{lock_timeout = '1ms'}, q{idle_in_transaction_session_timeout = '1ms'},
		q{idle_session_timeout = '1ms'}, q{deadlock_timeout = '1h'} ],
	transactions => [ q{default_transaction_read_only = on}, q{default_transaction_isolation = 'serializable'},
		q{default_transaction_deferrable = on}, q{session_replication_role = replica}, q{synchronous_commit = off} ],
	search_path => [ q{search_path = hostile, public, pg_catalog} ],
	planner => [ (map { "enable_$_ = off" } qw(indexscan nestloop bitmapscan sort hashagg indexonlyscan material memoize)),
		q{jit_above_cost = 0}, q{jit = on}, q{force_parallel_mode = on}, q{plan_cache_mode = force_generic_plan},
		q{work_mem = '64kB'}, q{geqo_threshold = 2}, q{join_collapse_limit = 1}, q{from_collapse_limit = 1} ],
	formats => [ q{datestyle = 'German'}, q{intervalstyle = 'sql_standard'}, q{timezone = 'Asia/Kathmandu'},
		q{bytea_output = 'escape'}, q{extra_float_digits = -15}, q{quote_all_identifiers = on},
		q{array_nulls = off}, q{transform_null_equals = on}, q{backslash_quote = off},
		q{client_encoding = 'LATIN1'}, q{lc_numeric = 'C'} ],
	behaviour => [ q{row_security = off}, q{check_function_bodies = off}, q{default_tablespace = 'pg_default'},
		q{client_min_messages = 'error'}, q{constraint_exclusion = on},
		q{default_toast_compression = 'pglz'}, q{exit_on_error = off} ],
	role => [ q{role = 'app'} ],
	replica => [ q{default_table_access_method = 'heap'}, q{xmloption = 'document'}, q{vacuum_cost_delay = '50ms'} ],
);
my $known = join('|', split /\n/, $node->safe_psql('app', 'SELECT name FROM pg_settings'));
for my $group (sort keys %groups)
{
	my @settings = grep { /^($known|role) =/i } @{ $groups{$group} };

	worker_computes("database, $group", map { "DATABASE app SET $_" } @settings);
	worker_computes("role, $group", map { "ROLE postgres SET $_" } grep { !/^role/ } @settings)
		if $group ne 'role';
	worker_computes("all roles, $group", map { "ROLE ALL SET $_" } @settings) if $group =~ /timeouts|transactions/;
}

$node->stop;
done_testing();

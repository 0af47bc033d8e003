# Every function of the extension with hostile arguments, and every trigger function on
# tables that it is not for: none crashes the server, none raises an internal error.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

# How many more calls with arguments picked at random each function gets.
my $random_calls = 10;
srand(1);

# Messages of internal errors that may be raised, each with the reason: none.
my @excused = ();

my $node = start_server('main', 'reputation.workers = 0',
	'max_locks_per_transaction = 256');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

create_app($node, 'app', 5);
$node->safe_psql('app', q{
	CREATE EXTENSION reputation;
	ALTER TABLE users ADD COLUMN wins int;
	CREATE TABLE plays (user_id int, points int, created_at timestamptz);
	CREATE TABLE matches (id int PRIMARY KEY, user1_id int, user2_id int);
	CREATE TABLE sessions (id int PRIMARY KEY, match_id int, status text,
		user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean);
	ALTER TABLE plays OWNER TO app;
	ALTER TABLE matches OWNER TO app;
	ALTER TABLE sessions OWNER TO app;
	INSERT INTO plays VALUES (1, 7, now());
	SELECT builder_score_attach(), trust_score_attach(), session_reputation_attach('sessions', 'matches'),
		points_attach(), badges_attach(), leaderboard_create('plays', 'plays');
	SELECT award_points(1, 5, 'for one', 'a');
	SELECT reputation_process();

	CREATE SCHEMA fuzz;
	CREATE TYPE fuzz.enum AS ENUM ('a', 'b');
	CREATE TYPE fuzz.pair AS (a int, b text);
	CREATE DOMAIN fuzz.id AS int CHECK (VALUE < 100);
	CREATE TABLE fuzz.same (LIKE reputation.algorithm);
	CREATE TABLE fuzz.other (engine int, version text, parameters text, active int[]);
	CREATE TABLE fuzz.moved (a int, engine text, b int, c int, parameters jsonb);
	ALTER TABLE fuzz.moved DROP COLUMN a, DROP COLUMN b;
	CREATE TABLE fuzz.none ();
	CREATE TABLE fuzz.scores (LIKE reputation.points_scores INCLUDING ALL);
	CREATE TABLE fuzz.floats (user_id int, all_time float8, score text, weekly numeric, reached_at int);
	CREATE TABLE fuzz.parts (id int, engine text, all_time bigint) PARTITION BY RANGE (id);
	CREATE TABLE fuzz.part PARTITION OF fuzz.parts DEFAULT;
	CREATE VIEW fuzz.view AS SELECT * FROM fuzz.same;
	CREATE TABLE fuzz.algorithm (engine text, version int, parameters jsonb, active boolean)});

my %values = (
	'text' => [ q{''}, q{'builder'}, q{'points'}, q{'plays'}, q{'nightly'}, q{'all_time'}, q{'1'}, q{'-1'},
		q{repeat('x', 100000)}, q{E'a"b''c;--%s%n\x01'}, q{'9223372036854775808'}, q{'public.users'},
		q{'pg_catalog.pg_class'}, q{'erase'}, q{'users'}, q{'plays_board_scores'} ],
	'integer' => [ qw(0 1 4 16 30 31 -1 2147483647 -2147483648) ],
	'bigint' => [ qw(0 1 100 -1 9223372036854775807 -9223372036854775808) ],
	'oid' => [ qw(0 1 1259 999999999 4294967295), q{'public.users'::regclass} ],
	'regclass' => [ q{'public.users'}, q{'reputation.points_scores'}, q{'pg_class'}, q{'pg_proc'}, q{'pg_type'},
		q{'users_pkey'}, q{'reputation.source_id_seq'}, q{'reputation.builder_signals'}, q{'fuzz.parts'},
		q{'fuzz.pair'}, q{0::oid}, q{999999999::oid} ],
	'boolean' => [ 'true', 'false' ],
	'jsonb' => [ q{'{}'}, q{'[]'}, q{'null'}, q{'1'}, q{'"x"'}, q{'{"id": 1}'}, q{'{"id": 1, "name": {"a": []}}'},
		q{'{"users": 1}'}, q{'{"users": {"id": null}}'}, q{'{"users": {"id": {"a": 1}}}'}, q{'{"own": 1e300}'},
		q{'{"own": "x", "weekly_days": -1, "debounce": "x", "zone": "x"}'}, q{('{"a": ' || repeat('[', 900) || repeat(']', 900) || '}')::jsonb},
		q{jsonb_build_object(repeat('k', 100000), repeat('v', 100000))} ],
	'timestamp with time zone' => [ q{'infinity'}, q{'-infinity'}, 'now()', q{'294276-12-31'}, q{'4713-01-01 BC'} ],
	'time without time zone' => [ q{'24:00'}, q{'00:00'}, q{'12:34:56.789'} ],
	'interval' => [ q{'0'}, q{'-1 s'}, q{'1 min'}, q{'178000000 years'}, q{'-178000000 years'}, q{'1 us'}, q{'1 mon -30 days'} ],
	'text[]' => [ q{'{}'}, q{'{NULL}'}, q{'{1}'}, q{'{{a,b},{c,d}}'}, q{'[-5:-4]={a,b}'}, q{array_fill('x'::text, '{10000}')} ],
	'bigint[]' => [ q{'{}'}, q{'{NULL}'}, q{'{1}'}, q{'{2}'}, q{'{3,2,0}'}, q{'{3,NULL,NULL}'}, q{'{-1}'}, q{'{{1,2},{3,4}}'}, q{'{3,9223372036854775807,0}'} ],
	# Of any type: a user's id.
	'anycompatible' => [ '1', '2::bigint', '3::smallint', q{'1'}, q{'x'}, q{'1'::text}, q{repeat('9', 100000)}, 'NULL', 'NULL::int',
		'1.5', q{'NaN'::float8}, '9223372036854775807', 'ARRAY[1]', q{'{}'::text[]}, q{ROW(1, 'a')}, 'ROW()', q{ROW(1, 'a')::fuzz.pair},
		q{ARRAY[ROW(1, 'a')::fuzz.pair]}, q{'a'::fuzz.enum}, '7::fuzz.id', 'int4range(1, 5)', q{'{}'::jsonb}, q{'\x00ff'::bytea}, 'now()', 'true',
		q{'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid}, q{'a'::"char"}, q{'a'::name}, q{'1'::money}, q{B'101'}, q{'(1,1),(0,0)'::box}, q{'1'::xid},
		q{'{1,2}'::int2vector}, q{NULL::record}, q{'users'::regclass}, q{'a'::varchar}, q{'a'::char(5)}, q{'10.0.0.1'::inet}, q{(SELECT c FROM pg_class c LIMIT 1)} ],
);

my @batches;

# A transaction that is one message, and what it is told by.
sub add
{
	my ($what, @statements) = @_;

	push @batches, [ $what, join('\; ', 'ROLLBACK', 'BEGIN', @statements) . ';' ];
	return;
}

sub pick
{
	my ($type) = @_;
	my $list = $values{$type} or die "no values of type $type";

	return rand() < 0.1 && $type !~ /^any/ ? "NULL::$type" : $list->[ rand @$list ] . ($type =~ /^any/ ? '' : "::$type");
}

my $functions = $node->safe_psql('app', q{
	SELECT p.pronamespace::regnamespace || '.' || quote_ident(p.proname), p.prokind,
		(SELECT string_agg(format_type(u.t, NULL), ';' ORDER BY u.i) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, i))
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'reputation'
	ORDER BY p.oid::regprocedure::text COLLATE "C"});

for my $end ('ROLLBACK', 'COMMIT')
{
	for my $line (split /\n/, $functions)
	{
		my ($name, $kind, $types) = split /\|/, $line;
		my @types = split /;/, $types // '';
		my @lists;

		# The first of its values for each argument, but for one; all null; at random.
		my @first = map { $values{$_}[0] . (/^any/ ? '' : "::$_") } @types;
		push @lists, [@first], [ map { /^any/ ? 'NULL' : "NULL::$_" } @types ];
		for my $i (0 .. $#types)
		{
			next if $end eq 'COMMIT';
			for my $value (@{ $values{ $types[$i] } })
			{
				my @arguments = @first;

				$arguments[$i] = $value . ($types[$i] =~ /^any/ ? '' : "::$types[$i]");
				push @lists, \@arguments;
			}
		}
		push @lists, [ map { pick($_) } @types ] for 1 .. (@types ? $random_calls : 0);
		for my $list (@lists)
		{
			my $call = sprintf '%s(%s)', $name, join(', ', @$list);

			# A procedure that commits is none for a transaction.
			push @batches, [ $call, "CALL $call;" ] if $kind eq 'p' && $end eq 'COMMIT';
			add($call, ($kind eq 'p' ? 'CALL ' : 'SELECT ') . $call, $end);
		}
	}
}

# The trigger functions; the last of the names is a view.
my %rows = (
	'fuzz.same' => q{(engine, version, parameters, active) VALUES ('builder', 9, '{"own": 1}', false)},
	'fuzz.other' => q{VALUES (1, 'x', 'y', '{1}')},
	'fuzz.moved' => q{(engine, parameters) VALUES ('builder', '{}')},
	'fuzz.none' => 'DEFAULT VALUES',
	'fuzz.scores' => q{(user_id, score, all_time, weekly, daily, reached_at, algorithm_version, computed_at) VALUES ('1', 1, 1, 1, 1, now(), 1, now())},
	'fuzz.floats' => q{VALUES (1, 1.5, 'x', 2, 3)},
	'fuzz.parts' => q{VALUES (1, 'x', 2)},
	'fuzz.algorithm' => q{VALUES (NULL, 1, NULL, true)},
	'fuzz.view' => q{(engine, version, parameters, active) VALUES ('builder', 9, '{}', false)},
	# The extension's own, with the function of another.
	'reputation.algorithm' => q{VALUES ('trust', 9, '{}', false)},
	'reputation.points_scores' => q{(user_id, score, all_time, weekly, daily, reached_at, algorithm_version, computed_at) VALUES ('9', 1, 1, 1, 1, now(), 1, now())},
	'reputation.point_ledger' => q{(user_id, points) VALUES ('1', 1)},
	'reputation.badge' => q{(slug, name, description, icon, metric, threshold) VALUES ('fuzz', 'a', 'b', 'c', 'wins', 1)},
);
my @arguments = ('', q{'1'}, q{'4', 'all_time'}, q{'4', 'all_time', 'weekly', 'daily', 'score'}, q{'-1', 'all_time'}, q{'99999999999999999999', 'score'},
	q{'1', '"a:1:1:engine","w:0:4294967295:all_time"'}, q{'1', 'x'}, q{'1', '"a:99999:x:engine"'}, q{'4', 'ctid'}, sprintf(q{'1', '%s'}, '"w:0:1:engine",' x 300));
my $nr = 0;

for my $function (qw(capture check_algorithm rank_track ledger_guard))
{
	for my $table (sort keys %rows)
	{
		for my $when ('BEFORE', 'AFTER', 'INSTEAD OF', 'CONSTRAINT')
		{
			for my $level ('ROW', 'STATEMENT')
			{
				next if ($when eq 'INSTEAD OF') != ($table eq 'fuzz.view' && $level eq 'ROW') || ($when eq 'CONSTRAINT' && $level ne 'ROW');
				# Each argument list with some of what there is.
				for my $list ($arguments[ $nr++ % @arguments ], $arguments[ $nr++ % @arguments ], $arguments[2])
				{
					my $events = 'INSERT OR UPDATE OR DELETE' . ($level eq 'STATEMENT' && $table ne 'fuzz.view' ? ' OR TRUNCATE' : '');
					my $create = sprintf('CREATE %s TRIGGER fuzz %s %s ON %s %s FOR EACH %s EXECUTE FUNCTION reputation.%s(%s)',
						$when eq 'CONSTRAINT' ? 'CONSTRAINT' : '', $when eq 'CONSTRAINT' ? 'AFTER' : $when, $events, $table,
						$when eq 'CONSTRAINT' ? 'DEFERRABLE INITIALLY DEFERRED' : '', $level, $function, $list);
					my @end = ('SET CONSTRAINTS ALL IMMEDIATE', "DROP TRIGGER fuzz ON $table", $table =~ /^fuzz/ ? ("DELETE FROM $table", 'COMMIT') : 'ROLLBACK');
					my ($column) = { 'fuzz.other' => 'version', 'fuzz.scores' => 'user_id', 'fuzz.floats' => 'score', 'fuzz.parts' => 'engine',
						'reputation.points_scores' => 'user_id', 'reputation.point_ledger' => 'reason', 'reputation.badge' => 'name' }->{$table} // 'engine';
					my $row = "INSERT INTO $table $rows{$table}";

					add("$create, INSERT", $create, $row, @end);
					next if $table eq 'fuzz.none';
					add("$create, UPDATE", $row, $create, "UPDATE $table SET $column = $column || 'x'", @end);
					add("$create, DELETE", $row, $create, "DELETE FROM $table", @end);
					add("$create, TRUNCATE", $row, $create, "TRUNCATE $table", @end) if $level eq 'STATEMENT';
				}
			}
		}
	}
}
for my $event (qw(ddl_command_start ddl_command_end sql_drop table_rewrite))
{
	for my $function (qw(triggers_check source_dropped))
	{
		add("event trigger on $event", "CREATE EVENT TRIGGER fuzz ON $event EXECUTE FUNCTION reputation.$function()", 'CREATE TABLE fuzz.t (a int)',
			'INSERT INTO fuzz.t VALUES (1)', 'ALTER TABLE fuzz.t ALTER a TYPE bigint', 'DROP TABLE fuzz.t', 'ROLLBACK');
	}
}

# All of them in one session; a line before each tells which it is.
my $script = "SET client_min_messages = error;\nSET statement_timeout = '500ms';\n\\set VERBOSITY verbose\n";
$script .= "\\warn #$_\n$batches[$_][1]\n" for 0 .. $#batches;
$script .= "ROLLBACK;\n";
my $file = "$PostgreSQL::Test::Utils::tmp_check/fuzz.sql";
append_to_file($file, $script);
my $errors = '';
IPC::Run::run([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('app'), '-f', $file ], '>', \my $output, '2>', \$errors);

my %sqlstates;
my @internal;
my $seen = 0;
for my $part (split /^#(?=\d+$)/m, $errors)
{
	my ($no, $text) = $part =~ /\A(\d+)\n(.*)\z/s or next;

	$seen++;
	next unless $text =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5}): (.*)/;
	my ($state, $message) = ($1, $2);
	$sqlstates{$state}++;
	push @internal, "$message: $batches[$no][0]" if $state =~ /^XX/ && !grep { $message =~ $_ } @excused;
}
note("$seen calls: " . join(', ', map { "$sqlstates{$_} $_" } sort { $sqlstates{$b} <=> $sqlstates{$a} } keys %sqlstates));
is($seen, scalar(@batches), 'every call was made, in one session');
is(join("\n", map { substr($_, 0, 300) } @internal[ 0 .. ($#internal < 20 ? $#internal : 20) ]), '', 'no internal error');
ok($errors !~ /server closed the connection|connection to server was lost/, 'the session was not lost');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server is the one that was started');
is(log_count($node, qr/was terminated by signal|PANIC: |TRAP: |all server processes terminated/), 0, 'no process crashed');

done_testing();

# Whoever may make objects tries to have somebody else's rights run them.
#
# A scenario is an attacker who makes hostile objects, and what others then do with
# the extension. The attacker's functions tell the server's log, which no rollback
# undoes, as whom they run, and try to become more: by SET ROLE, a cursor WITH HOLD,
# a deferred trigger, ALTER ROLE ... SUPERUSER. A scenario fails if one of them ran
# with the rights of a role that the attacker is not a member of.
package Adversary;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

our @EXPORT = qw(prepare_server prepare_database scenario as_role fill weapons twins tables plunder);

my $node;
my $number = 0;

# Who plays: an attacker of each kind, and their victims, x_app and x_boss.
# Whatever a member of a role of ours may, the role may.
my %member = (
	x_nobody => [],
	x_owner  => [],
	x_source => [],
	x_dba    => [],
	x_reader => ['reputation_reader'],
	x_writer => ['reputation_writer'],
	x_admin  => ['reputation_admin'],
);

sub prepare_server
{
	$node = shift;
	$node->safe_psql('postgres', join(';', map { "CREATE ROLE $_ LOGIN" } 'x_app', 'x_boss', sort keys %member));
	$node->safe_psql('postgres', 'GRANT x_owner TO x_boss');
	return;
}

# What a database with the extension needs besides.
sub prepare_database
{
	my ($database) = @_;

	$node->safe_psql($database, 'GRANT reputation_admin TO x_boss; '
		. join(';', map { my $role = $_; map { "GRANT $_ TO $role" } @{$member{$role}} } sort keys %member));
	# Waits for the workers, but not for what they cannot do.
	$node->safe_psql($database, sprintf(q{
		CREATE SCHEMA judge;
		GRANT USAGE ON SCHEMA judge TO PUBLIC;
		CREATE FUNCTION judge.computed() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
		BEGIN
			FOR i IN 1 .. 100 LOOP
				EXIT WHEN %s = 0;
				PERFORM pg_sleep(0.02);
			END LOOP;
		END $$}, work_left()));
	return;
}

# Puts the scenario's schema and attacker in.
sub fill
{
	my ($sql, $schema, $attacker) = @_;

	$sql =~ s/\{s\}/$schema/g;
	$sql =~ s/\{me\}/$attacker/g;
	return $sql;
}

# Runs statements as a role, whatever becomes of each; returns what they print and
# say.
sub as_role
{
	my ($database, $role, $sql) = @_;
	my ($status, $out, $error) = $node->psql($database,
		"SET statement_timeout = '10s'; SET client_min_messages = error; $sql",
		on_error_stop => 0, timeout => 120, extra_params => [ '-U', $role, '-v', 'VERBOSITY=terse' ]);

	$error =~ s/^psql:<stdin>:(\d+): //mg;
	note("$role: $error") if $error ne '';
	return ($out, $error);
}

# The attacker's functions: i(), b() and t() give back their argument and count as
# immutable, v() is volatile, trg() a trigger's.
sub weapons
{
	return q{
		CREATE FUNCTION {s}.told(what text) RETURNS void LANGUAGE plpgsql AS $told$
		BEGIN
			RAISE LOG 'loot|%|%|%|', what, current_user, session_user;
		END $told$;
		CREATE TABLE {s}.later (what text);
		GRANT ALL ON {s}.later TO PUBLIC;
		CREATE FUNCTION {s}.on_later() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.told(''a deferred trigger''); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON {s}.later DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION {s}.on_later();
		CREATE FUNCTION {s}.mark(what text) RETURNS void LANGUAGE plpgsql AS $mark$
		DECLARE
			deed text;
		BEGIN
			PERFORM {s}.told(what);
			FOREACH deed IN ARRAY ARRAY['RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION DEFAULT',
				'ALTER ROLE {me} SUPERUSER', 'INSERT INTO {s}.later VALUES (1)', 'LISTEN loot',
				'SET search_path = {s}, pg_catalog', 'PREPARE loot AS SELECT 1', 'CREATE TEMP TABLE engine (id int)',
				pg_catalog.format('DECLARE %I CURSOR WITH HOLD FOR SELECT {s}.told(''a held cursor'')',
					pg_catalog.gen_random_uuid())]
			LOOP
				BEGIN
					EXECUTE deed;
					PERFORM {s}.told(pg_catalog.format('%s, then %s', what, deed));
				EXCEPTION WHEN OTHERS THEN NULL;
				END;
			END LOOP;
		END $mark$;
		CREATE FUNCTION {s}.i(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''i''); RETURN $1; END';
		CREATE FUNCTION {s}.b(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''b''); RETURN true; END';
		CREATE FUNCTION {s}.t(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''t''); RETURN $1; END';
		CREATE FUNCTION {s}.v() RETURNS int LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''v''); RETURN 0; END';
		CREATE FUNCTION {s}.trg() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM {s}.mark(pg_catalog.format('%s %s %s of %s', TG_WHEN, TG_OP, TG_LEVEL, TG_TABLE_NAME));
			IF TG_LEVEL OPERATOR(pg_catalog.=) 'ROW' AND TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
				RETURN NEW;
			ELSIF TG_LEVEL OPERATOR(pg_catalog.=) 'ROW' THEN
				RETURN OLD;
			END IF;
			RETURN NULL;
		END $$;
	};
}

# An application's tables, which a setup changes or replaces.
sub tables
{
	return q{
		CREATE TABLE {s}.users (id int PRIMARY KEY, name text, wins int);
		CREATE TABLE {s}.projects (id int, owner_id int, status text, impact int);
		CREATE TABLE {s}.project_collaborators (project_id int, user_id int, status text);
		INSERT INTO {s}.users VALUES (1, 'a', 1), (2, 'b', 2);
		INSERT INTO {s}.projects VALUES (1, 1, 'shipped', 5);
		INSERT INTO {s}.project_collaborators VALUES (1, 2, 'confirmed');
	};
}

# Operators and functions that fit some arguments better than PostgreSQL's, or come
# first where the search_path says so.
sub twins
{
	return q{
		DO $do$
		DECLARE
			types CONSTANT text[] := '{text,name,int2,int4,int8,oid,regclass,"\"char\"",bool,timestamptz}';
			numbers CONSTANT text[] := '{int2,int4,int8}';
			op record;
			twin record;
		BEGIN
			FOR op IN
				SELECT o AS name, l, r, 'boolean' AS result, format('$1::text OPERATOR(pg_catalog.%s) $2::text', o) AS value
				FROM unnest('{=,<>,<,>,<=,>=}'::text[]) o, unnest(types) l, unnest(types) r
				UNION ALL
				SELECT o, l, r, 'int8', format('$1::int8 OPERATOR(pg_catalog.%s) $2::int8', o)
				FROM unnest('{&,|,+,-}'::text[]) o, unnest(numbers) l, unnest(numbers) r
				UNION ALL
				SELECT '||', l, r, 'text', '$1::text OPERATOR(pg_catalog.||) $2::text'
				FROM unnest(types) l, unnest(types) r
			LOOP
				EXECUTE format('CREATE FUNCTION {s}.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS $twin$
					BEGIN PERFORM {s}.told(%L); RETURN %s; END $twin$', 'f' || op.name, op.l, op.r,
					op.result, 'operator ' || op.name, op.value);
				EXECUTE format('CREATE OPERATOR {s}.%s (FUNCTION = {s}.%I, LEFTARG = %s, RIGHTARG = %s)',
					op.name, 'f' || op.name, op.l, op.r);
			END LOOP;
			FOR twin IN
				SELECT * FROM (VALUES
					('format(text, text)', 'text', 'pg_catalog.format($1, VARIADIC ARRAY[$2])'),
					('format(text, text, text)', 'text', 'pg_catalog.format($1, VARIADIC ARRAY[$2, $3])'),
					('format(text, VARIADIC text[])', 'text', 'pg_catalog.format($1, VARIADIC $2)'),
					('quote_ident(name)', 'text', 'pg_catalog.quote_ident($1::text)'),
					('quote_literal(name)', 'text', 'pg_catalog.quote_literal($1::text)'),
					('md5(name)', 'text', 'pg_catalog.md5($1::text)'),
					('lower(name)', 'text', 'pg_catalog.lower($1::text)'),
					('replace(text, text, text)', 'text', 'pg_catalog.replace($1, $2, $3)'),
					('now()', 'timestamptz', 'pg_catalog.now()'),
					('current_database()', 'name', 'pg_catalog.current_database()'),
					('current_setting(text)', 'text', 'pg_catalog.current_setting($1)')) AS f (name, result, value)
			LOOP
				EXECUTE format('CREATE FUNCTION {s}.%s RETURNS %s LANGUAGE plpgsql AS $twin$
					BEGIN PERFORM {s}.told(%L); RETURN %s; END $twin$', twin.name, twin.result, twin.name, twin.value);
			END LOOP;
			FOR op IN SELECT * FROM unnest('{int2,int4,oid,name,regclass}'::text[]) l LOOP
				EXECUTE format('CREATE FUNCTION {s}.counted(int8, %1$s) RETURNS int8 LANGUAGE plpgsql AS $twin$
					BEGIN PERFORM {s}.told(''count''); RETURN $1 OPERATOR(pg_catalog.+) 1; END $twin$', op.l);
				EXECUTE format('CREATE AGGREGATE {s}.count(%s) (sfunc = {s}.counted, stype = int8, initcond = 0)', op.l);
				EXECUTE format('CREATE FUNCTION {s}.joined(text, %1$s, text) RETURNS text LANGUAGE plpgsql AS $twin$
					BEGIN PERFORM {s}.told(''string_agg''); RETURN pg_catalog.concat_ws($3, $1, $2); END $twin$', op.l);
				EXECUTE format('CREATE AGGREGATE {s}.string_agg(%s, text) (sfunc = {s}.joined, stype = text)', op.l);
			END LOOP;
		END $do$;
	};
}

# What was done since then with rights that the attacker has not: lines of the log,
# and whoever has become superuser, who ceases to be. A lender's rights are to be had
# while its own work is on, but are not to be kept.
sub plunder
{
	my ($offset, $attacker, $lender) = @_;
	my %may = map { $_ => 1 } $attacker, @{$member{$attacker}};
	my %found;

	my $log = substr(slurp_file($node->logfile), $offset);
	my $calls = 0;
	while ($log =~ /loot\|([^|\n]*)\|(\w+)\|(\w+)\|/g)
	{
		my ($what, $user, $session) = ($1, $2, $3);

		$calls++;
		$what =~ s/DECLARE "[^"]*" /DECLARE a /;
		next if $may{$user};
		next if $user eq ($lender // '') && $what !~ /^a held|then (RESET|SET (ROLE|SESSION))/;
		$found{"$what ran as $user in a session of $session"} = 1;
	}
	note("the attacker's functions told of $calls calls");
	for my $role (split /\n/, $node->safe_psql('postgres',
		q{SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'}))
	{
		$found{"$role has become superuser"} = 1;
		$node->safe_psql('postgres', "ALTER ROLE $role NOSUPERUSER");
	}
	$found{'a server process crashed'} = 1 if $log =~ /was terminated by signal|TRAP: /;
	return sort keys %found;
}

# What a superuser does with attached tables, all of it qualified.
my $use = q{
	SELECT judge.computed();
	BEGIN;
	SELECT public.builder_score_recalc_all();
	SELECT public.reputation_process(NULL::text, NULL::bigint);
	COMMIT;
	SELECT public.builder_score_recalc(1);
	SELECT public.builder_score_explain(1);
	SELECT public.reputation_verify(NULL::text);
	SELECT public.algorithm_preview('builder', '{}');
	SELECT public.reputation_repair(NULL::text);
	SELECT public.reputation_status();
	CALL public.reputation_run('nightly', 'cron');
	CALL public.reputation_run('leaderboards', 'cron');
	SELECT public.reputation_wait(1, timeout => '1 s');
	SELECT judge.computed();
	SELECT public.reputation_retry(NULL::text, NULL::text);
	SELECT public.reputation_forget(2);
};

# What an attacker does who owns attached tables.
my $during = q{
	CREATE TRIGGER late BEFORE UPDATE ON {s}.projects FOR EACH ROW EXECUTE FUNCTION {s}.trg();
	CREATE TRIGGER late BEFORE UPDATE ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg();
	ALTER TABLE {s}.projects ADD COLUMN more int;
	INSERT INTO {s}.users VALUES (3, 'c', 3);
	INSERT INTO {s}.projects VALUES (2, 3, 'shipped', 1);
	UPDATE {s}.projects SET impact = impact + 10;
	DELETE FROM {s}.users WHERE id = 2;
};

my $attach = q{
	SELECT public.builder_score_attach('{s}.users', '{s}.projects', '{s}.project_collaborators', rank_column => 'place');
};

# scenario(database, name => ..., as => attacker, ...): a test. Its parts, in their order:
#   setup    the attacker's statements; unless bare, after weapons() and tables()
#   before   a superuser's
#   attach   those of the role "by", postgres unless given
#   between  a superuser's, when the first computation is done
#   during   the attacker's
#   use      a superuser's
#   finish   a superuser's: another attach, the detach
#   check    a superuser's query that must give nothing
# lends is a role that lets the attacker's code run with its rights.
# {s} is a schema of the attacker's, {me} the attacker. A part that is '' is left out.
sub scenario
{
	my ($database, %s) = @_;
	my $schema = 's' . ++$number;
	my $offset = -s $node->logfile;
	my @gained;
	my $attacker = $s{as};
	my $detach = join(';', map { "SELECT public.${_}_detach()" }
		$s{engines} ? @{$s{engines}} : ('builder_score'));
	my $run = sub {
		my ($role, $part, $default) = @_;
		my $sql = $s{$part} // $default // '';
		my ($out) = as_role($database, $role, fill($sql, $schema, $attacker)) if $sql ne '';

		push @gained, map { "check: $_" } split /\n/, $1 if ($out // '') =~ /^CHECK\n(.*)^CHECKED$/ms;
		push @gained, "$part: $1" if ($out // '') =~ /^(LOOT.*)/m;
		push @gained, "$part: $role has the search_path of the attacker" if ($out // '') =~ /^PATH $schema/m;
		return;
	};
	my $path = q{SELECT pg_catalog.concat('PATH ', pg_catalog.current_setting('search_path'));};

	$node->safe_psql($database, "CREATE SCHEMA $schema AUTHORIZATION $attacker; GRANT USAGE ON SCHEMA $schema TO PUBLIC");
	$s{setup} = weapons() . ($s{bare} ? '' : tables()) . ($s{setup} // '');
	$run->($attacker, 'setup');
	$run->('postgres', 'before');
	$s{attach} = ($s{attach} // $attach) . $path . 'SELECT judge.computed();' unless $s{bare} && !$s{attach};
	$run->($s{by} // 'postgres', 'attach');
	$run->('postgres', 'between');
	$run->($attacker, 'during', $s{bare} ? '' : $during);
	$s{use} = ($s{use} // $use) . $path unless $s{bare} && !$s{use};
	$run->('postgres', 'use');
	$s{finish} = $s{bare} && !$s{attach} ? '' : ($s{finish} // $s{attach}) . "; $detach; $path";
	$s{finish} .= "\n\\echo CHECK\n$s{check};\n\\echo CHECKED\n" if $s{check};
	$s{finish} .= "DROP SCHEMA $schema CASCADE;";
	$run->('postgres', 'finish');
	push @gained, plunder($offset, $attacker, $s{lends});
	is(join("\n", @gained), '', "$attacker: $s{name}");
	return;
}

1;

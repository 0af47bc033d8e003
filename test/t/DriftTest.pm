# The randomised drift test of all engines at the same users: clients write in every way the product has to
# follow, the server is shaken meanwhile, and in the end every cached score must
# equal a recomputation from the source, by the extension and by SQL of our own.
#
# Everything is drawn from one seed, which is printed and can be given in
# REPUTATION_SEED. How the clients interleave is not: a seed repeats what is
# done, not the race.
#
# A drift shows only as long as nothing else has the user computed again. So
# the run goes through phases, each with a check at its end; the ids are drawn
# so that some users are hot and most are seldom touched; and what computes
# everybody happens in the first third of a phase only.

package DriftTest;

use strict;
use warnings;

use DriftPoints;
use DriftSessions;
use IO::Select;
use IPC::Run ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# The ids that the clients draw from.
use constant USERS    => 200;
use constant PROJECTS => 300;

# How many transactions a client sends in one session.
use constant CHUNK => 25;

# Errors that the application's own statements may meet, by SQLSTATE: conflicts
# with each other, and the ends of sessions that the test itself brings about.
my %expected = map { $_ => 1 } (
	'23503',    # foreign key
	'23505',    # unique
	'25P02',    # in failed transaction
	'3B001',    # savepoint of a failed transaction
	'40001',    # serialization
	'40P01',    # deadlock
	'42704',    # prepared transaction gone
	'55000',    # prepared transaction belongs to a busy session
	'55P03',    # lock timeout
	'57014',    # cancelled
	'57P01',    # terminated
	'57P02',    # crash of another
	'57P03',    # starting up
	'P0002');   # recalculation of a user that is gone

# The schemas: each has its database. A key is an integer, a bigint or a text.
my %variants = (
	plain => {
		name     => 'plain',
		clients  => 4,
		debounce => '50 ms',
		uid      => sub { $_[0] },
		copy_uid => sub { $_[0] },
		tables   => q{
			CREATE TABLE users (id int PRIMARY KEY, name text, photo text, bio text,
				email_verified boolean, last_active_at timestamptz, created_at timestamptz);
			CREATE TABLE activity (user_id int REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, created_at timestamptz);
			CREATE TABLE projects (id int PRIMARY KEY,
				owner_id int REFERENCES users ON UPDATE CASCADE ON DELETE SET NULL,
				status text, impact int);
			CREATE TABLE project_collaborators (
				project_id int REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE,
				user_id int REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
				status text, PRIMARY KEY (project_id, user_id));}
	},
	# Rows move between partitions when their id changes.
	partitioned => {
		name     => 'partitioned',
		clients  => 2,
		debounce => '0',
		uid      => sub { $_[0] },
		copy_uid => sub { $_[0] },
		tables   => q{
			CREATE TABLE users (id bigint PRIMARY KEY, name text, photo text, bio text,
				email_verified boolean, last_active_at timestamptz, created_at timestamptz) PARTITION BY HASH (id);
			CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			CREATE TABLE activity (user_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, created_at timestamptz);
			CREATE TABLE projects (id bigint PRIMARY KEY,
				owner_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
				status text, impact numeric) PARTITION BY RANGE (id);
			CREATE TABLE projects_low PARTITION OF projects FOR VALUES FROM (MINVALUE) TO (40);
			CREATE TABLE projects_mid PARTITION OF projects FOR VALUES FROM (40) TO (80);
			CREATE TABLE projects_high PARTITION OF projects DEFAULT;
			CREATE TABLE project_collaborators (
				project_id bigint REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE,
				user_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
				status text, PRIMARY KEY (project_id, user_id));}
	},
	# No foreign keys: rows are left dangling. Partitions by what the score
	# depends on.
	loose => {
		name     => 'loose',
		clients  => 2,
		debounce => '200 ms',
		uid      => sub { "'u$_[0]'" },
		copy_uid => sub { "u$_[0]" },
		tables   => q{
			CREATE TABLE users (id text PRIMARY KEY, name text, photo text, bio text,
				email_verified boolean, last_active_at timestamptz, created_at timestamptz);
			CREATE TABLE activity (user_id text, created_at timestamp);
			CREATE TABLE projects (id int, owner_id text, status text, impact float8)
				PARTITION BY LIST (status);
			CREATE TABLE projects_shipped PARTITION OF projects FOR VALUES IN ('shipped');
			CREATE TABLE projects_other PARTITION OF projects DEFAULT;
			CREATE TABLE project_collaborators (project_id int, user_id text, status text);
			CREATE INDEX ON projects (id);
			CREATE INDEX ON project_collaborators (project_id);}
	});

# The score as the product's contract words it, for every user.
my $recomputed = q{
	WITH edge AS (
		SELECT p.id AS project, p.status, p.owner_id AS owner, c.user_id AS collaborator
		FROM projects p JOIN project_collaborators c ON c.project_id = p.id
		WHERE c.status = 'confirmed'
	), signals AS (
		SELECT u.id, u.builder_score,
			(SELECT count(*) FROM projects p
			 WHERE p.owner_id = u.id AND p.status = 'shipped') AS own_shipped,
			(SELECT count(DISTINCT e.project) FROM edge e WHERE e.collaborator = u.id
			 AND e.status = 'shipped' AND e.owner IS DISTINCT FROM u.id) AS collab_shipped,
			(SELECT count(*) FROM (
				SELECT e.owner FROM edge e WHERE e.collaborator = u.id AND e.owner <> u.id
				UNION
				SELECT e.collaborator FROM edge e WHERE e.owner = u.id AND e.collaborator <> u.id
			 ) AS other) AS v,
			(SELECT coalesce(sum(p.impact), 0)::numeric FROM projects p
			 WHERE p.owner_id = u.id AND p.status = 'shipped') AS impact
		FROM users u)
	SELECT id, builder_score, 10 * own_shipped + 6 * collab_shipped + 5 * least(v, 10)
		+ greatest(v - 10, 0) + least(50, round(10 * log(1 + impact))) AS score
	FROM signals};

# The same for trust, as of now.
my $recomputed_trust = q{
	SELECT u.id, s.score AS stored, 'new' = ANY (s.badges) AS stored_new, coalesce(u.created_at > now() - interval '168 hours', false) AS new, round(
		(0.40 * (CASE WHEN u.photo <> '' THEN 25 ELSE 0 END + CASE WHEN u.name <> '' THEN 10 ELSE 0 END
			+ 20 * least(1, coalesce(length(btrim(u.bio)), 0) / 50.0))
		 + 0.35 * CASE WHEN u.email_verified THEN 25 ELSE 0 END
		 + 25 * least(1, ln(1 + a.events::numeric) / ln(51::numeric)))
		* CASE WHEN i.days > 7 THEN greatest(0.5, power(0.5, (i.days - 7) / 30)) ELSE 1 END) AS score
	FROM users u LEFT JOIN reputation.trust_scores s ON s.user_id = u.id::text
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE a.created_at > now() - interval '720 hours') AS events, max(a.created_at) AS last
		FROM activity a WHERE a.user_id = u.id) a
	CROSS JOIN LATERAL (
		SELECT extract(epoch FROM now() - greatest(u.last_active_at, a.last))::numeric / 86400 AS days) i};

sub pick    { return $_[ int(rand(@_)) ]; }
sub number  { return int(rand($_[0])) + 1; }
sub user    { return int(USERS * rand()**2) + 1; }
sub project { return int(PROJECTS * rand()**2) + 1; }
sub status  { return pick(qw('shipped' 'shipped' 'draft' 'archived')); }
sub role    { return pick(qw('confirmed' 'confirmed' 'invited' 'declined')); }
sub impact  { return pick('NULL', 0, number(9), number(1000), number(100000)); }

# A time of the last 50 days.
sub past { return sprintf q{now() - interval '%d s'}, rand(50 * 86400); }

# A range of ids of some rows.
sub range
{
	my $from = project();
	return "BETWEEN $from AND " . ($from + number(12));
}

# COPY of some rows; ids that are taken make it fail as a whole.
sub copy_rows
{
	my $variant = shift;
	my @rows = map { join "\t", $variant->{copy_uid}->(USERS + number(2000)), 'copied' } 1 .. number(5);
	return join "\n", 'COPY users (id, name) FROM stdin;', @rows, '\\.';
}

# The statements of the application. Each gives one at random.
my @statements = (
	sub { my $u = shift; sprintf 'INSERT INTO users (id, name) VALUES (%s, $$new$$);', $u->(user()) },
	sub {
		my $u = shift;
		'INSERT INTO users (id, name) VALUES ' .
		  join(', ', map { '(' . $u->($_) . ', $$many$$)' } map { $_ .. $_ + 9 } number(USERS - 9)) .
		  ' ON CONFLICT (id) DO UPDATE SET name = excluded.name;';
	},
	sub { my $u = shift; sprintf 'UPDATE users SET name = $$%d$$ WHERE id = %s;', number(99), $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE users SET builder_score = %d WHERE id = %s;', number(99), $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE users SET builder_score = builder_score + 1 WHERE id IN (%s, %s);', $u->(user()), $u->(user()) },
	(sub { my $u = shift; sprintf 'UPDATE users SET photo = %s WHERE id = %s;', pick('NULL', '$$$$', '$$a$$', '$$b$$'), $u->(user()) }) x 2,
	(sub { my $u = shift; sprintf 'UPDATE users SET last_active_at = %s WHERE id = %s;', past(), $u->(user()) }) x 2,
	sub { my $u = shift; sprintf 'UPDATE users SET bio = repeat($$x$$, %d) || $$  $$, created_at = %s WHERE id = %s;', rand(70), pick('NULL', past(), past()), $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE users SET email_verified = %s WHERE id = %s;', pick('NULL', 'true', 'true', 'false'), $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE users SET photo = $$c$$, builder_score = %d WHERE id = %s;', number(99), $u->(user()) },
	(sub {
		my $u = shift;
		sprintf 'INSERT INTO activity SELECT u.id, %s FROM users u, generate_series(1, %d) WHERE u.id = %s;', past(), number(9), $u->(user());
	}) x 2,
	sub { my $u = shift; sprintf 'UPDATE activity SET user_id = %s WHERE user_id = %s;', $u->(user()), $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE activity SET created_at = %s WHERE user_id = %s;', past(), $u->(user()) },
	sub { my $u = shift; sprintf 'DELETE FROM activity WHERE user_id = %s;', $u->(user()) },
	sub { my $u = shift; sprintf 'UPDATE users SET id = %s WHERE id = %s;', $u->(user()), $u->(user()) },
	sub { my $u = shift; sprintf 'DELETE FROM users WHERE id = %s;', $u->(user()) },
	(sub {
		my $u = shift;
		sprintf 'INSERT INTO projects SELECT %d, %s, %s, %s WHERE EXISTS (SELECT FROM users WHERE id = %2$s);',
		  project(), $u->(user()), status(), impact();
	}) x 3,
	sub {
		my $u = shift;
		sprintf 'INSERT INTO projects SELECT g, %s, %s, %s FROM generate_series(%d, %d) AS g
			WHERE NOT EXISTS (SELECT FROM projects p WHERE p.id = g);',
		  $u->(user()), status(), impact(), (sort { $a <=> $b } project(), project());
	},
	(sub { sprintf 'UPDATE projects SET status = %s WHERE id = %d;', status(), project() }) x 3,
	(sub { sprintf 'UPDATE projects SET status = %s, impact = %s WHERE id %s;', status(), impact(), range() }) x 2,
	(sub { sprintf 'UPDATE projects SET impact = %s WHERE id = %d;', impact(), project() }) x 2,
	(sub { my $u = shift; sprintf 'UPDATE projects SET owner_id = %s WHERE id = %d;', $u->(user()), project() }) x 2,
	sub { my $u = shift; sprintf 'UPDATE projects SET owner_id = %s WHERE id %s;', pick('NULL', $u->(user())), range() },
	sub { sprintf 'UPDATE projects SET id = %d WHERE id = %d;', project(), project() },
	(sub { sprintf 'DELETE FROM projects WHERE id = %d;', project() }) x 2,
	sub { sprintf 'DELETE FROM projects WHERE id %s AND status <> $$shipped$$;', range() },
	(sub {
		my $u = shift;
		sprintf 'INSERT INTO project_collaborators VALUES (%d, %s, %s);', project(), $u->(user()), role();
	}) x 4,
	sub {
		my $u = shift;
		sprintf 'INSERT INTO project_collaborators SELECT p.id, u.id, %s FROM projects p, users u
			WHERE p.id %s AND u.id IN (%s, %s) AND NOT EXISTS (SELECT FROM project_collaborators c
			WHERE c.project_id = p.id AND c.user_id = u.id);',
		  role(), range(), $u->(user()), $u->(user());
	},
	(sub { sprintf 'UPDATE project_collaborators SET status = %s WHERE project_id = %d;', role(), project() }) x 3,
	sub { sprintf 'UPDATE project_collaborators SET status = %s WHERE project_id %s;', role(), range() },
	sub { my $u = shift; sprintf 'UPDATE project_collaborators SET user_id = %s WHERE project_id = %d;', $u->(user()), project() },
	sub { sprintf 'UPDATE project_collaborators SET project_id = %d WHERE project_id = %d;', project(), project() },
	(sub { my $u = shift; sprintf 'DELETE FROM project_collaborators WHERE user_id = %s;', $u->(user()) }) x 2,
	sub { sprintf 'DELETE FROM project_collaborators WHERE project_id %s;', range() });

sub statement
{
	my $u = $_[0]->{uid};
	my $which = rand(@statements + DriftSessions::statements() + DriftPoints::statements());

	return pick(@statements)->($u) if $which < @statements;
	return DriftSessions::statement($_[0]->{name}, sub { $u->(user()) }) if $which < @statements + DriftSessions::statements();
	return DriftPoints::statement($_[0]->{name}, sub { $u->(user()) });
}

sub statements { my $variant = shift; return map { statement($variant) } 1 .. number(4); }

sub recalc
{
	return sprintf 'SELECT %s_recalc(%s);', pick('builder_score', 'trust_score', 'session_reputation', 'points'), $_[0]->{uid}->(user());
}

my $prepared = 0;

# What has everybody computed again.
my @sweeps = (
	q{SELECT reputation.run_job('nightly', 'manual');},
	'SELECT builder_score_recalc_all();',
	'SELECT trust_score_recalc_all();',
	'SELECT session_reputation_recalc_all();',
	'TRUNCATE wingman_sessions;',
	'TRUNCATE activity;',
	q{SELECT algorithm_activate('trust', 1);},
	'SELECT reputation_repair();',
	'UPDATE users SET builder_score = builder_score + 1;',
	'TRUNCATE project_collaborators;',
	'TRUNCATE projects, project_collaborators;',
	DriftPoints::sweeps());

# One transaction of a client, of a random shape.
sub transaction
{
	my ($variant, $client, $may_sweep) = @_;
	my $shape = rand($may_sweep ? 103 : 100);
	my $isolation =
	  pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my @begin = ("BEGIN ISOLATION LEVEL $isolation;");

	return (statement($variant)) if $shape < 45;
	return (@begin, statements($variant), 'COMMIT;') if $shape < 60;
	return (@begin, statements($variant), 'ROLLBACK;') if $shape < 64;
	return (@begin, statement($variant), 'SAVEPOINT a;', statements($variant), 'ROLLBACK TO a;',
		statement($variant), 'SAVEPOINT b;', statement($variant), 'RELEASE b;', 'COMMIT;')
	  if $shape < 74;
	if ($shape < 82)
	{
		my $gid = sprintf 'c%d_%d', $client, ++$prepared;
		return (@begin, statements($variant), "PREPARE TRANSACTION '$gid';",
			(map { statement($variant) } 1 .. number(3)),
			pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$gid';");
	}
	return (copy_rows($variant)) if $shape < 85;
	return (q{DELETE FROM users WHERE name = 'copied';}) if $shape < 86;
	return (recalc($variant)) if $shape < 90;
	return (@begin, statement($variant), recalc($variant), statement($variant), recalc($variant),
		pick('COMMIT;', 'COMMIT;', 'ROLLBACK;'))
	  if $shape < 96;
	return ('BEGIN;', 'SAVEPOINT a;', statement($variant), recalc($variant), 'ROLLBACK TO a;',
		recalc($variant), 'COMMIT;')
	  if $shape < 98.5;
	return ('SELECT reputation_process();') if $shape < 99.2;
	return (sprintf 'SELECT reputation_forget(%s);', $variant->{uid}->(user())) if $shape < 100;
	return (pick(@sweeps)) if $shape < 102;
	return (@begin, statement($variant), pick(@sweeps), statement($variant), pick('COMMIT;', 'ROLLBACK;'));
}

# Some rows, where they are missing.
sub populate
{
	my $u = $_[0]->{uid};
	my ($user, $project) = (number(USERS - 10), number(PROJECTS));

	return (sprintf('INSERT INTO users (id, name) VALUES %s ON CONFLICT DO NOTHING;',
			join(', ', map { sprintf '(%s, $$filled$$)', $u->($_) } $user .. $user + 10)),
		(map {
			sprintf 'INSERT INTO projects SELECT %d, u.id, %s, %s FROM users u WHERE u.id = %s
				AND NOT EXISTS (SELECT FROM projects p WHERE p.id = %1$d);',
			  $_, status(), impact(), $u->($user + $_ % 10)
		} $project .. $project + 8),
		(map { DriftSessions::populate($_[0]->{name}, $u->($_), $u->($_ + 1)) } $user, $user + 5),
		(map { DriftPoints::populate($u->($_)) } $user .. $user + 2));
}

sub script
{
	my ($variant, $client, $may_sweep) = @_;
	my @lines = ('\set VERBOSITY verbose', q{SET lock_timeout = '1 s';}, q{SET statement_timeout = '20 s';},
		q{SET application_name = 'drift';}, populate($variant));

	push @lines, transaction($variant, $client, $may_sweep) for 1 .. CHUNK;
	return join("\n", @lines) . "\n";
}

# Runs psql, with its errors appended to a file. From a file: psql may be gone
# before it has read its input.
sub psql
{
	my ($node, $database, $script, $errors) = @_;
	my $file = "$errors.sql";
	my ($out, $err) = ('', '');

	open my $handle, '>', $file or die "$file: $!";
	print $handle $script;
	close $handle;
	IPC::Run::run([ 'psql', '-XqAt', '-f', $file, '-d', $node->connstr($database) ],
		'<', \undef, '>', \$out, '2>', \$err);
	append_to_file($errors, $err);
	return;
}

# Waits until the server accepts connections; dies when that takes a minute.
sub wait_for_server
{
	my ($node, $database) = @_;

	for (1 .. 600)
	{
		my ($out, $err) = ('', '');
		return if IPC::Run::run([ 'psql', '-XqAt', '-c', 'SELECT 1', '-d', $node->connstr($database) ],
			'<', \undef, '>', \$out, '2>', \$err);
		usleep(100_000);
	}
	die "the server does not come back";
}

# Ends the prepared transactions that a crash left to a client, or to everybody.
sub resolve_prepared
{
	my ($node, $database, $like, $errors) = @_;

	psql($node, $database,
		"SELECT CASE WHEN random() < 0.7 THEN 'COMMIT' ELSE 'ROLLBACK' END || ' PREPARED ' || quote_literal(gid)
		 FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE '$like' \\gexec\n", $errors);
	return;
}

# A client's life, in a process of its own.
sub client_main
{
	my ($node, $database, $client, $chunks, $seed, $progress, $errors) = @_;

	srand($seed + $client);
	for my $chunk (1 .. $chunks)
	{
		my $script = script($variants{$database}, $client, $chunk <= $chunks / 3);

		wait_for_server($node, $database);
		resolve_prepared($node, $database, "c${client}\\_%", $errors);
		psql($node, $database, $script, $errors);
		syswrite $progress, 'x';
	}
	return;
}

sub start_client
{
	my ($progress, @arguments) = @_;
	my $pid = fork();

	die "fork: $!" if !defined $pid;
	if ($pid == 0)
	{
		# Without the parent's END blocks, which would stop the server.
		my $ok = eval { client_main(@arguments); 1 };
		print STDERR $@ if !$ok;
		POSIX::_exit($ok ? 0 : 1);
	}
	return $pid;
}

# Runs statements in a session, which may end in the middle, or not begin: then
# psql has not read them all, and the write fails.
sub in_a_session
{
	my ($node, $database, $sql) = @_;

	eval { $node->psql($database, $sql, on_error_stop => 0); };
	return;
}

# What is done to the server while the clients are at it.
sub signal_backend
{
	my ($node, $database, $function, $whom) = @_;
	my $condition = $whom eq 'worker'
	  ? 'pid IN (SELECT w.pid FROM reputation.workers() w)' : q{application_name = 'drift'};

	$node->psql($database, "SELECT $function(pid) FROM pg_stat_activity WHERE $condition
		AND datname = current_database() ORDER BY random() LIMIT 1", on_error_stop => 0);
	return;
}

sub kill_process
{
	my ($node, $database, $query) = @_;
	my ($status, $pid) = $node->psql($database, $query, on_error_stop => 0);

	return if $status != 0 || $pid !~ /^\d+$/;
	kill 'KILL', $pid;
	return $pid;
}

# The clock stands still while it is set; setting it back has everybody computed again. The server may be crashing.
my $clock_is_ahead = 0;

sub move_clock
{
	my ($node, $ahead) = @_;
	my $time = $ahead ? POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime(time + $ahead)) : '';
	my $is_set = "SELECT current_setting('reputation.clock') = '$time'";

	$clock_is_ahead = $ahead ? 1 : 0;
	for (1 .. 600)
	{
		eval { $node->psql('postgres', "ALTER SYSTEM SET reputation.clock = '$time'; SELECT pg_reload_conf();", on_error_stop => 0); };
		return if eval { ($node->psql('postgres', $is_set, on_error_stop => 0))[1] eq 't' };
		usleep(20_000);
	}
	die "the clock cannot be set";
}

my @sweeping_trouble = ('clock ahead', 'lock of the inbox', 'old snapshot');
my %trouble = (
	'kill -9 of a worker' => sub {
		kill_process(@_, q{SELECT pid FROM reputation.workers() ORDER BY random() LIMIT 1});
	},
	'kill -9 of a client' => sub {
		kill_process(@_, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'drift' ORDER BY random() LIMIT 1});
	},
	'immediate stop' => sub { $_[0]->stop('immediate'); $_[0]->start; },
	'restart' => sub { $_[0]->restart; },
	'clock ahead' => sub { move_clock($_[0], 3600 * pick(7, 25, 192)); },
	'termination of a worker' => sub { signal_backend(@_, 'pg_terminate_backend', 'worker') },
	'cancel of a worker' => sub { signal_backend(@_, 'pg_cancel_backend', 'worker') for 1 .. 20; },
	'termination of a client' => sub { signal_backend(@_, 'pg_terminate_backend', 'client') },
	'cancel of a client' => sub { signal_backend(@_, 'pg_cancel_backend', 'client') for 1 .. 5; },
	'lock of the inbox' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3, reputation.inbox_4;
			SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'lock of the segments' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.inbox_0, reputation.inbox_1, reputation.inbox_2, reputation.inbox_3;
			SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'lock of the jobs' => sub {
		in_a_session(@_, q{BEGIN; LOCK TABLE reputation.job; SELECT count(*) FROM generate_series(1, 3000000); COMMIT;});
	},
	'old snapshot' => sub {
		in_a_session(@_, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users, generate_series(1, 30000);
			SELECT builder_score_recalc_all(); COMMIT;});
	});

sub start_server
{
	my $node = PostgreSQL::Test::Cluster->new('drift');

	$node->init;
	$node->append_conf('postgresql.conf', q{
		shared_preload_libraries = 'reputation'
		reputation.workers = 2
		max_worker_processes = 20
		max_connections = 60
		max_prepared_transactions = 30
		restart_after_crash = on
		synchronous_commit = on
		autovacuum_naptime = 1
		timezone = 'UTC'
		log_line_prefix = '%m [%p] %b %d '
		log_statement = none});
	$node->start;
	foreach my $database (sort keys %variants)
	{
		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database, qq{
			SET client_min_messages = error;
			CREATE EXTENSION reputation;
			$variants{$database}->{tables}
			CREATE INDEX ON projects (owner_id);
			CREATE INDEX ON project_collaborators (user_id);
			CREATE INDEX ON activity (user_id, created_at);
			SET timezone = 'UTC';
			SELECT builder_score_attach();
			SELECT trust_score_attach(activity => 'activity');
			@{[DriftSessions::setup($database)]}
			@{[DriftPoints::setup($database)]}
			UPDATE reputation.algorithm
			SET parameters = parameters || '{"debounce": "$variants{$database}->{debounce}"}';});
	}
	return $node;
}

# Lets the clients run and makes trouble each time they got another $every
# chunks done.
sub shake
{
	my ($node, $progress, $total, $every, $patience) = @_;
	my $select = IO::Select->new($progress);
	my @databases = sort keys %variants;
	my $done = 0;

	move_clock($node) if $clock_is_ahead;
	while ($done < $total)
	{
		my $byte;

		die "the clients got stuck after $done of $total chunks" if !$select->can_read($patience);
		last if !sysread $progress, $byte, 1;
		next if ++$done % $every != 0;

		my $kind = pick(sort keys %trouble);
		$kind = 'kill -9 of a worker' if $done > $total / 3 && grep { $_ eq $kind } @sweeping_trouble;
		my $was_ahead = $clock_is_ahead;
		note "after $done of $total chunks: $kind";
		$trouble{$kind}->($node, pick(@databases));
		wait_for_server($node, 'postgres');
		# In the next trouble it still was.
		move_clock($node) if $was_ahead;
	}
	return $done;
}

# One phase: starts the clients, shakes the server, waits for the clients'
# ends, and ends what they left prepared.
sub phase
{
	my ($node, $phase, $seed, $option) = @_;
	my ($progress, $report);
	my (@pids, @errors);

	pipe($progress, $report) or die "pipe: $!";
	foreach my $database (sort keys %variants)
	{
		for (1 .. $variants{$database}->{clients})
		{
			my $client = @pids + 1;

			push @errors, "$PostgreSQL::Test::Utils::tmp_check/client_${phase}_$client.log";
			append_to_file($errors[-1], '');
			push @pids, start_client($report, $node, $database, $client, $option->{chunks},
				1000 * $seed + 20 * $phase, $report, $errors[-1]);
		}
	}
	close $report;

	my $total = @pids * $option->{chunks};
	is(shake($node, $progress, $total, $option->{every}, $option->{patience}), $total,
		"phase $phase: the clients did their work");
	move_clock($node) if $clock_is_ahead;
	my $failed = 0;
	foreach my $pid (@pids)
	{
		waitpid $pid, 0;
		$failed++ if $? != 0;
	}
	is($failed, 0, "phase $phase: every client ended well");

	foreach my $database (sort keys %variants)
	{
		resolve_prepared($node, $database, '%', $errors[0]);
		$node->safe_psql($database, $option->{sabotage}) if $option->{sabotage};
	}
	return @errors;
}

# Errors of the clients that no statement of theirs should have met.
sub unexpected_errors
{
	my @lines;

	foreach my $file (@_)
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			next if $line !~ /(ERROR|FATAL|PANIC|WARNING):  (\w{5}): (.*)/;
			my ($level, $code, $message) = ($1, $2, $3);

			next if $level eq 'WARNING' && $code !~ /^(XX|53)/ && $message !~ /reputation/;
			next if $expected{$code} && $message !~ /reputation|inbox|builder_scores|trust_score|session_scores|point_ledger|points_scores|board|rank_/;
			push @lines, $line;
		}
	}
	return @lines;
}

# Deadlocks with a worker that an application's transaction had to give up in.
sub lost_deadlocks
{
	my $node = shift;
	my @lost;

	foreach my $entry (split /\n(?=\d{4}-)/, slurp_file($node->logfile))
	{
		push @lost, $entry
		  if $entry =~ / client backend .*DETAIL:  Process \d+ waits for/ && $entry =~ /: draining$/m;
	}
	return @lost;
}

sub is_none
{
	my ($node, $database, $query, $name) = @_;

	return is($node->safe_psql($database, $query), '', $name);
}

# Waits until nothing is to be done.
sub drained
{
	my ($node, $database, $condition, $when) = @_;

	ok($node->poll_query_until($database, qq{
		SELECT NOT EXISTS (SELECT FROM reputation.inbox_0) AND NOT EXISTS (SELECT FROM reputation.inbox_1)
			AND NOT EXISTS (SELECT FROM reputation.inbox_2) AND NOT EXISTS (SELECT FROM reputation.inbox_3) AND NOT EXISTS (SELECT FROM reputation.inbox_4)
			AND NOT EXISTS (SELECT FROM reputation.job)
			AND NOT EXISTS (SELECT FROM reputation.trust_scores WHERE next_due_at <= reputation.clock())
			AND NOT EXISTS (SELECT FROM reputation.job_runs WHERE status = 'running')
			AND @{[DriftPoints::none_due($database)]} AND $condition}), "$when: drained")
	  or diag $node->safe_psql($database, 'SELECT * FROM reputation.job LIMIT 20; SELECT * FROM reputation.job_runs ORDER BY id DESC LIMIT 5');
	return;
}

# Queries of what is wrong, each after its name; in one session.
my @verify = ('verify' => 'SELECT * FROM reputation_verify()');

sub are_none
{
	my ($node, $database, $name, @queries) = @_;
	my $sql = '';

	while (my ($what, $query) = splice @queries, 0, 2)
	{
		$sql .= "SELECT '$what', q.* FROM ($query) q;\n";
	}
	return is_none($node, $database, $sql, $name);
}

# Whom time alone changes, all at once: the clock is moved, and the server crashes while the workers are at it.
sub check_ahead
{
	my ($node, $when) = @_;

	move_clock($node, 3600 * pick(25, 85, 192));
	my $pid = kill_process($node, pick(sort keys %variants), q{SELECT pid FROM reputation.workers() ORDER BY random() LIMIT 1});
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)") if $pid;
	foreach my $database (sort keys %variants)
	{
		drained($node, $database, 'true', "$when, $database, the clock ahead");
		are_none($node, $database, "$when, $database, the clock ahead: points, their ranks, and verify", @verify, DriftPoints::wrong($database));
	}
	return;
}

# What must hold when nobody writes any more.
sub check
{
	my ($node, $database, $when) = @_;

	drained($node, $database, DriftPoints::none_due_soon($database), $when);

	# Time goes on between two statements. Who becomes due meanwhile is not drift, but told: the stored row knows its time.
	my $due = q{SELECT user_id FROM reputation.trust_scores WHERE next_due_at <= clock_timestamp()};
	is_none($node, $database, qq{SELECT * FROM reputation_verify() v WHERE NOT (engine_name = 'trust' AND user_id IN ($due))},
		"$when: verify finds nothing");
	are_none($node, $database, "$when: points and their ranks are the counted ones", DriftPoints::wrong($database));
	$node->safe_psql($database, q{CALL reputation_run('leaderboards')});
	drained($node, $database, 'true', "$when, the ranks written");
	are_none($node, $database, "$when: and so are the written ranks and the tops", DriftPoints::wrong_after_refresh($database));
	is_none($node, $database, qq{SET timezone = 'UTC'; SELECT * FROM ($recomputed_trust) r
		WHERE (stored, stored_new) IS DISTINCT FROM (score, new) AND id::text NOT IN ($due)},
		"$when: every trust score is the recomputed one");
	is_none($node, $database, "SELECT * FROM (@{[DriftSessions::recomputed($database)]}) r WHERE expected IS DISTINCT FROM stored
			OR expected IS DISTINCT FROM told", "$when: every session reputation is the recomputed one");
	is_none($node, $database, q{SELECT user_id FROM reputation.session_scores WHERE user_id NOT IN (SELECT id::text FROM users)},
		"$when: and nobody's is left");
	is_none($node, $database, q{SELECT s.user_id, s.score, a.new_score, a.cause FROM reputation.trust_scores s FULL JOIN
		(SELECT DISTINCT ON (user_id) * FROM reputation.trust_score_audit WHERE user_id NOT LIKE 'anonymous-%' ORDER BY user_id, id DESC) a USING (user_id)
		WHERE (s.score, s.breakdown, s.badges, s.algorithm_version, s.computed_at)
			IS DISTINCT FROM (a.new_score, a.breakdown, a.badges, a.algorithm_version, a.computed_at)},
		"$when: the last audit row of each user is its score's");
	is_none($node, $database, q{SELECT id, old_score, before FROM
		(SELECT a.*, lag(new_score) OVER (PARTITION BY user_id ORDER BY id) AS before FROM reputation.trust_score_audit a) a
		WHERE old_score IS DISTINCT FROM before}, "$when: the audit has no gap");
	is_none($node, $database, "SELECT * FROM ($recomputed) r WHERE builder_score IS DISTINCT FROM score",
		"$when: every cached score is the recomputed one");
	is_none($node, $database, q{SELECT u.id, s.user_id FROM users u
		FULL JOIN reputation.builder_scores s ON s.user_id = u.id::text
		WHERE s.score IS DISTINCT FROM u.builder_score}, "$when: a score row for each user and no other");
	is_none($node, $database, 'SELECT * FROM reputation.dead_letter', "$when: no dead letter");
	is_none($node, $database, q{SELECT * FROM reputation.job_runs WHERE status <> 'succeeded'},
		"$when: every run came to its end");
	is_none($node, $database, 'SELECT * FROM reputation.broken_capture()', "$when: the triggers are there");
	cmp_ok($node->safe_psql($database, 'SELECT count(*) FROM users WHERE builder_score > 0'), '>', 5,
		"$when: there are scores to be wrong about");
	cmp_ok($node->safe_psql($database, q{SELECT least(count(*) FILTER (WHERE completed_sessions > 0), count(*) FILTER (WHERE no_shows > 0))
			FROM reputation.session_scores}), '>', 3,
		"$when: and sessions");
	cmp_ok($node->safe_psql($database, 'SELECT least(count(*) FILTER (WHERE weekly > daily), count(*) FILTER (WHERE daily > 0)) FROM reputation.points_scores'),
		'>', 3, "$when: and points");
	return;
}

# run(phases, chunks => of each client in a phase, every => chunks between two
# troubles, patience => seconds that a chunk may take, sabotage => SQL): the whole
# test. The sabotage, for trying whether the test can fail, is done at the end of
# each phase in every database.
sub run
{
	my %option = @_;
	my $seed = $ENV{REPUTATION_SEED} // int(rand(1_000_000));
	my @errors;

	diag "REPUTATION_SEED=$seed";
	srand($seed);
	my $node = start_server();

	for my $phase (1 .. $option{phases})
	{
		push @errors, phase($node, $phase, $seed, \%option);
		check($node, $_, "phase $phase, $_") foreach sort keys %variants;
		check_ahead($node, "phase $phase");
	}

	my @unexpected = unexpected_errors(@errors);
	is(scalar(@unexpected), 0, 'no client met an error of the extension');
	diag join "\n", @unexpected[ 0 .. ($#unexpected < 20 ? $#unexpected : 20) ] if @unexpected;
	my @lost = lost_deadlocks($node);
	is(scalar(@lost), 0, 'no client gave up in a deadlock with a worker');
	diag join "\n", @lost if @lost;
	unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:|was terminated by signal (?!9:|3:)/,
		'no process crashed by itself');
	$node->stop;
	done_testing();
	return;
}

1;

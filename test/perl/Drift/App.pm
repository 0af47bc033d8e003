# The application of the randomised drift test: its schemas, what its clients do, and the builder and the trust score as the
# product's contract words them. Sessions, points and badges have modules of their own.

package Drift::App;

use strict;
use warnings;

use Drift::Badges;
use Drift::Points;
use Drift::Seconds;
use Drift::Sessions;

# The ids that the clients draw from.
use constant USERS    => 200;
use constant PROJECTS => 300;

# How many transactions a client sends in one session.
use constant CHUNK => 25;

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

# Their names, the number of clients of one, and what makes its tables and attaches to them.
sub names   { return sort keys %variants; }
sub clients { return $variants{ $_[0] }->{clients}; }

sub setup
{
	my ($name) = @_;

	return qq{
		SET client_min_messages = error;
		SET timezone = 'UTC';
		CREATE EXTENSION reputation;
		$variants{$name}->{tables}
		CREATE INDEX ON projects (owner_id);
		CREATE INDEX ON project_collaborators (user_id);
		CREATE INDEX ON activity (user_id, created_at);
		SELECT builder_score_attach();
		SELECT trust_score_attach(activity => 'activity');
		@{[Drift::Sessions::setup($name)]}
		@{[Drift::Points::setup($name)]}
		@{[Drift::Badges::setup($name)]}
		@{[Drift::Seconds::setup($name)]}
		UPDATE reputation.algorithm SET parameters = parameters || '{"debounce": "$variants{$name}->{debounce}"}';};
}

# The users whose score is another, in their row or in the score table.
my $wrong_builder = q{
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
	SELECT * FROM (SELECT id, builder_score, s.user_id, s.score AS stored, 10 * own_shipped + 6 * collab_shipped + 5 * least(v, 10)
		+ greatest(v - 10, 0) + least(50, round(10 * log(1 + impact))) AS score
		FROM signals FULL JOIN reputation.builder_scores s ON s.user_id = id::text) r
	WHERE (builder_score, stored) IS DISTINCT FROM (score, score) OR id IS NULL LIMIT 20};

# The same for trust, as of now: the users whose score is another.
my $wrong_trust = q{
	SELECT * FROM (SELECT u.id, s.score AS stored, 'new' = ANY (s.badges) AS stored_new, coalesce(u.created_at > reputation.clock() - interval '168 hours', false) AS new, round(
		(0.40 * (CASE WHEN u.photo <> '' THEN 25 ELSE 0 END + CASE WHEN u.name <> '' THEN 10 ELSE 0 END
			+ 20 * least(1, coalesce(length(btrim(u.bio)), 0) / 50.0))
		 + 0.35 * CASE WHEN u.email_verified THEN 25 ELSE 0 END
		 + 25 * least(1, ln(1 + a.events::numeric) / ln(51::numeric)))
		* CASE WHEN i.days > 7 THEN greatest(0.5, power(0.5, (i.days - 7) / 30)) ELSE 1 END) AS score
	FROM users u LEFT JOIN reputation.trust_scores s ON s.user_id = u.id::text
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE a.created_at > reputation.clock() - interval '720 hours') AS events, max(a.created_at) AS last
		FROM activity a WHERE a.user_id = u.id AND a.created_at <= reputation.clock()) a
	CROSS JOIN LATERAL (
		SELECT extract(epoch FROM reputation.clock() - greatest(u.last_active_at, a.last))::numeric / 86400 AS days) i) r
	WHERE (stored, stored_new) IS DISTINCT FROM (score, new) LIMIT 20};

# The same for sessions.
sub wrong_sessions
{
	return qq{
		SELECT * FROM (@{[Drift::Sessions::recomputed($_[0])]}) r WHERE expected IS DISTINCT FROM stored OR expected IS DISTINCT FROM told LIMIT 20};
}

# Queries of what is wrong in a variant, each after its name.
sub wrong
{
	return (
		'verify' => 'SELECT * FROM reputation_verify()',
		'builder' => $wrong_builder,
		'trust' => $wrong_trust,
		'last audit row' => q{
			SELECT s.user_id, s.score, a.new_score, a.cause FROM reputation.trust_scores s FULL JOIN
			(SELECT DISTINCT ON (user_id) * FROM reputation.trust_score_audit WHERE user_id NOT LIKE 'anonymous-%' ORDER BY user_id, id DESC) a USING (user_id)
			WHERE (s.score, s.breakdown, s.badges, s.algorithm_version, s.computed_at)
				IS DISTINCT FROM (a.new_score, a.breakdown, a.badges, a.algorithm_version, a.computed_at)},
		'since when' => q{
			SELECT s.user_id, s.reached_at, a.computed_at FROM reputation.trust_scores s LEFT JOIN
			(SELECT DISTINCT ON (user_id) * FROM reputation.trust_score_audit WHERE old_score IS DISTINCT FROM new_score ORDER BY user_id, id DESC) a USING (user_id)
			WHERE s.reached_at IS DISTINCT FROM a.computed_at},
		'gap in the audit' => q{
			SELECT id, old_score, before FROM (SELECT a.*, lag(new_score) OVER (PARTITION BY user_id ORDER BY id) AS before FROM reputation.trust_score_audit a) a
			WHERE old_score IS DISTINCT FROM before},
		'sessions' => wrong_sessions($_[0]),
		'sessions of nobody' => q{SELECT user_id FROM reputation.session_scores WHERE user_id NOT IN (SELECT id::text FROM users)},
		Drift::Points::wrong($_[0]),
		Drift::Badges::wrong($_[0]),
		Drift::Seconds::wrong());
}

# What there must be some of, so that it could be wrong: queries of numbers, each after its name.
sub numbers
{
	return (
		'builder scores' => 'SELECT count(*) FROM users WHERE builder_score > 0',
		'sessions' => 'SELECT least(count(*) FILTER (WHERE completed_sessions > 0), count(*) FILTER (WHERE no_shows > 0)) FROM reputation.session_scores',
		'points' => 'SELECT least(count(*) FILTER (WHERE weekly > daily), count(*) FILTER (WHERE daily > 0)) FROM reputation.points_scores',
		Drift::Badges::numbers(),
		Drift::Seconds::numbers());
}

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
	sub { my $u = shift; sprintf 'SELECT user_reputation(id) FROM users WHERE id IN (%s, %s);', $u->(user()), $u->(user()) },
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

# One of them, or of those of the other modules: all are as likely.
sub statement
{
	my ($name, $u) = @{ $_[0] }{qw(name uid)};
	my $which = rand(@statements + Drift::Sessions::statements() + Drift::Points::statements() + Drift::Badges::statements());

	return pick(@statements)->($u) if ($which -= @statements) < 0;
	return Drift::Sessions::statement($name, sub { $u->(user()) }) if ($which -= Drift::Sessions::statements()) < 0;
	return Drift::Points::statement($name, sub { $u->(user()) }) if ($which -= Drift::Points::statements()) < 0;
	return Drift::Badges::statement($name, sub { $u->(user()) });
}

sub statements { my $variant = shift; return map { statement($variant) } 1 .. number(4); }

sub recalc
{
	return sprintf 'SELECT %s_recalc(%s);', pick('builder_score', 'trust_score', 'session_reputation', 'points', 'badges'), $_[0]->{uid}->(user());
}

my $prepared = 0;

# What has everybody computed again; of the variants alike.
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
	Drift::Points::sweeps());

sub sweep { return pick(@sweeps, Drift::Badges::sweeps($_[0]->{name})); }

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
	if ($shape < 100)
	{
		my $u = $variant->{uid}->(user());

		# Of one who is being computed for the first time, that is.
		return ("INSERT INTO users (id, name) VALUES ($u, 'forgotten') ON CONFLICT DO NOTHING;", sprintf('SELECT pg_sleep(%.3f);', rand(0.02)),
			Drift::Badges::forget($u, pick('erase', 'anonymize')));
	}
	return (sweep($variant)) if $shape < 102;
	return (@begin, statement($variant), sweep($variant), statement($variant), pick('COMMIT;', 'ROLLBACK;'));
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
		(map { Drift::Sessions::populate($_[0]->{name}, $u->($_), $u->($_ + 1)) } $user, $user + 5),
		(map { Drift::Points::populate($u->($_)) } $user .. $user + 2),
		Drift::Badges::populate($_[0]->{name}, $u->($user), $u->($user + 1)));
}

# What a client sends in one session.
sub script
{
	my ($name, $client, $may_sweep) = @_;
	my $variant = $variants{$name};
	my @lines = ('\set VERBOSITY verbose', q{SET lock_timeout = '1 s';}, q{SET statement_timeout = '20 s';},
		q{SET application_name = 'drift';}, populate($variant));

	push @lines, transaction($variant, $client, $may_sweep) for 1 .. CHUNK;
	return join("\n", @lines) . "\n";
}

1;

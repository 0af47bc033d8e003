# The sessions of the randomised drift test: tables, what clients do with them, and the reputation as the
# product's contract words it. Each variant tells the cause of a no-show in another way, and has another policy.

package Drift::Sessions;

use strict;
use warnings;

# The ids that the clients draw from.
use constant MATCHES => 150;

# Of each variant: the tables; the policy and what it counts; when a side of a match missed a session, whose columns
# that takes; what an update can set to make it so.
my %variants = (
	plain => {
		policy  => 'any',
		counted => 'own OR partner',
		missed  => q{status = 'no_show' AND no_show_user_id = uid OR status = 'cancelled' AND cancelled_by = uid},
		columns => 'no_show_user_id, cancelled_by',
		blame   => [ 'no_show_user_id = %s', 'cancelled_by = %s' ],
		tables  => q{
			CREATE TABLE wingman_matches (id int PRIMARY KEY,
				user1_id int REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
				user2_id int REFERENCES users ON UPDATE CASCADE ON DELETE SET NULL);
			CREATE TABLE wingman_sessions (match_id int REFERENCES wingman_matches ON UPDATE CASCADE ON DELETE CASCADE,
				status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean,
				no_show_user_id int, cancelled_by int);}
	},
	# By the flags, and rows that move between partitions.
	partitioned => {
		policy  => 'own',
		counted => 'own',
		missed  => q{status = 'no_show' AND own IS NOT TRUE AND partner},
		columns => 'NULL',
		blame   => [],
		tables  => q{
			CREATE TABLE wingman_matches (id bigint PRIMARY KEY,
				user1_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
				user2_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE) PARTITION BY RANGE (id);
			CREATE TABLE wingman_matches_low PARTITION OF wingman_matches FOR VALUES FROM (MINVALUE) TO (20);
			CREATE TABLE wingman_matches_high PARTITION OF wingman_matches DEFAULT;
			CREATE TABLE wingman_sessions (match_id int REFERENCES wingman_matches ON UPDATE CASCADE ON DELETE CASCADE,
				status text, user1_completed_confirmed_by_user2 boolean, user2_completed_confirmed_by_user1 boolean)
				PARTITION BY LIST (status);
			CREATE TABLE wingman_sessions_done PARTITION OF wingman_sessions FOR VALUES IN ('completed');
			CREATE TABLE wingman_sessions_other PARTITION OF wingman_sessions DEFAULT;}
	},
	# One of the columns, the other by the flags; no foreign keys and no unique ids.
	loose => {
		policy  => 'both',
		counted => 'own AND partner',
		missed  => q{status = 'no_show' AND own IS NOT TRUE AND partner OR status = 'cancelled' AND cancelled_by = uid},
		columns => 'cancelled_by',
		blame   => [ 'cancelled_by = %s' ],
		tables  => q{
			CREATE TABLE wingman_matches (id int, user1_id text, user2_id text);
			CREATE TABLE wingman_sessions (match_id bigint, status varchar(20), user1_completed_confirmed_by_user2 boolean,
				user2_completed_confirmed_by_user1 boolean, cancelled_by text);
			CREATE INDEX ON wingman_matches (id);
			CREATE INDEX ON wingman_matches ((id::bigint));}
	});

# What makes a variant's tables and attaches to them.
sub setup
{
	my $variant = $variants{ $_[0] };

	return qq{
		$variant->{tables}
		CREATE INDEX ON wingman_matches (user1_id);
		CREATE INDEX ON wingman_matches (user2_id);
		CREATE INDEX ON wingman_sessions (match_id);
		SELECT session_reputation_attach(policy => '$variant->{policy}');
		SELECT session_reputation_attach(policy => '$variant->{policy}', name => 'session_2');};
}

# For every user: what is stored, what user_reputation() says, and the contract.
sub recomputed
{
	my $variant = $variants{ $_[0] };

	return qq{
		WITH side AS (
			SELECT m.user1_id AS uid, s.status, user1_completed_confirmed_by_user2 AS own,
				user2_completed_confirmed_by_user1 AS partner, $variant->{columns}
			FROM wingman_matches m JOIN wingman_sessions s ON s.match_id = m.id
			UNION ALL
			SELECT m.user2_id, s.status, user2_completed_confirmed_by_user1,
				user1_completed_confirmed_by_user2, $variant->{columns}
			FROM wingman_matches m JOIN wingman_sessions s ON s.match_id = m.id
			WHERE m.user1_id IS DISTINCT FROM m.user2_id
		), counted AS (
			SELECT u.id, count(*) FILTER (WHERE status = 'completed' AND ($variant->{counted})) AS completed,
				count(*) FILTER (WHERE $variant->{missed}) AS no_shows
			FROM users u LEFT JOIN side ON uid = u.id GROUP BY u.id
		), scored AS (
			SELECT *, greatest(-5, least(20, completed - no_shows)) AS score FROM counted
		)
		SELECT id, jsonb_build_object('score', c.score, 'completed_sessions', c.completed, 'no_shows', c.no_shows,
				'badge_color', CASE WHEN c.score >= 10 THEN 'gold' WHEN c.score >= 0 THEN 'green' ELSE 'red' END) AS expected,
			jsonb_build_object('score', s.score, 'completed_sessions', s.completed_sessions, 'no_shows', s.no_shows,
				'badge_color', s.badge_color) AS stored,
			user_reputation(c.id) - 'cache_timestamp' AS told
		FROM scored c LEFT JOIN reputation.session_scores s ON s.user_id = c.id::text};
}

sub pick   { return $_[ int(rand(@_)) ]; }
sub number { return int(rand($_[0])) + 1; }
sub match  { return int(MATCHES * rand()**2) + 1; }
sub flag   { return pick(qw(true true false NULL)); }

sub status
{
	return pick(map { "'$_'" } qw(completed completed completed no_show cancelled scheduled));
}

sub matches
{
	my $from = match();
	return "BETWEEN $from AND " . ($from + number(8));
}

# The statements of the application: each takes a variant's name and a function that gives some user's id.
my @statements = (
	(sub {
		sprintf 'INSERT INTO wingman_matches SELECT %d, a.id, b.id FROM users a, users b WHERE a.id = %s AND b.id = %s
			AND NOT EXISTS (SELECT FROM wingman_matches m WHERE m.id = %1$d);', match(), $_[1]->(), $_[1]->();
	}) x 3,
	sub {
		sprintf 'INSERT INTO wingman_matches SELECT g, u.id, %s FROM users u, generate_series(%d, %d) g WHERE u.id = %s
			AND NOT EXISTS (SELECT FROM wingman_matches m WHERE m.id = g);',
		  'u.id', (sort { $a <=> $b } match(), match()), $_[1]->();
	},
	(sub {
		sprintf 'INSERT INTO wingman_sessions (match_id, status, user1_completed_confirmed_by_user2, user2_completed_confirmed_by_user1)
			SELECT m.id, %s, %s, %s FROM wingman_matches m, generate_series(1, %d) WHERE m.id %s;',
		  status(), flag(), flag(), number(3), matches();
	}) x 4,
	(sub {
		sprintf 'UPDATE wingman_sessions SET user%s = %s WHERE match_id %s;',
		  pick('1_completed_confirmed_by_user2', '2_completed_confirmed_by_user1'), flag(), matches();
	}) x 2,
	(sub { sprintf 'UPDATE wingman_sessions SET status = %s WHERE match_id = %d;', status(), match() }) x 2,
	(sub {
		my $blame = $variants{ $_[0] }->{blame};

		return sprintf 'UPDATE wingman_sessions SET status = $$no_show$$, user1_completed_confirmed_by_user2 = %s WHERE match_id = %d;',
		  flag(), match()
		  if !@$blame;
		return sprintf 'UPDATE wingman_sessions s SET status = %s, %s FROM wingman_matches m WHERE m.id = s.match_id AND m.id %s;',
		  status(), sprintf(pick(@$blame), pick('m.user1_id', 'm.user2_id', 'NULL', $_[1]->())), matches();
	}) x 3,
	(sub { sprintf 'UPDATE wingman_matches SET user%d_id = %s WHERE id = %d;', number(2), $_[1]->(), match() }) x 2,
	sub { sprintf 'UPDATE wingman_matches SET user1_id = user2_id, user2_id = user1_id WHERE id %s;', matches() },
	sub { sprintf 'UPDATE wingman_matches SET id = %d WHERE id = %d;', match(), match() },
	sub { sprintf 'UPDATE wingman_sessions SET match_id = %d WHERE match_id = %d;', match(), match() },
	sub { sprintf 'DELETE FROM wingman_sessions WHERE match_id = %d AND status = %s;', match(), status() },
	sub { sprintf 'DELETE FROM wingman_matches WHERE id = %d;', match() });

# Some matches of two users of a variant, where they are missing, and some sessions of theirs, one of which its first
# user missed.
sub populate
{
	my ($name, $u, $v) = @_;
	my $blame = $variants{$name}->{blame};
	my $from = number(MATCHES - 10);

	my $matches = join ', ', map { sprintf '(%d, %s, %s)', $_, pick([ $u, $v ], [ $v, $u ])->@* } $from .. $from + 9;
	my $sessions = join ', ', map { sprintf '(%d, %s, %s::boolean)', $_, status(), flag() } $from .. $from + 9;

	return ("INSERT INTO wingman_matches SELECT v.id, a.id, b.id FROM (VALUES $matches) v (id, a, b)
			JOIN users a ON a.id = v.a JOIN users b ON b.id = v.b
			WHERE NOT EXISTS (SELECT FROM wingman_matches m WHERE m.id = v.id);",
		"INSERT INTO wingman_sessions (match_id, status, user1_completed_confirmed_by_user2, user2_completed_confirmed_by_user1)
			SELECT m.id, v.status, v.flag, true FROM (VALUES $sessions) v (id, status, flag) JOIN wingman_matches m USING (id);",
		map {
			sprintf 'UPDATE wingman_sessions s SET status = $$%s$$, %s FROM wingman_matches m WHERE m.id = s.match_id AND m.id = %d;',
			  /no_show/ ? 'no_show' : 'cancelled', sprintf($_, 'm.user1_id'), $from
		} @$blame ? pick(@$blame) : ());
}

# How many there are, and one at random.
sub statements { return scalar @statements; }
sub statement  { return pick(@statements)->(@_); }

1;

# The points of the randomised drift test: what clients do with the ledger, and the boards as the product's contract
# words them. Each variant has other windows, and other boards beside that of the points.
#
# Rows leave the windows all the time: many are written so that they do within two seconds, whatever is going on then.
# And the clock is moved, see Drift::Test.

package Drift::Points;

use strict;
use warnings;

use Drift::Badges;

# How much later than at a row's created_at a rolling window of the defaults ends, and when the row begins to count.
my @rolling = ([ weekly => '168 h' ], [ daily => '24 h' ]);

# Of each variant: the points engine's parameters and where they have the windows end, or the zone whose calendar does;
# what else there is to attach; the boards: which rows they count, else whose score they are over, and their ties.
my %variants = (
	plain => {
		parameters => '{}',
		windows    => \@rolling,
		attach     => q{
			SELECT leaderboard_create('dense', 'points', ties => 'dense');
			SELECT leaderboard_create('busy', 'activity', '{"source": {"points": null}}');
			SELECT leaderboard_create('builders', 'builder');},
		boards => [ [ points => 'ledger', 'rank' ], [ dense => 'ledger', 'dense' ], [ busy => 'activity', 'rank' ], [ builders => 'builder', 'rank' ] ],
	},
	# By a zone's calendar.
	partitioned => {
		parameters => '{"zone": "Europe/Berlin"}',
		zone       => 'Europe/Berlin',
		attach     => q{
			SELECT leaderboard_create('in_a_row', 'points', ties => 'row');
			SELECT leaderboard_create('sessions', 'session', ties => 'dense');},
		boards => [ [ points => 'ledger', 'rank' ], [ in_a_row => 'ledger', 'row' ], [ sessions => 'session', 'dense' ] ],
	},
	loose => {
		parameters => '{"weekly_days": 3.5, "daily_days": 0.25}',
		windows    => [ [ weekly => '84 h' ], [ daily => '6 h' ] ],
		attach     => q{
			SELECT leaderboard_create('busy', 'activity', '{"source": {"points": null}}', ties => 'dense');
			SELECT leaderboard_create('trusted', 'trust');},
		boards => [ [ points => 'ledger', 'rank' ], [ busy => 'activity', 'dense' ], [ trusted => 'trust', 'rank' ] ],
	});

# The rows that a board counts, and the scores that it is over.
my %sources = (
	ledger   => 'SELECT l.user_id AS uid, l.points, l.created_at AS at FROM reputation.point_ledger l',
	activity => 'SELECT a.user_id::text AS uid, 1 AS points, a.created_at::timestamptz AS at FROM activity a');
my %scores = (
	builder => 'SELECT u.id::text AS uid, u.builder_score AS points, s.reached_at AS reached FROM users u JOIN reputation.builder_scores s ON s.user_id = u.id::text',
	trust   => 'SELECT s.user_id AS uid, s.score AS points, s.reached_at AS reached FROM reputation.trust_scores s',
	session => 'SELECT s.user_id AS uid, s.score AS points, s.reached_at AS reached FROM reputation.session_scores s');

my %functions = (rank => 'rank', dense => 'dense_rank', row => 'row_number');

# What makes a variant's boards.
sub setup
{
	my $variant = $variants{ $_[0] };

	return qq{
		SELECT points_attach(rank_column => 'points_rank');
		UPDATE reputation.algorithm SET parameters = parameters || '$variant->{parameters}' WHERE engine = 'points';
		$variant->{attach}};
}

# The periods of a board over rows, each with the first moment that counts.
sub periods
{
	my ($variant, $source) = @_;
	my $windows = $source eq 'ledger' ? $variant->{windows} : \@rolling;
	my @starts = $windows
	  ? map { [ $_->[0], "reputation.clock() - interval '$_->[1]' + interval '1 us'" ] } @$windows
	  : map { [ $_->[0], "date_trunc('$_->[1]', reputation.clock(), '$variant->{zone}')" ] } ([ weekly => 'week' ], [ daily => 'day' ]);

	return join ', ', map { "('$_->[0]', $_->[1])" } [ 'all_time', "timestamptz '-infinity'" ], @starts;
}

# How many points each user has in each period, and since when.
sub points_of
{
	my ($variant, $source) = @_;

	return "SELECT 'all_time' AS period, s.* FROM ($scores{$source}) s" if $scores{$source};
	return qq{
		SELECT p.period, u.id::text AS uid, coalesce(sum(l.points) FILTER (WHERE l.at >= p.start), 0) AS points,
			coalesce(max(l.at), '-infinity') AS reached
		FROM users u CROSS JOIN (VALUES @{[periods($variant, $source)]}) AS p (period, start)
		LEFT JOIN ($sources{$source}) l ON l.uid = u.id::text AND l.at <= reputation.clock()
		GROUP BY 1, 2};
}

# The users whose rank or score on a board is not the one of rank() over its source, in any period.
sub wrong_ranks
{
	my ($variant, $board, $source, $ties) = @_;
	my $tied = $ties eq 'row' ? ', reached, uid COLLATE "C"' : '';
	my $periods = $scores{$source} ? '{all_time}' : '{all_time,weekly,daily}';

	return qq{
		WITH standing AS (
			SELECT period, uid, points, reached, $functions{$ties}() OVER (PARTITION BY period ORDER BY points DESC$tied) AS rank
			FROM (@{[points_of($variant, $source)]}) s WHERE period = 'all_time' OR points > 0
		), listed AS (
			SELECT period, l.user_id AS uid, l.rank, l.score, l.reached_at
			FROM unnest('$periods'::text[]) AS period CROSS JOIN leaderboard('$board', period, 1000000) l
		), told AS (
			SELECT period, u.id::text AS uid, calculate_user_rank(u.id, period, '$board') AS rank
			FROM users u CROSS JOIN unnest('$periods'::text[]) AS period
		)
		SELECT period, uid, s.points, s.rank, l.score, l.rank, t.rank
		FROM told t FULL JOIN standing s USING (period, uid) FULL JOIN listed l USING (period, uid)
		WHERE (t.rank, l.rank, l.score, l.reached_at) IS DISTINCT FROM (s.rank, s.rank, s.points, s.reached)
		LIMIT 20};
}

# Queries of what is wrong, each after its name.
sub wrong
{
	my $variant = $variants{ $_[0] };

	return (
		'sums' => qq{
			WITH sums AS (
				SELECT uid, max(points) FILTER (WHERE period = 'all_time') AS all_time, max(points) FILTER (WHERE period = 'weekly') AS weekly,
					max(points) FILTER (WHERE period = 'daily') AS daily, max(reached) AS reached
				FROM (@{[points_of($variant, 'ledger')]}) p GROUP BY 1
			)
			SELECT * FROM sums e FULL JOIN reputation.points_scores s ON s.user_id = e.uid
			WHERE (e.all_time, e.weekly, e.daily, e.reached, least(greatest(e.all_time, -2147483648), 2147483647))
				IS DISTINCT FROM (s.all_time, s.weekly, s.daily, s.reached_at, s.score) LIMIT 20},
		'totals' => q{
			SELECT u.id, total_points(u.id) FROM users u WHERE total_points(u.id) IS DISTINCT FROM
				(SELECT coalesce(sum(l.points), 0) FROM reputation.point_ledger l WHERE l.user_id = u.id::text AND l.created_at <= reputation.clock()) LIMIT 20},
		'paid twice' => q{
			SELECT user_id, source_key FROM reputation.point_ledger WHERE source_key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1
			UNION ALL SELECT min(user_id), revokes::text FROM reputation.point_ledger WHERE revokes IS NOT NULL GROUP BY 2 HAVING count(*) > 1},
		map { ("board $_->[0]" => wrong_ranks($variant, @$_)) } @{ $variant->{boards} });
}

# What the job "leaderboards" sees to: queries as above, to be asked after it.
sub wrong_outputs
{
	return (
		'rank column' => q{
			SELECT * FROM (SELECT id, points_rank, rank() OVER (ORDER BY coalesce(l.points, 0) DESC) AS rank FROM users u
				LEFT JOIN (SELECT user_id, sum(points) AS points FROM reputation.point_ledger WHERE created_at <= reputation.clock() GROUP BY 1) l ON l.user_id = u.id::text) r
			WHERE points_rank IS DISTINCT FROM rank LIMIT 20},
		'cache' => q{
			SELECT * FROM (SELECT b.name AS board, p.period, l.*
				FROM reputation.board b JOIN reputation.engines() e ON e.name = b.engine
				CROSS JOIN unnest(CASE WHEN e.id >= 4 THEN '{all_time,weekly,daily}' ELSE '{all_time}' END::text[]) AS p (period)
				CROSS JOIN leaderboard(b.name, p.period) WITH ORDINALITY AS l (rank, user_id, score, reached_at, position)) t
			FULL JOIN reputation.leaderboard_cache c USING (board, period, position, rank, user_id, score, reached_at)
			WHERE t IS NULL OR c.refreshed_at IS NULL LIMIT 20});
}

# The score tables that have windows.
sub timed_tables
{
	return ('points_scores', map { "$_->[0]_board_scores" } grep { $_->[1] eq 'activity' } @{ $variants{ $_[0] }->{boards} });
}

sub pick   { return $_[ int(rand(@_)) ]; }
sub number { return int(rand($_[0])) + 1; }
sub source { return "'k" . number(12) . "'"; }
sub points { return pick(1, 1, number(10), number(1000), -number(20), number(1_000_000_000)); }

# A time at which a row counts, of the last days; of the others most leave a window, or begin to count, in a moment.
sub moment
{
	my $soon = sprintf '%.3f s', rand(1.5);
	my $length = pick('0 h', '6 h', '24 h', '24 h', '84 h', '168 h', '720 h');

	return pick(sprintf(q{now() - interval '%d s'}, rand(10 * 86400)), map { "now() + interval '$soon' - interval '$length'" } 1 .. 2);
}

# The statements of the application: each takes a variant's name and a function that gives some user's id.
my @statements = (
	(sub { sprintf 'SELECT award_points(id, %d, $$drift$$, %s) FROM users WHERE id IN (%s, %s) ORDER BY id;', points(), source(), $_[1]->(), $_[1]->() }) x 4,
	sub { sprintf 'SELECT award_points(%s, %d);', $_[1]->(), points() },
	sub { sprintf 'SELECT award_points(%s, %d, $$drift$$, %s, $$points_2$$);', $_[1]->(), points(), source() },
	(sub {
		sprintf 'SELECT revoke_points(u.id, l.source_key) FROM users u JOIN reputation.point_ledger l ON l.user_id = u.id::text
			WHERE u.id = %s AND l.source_key IN (%s, %s);', $_[1]->(), source(), source();
	}) x 2,
	# By hand, for somebody who may not be there.
	(sub {
		sprintf 'INSERT INTO reputation.point_ledger (user_id, points, reason, source_key, created_at) VALUES ((%s)::text, %d, $$by hand$$, %s, %s) ON CONFLICT DO NOTHING;',
		  $_[1]->(), points(), pick('NULL', source()), moment();
	}) x 3,
	(sub {
		sprintf 'INSERT INTO reputation.point_ledger (user_id, points, created_at) SELECT id::text, %d, %s FROM users WHERE id IN (%s, %s, %s);',
		  number(3), moment(), $_[1]->(), $_[1]->(), $_[1]->();
	}) x 2,
	(sub { sprintf 'INSERT INTO activity SELECT id, %s FROM users WHERE id = %s;', moment(), $_[1]->() }) x 2,
	sub { Drift::Badges::forget($_[1]->(), 'anonymize') });

# What has everybody computed again, or a tree made anew.
sub sweeps
{
	return (
		'SELECT points_recalc_all();',
		# Of the bonuses only the hourly check finds out.
		q{DO 'BEGIN TRUNCATE reputation.point_ledger; PERFORM reputation.run_job(''badges'', ''manual''); END';},
		q{SELECT reputation.rank_rebuild('points');},
		q{SELECT algorithm_activate('points', 1);});
}

# Some points for a user.
sub populate
{
	my ($u) = @_;

	return map {
		sprintf 'INSERT INTO reputation.point_ledger (user_id, points, created_at) SELECT id::text, %d, %s FROM users WHERE id = %s;', number(9), moment(), $u
	} 1 .. 3;
}

# How many there are, and one at random.
sub statements { return scalar @statements; }
sub statement  { return pick(@statements)->(@_); }

1;

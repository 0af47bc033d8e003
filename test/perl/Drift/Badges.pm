# The badges of the randomised drift test: tables, what clients do with what the badges are for and with the badges, and
# who must have which with what bonus, as the product's contract words it. Each variant has its metrics in other places.
#
# What the users must have now follows from their metrics, but for a badge that is for good: whoever had enough once may
# have it. So the test notes what the application ever had (peak, limits), and at the end of a phase who has what
# (held): nobody has a badge without ever having had enough, and nobody loses one that is for good. A user is known
# by a number of the row's own, for ids are changed, deleted and used again.

package Drift::Badges;

use strict;
use warnings;

# Of each variant: the tables; the attach; where the metrics are, those in the users' rows (u) and the counted one; what a
# client may set in a user's row; the counted table, and its flag if not all rows count.
my %variants = (
	plain => {
		tables => q{
			ALTER TABLE users ADD COLUMN wins int NOT NULL DEFAULT 0, ADD COLUMN beta boolean, ADD COLUMN wallet text;
			CREATE TABLE ballots (user_id int REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, valid boolean);},
		attach => q{badges_attach(votes => 'ballots', columns => '{"votes": {"counts": "valid"}}')},
		own    => { wins => 'u.wins', beta => 'coalesce(u.beta, false)::int', wallet => q{coalesce(btrim(u.wallet) <> '', false)::int} },
		counts => 'votes',
		number => 'wins',
		flags  => [ 'beta = true', 'beta = NULL', 'wallet = $$0x1$$', 'wallet = $$ $$' ],
		table  => 'ballots',
		flag   => 'valid',
	},
	# Rows move between partitions when they begin to count.
	partitioned => {
		tables => q{
			ALTER TABLE users ADD COLUMN joined bigint, ADD COLUMN beta timestamptz, ADD COLUMN wallet boolean;
			CREATE TABLE games (user_id bigint REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, won boolean) PARTITION BY LIST (won);
			CREATE TABLE games_won PARTITION OF games FOR VALUES IN (true);
			CREATE TABLE games_other PARTITION OF games DEFAULT;},
		attach => q{badges_attach(wins => 'games', columns => '{"users": {"participations": "joined"}, "wins": {"counts": "won"}}')},
		own    => { participations => 'coalesce(u.joined, 0)', beta => '(u.beta IS NOT NULL)::int', wallet => 'coalesce(u.wallet, false)::int' },
		counts => 'wins',
		number => 'joined',
		flags  => [ 'beta = now()', 'beta = NULL', 'wallet = true', 'wallet = NULL' ],
		table  => 'games',
		flag   => 'won',
	},
	# No foreign keys, and every row counts.
	loose => {
		tables => q{
			ALTER TABLE users ADD COLUMN wins smallint, ADD COLUMN purse bytea;
			CREATE TABLE arguments (user_id text, at timestamptz DEFAULT now());},
		attach => q{badges_attach(top_arguments => 'arguments', columns => '{"users": {"wallet": "purse"}}')},
		own    => { wins => 'coalesce(u.wins, 0)', wallet => 'coalesce(octet_length(u.purse) > 0, false)::int' },
		counts => 'top_arguments',
		number => 'wins',
		flags  => [ q{purse = '\x01'}, q{purse = ''} ],
		table  => 'arguments',
		flag   => undef,
	});

# How much the user in u has of the counted metric.
sub counted
{
	my $variant = $variants{ $_[0] };
	my $flag = $variant->{flag} ? " AND t.$variant->{flag}" : '';

	return "(SELECT count(*) FROM $variant->{table} t WHERE t.user_id = u.id$flag)";
}

# A list of the metrics of the user in u: (name, value); those in the user's row alone.
sub own_metrics
{
	my $own = $variants{ $_[0] }->{own};

	return join ', ', map { "('$_', ($own->{$_})::bigint)" } sort keys %$own;
}

sub metrics { return own_metrics(@_) . ", ('$variants{$_[0]}->{counts}', " . counted(@_) . ')'; }

# The metric of the number that clients set in a user's row.
sub number_metric { return $_[0] eq 'partitioned' ? 'participations' : 'wins'; }

# The columns of a user's row that metrics are in.
sub own_columns
{
	my ($number, $flags) = @{ $variants{ $_[0] } }{qw(number flags)};
	my %columns = map { /^(\w+) = / => 1 } "$number = ", @$flags;

	return join ', ', sort keys %columns;
}

# What makes a variant's tables and badges, attaches to them, and notes what there ever was.
sub setup
{
	my ($name) = @_;
	my $variant = $variants{$name};
	my $metric = number_metric($name);

	return qq{
		CREATE SEQUENCE births;
		ALTER TABLE users ADD COLUMN birth bigint NOT NULL DEFAULT nextval('births');
		CREATE TABLE peak (birth bigint, metric text, value bigint);
		CREATE TABLE limits (slug text, threshold bigint);
		CREATE TABLE held (birth bigint, slug text);
		CREATE TABLE forgotten (birth bigint);
		CREATE INDEX ON peak (birth);
		$variant->{tables}
		CREATE INDEX ON $variant->{table} (user_id);
		CREATE FUNCTION note_peak() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			INSERT INTO public.peak SELECT u.birth, m.metric, m.value FROM (SELECT NEW.*) u
				CROSS JOIN LATERAL (VALUES @{[own_metrics($name)]}) AS m (metric, value) WHERE m.value > 0;
			-- One who is not new comes from another partition, without badges.
			IF TG_OP = 'INSERT' THEN
				INSERT INTO public.forgotten VALUES (NEW.birth);
			END IF;
			RETURN NULL; END \$\$;
		CREATE FUNCTION note_limit() RETURNS trigger LANGUAGE plpgsql AS
			\$\$ BEGIN INSERT INTO public.limits VALUES (NEW.slug, NEW.threshold); RETURN NULL; END \$\$;
		CREATE TRIGGER note_peak AFTER INSERT OR UPDATE OF @{[own_columns($name)]} ON users FOR EACH ROW EXECUTE FUNCTION note_peak();
		CREATE TRIGGER note_limit AFTER INSERT OR UPDATE ON reputation.badge FOR EACH ROW EXECUTE FUNCTION note_limit();
		SELECT $variant->{attach};
		UPDATE reputation.badge SET threshold = least(threshold, 6), revocable = slug IN ('five_wins', 'three_top_arguments', 'early_adopter');
		INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold, bonus_points, revocable) VALUES
			('for_good', '', '', '', '$metric', 8, 3, false), ('rises', '', '', '', '$metric', 5, 7, true),
			('flips', '', '', '', '$metric', 6, 11, true), ('comes_and_goes', '', '', '', '$metric', 4, 13, false),
			('counted', '', '', '', '$variant->{counts}', 4, 17, true);};
}

# The same for another set of badges, and the ledger it pays into.
sub attach_as
{
	my ($name, $as, $points) = @_;

	return $variants{$name}->{attach} =~ s/\)$/, name => '$as', points => '$points')/r;
}

# Queries of what is wrong, each after its name. "had" is who has which badge, and should by the metrics as they are.
sub wrong
{
	my ($name) = @_;
	my $own = join ', ', map { "'$_'" } sort keys %{ $variants{$name}->{own} };
	my $had = qq{
		SELECT u.id::text AS uid, u.birth, b.slug, b.metric, b.revocable, coalesce(m.value, 0) AS value, b.threshold,
			h.slug IS NOT NULL AS held, h.bonus_points, h.source_key
		FROM users u CROSS JOIN reputation.badge b
		LEFT JOIN LATERAL (VALUES @{[metrics($name)]}) AS m (metric, value) ON m.metric = b.metric
		LEFT JOIN reputation.user_badge h ON h.user_id = u.id::text AND h.slug = b.slug};
	my $paid = q{
		SELECT l.user_id AS uid, split_part(l.source_key, ':', 2) AS slug, l.source_key, l.points FROM reputation.point_ledger l
		WHERE l.source_key LIKE 'badge:%' AND NOT EXISTS (SELECT FROM reputation.point_ledger r WHERE r.revokes = l.id)};

	return (
		'badges' => qq{SELECT * FROM ($had) h WHERE CASE WHEN held THEN revocable AND value < threshold ELSE value >= threshold END LIMIT 20},
		'badges never earned' => qq{
			SELECT * FROM ($had) h WHERE held AND metric IN ($own) AND NOT EXISTS
				(SELECT FROM peak p WHERE p.birth = h.birth AND p.metric = h.metric AND p.value >= (SELECT min(l.threshold) FROM limits l WHERE l.slug = h.slug)) LIMIT 20},
		'badges lost that are for good' => q{
			SELECT * FROM held k JOIN users u USING (birth) JOIN reputation.badge b USING (slug)
			WHERE NOT b.revocable AND b.slug NOT IN ('flips', 'comes_and_goes') AND NOT EXISTS (SELECT FROM forgotten f WHERE f.birth = k.birth)
				AND NOT EXISTS (SELECT FROM reputation.user_badge h WHERE h.user_id = u.id::text AND h.slug = k.slug) LIMIT 20},
		'badges of nobody' => q{
			SELECT h.user_id, h.slug FROM reputation.user_badge h WHERE h.user_id NOT IN (SELECT id::text FROM users) OR h.slug NOT IN (SELECT slug FROM reputation.badge) LIMIT 20},
		'badges twice' => q{SELECT user_id, slug FROM reputation.user_badge GROUP BY 1, 2 HAVING count(*) > 1},
		'bonuses twice' => qq{SELECT uid, slug, count(*) FROM ($paid) p GROUP BY 1, 2 HAVING count(*) > 1 LIMIT 20},
		# A badge that is deleted leaves its bonuses.
		'bonuses' => qq{
			SELECT * FROM ($had) h FULL JOIN ($paid) p USING (uid, slug)
			WHERE (h.source_key, CASE WHEN h.source_key IS NOT NULL THEN h.bonus_points END) IS DISTINCT FROM (p.source_key, p.points)
				AND (h.held OR slug <> 'comes_and_goes') OR h.held AND h.source_key IS NULL AND h.bonus_points <> 0 LIMIT 20},
		'badges told' => q{
			SELECT u.id FROM users u WHERE (get_user_badges(u.id) ->> 'total_badges')::int <> (SELECT count(*) FROM reputation.user_badge h WHERE h.user_id = u.id::text) LIMIT 20});
}

# What there must be some of, so that it could be wrong: queries of numbers, each after its name.
sub numbers
{
	return (
		'badges' => 'SELECT count(DISTINCT user_id) FROM reputation.user_badge',
		'bonuses' => q{SELECT count(*) FROM reputation.point_ledger WHERE source_key LIKE 'badge:%'});
}

# Notes who has what, for the next time.
sub remember
{
	my ($node, $database) = @_;

	$node->safe_psql($database, q{
		TRUNCATE held, forgotten;
		INSERT INTO held SELECT u.birth, h.slug FROM reputation.user_badge h JOIN users u ON u.id::text = h.user_id});
	return;
}

# Has a user forgotten. The badges go, those for good as well; whose they were shows a query that comes after that: the
# rows that went are locked, so nobody gives that user another id before the end.
sub forget
{
	my ($u, $mode) = @_;

	return "DO \$do\$ BEGIN PERFORM reputation_forget($u, '$mode'); INSERT INTO forgotten SELECT birth FROM users WHERE id = $u; END \$do\$;";
}

sub pick   { return $_[ int(rand(@_)) ]; }
sub number { return int(rand($_[0])) + 1; }
sub slug   { return pick(map { "'$_'" } qw(first_win five_wins top_argument active_member dedicated_voter for_good rises flips comes_and_goes counted)); }

# Rows of the counted table for some users.
sub more_rows
{
	my ($name, @u) = @_;
	my ($table, $flag) = @{ $variants{$name} }{qw(table flag)};

	return sprintf 'INSERT INTO %s SELECT u.id%s FROM users u, generate_series(1, %d) WHERE u.id IN (%s);',
	  $flag ? ("$table (user_id, $flag)", pick(', true', ', true', ', false', ', NULL::boolean')) : ("$table (user_id)", ''), number(4), join(', ', @u);
}

# The statements of the application: each takes a variant's name and a function that gives some user's id.
my @statements = (
	(sub { sprintf 'UPDATE users SET %s = %d WHERE id IN (%s, %s);', $variants{ $_[0] }->{number}, rand(12), $_[1]->(), $_[1]->() }) x 3,
	(sub { sprintf 'UPDATE users SET %1$s = coalesce(%1$s, 0) + 1 WHERE id = %2$s;', $variants{ $_[0] }->{number}, $_[1]->() }) x 2,
	(sub { sprintf 'UPDATE users SET %s WHERE id = %s;', pick(@{ $variants{ $_[0] }->{flags} }), $_[1]->() }) x 2,
	(sub { more_rows($_[0], $_[1]->(), $_[1]->()) }) x 2,
	sub { sprintf 'UPDATE %s SET user_id = %s WHERE user_id = %s;', $variants{ $_[0] }->{table}, $_[1]->(), $_[1]->() },
	sub {
		my ($table, $flag) = @{ $variants{ $_[0] } }{qw(table flag)};

		return sprintf 'UPDATE %s SET %s WHERE user_id = %s;', $table, $flag ? "$flag = " . pick('true', 'false', "NOT $flag") : 'at = now()', $_[1]->();
	},
	sub { sprintf 'DELETE FROM %s WHERE user_id = %s;', $variants{ $_[0] }->{table}, $_[1]->() });

# What has everybody's badges computed again: above all, another badge.
sub sweeps
{
	my ($name) = @_;
	my $metric = number_metric($name);

	return (
		'SELECT badges_recalc_all();',
		q{SELECT reputation.run_job('badges', 'manual');},
		"TRUNCATE $variants{$name}->{table};",
		sprintf('UPDATE reputation.badge SET threshold = %d, bonus_points = %d WHERE slug = %s;', number(9), pick(0, number(30)), slug()),
		sprintf('UPDATE reputation.badge SET threshold = greatest(1, threshold + %d) WHERE slug IN (%s, %s);', pick(-1, 1, 2), slug(), slug()),
		q{UPDATE reputation.badge SET revocable = NOT revocable WHERE slug = 'flips';},
		q{DELETE FROM reputation.badge WHERE slug = 'comes_and_goes';},
		"INSERT INTO reputation.badge (slug, name, description, icon, metric, threshold, bonus_points)
			VALUES ('comes_and_goes', '', '', '', '$metric', 3, 19) ON CONFLICT DO NOTHING;");
}

# Something of what a variant's badges are for, for two users.
sub populate
{
	my ($name, $u, $v) = @_;

	return (sprintf('UPDATE users SET %s = %d WHERE id = %s;', $variants{$name}->{number}, 3 + rand(8), $u), more_rows($name, $v));
}

# How many there are, and one at random.
sub statements { return scalar @statements; }
sub statement  { return pick(@statements)->(@_); }

1;

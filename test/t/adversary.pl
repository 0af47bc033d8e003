# Nobody gains rights by way of the extension: see test/perl/Adversary.pm. What
# PostgreSQL does without the extension (a superuser who reads an attacker's view)
# is no scenario. One more is one more entry.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use Adversary;
use PostgreSQL::Test::Utils;
use Reputation;
use Test::More;

# Of a message nothing but its first line: the attackers tell a lot.
my $node = start_server('main', 'max_connections = 40', 'autovacuum = off',
	'log_error_verbosity = terse', 'log_min_error_statement = panic');
prepare_server($node);
$node->safe_psql('postgres', 'CREATE DATABASE arena');
$node->safe_psql('arena', 'CREATE EXTENSION reputation');
prepare_database('arena');

# The judge sees what there is to see.
{
	my $offset = -s $node->logfile;

	$node->safe_psql('arena', 'CREATE SCHEMA trap AUTHORIZATION x_owner; GRANT USAGE ON SCHEMA trap TO PUBLIC');
	as_role('arena', 'x_owner', fill(weapons(), 'trap', 'x_owner') . 'SELECT trap.i(1)');
	is(join(' ', plunder($offset, 'x_owner')), '', 'an attacker may call its own functions');
	as_role('arena', 'x_app', 'SELECT trap.i(1)');
	like(join(' ', plunder($offset, 'x_owner')), qr/i ran as x_app/, 'somebody else who does is found');
	$offset = -s $node->logfile;
	as_role('arena', 'postgres', 'SELECT trap.i(1)');
	like(join(' ', plunder($offset, 'x_owner')),
		qr/i ran as postgres.*x_owner has become superuser/, 'so is a superuser');
	$node->safe_psql('arena', 'DROP SCHEMA trap CASCADE');
}

# Hostile objects on tables that a superuser attaches.
my @owned = (
	'a partition key' => q{
		DROP TABLE {s}.projects;
		CREATE TABLE {s}.projects (id int, owner_id int, status text, impact int) PARTITION BY RANGE (({s}.i(1) + id));
		CREATE TABLE {s}.part PARTITION OF {s}.projects FOR VALUES FROM ({s}.i(0)) TO ({s}.i(1000));
		INSERT INTO {s}.projects VALUES (1, 1, 'shipped', 5);},
	'the key of a subpartition' => q{
		DROP TABLE {s}.projects;
		CREATE TABLE {s}.projects (id int, owner_id int, status text, impact int) PARTITION BY RANGE (id);
		CREATE TABLE {s}.part PARTITION OF {s}.projects FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (({s}.i(1) + id));
		CREATE TABLE {s}.leaf PARTITION OF {s}.part FOR VALUES FROM (0) TO (1000);
		INSERT INTO {s}.projects VALUES (1, 1, 'shipped', 5);},
	'index expressions' => q{
		CREATE INDEX ON {s}.users (({s}.i(1) + id));
		CREATE INDEX ON {s}.projects (({s}.i(1) + id));
		CREATE INDEX ON {s}.project_collaborators (({s}.i(1) + user_id));},
	# Each function has the other's index be read anew, by whoever is next.
	'index expressions beside columns of two types' => q{
		ALTER TABLE {s}.projects ALTER id TYPE bigint;
		CREATE FUNCTION {s}.stir(name text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			EXECUTE pg_catalog.format('ALTER INDEX {s}.%I SET (fillfactor = 50)', name);
		EXCEPTION WHEN OTHERS THEN NULL;
		END $$;
		CREATE FUNCTION {s}.p(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''p''); PERFORM {s}.stir(''index_q''); RETURN $1; END';
		CREATE FUNCTION {s}.q(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			'BEGIN PERFORM {s}.mark(''q''); PERFORM {s}.stir(''index_p''); RETURN $1; END';
		CREATE INDEX index_p ON {s}.project_collaborators (({s}.p(1) + project_id));
		CREATE INDEX index_q ON {s}.project_collaborators (({s}.q(1) + project_id));},
	'index predicates' => q{
		CREATE INDEX ON {s}.users (id) WHERE {s}.b(1) AND {s}.b(id);
		CREATE INDEX ON {s}.projects (owner_id) WHERE {s}.b(1);
		CREATE INDEX ON {s}.project_collaborators (project_id) WHERE {s}.b(1);},
	'an exclusion constraint' => q{
		ALTER TABLE {s}.users ADD EXCLUDE USING btree (({s}.i(id)) WITH =) WHERE ({s}.b(1));
		ALTER TABLE {s}.projects ADD EXCLUDE USING btree (({s}.i(id)) WITH =) WHERE ({s}.b(1));},
	'statistics expressions' => q{
		CREATE STATISTICS {s}.x ON ({s}.i(1) + id), name FROM {s}.users;
		CREATE STATISTICS {s}.y ON ({s}.i(1) + id), status FROM {s}.projects;
		ANALYZE {s}.users; ANALYZE {s}.projects;},
	'defaults' => q{
		ALTER TABLE {s}.users ALTER wins SET DEFAULT {s}.v(), ADD builder_score int DEFAULT {s}.v(), ADD place int DEFAULT {s}.v();
		ALTER TABLE {s}.projects ALTER impact SET DEFAULT {s}.v();},
	'generated columns' => q{
		ALTER TABLE {s}.users ADD builder_score int, ADD place int;
		ALTER TABLE {s}.users ADD g int GENERATED ALWAYS AS ({s}.i(1) + {s}.i(builder_score)) STORED,
			ADD h int GENERATED ALWAYS AS ({s}.i(place)) STORED;
		ALTER TABLE {s}.projects DROP impact, ADD impact int GENERATED ALWAYS AS ({s}.i(id)) STORED;},
	'CHECK constraints' => q{
		ALTER TABLE {s}.users ADD builder_score int, ADD place int, ADD CHECK ({s}.b(1) AND {s}.b(builder_score)), ADD CHECK ({s}.b(place)) NOT VALID;
		ALTER TABLE {s}.projects ADD CHECK ({s}.b(1) AND {s}.b(impact));},
	'domains' => q{
		CREATE DOMAIN {s}.word AS text CHECK ({s}.t(VALUE) IS NOT NULL);
		CREATE DOMAIN {s}.number AS int DEFAULT {s}.v() CHECK ({s}.b(VALUE));
		ALTER TABLE {s}.users ALTER name TYPE {s}.word;
		ALTER TABLE {s}.projects ALTER status TYPE {s}.word, ALTER impact TYPE {s}.number, ALTER owner_id TYPE {s}.number;
		ALTER TABLE {s}.project_collaborators ALTER status TYPE {s}.word;},
	'a domain as the users\' key' => q{
		CREATE DOMAIN {s}.number AS int CHECK ({s}.b(VALUE));
		ALTER TABLE {s}.users ALTER id TYPE {s}.number;},
	'a cast of an enum' => q{
		CREATE TYPE {s}.state AS ENUM ('draft', 'shipped', 'confirmed');
		CREATE FUNCTION {s}.c({s}.state) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''cast''); RETURN ''shipped''; END';
		CREATE CAST ({s}.state AS text) WITH FUNCTION {s}.c({s}.state) AS IMPLICIT;
		ALTER TABLE {s}.projects ALTER status TYPE {s}.state USING 'shipped';
		ALTER TABLE {s}.project_collaborators ALTER status TYPE {s}.state USING 'confirmed';},
	'casts of other types' => q{
		CREATE TYPE {s}.pair AS (a int, b text);
		CREATE TYPE {s}.state AS ENUM ('shipped', 'confirmed');
		CREATE CAST ({s}.state AS text) WITH INOUT AS IMPLICIT;
		CREATE FUNCTION {s}.c(text) RETURNS {s}.state IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''to enum''); RETURN pg_catalog.enum_first(NULL::{s}.state); END';
		CREATE CAST (text AS {s}.state) WITH FUNCTION {s}.c(text) AS IMPLICIT;
		CREATE FUNCTION {s}.c({s}.pair) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''to float''); RETURN 1; END';
		CREATE CAST ({s}.pair AS float8) WITH FUNCTION {s}.c({s}.pair) AS IMPLICIT;
		ALTER TABLE {s}.projects ALTER status TYPE {s}.state, DROP impact, ADD impact {s}.pair DEFAULT (1, 'x');},
	'operators for its own enum' => q{
		CREATE TYPE {s}.state AS ENUM ('shipped', 'confirmed');
		CREATE FUNCTION {s}.same({s}.state, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''operator''); RETURN true; END';
		CREATE OPERATOR {s}.= (FUNCTION = {s}.same, LEFTARG = {s}.state, RIGHTARG = text);
		ALTER TABLE {s}.projects ALTER status TYPE {s}.state USING 'shipped';
		ALTER ROLE {me} SET search_path = {s}, pg_catalog;},
	'row security' => q{
		CREATE POLICY p ON {s}.users USING ({s}.b(1) AND {s}.b(id));
		CREATE POLICY p ON {s}.projects USING ({s}.b(1) AND {s}.b(id));
		ALTER TABLE {s}.users ENABLE ROW LEVEL SECURITY;
		ALTER TABLE {s}.projects ENABLE ROW LEVEL SECURITY;},
	'forced row security' => q{
		CREATE POLICY p ON {s}.users USING ({s}.b(1) AND {s}.b(id));
		ALTER TABLE {s}.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;},
	'rules' => q{
		ALTER TABLE {s}.users ADD builder_score int, ADD place int;
		CREATE RULE r AS ON UPDATE TO {s}.users DO ALSO SELECT {s}.i(1), {s}.v();
		CREATE RULE r AS ON INSERT TO {s}.projects DO ALSO SELECT {s}.v();},
	'a rule instead' => q{
		ALTER TABLE {s}.users ADD builder_score int, ADD place int;
		CREATE RULE r AS ON UPDATE TO {s}.users DO INSTEAD SELECT {s}.i(1), {s}.v();},
	'row triggers' => q{
		CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		CREATE TRIGGER z AFTER INSERT OR UPDATE OR DELETE ON {s}.users FOR EACH ROW WHEN ({s}.b(1)) EXECUTE FUNCTION {s}.trg();
		CREATE TRIGGER a BEFORE UPDATE ON {s}.projects FOR EACH ROW WHEN ({s}.b(NEW.id)) EXECUTE FUNCTION {s}.trg();},
	'statement triggers' => q{
		CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {s}.users FOR EACH STATEMENT EXECUTE FUNCTION {s}.trg();
		CREATE TRIGGER z AFTER UPDATE ON {s}.users REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION {s}.trg();},
	'deferred triggers' => q{
		CREATE CONSTRAINT TRIGGER a AFTER UPDATE ON {s}.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		CREATE CONSTRAINT TRIGGER b AFTER UPDATE ON {s}.users DEFERRABLE FOR EACH ROW WHEN ({s}.b(NEW.id)) EXECUTE FUNCTION {s}.trg();},
	'triggers with the names of the capture triggers' => q{
		CREATE TRIGGER reputation_capture AFTER INSERT OR DELETE OR UPDATE OF id ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg('1', 'x');
		CREATE TRIGGER reputation_capture_truncate AFTER TRUNCATE ON {s}.users FOR EACH STATEMENT EXECUTE FUNCTION {s}.trg('1');},
	'a foreign key with actions' => q{
		CREATE TABLE {s}.parts (user_id int REFERENCES {s}.users ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TRIGGER a BEFORE DELETE OR UPDATE ON {s}.parts FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		INSERT INTO {s}.parts VALUES (1), (2);},
	'an inheritance child' => q{
		CREATE TABLE {s}.child (CHECK ({s}.b(1)), g int GENERATED ALWAYS AS ({s}.i(id)) STORED) INHERITS ({s}.users);
		CREATE INDEX ON {s}.child (({s}.i(1) + id));
		CREATE TRIGGER a BEFORE UPDATE ON {s}.child FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		INSERT INTO {s}.child VALUES (7, 'c');},
	'a foreign table' => q{
		CREATE FOREIGN TABLE {s}.far (id int DEFAULT {s}.v() CHECK ({s}.b(1)), owner_id int, status text, impact int GENERATED ALWAYS AS ({s}.i(1)) STORED) SERVER nowhere;
		ALTER FOREIGN TABLE {s}.far INHERIT {s}.projects;
		CREATE TRIGGER a BEFORE UPDATE ON {s}.far FOR EACH ROW EXECUTE FUNCTION {s}.trg();},
	'views instead of tables' => q{
		ALTER TABLE {s}.projects RENAME TO p;
		CREATE VIEW {s}.projects AS SELECT {s}.i(1) AS id, {s}.v() AS owner_id, status, impact FROM {s}.p;
		CREATE TRIGGER a INSTEAD OF UPDATE ON {s}.projects FOR EACH ROW EXECUTE FUNCTION {s}.trg();},
	'a materialized view' => q{
		ALTER TABLE {s}.projects RENAME TO p;
		CREATE MATERIALIZED VIEW {s}.projects AS SELECT {s}.i(id) AS id, {s}.v() AS owner_id, status, impact FROM {s}.p;
		CREATE INDEX ON {s}.projects (({s}.i(1) + id));},
	'a collation of its own' => q{
		CREATE COLLATION {s}."default" FROM "C";
		ALTER TABLE {s}.projects ALTER status TYPE text COLLATE {s}."default";
		CREATE INDEX ON {s}.projects (({s}.t(status)));},
	'names that are statements' => q{
		ALTER TABLE {s}.users RENAME id TO "i""d'); ALTER ROLE {me} SUPERUSER; --";
		ALTER TABLE {s}.projects RENAME owner_id TO "o:w'n$$""; ALTER ROLE {me} SUPERUSER; --";
		ALTER TABLE {s}.projects RENAME TO "p""; ALTER ROLE {me} SUPERUSER; --";},
);

$node->safe_psql('arena', q{
	CREATE FOREIGN DATA WRAPPER dummy;
	CREATE SERVER nowhere FOREIGN DATA WRAPPER dummy;
	GRANT USAGE ON FOREIGN SERVER nowhere TO x_owner});
my %attached_as = (
	'names that are statements' => q{SELECT public.builder_score_attach('{s}.users', '{s}."p""; ALTER ROLE {me} SUPERUSER; --"',
		'{s}.project_collaborators', '{"users": {"id": "i\"d''); ALTER ROLE {me} SUPERUSER; --"},
		"projects": {"owner_id": "o:w''n$$\"; ALTER ROLE {me} SUPERUSER; --"}}', 'pla"ce');},
);
while (my ($name, $setup) = splice(@owned, 0, 2))
{
	scenario('arena', name => $name, as => 'x_owner', setup => $setup,
		$attached_as{$name} ? (attach => $attached_as{$name}, during => '') : ());
	$node->safe_psql('arena', 'ALTER ROLE x_owner RESET search_path');
}

# Everything at once, on the tables of every engine and of a board.
scenario('arena', name => 'every engine', as => 'x_owner',
	engines => [qw(builder_score trust_score session_reputation points badges)],
	setup => q{
		CREATE TABLE {s}.matches (id int, user1_id int, user2_id int);
		CREATE TABLE {s}.sessions (match_id int, status text, user1_completed_confirmed_by_user2 boolean,
			user2_completed_confirmed_by_user1 boolean, cancelled_by int);
		CREATE TABLE {s}.activity (user_id int, created_at timestamptz);
		CREATE TABLE {s}.votes (user_id int);
		CREATE TABLE {s}.scores (user_id int, points int, created_at timestamptz);
		INSERT INTO {s}.matches VALUES (1, 1, 2);
		INSERT INTO {s}.sessions VALUES (1, 'completed', true, true);
		INSERT INTO {s}.activity VALUES (1, now());
		INSERT INTO {s}.votes VALUES (1);
		INSERT INTO {s}.scores VALUES (1, 10, now());
		CREATE TRIGGER a BEFORE UPDATE ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		CREATE INDEX ON {s}.users (({s}.i(1) + id));
		DO $$
		DECLARE
			t text;
		BEGIN
			FOREACH t IN ARRAY '{matches,sessions,activity,votes,scores}'::text[] LOOP
				EXECUTE format('ALTER TABLE {s}.%I ADD CHECK ({s}.b(1)), ADD g int DEFAULT {s}.v()', t);
				EXECUTE format('CREATE INDEX ON {s}.%I (({s}.i(1) + 1)) WHERE {s}.b(1)', t);
				EXECUTE format('CREATE TRIGGER a BEFORE UPDATE ON {s}.%I FOR EACH ROW EXECUTE FUNCTION {s}.trg()', t);
			END LOOP;
		END $$;},
	attach => q{
		SELECT public.builder_score_attach('{s}.users', '{s}.projects', '{s}.project_collaborators', rank_column => 'place');
		SELECT public.trust_score_attach('{s}.users', activity => '{s}.activity');
		SELECT public.session_reputation_attach('{s}.sessions', '{s}.matches', '{s}.users');
		SELECT public.points_attach('{s}.users', rank_column => 'points_place');
		SELECT public.badges_attach('{s}.users', votes => '{s}.votes');
		SELECT public.leaderboard_create('board', '{s}.scores', users => '{s}.users');},
	during => q{
		UPDATE {s}.sessions SET status = 'no_show';
		UPDATE {s}.matches SET user1_id = 2, user2_id = 1;
		INSERT INTO {s}.activity VALUES (2, now());
		UPDATE {s}.votes SET user_id = 2;
		UPDATE {s}.scores SET points = 11;},
	use => q{
		SELECT judge.computed();
		SELECT public.award_points(1, 5, 'x', 'y');
		SELECT public.upsert_user('{"id": 9}');
		SELECT public.user_reputation(1), public.get_trust_score(1), public.get_user_badges(1), public.get_badge_progress(1);
		SELECT public.trust_score_recalc(1), public.session_reputation_recalc(1), public.points_recalc(1), public.badges_recalc(1);
		SELECT public.calculate_user_rank(1), public.leaderboard_percentile(1), public.badge_preview('first_win');
		SELECT public.leaderboard('points'), public.leaderboard_around(1);
		SELECT public.reputation_verify(NULL::text), public.reputation_repair(NULL::text);
		SELECT public.reputation_status();
		CALL public.reputation_run('nightly', 'cron');
		CALL public.reputation_run('badges', 'cron');
		CALL public.reputation_run('leaderboards', 'cron');
		SELECT judge.computed();},
	finish => q{SELECT public.leaderboard_drop('board')});

# A superuser attaches tables of two owners: one attacks the other.
my @mixed = (
	'a source with a cast' => q{
		CREATE TYPE {s}.state AS ENUM ('draft', 'shipped');
		CREATE FUNCTION {s}.c({s}.state) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''cast''); RETURN ''shipped''; END';
		CREATE CAST ({s}.state AS text) WITH FUNCTION {s}.c({s}.state) AS IMPLICIT;
		ALTER TABLE {s}.projects ALTER status TYPE {s}.state USING 'shipped';},
	'a source with a partition key' => q{
		DROP TABLE {s}.projects;
		CREATE TABLE {s}.projects (id int, owner_id int, status text, impact int) PARTITION BY RANGE (({s}.i(1) + id));
		CREATE TABLE {s}.part PARTITION OF {s}.projects FOR VALUES FROM (0) TO (1000);
		INSERT INTO {s}.projects VALUES (1, 1, 'shipped', 5);},
	'a source with row security' => q{
		CREATE POLICY p ON {s}.projects USING ({s}.b(1) AND {s}.b(id));
		ALTER TABLE {s}.projects ENABLE ROW LEVEL SECURITY;},
	'a source with triggers and indexes' => q{
		CREATE TRIGGER a BEFORE INSERT OR UPDATE OR TRUNCATE ON {s}.projects FOR EACH STATEMENT EXECUTE FUNCTION {s}.trg();
		CREATE INDEX ON {s}.projects (({s}.i(1) + owner_id)) WHERE {s}.b(1);
		CREATE STATISTICS {s}.x ON ({s}.i(1) + id), status FROM {s}.projects;},
);
while (my ($name, $setup) = splice(@mixed, 0, 2))
{
	scenario('arena', name => "$name among somebody else's", as => 'x_source', setup => $setup,
		before => q{
			ALTER TABLE {s}.users OWNER TO x_app;
			ALTER TABLE {s}.project_collaborators OWNER TO x_app;
			GRANT SELECT ON {s}.projects TO x_app;
			GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.users TO x_source;});
}
scenario('arena', name => 'a partition of somebody else\'s table', as => 'x_source',
	setup => q{
		DROP TABLE {s}.projects;
		CREATE TABLE {s}.projects (id int, owner_id int, status text, impact int) PARTITION BY RANGE (id);
		CREATE TABLE {s}.part PARTITION OF {s}.projects FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (({s}.i(1) + id));},
	before => q{
		ALTER TABLE {s}.users OWNER TO x_app;
		ALTER TABLE {s}.projects OWNER TO x_app;
		ALTER TABLE {s}.project_collaborators OWNER TO x_app;},
	during => q{
		CREATE TABLE {s}.leaf PARTITION OF {s}.part FOR VALUES FROM (0) TO (1000);
		CREATE TRIGGER late BEFORE UPDATE ON {s}.leaf FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		INSERT INTO {s}.part VALUES (1, 1, 'shipped', 9);});
scenario('arena', name => 'users that change their owner', as => 'x_owner',
	before => q{
		ALTER TABLE {s}.users OWNER TO x_app;
		ALTER TABLE {s}.projects OWNER TO x_app;
		ALTER TABLE {s}.project_collaborators OWNER TO x_app;},
	between => q{
		ALTER TABLE {s}.users OWNER TO x_owner;
		GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.projects TO x_owner;},
	during => q{
		GRANT ALL ON {s}.users TO x_app;
		CREATE TRIGGER late BEFORE UPDATE ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		UPDATE {s}.projects SET impact = impact + 10;});

# What the engine's role owns of the extension's, it can change.
scenario('arena', name => 'the views that it owns', as => 'x_owner',
	during => q{
		CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO reputation.builder_signals DO INSTEAD
			SELECT {s}.i(id) AS user_id, {s}.v()::bigint AS own_shipped, 0::bigint AS collab_shipped, 0::bigint AS vouches, 0::float8 AS impact FROM {s}.users;
		CREATE TRIGGER a INSTEAD OF UPDATE ON reputation.builder_signals FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		ALTER VIEW reputation.builder_signals ALTER user_id SET DEFAULT {s}.v();
		UPDATE {s}.projects SET impact = impact + 1;},
	finish => q{SELECT public.builder_score_detach(); DROP VIEW reputation.builder_signals});
scenario('arena', name => 'tables under other names', as => 'x_owner',
	during => q{
		ALTER TABLE {s}.projects RENAME TO p;
		ALTER TABLE {s}.users RENAME TO u;
		CREATE VIEW {s}.projects AS SELECT {s}.v() AS id;
		CREATE TRIGGER late BEFORE UPDATE ON {s}.u FOR EACH ROW EXECUTE FUNCTION {s}.trg();
		CREATE TABLE {s}.users (id int) PARTITION BY RANGE (({s}.i(1) + id));
		CREATE TRIGGER reputation_capture AFTER UPDATE OF id ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg('1', 'x');
		UPDATE {s}.p SET impact = impact + 1;});

# An administrator who attaches works as itself, and lends its rights to code of its
# tables' owner, whose member it is: no more than that, and nobody else's.
my $hostile = q{
	CREATE TRIGGER a BEFORE UPDATE ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.trg();
	CREATE CONSTRAINT TRIGGER b AFTER UPDATE ON {s}.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {s}.trg();
	CREATE INDEX ON {s}.users (({s}.i(1) + id));
	CREATE INDEX ON {s}.projects (({s}.i(1) + id));
	DROP TABLE {s}.project_collaborators;
	CREATE TABLE {s}.project_collaborators (project_id int, user_id int, status text) PARTITION BY RANGE (({s}.i(1) + user_id));
	CREATE TABLE {s}.part PARTITION OF {s}.project_collaborators FOR VALUES FROM (0) TO (1000);
};
scenario('arena', name => 'attached by itself', as => 'x_admin', by => 'x_admin', setup => $hostile);
scenario('arena', name => 'attached by an administrator who is a member of it', as => 'x_owner', by => 'x_boss',
	lends => 'x_boss', setup => $hostile);

# A role calls what it may, with objects of its own in the way.
my $calls = q{
	SELECT public.builder_score(1);
	SELECT public.builder_score_explain(1);
	SELECT public.builder_score_recalc(1);
	SELECT public.builder_score_recalc_all();
	SELECT public.trust_score(1);
	SELECT public.user_reputation(1);
	SELECT public.upsert_user('{"id": 9}');
	SELECT public.reputation_verify(NULL::text);
	SELECT public.reputation_repair(NULL::text);
	SELECT public.reputation_status();
	SELECT public.reputation_wait(1);
	SELECT public.reputation_process(NULL::text, NULL::bigint);
	SELECT public.reputation_retry(NULL::text, NULL::text);
	SELECT public.reputation_forget(2);
	SELECT public.reputation_schedule();
	SELECT public.reputation_unschedule();
	SELECT public.algorithm_preview('builder', '{}');
	SELECT public.calculate_user_rank(1);
	SELECT public.leaderboard('points');
	SELECT public.leaderboard_around(1);
	SELECT public.leaderboard_percentile(1);
	SELECT public.get_user_badges(1);
	SELECT public.get_trust_score(1);
	SELECT public.total_points(1);
	SELECT public.award_points(1, 5, 'x', 'y');
	SELECT public.builder_score_attach('{s}.users', '{s}.projects', '{s}.project_collaborators');
	SELECT public.builder_score_detach();
	CALL public.reputation_run('nightly', 'cron');
	SELECT public.leaderboard_drop('none');
	UPDATE reputation.algorithm SET parameters = parameters WHERE engine = 'builder';
};
$node->safe_psql('arena', q{
	CREATE SCHEMA town AUTHORIZATION x_app;
	SET SESSION AUTHORIZATION x_app;
	SET search_path = town;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	CREATE TABLE projects (id int, owner_id int, status text, impact int);
	CREATE TABLE project_collaborators (project_id int, user_id int, status text);
	INSERT INTO users VALUES (1), (2);
	RESET SESSION AUTHORIZATION;
	SET search_path = town, public;
	SELECT builder_score_attach();
	SELECT judge.computed();});
for my $role (qw(x_reader x_writer x_admin))
{
	scenario('arena', name => 'the caller\'s search_path', as => $role, bare => 1,
		setup => twins() . "SET search_path = {s}, pg_catalog, public; $calls");
}
scenario('arena', name => 'temporary objects of the caller\'s', as => 'x_nobody', bare => 1, setup => q{
	CREATE TEMP TABLE engine (LIKE reputation.engine);
	CREATE TEMP TABLE users (id int PRIMARY KEY DEFAULT {s}.v());
	CREATE TEMP TABLE projects (id int, CHECK ({s}.b(1)));
	CREATE TEMP VIEW source AS SELECT {s}.i(1) AS id;
	CREATE TEMP VIEW pg_class AS SELECT {s}.i(1)::oid AS oid;
	CREATE TEMP VIEW pg_trigger AS SELECT {s}.i(1)::oid AS oid;
	CREATE TYPE pg_temp.regclass AS ENUM ('x');
	CREATE FUNCTION pg_temp.format(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM {s}.mark(''format''); RETURN $1; END';
	SET search_path = pg_temp, pg_catalog, public;} . $calls);

# The event trigger acts for whoever makes a trigger. A role that may connect and
# make temporary tables is enough.
my $bait = q{
	CREATE %1$s bait (id int, x int) PARTITION BY RANGE (({s}.i(1) + id));
	CREATE %1$s bait_part PARTITION OF bait FOR VALUES FROM (0) TO (100000);
	CREATE TRIGGER reputation_capture AFTER INSERT OR DELETE OR UPDATE OF x ON bait
		FOR EACH ROW EXECUTE FUNCTION {s}.trg('1', '"w:0:255:x","e:1:255:id"');
	CREATE TRIGGER a BEFORE UPDATE ON bait_part FOR EACH ROW EXECUTE FUNCTION {s}.trg();
	INSERT INTO bait SELECT i FROM generate_series(1, 20) i;
	SELECT 'LOOT: the trigger is reputation.capture() now' FROM pg_trigger
		WHERE tgrelid = 'bait'::regclass AND tgfoid = 'reputation.capture'::regproc;
};
my $planted = q{
	SELECT 'a source that is none: ' || tgrelid::regclass FROM pg_trigger t
	WHERE tgfoid = 'reputation.capture'::regproc AND tgparentid = 0
		AND NOT EXISTS (SELECT FROM reputation.source s WHERE s.relation = t.tgrelid);
	SELECT 'work for ' || key FROM reputation.dead_letter};
scenario('arena', name => 'a temporary table with a trigger of that name', as => 'x_nobody', bare => 1,
	setup => sprintf($bait, 'TEMP TABLE'), check => $planted);
scenario('arena', name => 'a table with a trigger of that name', as => 'x_owner', bare => 1,
	setup => 'SET search_path = {s};' . sprintf($bait, 'TABLE'), check => $planted);
scenario('arena', name => 'a table whose trigger of that name is made with its schema', as => 'x_dba', bare => 1,
	before => 'GRANT CREATE ON DATABASE arena TO x_dba',
	during => q{
		CREATE SCHEMA made
			CREATE TABLE bait (id int, x int)
			CREATE TRIGGER reputation_capture AFTER UPDATE OF x ON bait FOR EACH ROW EXECUTE FUNCTION {s}.trg('1', 'x')
			CREATE TRIGGER a BEFORE UPDATE ON bait FOR EACH ROW EXECUTE FUNCTION {s}.trg();},
	check => $planted);
$node->safe_psql('arena', 'DROP SCHEMA IF EXISTS made CASCADE');

# Whoever owns a source may have reputation.capture() as a trigger, but not with
# arguments, or on tables, that the catalog does not know.
$node->safe_psql('arena', 'SELECT builder_score_detach()');
scenario('arena', name => 'reputation.capture() with other arguments', as => 'x_owner',
	during => q{
		CREATE TABLE {s}.mine AS SELECT * FROM {s}.users WITH NO DATA;
		ALTER TABLE {s}.mine ALTER id TYPE text;
		DO $$
		BEGIN
			EXECUTE (SELECT regexp_replace(pg_get_triggerdef(oid), ' ON \S+', ' ON {s}.mine')
				FROM pg_trigger WHERE tgrelid = '{s}.users'::regclass AND tgname = 'reputation_capture');
			EXECUTE (SELECT format('CREATE TRIGGER more AFTER INSERT ON {s}.projects FOR EACH ROW EXECUTE FUNCTION reputation.capture(%L, %L)',
					split_part(encode(tgargs, 'escape'), '\000', 1), '"w:0:255:status","o:1:255:status"')
				FROM pg_trigger WHERE tgrelid = '{s}.users'::regclass AND tgname = 'reputation_capture');
		END $$;
		INSERT INTO {s}.mine SELECT 'forged ' || i FROM generate_series(1, 50) i;
		INSERT INTO {s}.projects SELECT i, 1, 'forged ' || i, 0 FROM generate_series(51, 100) i;},
	use => q{
		SELECT judge.computed();
		SELECT DISTINCT 'LOOT: there is work for forged keys' FROM (SELECT key FROM reputation.job
			UNION ALL SELECT key FROM reputation.dead_letter) j WHERE key LIKE 'forged%';});

# A database's owner: its search_path is the superuser's, too, and public is its.
sub database
{
	my ($name, $before, $after, $finish) = @_;
	my $offset = -s $node->logfile;
	my $database = 'd' . $offset;

	$node->safe_psql('postgres', "CREATE DATABASE $database OWNER x_dba");
	as_role($database, 'x_dba', fill(weapons(), 'public', 'x_dba') . 'GRANT ALL ON SCHEMA public TO PUBLIC;' . fill($before, 'public', 'x_dba'));
	my (undef, $error) = as_role($database, 'postgres', 'CREATE EXTENSION reputation SCHEMA public');
	is($error, '', "$name: the extension is there");
	prepare_database($database);
	as_role($database, 'x_dba', fill($after, $database, 'x_dba'));
	is(join("\n", plunder($offset, 'x_dba')), '', "x_dba: $name: CREATE EXTENSION");
	scenario($database, name => $name, as => 'x_dba', bare => 1,
		setup => tables(),
		attach => q{SELECT public.builder_score_attach('{s}.users'::pg_catalog.text, '{s}.projects'::pg_catalog.text, '{s}.project_collaborators'::pg_catalog.text);},
		use => q{
			SELECT judge.computed();
			SELECT public.builder_score_recalc(1);
			SELECT public.reputation_process(NULL::pg_catalog.text, NULL::pg_catalog.int8);
			SELECT public.reputation_verify(NULL::pg_catalog.text);
			SELECT public.reputation_repair(NULL::pg_catalog.text);
			SELECT public.reputation_status();
			SELECT public.reputation_schedule();
			CALL public.reputation_run('nightly'::pg_catalog.text, 'cron'::pg_catalog.text);
			CALL public.reputation_run('leaderboards'::pg_catalog.text, 'cron'::pg_catalog.text);
			SELECT public.reputation_unschedule();
			SELECT public.reputation_forget(2);});
	$finish->($database) if $finish;
	$offset = -s $node->logfile;
	as_role($database, 'postgres', 'ALTER EXTENSION reputation UPDATE; DROP EXTENSION reputation CASCADE');
	is(join("\n", plunder($offset, 'x_dba')), '', "x_dba: $name: DROP EXTENSION");
	return;
}

database('twins in the schema', twins(), '', sub
{
	my ($database) = @_;
	my $dump = $node->basedir . '/dump';
	my $offset = -s $node->logfile;

	run_command([ 'pg_dump', '-Fc', '-n', 'reputation', '-e', 'reputation', '-f', $dump, $node->connstr($database) ]);
	$node->safe_psql('postgres', 'CREATE DATABASE restored OWNER x_dba');
	as_role('restored', 'x_dba', fill(weapons() . twins(), 'public', 'x_dba'));
	run_command([ 'pg_restore', '-d', $node->connstr('restored'), $dump ]);
	is($node->safe_psql('restored', q{SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'reputation'::pg_catalog.name}),
		1, 'the dump is restored');
	is(join("\n", plunder($offset, 'x_dba')), '', 'x_dba: twins in the schema: a restored dump');
});
database('the database\'s search_path', '',
	fill(twins(), 'public', 'x_dba') . 'ALTER DATABASE {s} SET search_path = public, pg_catalog');

# Default privileges of the superuser's open nothing.
{
	$node->safe_psql('postgres', 'CREATE DATABASE open OWNER x_dba');
	as_role('open', 'postgres', q{
		ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO x_dba;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO x_dba;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO x_dba;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO x_dba;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO x_dba;
		CREATE EXTENSION reputation});
	is($node->safe_psql('open', q{
		WITH acl (name, acl) AS (
			SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'reputation'
			UNION ALL SELECT c.oid::regclass::text, relacl FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
			UNION ALL SELECT p.oid::regprocedure::text, proacl FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e')
		SELECT count(*), min(name) FROM acl, aclexplode(acl) a WHERE a.grantee = 'x_dba'::regrole}),
		'0|', 'default privileges give nobody anything of the extension\'s');
}

# The trigger functions of the extension on tables that they are not for. A crash
# would end all sessions, so each is tried on its own.
{
	my $offset = -s $node->logfile;

	for my $function (split /\n/, $node->safe_psql('arena', q{
		SELECT p.oid::regproc FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
		WHERE p.prorettype IN ('trigger'::regtype) ORDER BY 1}))
	{
		$node->safe_psql('arena', 'CREATE SCHEMA mine AUTHORIZATION x_admin');
		as_role('arena', 'x_admin', qq{
			CREATE TABLE mine.one (a int, b text);
			CREATE TABLE mine.none ();
			CREATE TABLE mine.alike (engine int, version bytea, parameters bigint, active int, created_at point);
			CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON mine.one FOR EACH ROW EXECUTE FUNCTION $function();
			CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON mine.alike FOR EACH ROW EXECUTE FUNCTION $function('1', 'x', '', '-1');
			CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON mine.alike FOR EACH ROW EXECUTE FUNCTION $function();
			CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON mine.none FOR EACH ROW EXECUTE FUNCTION $function();
			CREATE TRIGGER s BEFORE TRUNCATE OR INSERT ON mine.one FOR EACH STATEMENT EXECUTE FUNCTION $function('99999999999');
			INSERT INTO mine.one VALUES (1, 'x'), (NULL, NULL);
			INSERT INTO mine.alike VALUES (77777, 'x', 77777, 77777), (NULL, NULL, NULL, NULL);
			INSERT INTO mine.none DEFAULT VALUES;
			UPDATE mine.one SET a = 2; UPDATE mine.alike SET engine = 1;
			DELETE FROM mine.one; DELETE FROM mine.alike; TRUNCATE mine.one;});
		$node->poll_query_until('arena', 'SELECT true') or die 'the server does not come back';
		is($node->safe_psql('arena', q{SELECT count(*) FROM pg_trigger WHERE tgrelid IN
			(SELECT oid FROM pg_class WHERE relnamespace = 'mine'::regnamespace)}),
			'0', "$function() is no trigger function of an administrator's");
		$node->safe_psql('arena', 'SET client_min_messages = error; DROP SCHEMA mine CASCADE');
	}
	is(join("\n", plunder($offset, 'x_admin')), '', 'x_admin: trigger functions of the extension');
}

$node->stop;
done_testing();

# A logical replica that scores by itself: with fire => 'always' the changes that
# the apply worker makes are captured, TRUNCATE and partitions included; with
# 'origin' they are not.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tables = q{
	CREATE TABLE users (id int PRIMARY KEY, photo text);
	CREATE TABLE activity (id int PRIMARY KEY, user_id int, created_at timestamptz);
	CREATE INDEX ON activity (user_id, created_at);
	CREATE TABLE projects (id int PRIMARY KEY, owner_id int, status text, impact int)
		PARTITION BY RANGE (id);
	CREATE TABLE projects_low PARTITION OF projects FOR VALUES FROM (0) TO (10);
	CREATE TABLE projects_high PARTITION OF projects DEFAULT;
	CREATE TABLE project_collaborators (project_id int, user_id int, status text,
		PRIMARY KEY (project_id, user_id));
	CREATE INDEX ON projects (owner_id);
	CREATE INDEX ON project_collaborators (user_id);};

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', $tables);

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'reputation'
	reputation.workers = 1
	reputation.debounce = 0});
$subscriber->start;
$subscriber->safe_psql('postgres', "SET client_min_messages = error; CREATE EXTENSION reputation; $tables
	SELECT builder_score_attach(fire => 'always');
	SELECT trust_score_attach(activity => 'activity', fire => 'always');");

# The partitions themselves are published and truncated, as is the default.
$publisher->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
$subscriber->safe_psql('postgres',
	sprintf "CREATE SUBSCRIPTION everything CONNECTION '%s dbname=postgres' PUBLICATION everything",
	$publisher->connstr);
$subscriber->wait_for_subscription_sync($publisher, 'everything');

# A partition's TRUNCATE fires no trigger: it is noticed by whoever drains next.
sub drain_here
{
	$publisher->wait_for_catchup('everything');
	$subscriber->safe_psql('postgres', 'SELECT reputation_process()');
	return;
}

sub scores_are
{
	my ($scores, $name) = @_;

	$publisher->wait_for_catchup('everything');
	ok($subscriber->poll_query_until('postgres', q{
		SELECT NOT EXISTS (SELECT FROM reputation.inbox_0) AND NOT EXISTS (SELECT FROM reputation.inbox_1)
			AND NOT EXISTS (SELECT FROM reputation.inbox_2) AND NOT EXISTS (SELECT FROM reputation.inbox_3) AND NOT EXISTS (SELECT FROM reputation.inbox_4)
			AND NOT EXISTS (SELECT FROM reputation.job)
			AND NOT EXISTS (SELECT FROM reputation.job_runs WHERE status = 'running')}), "$name: drained");
	is($subscriber->safe_psql('postgres',
		q{SELECT string_agg(id || ':' || builder_score, ' ' ORDER BY id) FROM users}), $scores, $name);
	is($subscriber->safe_psql('postgres', 'SELECT * FROM reputation_verify()'), '', "$name: no drift");
	return;
}

sub trust_is
{
	my ($scores, $name) = @_;

	is($subscriber->safe_psql('postgres',
		q{SELECT string_agg(user_id || ':' || score, ' ' ORDER BY user_id) FROM reputation.trust_scores}), $scores, "$name: trust");
	return;
}

$publisher->safe_psql('postgres', q{
	INSERT INTO users VALUES (1), (2);
	INSERT INTO projects VALUES (1, 1, 'shipped', 9), (2, 2, 'draft', 0);
	INSERT INTO project_collaborators VALUES (1, 2, 'confirmed');});
scores_are('1:25 2:11', 'inserts');

$publisher->safe_psql('postgres', q{UPDATE projects SET owner_id = 2 WHERE id = 1});
scores_are('1:0 2:20', 'a changed owner');

$publisher->safe_psql('postgres', q{UPDATE projects SET id = 20 WHERE id = 1;
	UPDATE project_collaborators SET project_id = 20, user_id = 1});
scores_are('1:11 2:25', 'a row moved to another partition');

# 25 points of the profile, 40 %; the events 25 % of 100 * ln(4) / ln(51).
$publisher->safe_psql('postgres', q{UPDATE users SET photo = 'a.jpg' WHERE id = 1;
	INSERT INTO activity SELECT i, 2, now() FROM generate_series(1, 3) i});
scores_are('1:11 2:25', 'what concerns trust alone');
trust_is('1:10 2:9', 'a photo, events');
$publisher->safe_psql('postgres', 'TRUNCATE activity');
scores_are('1:11 2:25', 'truncated events');
trust_is('1:10 2:0', 'truncated events');

$publisher->safe_psql('postgres', 'TRUNCATE projects_high');
drain_here();
scores_are('1:0 2:0', 'a truncated partition');

$publisher->safe_psql('postgres', q{INSERT INTO projects VALUES (3, 1, 'shipped', 0)});
scores_are('1:10 2:0', 'another insert');
$publisher->safe_psql('postgres', 'TRUNCATE projects');
drain_here();
scores_are('1:0 2:0', 'a truncated table');

# With 'origin' the replica takes over what it is sent, and nothing is captured.
$subscriber->safe_psql('postgres', q{SET client_min_messages = error; SELECT builder_score_attach(fire => 'origin');
	SELECT trust_score_attach(activity => 'activity')});
scores_are('1:0 2:0', 'attached again');
$publisher->safe_psql('postgres', q{INSERT INTO projects VALUES (4, 1, 'shipped', 0)});
$publisher->wait_for_catchup('everything');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM reputation_verify()'), '2', 'origin: not captured');

$subscriber->stop;
$publisher->stop;
done_testing();

# A second engine of each class in the randomised drift test, at the same tables as the first: with the same
# parameters it must have the same scores; its ledger and its badges are its own.

package Drift::Seconds;

use strict;
use warnings;

use Drift::Badges;

sub setup
{
	my ($name) = @_;

	return qq{
		SELECT builder_score_attach(name => 'builder_2', score_column => 'builder_score_2');
		SELECT trust_score_attach(activity => 'activity', name => 'trust_2');
		SELECT points_attach(name => 'points_2');
		SELECT @{[Drift::Badges::attach_as($name, 'badges_2', 'points_2')]};};
}

# The score tables of those that time changes.
sub timed_tables { return ('trust_2_trust_scores', 'points_2_points_scores'); }

# Queries of what is wrong, each after its name.
sub wrong
{
	return (
		'second builder' => q{
			SELECT u.id, u.builder_score, u.builder_score_2, s.score FROM users u FULL JOIN reputation.builder_2_builder_scores s ON s.user_id = u.id::text
			WHERE (u.builder_score_2, s.score) IS DISTINCT FROM (u.builder_score, u.builder_score) LIMIT 20},
		'second trust' => q{
			SELECT user_id, f.score AS first, s.score AS second FROM reputation.trust_scores f FULL JOIN reputation.trust_2_trust_scores s USING (user_id)
			WHERE f.score IS DISTINCT FROM s.score LIMIT 20},
		'second sessions' => q{
			SELECT user_id, f.score AS first, s.score AS second FROM reputation.session_scores f FULL JOIN reputation.session_2_session_scores s USING (user_id)
			WHERE (f.score, f.completed_sessions, f.no_shows, f.badge_color) IS DISTINCT FROM (s.score, s.completed_sessions, s.no_shows, s.badge_color) LIMIT 20},
		'second points' => q{
			SELECT u.id, s.all_time, l.points FROM users u FULL JOIN reputation.points_2_points_scores s ON s.user_id = u.id::text
			LEFT JOIN LATERAL (SELECT sum(l.points) AS points FROM reputation.points_2_point_ledger l WHERE l.user_id = s.user_id AND l.created_at <= reputation.clock()) l ON true
			WHERE u.id IS NULL OR s.all_time IS DISTINCT FROM coalesce(l.points, 0) LIMIT 20},
		'unpaid second badges' => q{
			SELECT h.* FROM reputation.badges_2_user_badge h WHERE h.bonus_points > 0 AND NOT EXISTS (SELECT FROM reputation.points_2_point_ledger l
			WHERE l.user_id = h.user_id AND l.source_key = h.source_key AND l.points = h.bonus_points) LIMIT 20},
		'badges paid into the other ledger' => q{
			SELECT user_id, source_key FROM reputation.point_ledger WHERE starts_with(source_key, 'badge:@badges_2:')
			UNION ALL SELECT user_id, source_key FROM reputation.points_2_point_ledger
			WHERE starts_with(source_key, 'badge:') AND NOT starts_with(source_key, 'badge:@badges_2:') LIMIT 20});
}

# What there must be some of, so that it could be wrong.
sub numbers
{
	return (
		'second badges' => 'SELECT count(*) FROM reputation.badges_2_user_badge',
		'second points' => 'SELECT count(*) FROM reputation.points_2_points_scores WHERE all_time <> 0');
}

1;

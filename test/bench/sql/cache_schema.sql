-- An application's sessions: each user is in about six matches, half of them as
-- either side, and has about eighteen sessions. Variable: users.
SET SESSION AUTHORIZATION app;

CREATE TABLE users (
	id			bigint		PRIMARY KEY,
	name		text		NOT NULL
);
CREATE TABLE wingman_matches (
	id			bigint		PRIMARY KEY,
	user1_id	bigint		NOT NULL,
	user2_id	bigint		NOT NULL
);
CREATE TABLE wingman_sessions (
	id			bigint		PRIMARY KEY,
	match_id	bigint		NOT NULL,
	status		text		NOT NULL,
	user1_completed_confirmed_by_user2	boolean,
	user2_completed_confirmed_by_user1	boolean
);

SELECT setseed(0.5) \g /dev/null

INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, :users) AS n;
-- Three matches of each user, with somebody.
INSERT INTO wingman_matches
SELECT n, 1 + (n - 1) / 3, 1 + floor(random() * :users) FROM generate_series(1, 3 * :users) AS n;
-- Three sessions of each match.
INSERT INTO wingman_sessions
SELECT n, 1 + (n - 1) / 3, CASE WHEN random() < 0.8 THEN 'completed' ELSE 'no_show' END, random() < 0.9, random() < 0.9
FROM generate_series(1, 9 * :users) AS n;

CREATE INDEX ON wingman_matches (user1_id) INCLUDE (id);
CREATE INDEX ON wingman_matches (user2_id) INCLUDE (id, user1_id);
CREATE INDEX ON wingman_sessions (match_id)
	INCLUDE (status, user1_completed_confirmed_by_user2, user2_completed_confirmed_by_user1);

-- No foreign keys between these tables: a parallel restore loads them in any
-- order.

-- The engines there are, attached or not: those of the script have a number up to 15, and
-- a dump does not carry them.
CREATE TABLE reputation.instance (
	id		int		PRIMARY KEY,
	name	text	NOT NULL UNIQUE,
	class	text	NOT NULL
);
COMMENT ON TABLE reputation.instance IS 'the engines there are, attached or not; each class of engines has one of its own name, attach makes more';
COMMENT ON COLUMN reputation.instance.class IS 'what it computes: the code';
INSERT INTO reputation.instance VALUES (1, 'builder', 'builder'), (2, 'trust', 'trust'), (3, 'session', 'session'), (4, 'points', 'points'), (5, 'badges', 'badges');

-- The engines that are attached, and to what. Columns that name objects of the
-- application are reg* types or names, so that a dump restores them.
CREATE TABLE reputation.engine (
	id				int			PRIMARY KEY,
	name			text		NOT NULL UNIQUE,
	class			text		NOT NULL,
	role			regrole		NOT NULL,
	users			regclass	NOT NULL,
	users_key		name		NOT NULL,
	key_type		regtype		NOT NULL,
	cached_column	name,
	rank_column		name,
	inputs			jsonb		NOT NULL DEFAULT '{}',
	view_definition	text		NOT NULL,
	view_rule		text		NOT NULL,
	fire			text		NOT NULL CHECK (fire IN ('origin', 'always')),
	attached_at		timestamptz	NOT NULL,
	home			text		NOT NULL,
	suspended_error	text,
	retry_at		timestamptz,
	computed_until	timestamptz,
	pays_into		text
);
COMMENT ON TABLE reputation.engine IS 'attached engines: the role they work as, the users table with its key and the cached column';
COMMENT ON COLUMN reputation.engine.cached_column IS 'the column of the users table that has the score; null: the score is in the engine''s score table alone';
COMMENT ON COLUMN reputation.engine.inputs IS 'which column of the users table is which of the engine''s';
COMMENT ON COLUMN reputation.engine.view_definition IS 'the signals view as attach generated it; a view that differs was replaced by its user and is kept';
COMMENT ON COLUMN reputation.engine.view_rule IS 'a digest of the generated view''s rule, which renaming a column leaves alone';
COMMENT ON COLUMN reputation.engine.home IS 'system identifier and database it was attached in; elsewhere (a restored dump, a copy) everybody is recomputed';
COMMENT ON COLUMN reputation.engine.computed_until IS 'where time changes scores: the time up to which, give or take half a minute, they were computed; when the clock is before that it was set back';
COMMENT ON COLUMN reputation.engine.pays_into IS 'of a set of badges: the points engine whose ledger has its bonuses';
COMMENT ON COLUMN reputation.engine.suspended_error IS 'why the engine as a whole cannot compute; its jobs wait';

CREATE TABLE reputation.algorithm (
	engine		text	NOT NULL,
	version		int		NOT NULL CHECK (version > 0),
	parameters	jsonb	NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
	active		boolean	NOT NULL DEFAULT false,
	PRIMARY KEY (engine, version)
);
CREATE UNIQUE INDEX algorithm_active ON reputation.algorithm (engine) WHERE active;
COMMENT ON TABLE reputation.algorithm IS 'versioned weights and settings of each engine; one version is active';

-- The application tables that have capture triggers. An engine watches columns
-- of a source; the triggers are made from what all engines want of it. What the triggers
-- must be follows from these tables: source_findings() compares it with the catalogs.
CREATE TABLE reputation.source (
	id			int			GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	relation	regclass	NOT NULL UNIQUE,
	shape		text,
	trigger_arguments	text,
	name		text		NOT NULL
);
COMMENT ON COLUMN reputation.source.trigger_arguments IS 'the second argument of the row trigger, which captures nothing if its own is another';
COMMENT ON TABLE reputation.source IS 'application tables with capture triggers; the id is the first argument of the triggers, and never used again';
COMMENT ON COLUMN reputation.source.shape IS 'a digest of its partitions or children and their files; when it changes everybody is recomputed';
COMMENT ON COLUMN reputation.source.name IS 'of the relation, qualified and quoted, when it was last attached';

-- A column is its number in that relation; the name is what it was called when that was
-- last looked at. Once a dump is restored the relation is another, the numbers may be,
-- too, and are found by the names.
CREATE TABLE reputation.source_column (
	source		int			NOT NULL,
	name		name		NOT NULL,
	attnum		smallint	NOT NULL,
	type		regtype		NOT NULL,
	relation	oid			NOT NULL,
	PRIMARY KEY (source, name, attnum)
);
COMMENT ON TABLE reputation.source_column IS 'the columns that somebody watches of a source; the names in source_key, capture and engine are those here';
COMMENT ON COLUMN reputation.source_column.attnum IS 'the column''s number; 0: a restored dump has no column of that name';
COMMENT ON COLUMN reputation.source_column.relation IS 'whose column has that number; an oid, so that a restored dump keeps the original''s';
COMMENT ON COLUMN reputation.source_column.type IS 'its type when it was attached';

-- Inserted and deleted only, so that nobody waits for a row that an open transaction
-- of the application's has noted.
CREATE TABLE reputation.source_missed (
	source		int			NOT NULL,
	since		timestamptz	NOT NULL
);
ALTER TABLE reputation.source_missed REPLICA IDENTITY FULL;
COMMENT ON TABLE reputation.source_missed IS 'sources of which changes were missed, for a trigger did not fire: once it is mended everybody is recomputed';

CREATE TABLE reputation.source_key (
	source		int			NOT NULL,
	key_no		smallint	NOT NULL CHECK (key_no > 0),
	column_name	name		NOT NULL,
	mode		"char"		NOT NULL CHECK (mode IN ('a', 'o', 'e', 'c', 'r')),
	engine		int			NOT NULL DEFAULT 0,
	PRIMARY KEY (source, key_no),
	-- At the end of a statement, which may give two columns each other's name.
	UNIQUE (source, column_name, mode, engine) DEFERRABLE
);
COMMENT ON COLUMN reputation.source_key.engine IS '0: captured when a change concerns every engine that wants this key; else when it concerns this one, but not all of them';
COMMENT ON COLUMN reputation.source_key.mode IS 'a: the old and the new value are captured; o: the old value, when it is gone; e: the change concerns everybody; c, r: the new value is, when somebody else writes the engine''s cached or rank column';

CREATE TABLE reputation.capture (
	engine		int			NOT NULL,
	source		int			NOT NULL,
	position	smallint	NOT NULL CHECK (position BETWEEN 0 AND 31),
	watched		name[]		NOT NULL,
	owner		regrole		NOT NULL,
	PRIMARY KEY (engine, source),
	UNIQUE (source, position)
);
COMMENT ON TABLE reputation.capture IS 'which columns of which source matter to an engine';
COMMENT ON COLUMN reputation.capture.position IS 'which bit of the trigger''s arguments stands for the engine, at this source';
COMMENT ON COLUMN reputation.capture.owner IS 'of the source, when the engine was attached; for another one the engine does not work';

CREATE TABLE reputation.capture_key (
	engine		int			NOT NULL,
	source		int			NOT NULL,
	key_no		smallint	NOT NULL,
	kind		smallint	NOT NULL CHECK (kind >= -2),
	priority	smallint	NOT NULL CHECK (priority BETWEEN 1 AND 3),
	PRIMARY KEY (engine, source, key_no, kind)
);
COMMENT ON COLUMN reputation.capture_key.kind IS '0: the key is a user id; above: the number of a lookup; -1, -2: a user whose cached or rank column is to be restored';
COMMENT ON COLUMN reputation.capture_key.priority IS '1 high, 2 medium, 3 low';

CREATE TABLE reputation.lookup (
	engine		int			NOT NULL,
	kind		smallint	NOT NULL CHECK (kind > 0),
	view_name	regclass	NOT NULL,
	key_type	regtype		NOT NULL,
	PRIMARY KEY (engine, kind)
);
COMMENT ON TABLE reputation.lookup IS 'views (key, user_id) that lead from a captured key to the users it concerns';

-- The inbox: segments that writers append to and the fold empties. No index and
-- no toast table, so that an append is one heap insert and a truncation one file.
-- The last one is the reserve, for when the others are locked.
CREATE TABLE reputation.inbox_0 (
	source	int			NOT NULL,
	key_no	smallint	NOT NULL,
	key		text		NOT NULL
);
ALTER TABLE reputation.inbox_0 ALTER key SET STORAGE PLAIN;
CREATE TABLE reputation.inbox_1 (LIKE reputation.inbox_0 INCLUDING STORAGE);
CREATE TABLE reputation.inbox_2 (LIKE reputation.inbox_0 INCLUDING STORAGE);
CREATE TABLE reputation.inbox_3 (LIKE reputation.inbox_0 INCLUDING STORAGE);
CREATE TABLE reputation.inbox_4 (LIKE reputation.inbox_0 INCLUDING STORAGE);
COMMENT ON TABLE reputation.inbox_0 IS 'captured keys of committed changes that were not folded yet (a segment)';
COMMENT ON TABLE reputation.inbox_1 IS 'captured keys of committed changes that were not folded yet (a segment)';
COMMENT ON TABLE reputation.inbox_2 IS 'captured keys of committed changes that were not folded yet (a segment)';
COMMENT ON TABLE reputation.inbox_3 IS 'captured keys of committed changes that were not folded yet (a segment)';
COMMENT ON TABLE reputation.inbox_4 IS 'captured keys of committed changes that were not folded yet (the reserve, while the other segments are locked)';

CREATE TABLE reputation.job_runs (
	id					bigint		GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job_name			text		NOT NULL,
	status				text		NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'cancelled')),
	trigger				text		NOT NULL CHECK (trigger IN ('attach', 'manual', 'cron', 'worker', 'truncate', 'resync', 'algorithm', 'clock')),
	scope				text		NOT NULL,
	started_at			timestamptz	NOT NULL,
	finished_at			timestamptz,
	duration_ms			bigint,
	algorithm_version	int,
	attempt				int			NOT NULL DEFAULT 1,
	error				text,
	metadata			jsonb		NOT NULL DEFAULT '{}',
	done				bigint		NOT NULL DEFAULT 0,
	total				bigint,
	fed					bigint		NOT NULL DEFAULT 0,
	changed				bigint		NOT NULL DEFAULT 0,
	cursor				text,
	fed_all				boolean,
	again				boolean		NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX job_runs_running ON reputation.job_runs (job_name, scope) WHERE status = 'running';
CREATE INDEX job_runs_started_at ON reputation.job_runs (started_at);
COMMENT ON TABLE reputation.job_runs IS 'batch runs; scope is the engine; at most one is running per job and scope';
COMMENT ON COLUMN reputation.job_runs.done IS 'users computed, or audit rows looked at, as of the last step of the run; reputation.job_progress knows those since, too';
COMMENT ON COLUMN reputation.job_runs.total IS 'users expected (an estimate while it runs); of a run that writes ranks: users whose rank differs, null until that is computed';
COMMENT ON COLUMN reputation.job_runs.fed IS 'users put into the job table so far; the run is finished when all were fed and done = fed';
COMMENT ON COLUMN reputation.job_runs.changed IS 'users whose stored score or rank the run changed, or audit rows it removed';
COMMENT ON COLUMN reputation.job_runs.cursor IS 'the last user id that was fed, or the audit row that was looked at';
COMMENT ON COLUMN reputation.job_runs.fed_all IS 'were all users fed? Null: the run feeds none';
COMMENT ON COLUMN reputation.job_runs.trigger IS 'who asked for it; when it was asked for again while it was on, who did last';
COMMENT ON COLUMN reputation.job_runs.algorithm_version IS 'the active version when it was last asked for';
COMMENT ON COLUMN reputation.job_runs.again IS 'everybody was asked for once more while the run was on: it starts over at its end';

-- What units did of a run since its last step. Inserted only, so that no unit
-- waits for the run's row; the next step moves the rows there (src/sweep.c). No
-- index: there are never more rows than units in a few portions.
CREATE TABLE reputation.run_tally (
	run_id	bigint	NOT NULL,
	done	bigint	NOT NULL,
	changed	bigint	NOT NULL
);
COMMENT ON TABLE reputation.run_tally IS 'users that units computed for a running run and that its row does not count yet';

-- Ranks that a run has computed and not written yet. If a
-- crash empties it the run starts over.
CREATE UNLOGGED TABLE reputation.rank_portion (
	run_id	bigint		NOT NULL,
	first	bigint		NOT NULL,
	users	text[]		NOT NULL,
	ranks	bigint[]	NOT NULL,
	PRIMARY KEY (run_id, first)
);
COMMENT ON TABLE reputation.rank_portion IS 'users with their new rank, a batch a row, in the order in which a run writes them';
COMMENT ON COLUMN reputation.rank_portion.first IS 'how many users are in the portions before';

CREATE VIEW reputation.job_progress AS
SELECT id, job_name, scope, trigger, started_at, done, total,
	   CASE WHEN total > 0 THEN round(100.0 * least(done, total) / total, 1) END AS percent,
	   CASE WHEN done > 0 AND total > done
			THEN (clock_timestamp() - started_at) * ((total - done)::float8 / done) END AS time_left
FROM (SELECT r.id, r.job_name, r.scope, r.trigger, r.started_at, r.total,
			 (r.done + (SELECT coalesce(sum(t.done), 0) FROM reputation.run_tally t WHERE t.run_id = r.id))::bigint AS done
	  FROM reputation.job_runs r
	  WHERE r.status = 'running') p;
COMMENT ON VIEW reputation.job_progress IS 'running batch jobs with an estimate of the time left';

-- So that a publication of all tables does not forbid the deletes.
ALTER TABLE reputation.inbox_0 REPLICA IDENTITY FULL;
ALTER TABLE reputation.inbox_1 REPLICA IDENTITY FULL;
ALTER TABLE reputation.inbox_2 REPLICA IDENTITY FULL;
ALTER TABLE reputation.inbox_3 REPLICA IDENTITY FULL;
ALTER TABLE reputation.inbox_4 REPLICA IDENTITY FULL;

-- Keys are compared as bytes here: fast, and the same in every database.
-- Due and deferred work. Duplicates of a key are allowed; a claim takes all of them.
CREATE TABLE reputation.job (
	engine		int			NOT NULL,
	kind		smallint	NOT NULL DEFAULT 0,
	key			text		COLLATE "C" NOT NULL,
	lane		smallint	NOT NULL,
	priority	smallint	NOT NULL,
	due_at		timestamptz	NOT NULL,
	attempt		smallint	NOT NULL DEFAULT 0,
	lock_tries	smallint	NOT NULL DEFAULT 0,
	blind		boolean		NOT NULL DEFAULT false,
	event		boolean		NOT NULL DEFAULT true,
	run_id		bigint,
	error		text
);
-- Neither index begins with a column that the other's query gives: statistics of
-- a moment when the table was empty must not make the planner take the wrong one.
CREATE INDEX job_due ON reputation.job (priority, due_at, engine);
CREATE INDEX job_key ON reputation.job (key, kind, engine);
-- Lookups are there only when they failed, restores after somebody else's writes.
CREATE INDEX job_lookup ON reputation.job (engine) WHERE kind <> 0;
COMMENT ON COLUMN reputation.job.run_id IS 'null: none; 0: a session stored the user without a claim, look again; -1: time alone may have changed the score; else a run in reputation.job_runs';
COMMENT ON COLUMN reputation.job.event IS 'a change of the application''s led to it, perhaps to a job of a run: opens a debounce window, and is audited whatever comes of it';
COMMENT ON COLUMN reputation.job.blind IS 'due now because the user''s lane was taken when it was queued: a window may have opened since';
ALTER TABLE reputation.job REPLICA IDENTITY FULL;
ALTER TABLE reputation.run_tally REPLICA IDENTITY FULL;
COMMENT ON TABLE reputation.job IS 'users (kind 0) and lookup keys (above) to compute, and cached (-1) and rank columns (-2) to restore, at due_at';

CREATE UNLOGGED TABLE reputation.recent_run (
	engine		int			NOT NULL,
	key			text		COLLATE "C" NOT NULL,
	closes_at	timestamptz	NOT NULL
);
CREATE INDEX recent_run_key ON reputation.recent_run (key, engine);
-- For compaction: rows are here only inside one transaction.
CREATE UNLOGGED TABLE reputation.job_spare (LIKE reputation.job);
COMMENT ON TABLE reputation.job_spare IS 'always empty outside of a compaction of reputation.job';
CREATE UNLOGGED TABLE reputation.recent_run_spare (LIKE reputation.recent_run);
COMMENT ON TABLE reputation.recent_run_spare IS 'always empty outside of a compaction of reputation.recent_run';
CREATE UNLOGGED TABLE reputation.run_tally_spare (LIKE reputation.run_tally);
COMMENT ON TABLE reputation.run_tally_spare IS 'always empty outside of a compaction of reputation.run_tally';

COMMENT ON TABLE reputation.recent_run IS 'until when a user''s debounce window is open; forgetting it costs one run per user, so it is unlogged';

CREATE TABLE reputation.dead_letter (
	id			bigint		GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	engine		text		NOT NULL,
	kind		smallint	NOT NULL,
	key			text		NOT NULL,
	attempts	int			NOT NULL,
	error		text		NOT NULL,
	failed_at	timestamptz	NOT NULL
);
CREATE INDEX dead_letter_key ON reputation.dead_letter (key);
COMMENT ON TABLE reputation.dead_letter IS 'keys given up after too many failures; reputation_retry() queues them again';

CREATE TABLE reputation.worker_mark (
	slot		int			PRIMARY KEY,
	pid			int			NOT NULL,
	started_at	timestamptz	NOT NULL,
	engine		int,
	kind		smallint,
	key			text
);
COMMENT ON TABLE reputation.worker_mark IS 'one row per running worker; a leftover row tells the next one that its predecessor crashed, and over which key';

CREATE TABLE reputation.crash (
	engine		int			NOT NULL,
	kind		smallint	NOT NULL,
	key			text		NOT NULL,
	crashes		int			NOT NULL,
	PRIMARY KEY (engine, kind, key)
);
COMMENT ON TABLE reputation.crash IS 'keys whose computation a process did not survive, until they succeed';

-- What a dump carries. Not the inbox, the job and the tally table: a dump would
-- hold locks on them that keep them from being truncated. engine.home makes up for it: in
-- a database that is not the one it names everybody is recomputed.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['engine', 'algorithm', 'source', 'source_id_seq', 'source_column', 'source_key', 'capture', 'capture_key',
		'lookup', 'job_runs', 'job_runs_id_seq', 'dead_letter', 'dead_letter_id_seq']
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(format('reputation.%I', name)::regclass, '');
	END LOOP;
	PERFORM pg_catalog.pg_extension_config_dump('reputation.instance', 'WHERE id > 15');
END
$$;

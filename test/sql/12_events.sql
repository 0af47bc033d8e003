-- Which change concerns whom: after each, test.concerned() lists the keys that
-- were captured, the users that got work (with its priority: 1 high, 2 medium,
-- 3 low), the runs over everybody, and, when all was drained, what is still
-- pending and what differs.
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET reputation.clock = '2026-01-01 00:00:00+00';
SET reputation.debounce = 0;
CALL test.make_tables('events');
INSERT INTO users SELECT i FROM generate_series(1, 9) i;
INSERT INTO projects VALUES (10, 1, 'idea', 0), (20, 2, 'shipped', 9), (30, 3, 'shipped', 0);
INSERT INTO project_collaborators VALUES (20, 4, 'confirmed'), (30, 6, 'pending');
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;

-- A collaboration: asked for, confirmed, withdrawn, removed.
INSERT INTO project_collaborators VALUES (10, 5, 'pending');
SELECT drift FROM test.concerned();
UPDATE project_collaborators SET status = 'confirmed' WHERE user_id = 5;
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users WHERE id IN (1, 5) ORDER BY id;
UPDATE project_collaborators SET status = 'rejected' WHERE user_id = 5;
SELECT * FROM test.concerned();
UPDATE project_collaborators SET status = 'confirmed' WHERE user_id = 5;
SELECT * FROM test.concerned();
DELETE FROM project_collaborators WHERE user_id = 5;
SELECT * FROM test.concerned();
INSERT INTO project_collaborators VALUES (10, 5, 'confirmed');
SELECT * FROM test.concerned();
-- Its user or its project is another: the old and the new one.
UPDATE project_collaborators SET user_id = 7 WHERE user_id = 5;
SELECT * FROM test.concerned();
UPDATE project_collaborators SET project_id = 30 WHERE user_id = 7;
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;

-- A project: shipped and unshipped, impact, created, deleted. Who only asked (6) is not concerned.
UPDATE projects SET status = 'idea' WHERE id = 20;
SELECT * FROM test.concerned();
UPDATE projects SET status = 'shipped' WHERE id = 20;
SELECT * FROM test.concerned();
UPDATE projects SET impact = 99 WHERE id = 30;
SELECT * FROM test.concerned();
INSERT INTO projects VALUES (40, 8, 'shipped', 0);
SELECT * FROM test.concerned();
DELETE FROM projects WHERE id = 40;
SELECT * FROM test.concerned();
-- With its collaborations, by cascade: the owner and those who were confirmed.
DELETE FROM projects WHERE id = 20;
SELECT captured > 0 AS captured, users, sweeps, pending, drift FROM test.concerned();
-- It changes hands: the old and the new owner, and the collaborators (7 confirmed).
UPDATE projects SET owner_id = 9 WHERE id = 30;
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;
-- Nobody's, and somebody's again.
UPDATE projects SET owner_id = NULL WHERE id = 30;
SELECT * FROM test.concerned();
UPDATE projects SET owner_id = 3 WHERE id = 30;
SELECT * FROM test.concerned();
DELETE FROM project_collaborators WHERE user_id = 6;
SELECT pending, drift FROM test.concerned();
-- Its key changes, and that of the collaborations with it.
UPDATE projects SET id = 31 WHERE id = 30;
SELECT users, sweeps, pending, drift FROM test.concerned();

-- A user: created (low), another id with all that refers to it, deleted (high: what is kept goes).
INSERT INTO users VALUES (11), (12);
SELECT * FROM test.concerned();
INSERT INTO projects VALUES (50, 11, 'shipped', 0);
INSERT INTO project_collaborators VALUES (50, 12, 'confirmed');
SELECT * FROM test.concerned();
UPDATE users SET id = 13 WHERE id = 11;
SELECT users, sweeps, pending, drift FROM test.concerned();
SELECT user_id, score FROM reputation.builder_scores WHERE user_id IN ('11', '12', '13') ORDER BY user_id;
DELETE FROM users WHERE id = 13;
SELECT users, sweeps, pending, drift FROM test.concerned();
SELECT user_id, score FROM reputation.builder_scores WHERE user_id IN ('11', '12', '13') ORDER BY user_id;
SELECT id, builder_score FROM users WHERE id = 12;
-- Gone and back before anybody looked.
DELETE FROM users WHERE id = 12;
INSERT INTO users VALUES (12);
SELECT * FROM test.concerned();

-- What does not matter costs nothing.
UPDATE users SET name = 'somebody';
UPDATE projects SET title = 'a project', status = status;
UPDATE project_collaborators SET note = 'a note';
UPDATE users SET id = id;
SELECT * FROM test.concerned();

-- The application writes the cached column: healed.
UPDATE users SET builder_score = 1000 WHERE id = 3;
SELECT * FROM test.concerned();
SELECT builder_score FROM users WHERE id = 3;
INSERT INTO users (id, builder_score) VALUES (14, 55);
SELECT * FROM test.concerned();
SELECT builder_score FROM users WHERE id = 14;

-- A BEFORE trigger changes what the statement did not mention.
CREATE FUNCTION ship() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := 'shipped'; RETURN NEW; END $$;
CREATE TRIGGER ship BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION ship();
UPDATE projects SET title = 'renamed' WHERE id = 10;
SELECT * FROM test.concerned();
SELECT builder_score FROM users WHERE id = 1;
-- From then on every update is looked at, but one that changes nothing is not captured.
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
SELECT count(*) FROM reputation.source_check() WHERE finding = 'before_trigger';
UPDATE projects SET title = 'renamed again' WHERE id = 10;
SELECT * FROM test.concerned();
DROP TRIGGER ship ON projects;
UPDATE projects SET status = 'idea' WHERE id = 10;
SELECT * FROM test.concerned();
-- Attached without it, the list is back; attached with it, it is not, whoever made the trigger.
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
CREATE ROLE regress_trigger NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA events TO regress_trigger;
GRANT TRIGGER ON projects TO regress_trigger;
GRANT EXECUTE ON FUNCTION ship() TO regress_trigger;
SET ROLE regress_trigger;
CREATE TRIGGER ship BEFORE INSERT OR UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION ship();
RESET ROLE;
UPDATE projects SET title = 'renamed' WHERE id = 10;
SELECT * FROM test.concerned();
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
DROP TRIGGER ship ON projects;
DROP OWNED BY regress_trigger;
DROP ROLE regress_trigger;
-- A generated column changes with what it is computed from.
ALTER TABLE projects ADD COLUMN stars int, ADD COLUMN reach float8 GENERATED ALWAYS AS (stars * 9) STORED;
SELECT builder_score_attach(columns => '{"projects": {"impact": "reach"}}') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
UPDATE projects SET stars = 11, status = 'shipped' WHERE id = 10;
SELECT reputation_process() > 0 AS computed;
UPDATE projects SET stars = 1 WHERE id = 10;
SELECT * FROM test.concerned();
-- A watched column that is no key is renamed: captured as before.
ALTER TABLE projects RENAME status TO state;
UPDATE projects SET state = 'idea' WHERE id = 10;
SELECT * FROM test.concerned();
ALTER TABLE projects RENAME state TO status;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
-- It cannot be taken away while a deferred trigger is pending and it fires always: a warning, and again at the next chance.
SELECT builder_score_attach(fire => 'always') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER pending AFTER UPDATE ON projects DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing();
BEGIN;
UPDATE projects SET title = 'pending' WHERE id = 10;
CREATE TRIGGER ship BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION ship();
COMMIT;
SELECT relation FROM reputation.source_check() WHERE finding = 'before_trigger';
SELECT status, detail FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
ALTER TABLE projects ALTER stars SET DEFAULT 0;
SELECT count(*) FROM reputation.source_check() WHERE finding = 'before_trigger';
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
DROP TRIGGER ship ON projects;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
BEGIN;
UPDATE projects SET title = 'pending' WHERE id = 10;
CREATE TRIGGER ship BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION ship();
COMMIT;
SELECT count(*) FROM reputation.source_check() WHERE finding = 'before_trigger';
DROP TRIGGER ship ON projects;
DROP TRIGGER pending ON projects;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
-- An attach with an older snapshot might not see such a trigger.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT builder_score_attach();
\echo SQLSTATE :SQLSTATE
ROLLBACK;
SELECT reputation.triggers_check();
\echo SQLSTATE :SQLSTATE
-- COPY, INSERT ON CONFLICT, MERGE, a data-modifying CTE.
COPY projects (id, owner_id, status, impact) FROM stdin;
60	4	shipped	0
61	5	shipped	0
\.
SELECT * FROM test.concerned();
INSERT INTO projects VALUES (60, 4, 'idea'), (62, 6, 'shipped') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
SELECT * FROM test.concerned();
INSERT INTO projects VALUES (60, 4, 'shipped') ON CONFLICT DO NOTHING;
SELECT * FROM test.concerned();
MERGE INTO projects p USING (VALUES (60, 4, 'shipped'), (61, 5, 'drop'), (63, 7, 'shipped')) s (id, owner_id, status) ON p.id = s.id
WHEN MATCHED AND s.status = 'drop' THEN DELETE
WHEN MATCHED THEN UPDATE SET status = s.status
WHEN NOT MATCHED THEN INSERT (id, owner_id, status) VALUES (s.id, s.owner_id, s.status);
SELECT * FROM test.concerned();
WITH moved AS (DELETE FROM projects WHERE id = 63 RETURNING id)
INSERT INTO projects SELECT 64, 8, 'shipped' FROM moved;
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;

-- Transactions: nothing before the commit, nothing of what was rolled back.
BEGIN;
UPDATE projects SET status = 'idea' WHERE id = 60;
SELECT count(*) FROM test.inbox;
ROLLBACK;
SELECT * FROM test.concerned();
BEGIN;
UPDATE projects SET status = 'idea' WHERE id = 60;
SAVEPOINT s;
UPDATE projects SET status = 'idea' WHERE id = 62;
ROLLBACK TO SAVEPOINT s;
COMMIT;
-- 4 for certain; 6 may be computed in vain.
SELECT users LIKE '4:2%' AS captured, pending, drift FROM test.concerned();
BEGIN;
SAVEPOINT s;
UPDATE projects SET status = 'shipped' WHERE id = 60;
RELEASE SAVEPOINT s;
DO $$ BEGIN INSERT INTO projects VALUES (60); EXCEPTION WHEN unique_violation THEN NULL; END $$;
COMMIT;
SELECT * FROM test.concerned();
-- Many changes of one user in one transaction are one key each.
BEGIN;
UPDATE projects SET impact = 1 WHERE id = 60;
UPDATE projects SET impact = 2 WHERE id = 60;
UPDATE projects SET impact = 3 WHERE id = 60;
COMMIT;
SELECT * FROM test.concerned();
-- A deferred constraint trigger that writes at the commit.
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE projects SET status = 'shipped' WHERE id = 10; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
INSERT INTO users VALUES (15);
SELECT * FROM test.concerned();
DROP TRIGGER late ON users;

-- Prepared transactions.
BEGIN;
UPDATE projects SET status = 'idea' WHERE id = 60;
PREPARE TRANSACTION 'regress';
SELECT * FROM test.concerned();
SELECT builder_score FROM users WHERE id = 4;
COMMIT PREPARED 'regress';
SELECT * FROM test.concerned();
SELECT builder_score FROM users WHERE id = 4;
BEGIN;
UPDATE projects SET status = 'shipped' WHERE id = 60;
PREPARE TRANSACTION 'regress';
-- Others go on meanwhile.
UPDATE projects SET status = 'idea' WHERE id = 10;
SELECT * FROM test.concerned();
ROLLBACK PREPARED 'regress';
SELECT * FROM test.concerned();

-- More keys than a transaction may hold in memory: everybody, of what it has changed so far.
SET maintenance_work_mem = '1MB';
BEGIN;
INSERT INTO users VALUES (16);
INSERT INTO projects SELECT i, 1, 'idea' FROM generate_series(1001, 21000) i;
-- Known already, and not: one mark for each table, and one user.
UPDATE projects SET owner_id = NULL WHERE id = 1003;
INSERT INTO project_collaborators VALUES (60, 2, 'confirmed');
COMMIT;
SELECT key_no > 0 AS single, count(DISTINCT source) AS sources, count(*), max(key) AS key FROM test.inbox GROUP BY 1 ORDER BY 1;
SELECT sweeps, pending, drift FROM test.concerned();
-- Nobody was missed although what made them too many was rolled back.
BEGIN;
UPDATE projects SET status = 'shipped' WHERE id = 1002;
SAVEPOINT s;
UPDATE projects SET status = 'shipped' WHERE id > 1000;
ROLLBACK TO SAVEPOINT s;
UPDATE projects SET status = 'shipped' WHERE id = 1001;
COMMIT;
SELECT captured, sweeps, pending, drift FROM test.concerned();
RESET maintenance_work_mem;
-- The next transaction has a set of its own.
DELETE FROM projects WHERE id = 1001;
SELECT * FROM test.concerned();
DELETE FROM projects WHERE id > 1001;
DELETE FROM users WHERE id = 16;
SELECT captured, sweeps, pending, drift FROM test.concerned();
-- More keys in the inbox than a fold can hold in memory: the rest is the next one's.
INSERT INTO reputation.inbox_0 SELECT 0, 1, i FROM generate_series(1, 250001) i;
SELECT reputation_process(max_users => 0);
SELECT count(*) FROM test.inbox;
SELECT reputation_process(max_users => 0);
SELECT count(*) FROM test.inbox;
SELECT pages FROM reputation.inbox_pages() WHERE segment = 0;

-- TRUNCATE concerns everybody.
TRUNCATE project_collaborators;
SELECT * FROM test.concerned();
SELECT job_name, trigger, status, done FROM reputation.job_runs ORDER BY id DESC LIMIT 1;
SELECT id, builder_score FROM users WHERE builder_score > 0 ORDER BY id;
TRUNCATE users CASCADE;
SELECT users, sweeps, pending, drift FROM test.concerned();
SELECT count(*) FROM reputation.builder_scores;

-- Logical apply and other replicas: not by default, with fire => 'always' they are.
INSERT INTO users VALUES (1);
SELECT * FROM test.concerned();
SET session_replication_role = replica;
INSERT INTO projects VALUES (1, 1, 'shipped', 0);
SET session_replication_role = origin;
SELECT * FROM test.concerned();
SELECT builder_score_attach(fire => 'always') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
SET session_replication_role = replica;
INSERT INTO projects VALUES (2, 1, 'shipped', 0);
UPDATE projects SET status = 'idea' WHERE id = 1;
SET session_replication_role = origin;
SELECT * FROM test.concerned();
SET session_replication_role = replica;
TRUNCATE projects CASCADE;
SET session_replication_role = origin;
SELECT sweeps, pending, drift FROM test.concerned();
SELECT builder_score FROM users;

-- Many scores stored by one session: everybody is looked at again, not one by one.
INSERT INTO users SELECT n FROM generate_series(1000, 12000) AS n;
INSERT INTO projects SELECT n, n, 'shipped', 0 FROM generate_series(1000, 12000) AS n;
BEGIN;
SELECT builder_score_recalc_all() >= 11001 AS changed;
SELECT count(*) BETWEEN 1 AND 10000 AS fewer FROM reputation.job;
SAVEPOINT s;
UPDATE users SET builder_score = 7 WHERE id = 1000;
SELECT builder_score_recalc(1000);
ROLLBACK TO SAVEPOINT s;
COMMIT;
SELECT sweeps, pending, drift FROM test.concerned();
DELETE FROM users WHERE id >= 1000;
SELECT sweeps, pending, drift FROM test.concerned();

-- A captured column is renamed: its keys are captured as before.
INSERT INTO users VALUES (2);
ALTER TABLE projects RENAME owner_id TO creator;
INSERT INTO projects VALUES (3, 2, 'shipped', 0);
SELECT users, sweeps, pending, drift FROM test.concerned();
SELECT id, builder_score FROM users ORDER BY id;
SELECT status, detail, hint FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
SELECT builder_score_attach(columns => '{"projects": {"owner_id": "creator"}}') IS NOT NULL AS attached;
SELECT reputation_process() > 0 AS computed;
UPDATE projects SET status = 'idea';
SELECT * FROM test.concerned();
SELECT status, detail FROM reputation_status() WHERE check_name = 'capture' OR check_name LIKE 'source %';
CALL test.clean('events');

-- Partitions, written directly, through the parent, moved, truncated and made later.
CREATE SCHEMA parts AUTHORIZATION regress_app;
SET search_path = parts, public;
SET ROLE regress_app;
CREATE TABLE users (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (100);
CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (100) TO (200);
CREATE TABLE projects (id int, owner_id int, status text, impact float8, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE projects_shipped PARTITION OF projects FOR VALUES IN ('shipped');
CREATE TABLE projects_other PARTITION OF projects DEFAULT PARTITION BY RANGE (id);
CREATE TABLE projects_other_1 PARTITION OF projects_other FOR VALUES FROM (0) TO (1000);
CREATE TABLE project_collaborators (project_id int, user_id int, status text);
CREATE INDEX ON projects (owner_id);
CREATE INDEX ON project_collaborators (project_id);
CREATE INDEX ON project_collaborators (user_id);
RESET ROLE;
INSERT INTO users VALUES (1), (2), (101), (102);
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process();
INSERT INTO projects VALUES (1, 1, 'shipped', 0), (2, 101, 'idea', 0);
SELECT * FROM test.concerned();
INSERT INTO projects_shipped VALUES (3, 102, 'shipped', 0);
SELECT * FROM test.concerned();
INSERT INTO projects_other_1 VALUES (4, 2, 'idea', 0);
SELECT * FROM test.concerned();
UPDATE projects SET status = 'shipped' WHERE id = 2;
SELECT * FROM test.concerned();
UPDATE projects_shipped SET owner_id = 2 WHERE id = 1;
SELECT * FROM test.concerned();
UPDATE users SET id = 103 WHERE id = 1;
SELECT users, sweeps, pending, drift FROM test.concerned();
INSERT INTO users_low VALUES (3);
SELECT * FROM test.concerned();
DELETE FROM users_low WHERE id = 3;
SELECT * FROM test.concerned();
SELECT tableoid::regclass, id, builder_score FROM users ORDER BY id;
TRUNCATE projects_shipped;
SELECT * FROM test.concerned();
SELECT id, builder_score FROM users ORDER BY id;
TRUNCATE projects;
SELECT users, sweeps, pending, drift FROM test.concerned();
-- On replicas too, when asked for.
SELECT builder_score_attach(fire => 'always') IS NOT NULL AS attached;
INSERT INTO projects VALUES (7, 2, 'shipped', 0);
SELECT pending, drift FROM test.concerned();
SELECT builder_score(2);
SET session_replication_role = replica;
TRUNCATE projects_shipped;
SET session_replication_role = origin;
SELECT * FROM test.concerned();
SELECT builder_score(2);
SELECT builder_score_recalc_all() >= 0 AS done;
SELECT reputation_process() >= 0 AS done;
-- A partition that is made after the attach.
SET ROLE regress_app;
CREATE TABLE projects_live PARTITION OF projects FOR VALUES IN ('live');
RESET ROLE;
UPDATE reputation.algorithm SET parameters = jsonb_set(parameters, '{shipped}', '["shipped", "live"]');
SELECT builder_score_recalc_all() >= 0 AS done;
INSERT INTO projects_live VALUES (5, 2, 'live', 0);
SELECT * FROM test.concerned();
SELECT builder_score(2);
TRUNCATE projects_live;
SELECT * FROM test.concerned();
SELECT builder_score(2);
-- A BEFORE trigger of one partition, and one that comes with a partition.
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname = 'reputation_capture';
CREATE FUNCTION parts.boost() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.impact := 99; RETURN NEW; END $$;
CREATE TRIGGER boost BEFORE UPDATE ON projects_live FOR EACH ROW EXECUTE FUNCTION parts.boost();
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects_live'::regclass AND tgname = 'reputation_capture';
DROP TRIGGER boost ON projects_live;
SELECT builder_score_attach() IS NOT NULL AS attached;
SELECT reputation_process() >= 0 AS done;
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects_live'::regclass AND tgname = 'reputation_capture';
SET ROLE regress_app;
CREATE TABLE projects_new (LIKE projects INCLUDING ALL);
RESET ROLE;
CREATE TRIGGER boost BEFORE UPDATE ON projects_new FOR EACH ROW EXECUTE FUNCTION parts.boost();
ALTER TABLE projects ATTACH PARTITION projects_new FOR VALUES IN ('new');
SELECT tgattr::text <> '' AS listed FROM pg_trigger WHERE tgrelid = 'projects_new'::regclass AND tgname = 'reputation_capture';
CALL test.clean('parts');

-- The trigger functions are for the extension's own triggers: nobody may use them, and
-- where a superuser does, on another table or for other events, they refuse.
\set SHOW_CONTEXT never
CREATE ROLE regress_admin NOLOGIN IN ROLE reputation_admin, reputation_reader, reputation_writer;
CREATE SCHEMA other AUTHORIZATION regress_admin;
SET search_path = other, public;
SET ROLE regress_admin;
CREATE TABLE same (engine text, version int, parameters jsonb, active boolean);
CREATE TABLE shorter (engine int, parameters int);
CREATE TABLE scores (user_id text, all_time bigint, weekly float8);
CREATE TRIGGER t BEFORE INSERT ON same FOR EACH ROW EXECUTE FUNCTION reputation.check_algorithm();
CREATE TRIGGER t AFTER INSERT ON scores FOR EACH ROW EXECUTE FUNCTION reputation.rank_track('4', 'all_time');
CREATE TRIGGER t BEFORE UPDATE ON same FOR EACH ROW EXECUTE FUNCTION reputation.ledger_guard();
CREATE TRIGGER t AFTER INSERT ON same FOR EACH ROW EXECUTE FUNCTION reputation.capture('1', '"a:1:1:engine"');
SELECT reputation.run_due_jobs();
SELECT reputation.privileges_clear('pg_class', 'reputation.engine'::regclass);
RESET ROLE;

-- What the statement raises with a trigger.
CREATE PROCEDURE attempt(trigger text, relation text, function text, statement text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER %s ON %s %s EXECUTE FUNCTION reputation.%s', 'a ' || trigger, relation, CASE WHEN trigger LIKE '%TRUNCATE%' OR function LIKE '%statement' THEN '' ELSE 'FOR EACH ROW' END, split_part(function, ' ', 1));
	EXECUTE statement;
	RAISE EXCEPTION 'nothing';
EXCEPTION WHEN OTHERS THEN
	RAISE INFO '% % on %: % %', function, trigger, relation, SQLSTATE, SQLERRM;
END
$$;
INSERT INTO same VALUES ('builder', 1, '{}', false);
CALL attempt('BEFORE INSERT', 'same', 'check_algorithm()', 'INSERT INTO same VALUES (''builder'', 1, ''{}'', true)');
CALL attempt('BEFORE INSERT', 'shorter', 'check_algorithm()', 'INSERT INTO shorter VALUES (1, 2)');
CALL attempt('BEFORE UPDATE', 'same', 'check_algorithm()', 'UPDATE same SET version = 2');
CALL attempt('AFTER INSERT', 'reputation.algorithm', 'check_algorithm()', 'INSERT INTO reputation.algorithm VALUES (''builder'', 9, ''{}'', false)');
CALL attempt('BEFORE DELETE', 'reputation.algorithm', 'check_algorithm()', 'INSERT INTO reputation.algorithm VALUES (''builder'', 9, ''{}'', false); DELETE FROM reputation.algorithm WHERE version = 9');
CALL attempt('BEFORE INSERT', 'reputation.algorithm', 'check_algorithm() statement', 'INSERT INTO reputation.algorithm VALUES (''builder'', 9, ''{}'', false)');
CALL attempt('BEFORE INSERT', 'reputation.board', 'check_algorithm()', 'INSERT INTO reputation.board VALUES (''a'', ''builder'', 1, ''rank'')');
CALL attempt('AFTER INSERT', 'scores', 'rank_track(4,all_time)', 'INSERT INTO scores VALUES (1, 1, 1)');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(1,all_time)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(1000000,all_time)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(4,user_id)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(4,nothing)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(4)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(4,score,score,score,score,score)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('BEFORE INSERT', 'reputation.points_scores', 'rank_track(4,all_time)', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('AFTER INSERT', 'reputation.points_scores', 'rank_track(4,all_time) statement', 'INSERT INTO reputation.points_scores VALUES (''x'', 1, 1, 1, 1, now(), 1, now())');
CALL attempt('BEFORE UPDATE', 'same', 'ledger_guard()', 'UPDATE same SET version = 2');
CALL attempt('BEFORE INSERT', 'reputation.point_ledger', 'ledger_guard()', 'INSERT INTO reputation.point_ledger (user_id, points) VALUES (''x'', 1)');
CALL attempt('BEFORE TRUNCATE', 'reputation.point_ledger', 'ledger_guard()', 'TRUNCATE reputation.point_ledger');
CREATE EVENT TRIGGER other ON sql_drop EXECUTE FUNCTION reputation.triggers_check();
DROP TABLE shorter;
\echo SQLSTATE :SQLSTATE
DROP EVENT TRIGGER other;
CREATE EVENT TRIGGER other ON ddl_command_end EXECUTE FUNCTION reputation.source_dropped();
CREATE TABLE longer ();
\echo SQLSTATE :SQLSTATE
DROP EVENT TRIGGER other;
SELECT reputation.source_dropped();
\echo SQLSTATE :SQLSTATE
-- The one that is the table's does what it is for.
INSERT INTO reputation.algorithm VALUES ('builder', 9, '{"own": "x"}', false);
\echo SQLSTATE :SQLSTATE
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA other CASCADE;
DROP ROLE regress_admin;

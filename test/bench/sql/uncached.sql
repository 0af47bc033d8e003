-- Milliseconds that user_reputation() takes, for a hundred of the users with five
-- sessions. Variables: users, round.
SELECT set_config('bench.first', (:users + 1 + (:round - 1) % 10 * 100)::text, false) \g /dev/null
DO $$
DECLARE
	first bigint := current_setting('bench.first');
	begun timestamptz := clock_timestamp();
BEGIN
	FOR uid IN first .. first + 99 LOOP
		IF (user_reputation(uid) ->> 'completed_sessions')::int > 5 THEN
			RAISE 'user % has more than five sessions', uid;
		END IF;
	END LOOP;
	PERFORM set_config('bench.ms', (10 * extract(epoch FROM clock_timestamp() - begun))::text, false);
END $$;
SELECT current_setting('bench.ms');

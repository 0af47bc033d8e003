# shellcheck shell=bash
# shellcheck disable=SC2154
# user_reputation() computed from the source, for users with long histories and
# short ones, and the computation of everybody.

sessions=$(scaled 3000000)

# As it was counted by the engine; what the cache has of the user is forgotten.
uncached_counted() {
    sql sessions -c "SELECT user_reputation_invalidate($1)" >/dev/null
    timed app sessions -c "SELECT user_reputation($1)"
    say "  round $round, user $1, counted before: $measured"
}

# Just changed, so that nothing kept of the user can be served.
uncached_changed() {
    app sessions -c "INSERT INTO wingman_sessions (match_id, status, note)
                     SELECT id, 'scheduled', '' FROM wingman_matches WHERE user1_id = $1 LIMIT 1"
    timed app sessions -c "SELECT user_reputation($1)"
    say "  round $round, user $1, just changed: $measured"
}

uncached() {
    local expected many=() few=() many_changed=() few_changed=() short=() all=()

    setting reputation.workers 0
    setting reputation.debounce 0
    sql postgres -c "DROP DATABASE IF EXISTS sessions WITH (FORCE)" -c "CREATE DATABASE sessions OWNER app"
    sql sessions -v sessions="$sessions" -f sql/sessions.sql
    sql sessions -c "VACUUM ANALYZE" -c "CREATE EXTENSION reputation" -c "SELECT session_reputation_attach()" \
        -c "SELECT reputation_process('session')" >/dev/null
    settle sessions
    expected=$(sql sessions -c "SELECT count(*) FROM wingman_matches m JOIN wingman_sessions s ON s.match_id = m.id
        WHERE 1 IN (m.user1_id, m.user2_id) AND s.status = 'completed'
        AND (s.user1_completed_confirmed_by_user2 OR s.user2_completed_confirmed_by_user1)")
    [ "$(sql sessions -c "SELECT user_reputation(1) ->> 'completed_sessions'")" = "$expected" ] ||
        fail "user_reputation() does not count $expected completed sessions"
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        sql sessions -c "SELECT reputation_process('session')" >/dev/null
        uncached_counted 1
        many+=("$measured")
        uncached_counted 2
        few+=("$measured")
        uncached_changed 1
        many_changed+=("$measured")
        uncached_changed 2
        few_changed+=("$measured")
        measured=$(sql sessions -v round="$round" -f sql/uncached.sql)
        short+=("$measured")
        timed sql sessions -c "SELECT session_reputation_recalc_all()"
        all+=("$(calc "$measured / 1000")")
    done
    result "user_reputation() uncached, $((sessions / 3)) of $sessions sessions, in 10 matches (ms)" "<" 500 "${few[@]}"
    result "the same just after a change (ms)" "<" 500 "${few_changed[@]}"
    result "user_reputation() uncached, a match for each of those sessions (ms)" "<" 500 "${many[@]}"
    result "the same just after a change (ms)" "<" 500 "${many_changed[@]}"
    result "user_reputation() uncached, users with 5 sessions (ms, mean of 100)" "<" 1 "${short[@]}"
    result "session reputation of all $users users (s)" "<" - "${all[@]}"
}

uncached

# shellcheck shell=bash
# shellcheck disable=SC2154
# The read cache of user_reputation(): what a served read costs, and how many are.

# Reads/s of 8 clients.
read_tps() {
    measured=$(pgbench -n -M prepared -c 8 -j 2 -T "$BENCH_SECONDS" -U app -f "sql/cache_$1.sql" sessions |
        awk '/^tps/ { print $3 }')
    [ -n "$measured" ] || fail "pgbench measured nothing"
}

# A database of sessions with every score computed and a worker that idles.
fresh_sessions() {
    setting reputation.workers 1
    setting reputation.debounce 300000
    sql postgres -c "DROP DATABASE IF EXISTS sessions WITH (FORCE)" -c "CREATE DATABASE sessions OWNER app"
    sql sessions -f sql/cache_schema.sql
    sql sessions -c "VACUUM ANALYZE" -c "CREATE EXTENSION reputation" -c "SELECT session_reputation_attach()" >/dev/null
    until [ "$(sql sessions -c "SELECT count(*) FROM reputation.job_runs WHERE status = 'running'")" = 0 ]; do
        sleep 0.2
    done
    settle sessions
}

# The share of served reads under a load of reads of which one in
# twenty is a change instead. Of two numbers, before and after, since there is no
# way to set them back.
zipf_load() {
    local before after counts="SELECT hits + stale_hits || ' ' || misses + refreshes FROM user_reputation_cache_stats()"
    read -ra before < <(sql sessions -c "$counts")
    pgbench -n -M prepared -c 8 -j 2 -T "$BENCH_SECONDS" -U app -D users="$users" \
        -f sql/cache_zipf.sql@95 -f sql/cache_write.sql@5 sessions | awk '/^tps/ { print "  " $3 " transactions/s" }'
    read -ra after < <(sql sessions -c "$counts")
    measured=$(calc "(${after[0]} - ${before[0]}) / (${after[0]} - ${before[0]} + ${after[1]} - ${before[1]})")
}

cache() {
    local side ratios
    local -A name=([one]="served user_reputation(uid) against SELECT 1, 8 clients (rate)"
        [column]="the same against a read of one column by the primary key (rate)"
        [constant]="the same against a constant of such JSON (rate)") target=([one]=0.85 [column]=0.9 [constant]=-)

    fresh_sessions
    sql sessions -c "SELECT count(user_reputation(id)) FROM users WHERE id <= 1000" >/dev/null
    for side in one column constant; do
        read_tps "$side"
        ratios=()
        for ((round = 1; round <= BENCH_ROUNDS; round++)); do
            compare read_tps read "$side"
            ratios+=("$ratio")
        done
        result "${name[$side]}" ">=" "${target[$side]}" "${ratios[@]}"
    done

    # Cold in the first round: who attaches forgets.
    sql sessions -c "SELECT session_reputation_attach()" >/dev/null
    ratios=()
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        zipf_load
        say "  round $round, hit ratio: $measured"
        ratios+=("$measured")
    done
    result "hit ratio under a Zipf load (s = 1.1) of $users users with 5 % changes" ">=" 0.8 "${ratios[@]}"
    sql sessions -x -c "SELECT * FROM user_reputation_cache_stats()"
    [ "$(sql sessions -c "SELECT count(*) FROM generate_series(1, 2000) AS u(id), user_reputation(u.id) r
        WHERE r ->> 'score' IS DISTINCT FROM session_reputation_explain(u.id) ->> 'score'")" = 0 ] ||
        fail "the cache serves other scores than are computed"
}

cache

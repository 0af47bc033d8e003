# shellcheck shell=bash
# shellcheck disable=SC2154
# What both engines at the same users table cost a small transaction.

# both_tps SIDE
both_tps() {
    measured=$(pgbench -n -M prepared -c 8 -j 2 -T "$(((BENCH_SECONDS + 1) / 2))" -U app \
        -D projects="$projects" -D users="$users" -f sql/commit_both.sql "$1" | awk '/^tps/ { print $3 }')
    [ -n "$measured" ] || fail "pgbench measured nothing"
}

both_alone() {
    workers 0
    settle "$1"
    both_tps "$1"
}

both_with_worker() {
    ready "$1"
    both_tps "$1"
}

both() {
    local figure ratios
    local -A name=(
        [both_alone]="commits/s with both engines attached against none, 8 clients, half of them changes for each: the writers' own cost (reputation.workers = 0)"
        [both_with_worker]="the same with the worker at work beside them, on the same processors")

    fresh plain
    fresh attached
    sql attached -c "SELECT trust_score_attach(columns => '{\"users\": {\"last_active_at\": \"last_seen\"}}')" >/dev/null
    workers 1
    sql attached -v deferred=true -f sql/pending.sql
    sql attached -f sql/spread_windows.sql
    for figure in both_alone both_with_worker; do
        "$figure" plain
        "$figure" attached
        ratios=()
        for ((round = 1; round <= BENCH_ROUNDS; round++)); do
            compare "$figure" attached plain
            ratios+=("$ratio")
        done
        result "${name[$figure]}" ">=" 0.92 "${ratios[@]}"
    done
}

both

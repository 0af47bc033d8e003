# shellcheck shell=bash
# shellcheck disable=SC2154
# What capture costs a small transaction: commits/s of 8 clients.

# pgbench_tps SIDE SCRIPT
pgbench_tps() {
    measured=$(pgbench -n -M prepared -c 8 -j 2 -T "$(((BENCH_SECONDS + 1) / 2))" -U app \
        -D projects="$projects" -f "sql/$2.sql" "$1" | awk '/^tps/ { print $3 }')
    [ -n "$measured" ] || fail "pgbench measured nothing"
}

status() {
    ready "$1"
    pgbench_tps "$1" commit_status
}

title() {
    ready "$1"
    pgbench_tps "$1" commit_title
}

# All debounce windows shut: every first change of a user is computed at once.
status_after_quiet() {
    if [ "$1" = attached ]; then
        sql attached -f sql/quiet.sql
        ready attached
        sql attached -c "TRUNCATE reputation.recent_run"
    else
        ready plain
    fi
    pgbench_tps "$1" commit_status
}

# Without a worker: what the writers themselves pay.
status_alone() {
    workers 0
    settle "$1"
    pgbench_tps "$1" commit_status
}

# Unmeasured: files grow, caches fill. Before the first change that matters,
# everybody was computed at a moment of the last five minutes, as in a server
# that has been busy for longer.
warm_up() {
    [ "$1" != status ] || sql attached -f sql/spread_windows.sql
    "$1" plain
    "$1" attached
}

commits() {
    local figure ratios
    local -A name=(
        [title]="commits/s with capture against none, 8 clients, another column updated"
        [status_alone]="the same, the column that matters updated: the writers' own cost (reputation.workers = 0)"
        [status]="the same with the worker at work beside them, on the same processors"
        [status_after_quiet]="the same from a quiet state: every user is computed at its first change")
    local -A target=([title]=0.99 [status_alone]=0.93 [status]=0.93 [status_after_quiet]=-)

    fresh plain
    fresh attached
    for figure in title status_alone status status_after_quiet; do
        warm_up "$figure"
        ratios=()
        for ((round = 1; round <= BENCH_ROUNDS; round++)); do
            compare "$figure" attached plain
            ratios+=("$ratio")
        done
        result "${name[$figure]}" ">=" "${target[$figure]}" "${ratios[@]}"
    done
}

commits

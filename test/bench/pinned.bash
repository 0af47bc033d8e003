# shellcheck shell=bash
# shellcheck disable=SC2154
# The drain rate after a long load, with a transaction held open all the time
# against none. The load is on the one half of the data; what is measured is the
# drain of users of the other half, whose rows the load leaves alone: that the
# application's own tables are full of dead rows then is not the extension's.

# A transaction with a snapshot, until release_snapshot.
hold_snapshot() {
    coproc HOLDER { exec psql -X -q -A -t -d attached; }
    holder=$HOLDER_PID
    say "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;" >&"${HOLDER[1]}"
    read -r _ <&"${HOLDER[0]}"
}

release_snapshot() {
    say "COMMIT \\; \\q" >&"${HOLDER[1]}" || true
    wait "$holder" || true
}

# The load, to its last score. Ten minutes of it are compressed to as long as it
# takes, and the debounce window with them.
load() {
    setting reputation.debounce 10000
    workers 1
    pgbench -n -M prepared -c 8 -j 2 -t $((BENCH_EVENTS / 800)) -U app -D projects="$projects" \
        -f sql/load.sql attached | awk -v events="$BENCH_EVENTS" '/^tps/ { printf "    load: %d events, %d a second\n", events, $3 * 100 }'
    sql attached -v deferred=true -f sql/pending.sql
    say "    $(sql attached -f sql/sizes.sql)"
}

drain_after_load() {
    local total=0
    fresh attached
    [ "$1" = free ] || hold_snapshot
    load
    workers 0
    setting reputation.debounce 0
    settle attached
    for _ in 1 2 3; do
        app attached -f sql/flip.sql
        timed_process
        total=$(calc "$total + $measured")
    done
    [ "$1" = free ] || release_snapshot
    [ "$(sql attached -c "SELECT count(*) FROM reputation_verify()")" = 0 ] || fail "scores differ from a recomputation"
    measured=$(calc "$total / 3")
}

pinned() {
    local ratios=() holder

    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        compare drain_after_load free held once
        ratios+=("$ratio")
    done
    result "drain rate after $BENCH_EVENTS events under a transaction held open, against none" ">=" 0.9 "${ratios[@]}"
}

pinned

# shellcheck shell=bash
# shellcheck disable=SC2154
# From commit to score on an idle server.

latency() {
    local line p50=() p99=() max=() values

    fresh attached
    setting reputation.debounce 0
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        ready attached
        line=$(app attached -F ' ' -v projects=$((projects - due)) -v samples=1000 -f sql/latency.sql)
        say "  round $round, p50 p99 max: $line"
        read -ra values <<<"$line"
        p50+=("${values[0]}") p99+=("${values[1]}") max+=("${values[2]}")
    done
    result "commit to score visible, idle server, p50 (ms; 1,000 commits, debounce 0)" "<" 2 "${p50[@]}"
    result "commit to score visible, idle server, p99 (ms)" "<" 10 "${p99[@]}"
    result "commit to score visible, idle server, maximum (ms)" "<" - "${max[@]}"
}

latency

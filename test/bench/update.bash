# shellcheck shell=bash
# shellcheck disable=SC2154
# What capture costs a large statement: one UPDATE, to its commit.

big_update() {
    ready "$1"
    timed app "$1" -c "UPDATE projects SET status = CASE status WHEN 'shipped' THEN 'active' ELSE 'shipped' END
                       WHERE id <= $(scaled 60000)"
}

update() {
    local ratios=()

    fresh plain
    fresh attached
    big_update plain
    big_update attached
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        compare big_update attached plain
        ratios+=("$ratio")
    done
    result "one UPDATE of $(scaled 60000) rows with capture against none (time)" "<=" 1.10 "${ratios[@]}"
}

update

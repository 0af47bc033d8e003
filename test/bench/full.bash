# shellcheck shell=bash
# shellcheck disable=SC2154
# A full recalculation, against the best single UPDATE by hand. Every score is 0
# before.

full_recalc() {
    sql "$1" -c "SET session_replication_role = replica" -c "UPDATE users SET builder_score = 0"
    if [ "$1" = plain ]; then
        settle plain
        timed app plain -f sql/formula.sql
    else
        sql attached -c "UPDATE reputation.builder_scores SET score = 0"
        settle attached
        timed sql attached -c "SELECT builder_score_recalc_all()"
        # What it captured of its own writes.
        sql attached -c "SELECT reputation_process('builder')" >/dev/null
    fi
}

full() {
    local ratios=()

    fresh plain
    fresh attached
    workers 0
    setting reputation.debounce 0
    full_recalc plain
    full_recalc attached
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        compare full_recalc attached plain
        check_scores
        ratios+=("$ratio")
    done
    result "full recalculation against the best single UPDATE by hand (time)" "<=" 1.5 "${ratios[@]}"
}

full

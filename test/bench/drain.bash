# shellcheck shell=bash
# shellcheck disable=SC2154
# Draining, against a loop of set-based UPDATEs of the same users by hand. All
# scores change.

# The time of: plain: the loop; session: reputation_process() from the inbox to
# the scores; queued: the same when the inbox was folded before, so that the
# users are due; worker: the worker, from the change's commit on.
drain_due() {
    local database=attached
    [ "$1" != plain ] || database=plain
    settle "$database"
    case $1 in
        plain)
            app plain -f sql/flip.sql
            timed app plain -c "SET synchronous_commit = off" -c "CALL recalc_due(1000)"
            ;;
        session)
            app attached -f sql/flip.sql
            timed_process
            ;;
        queued)
            app attached -f sql/flip.sql
            sql attached -c "SELECT reputation_process('builder', 0)" >/dev/null
            timed_process
            ;;
        worker)
            workers 1
            app attached -f sql/flip.sql
            timed sql attached -v deferred=false -f sql/pending.sql
            workers 0
            ;;
    esac
}

drain() {
    local how ratios
    local -A name=(
        [queued]="draining $due due users against a set-based UPDATE by hand in batches of 1,000 (rate)"
        [session]="the same with the fold: from the captured keys on"
        [worker]="the same by the worker, from the commit of the change on")
    local -A target=([queued]=0.8 [session]=- [worker]=-)

    fresh plain
    fresh attached
    sql plain -f sql/formula_batches.sql
    workers 0
    setting reputation.debounce 0
    drain_due plain
    drain_due session
    for how in queued session worker; do
        ratios=()
        for ((round = 1; round <= BENCH_ROUNDS; round++)); do
            compare drain_due plain "$how"
            check_scores
            ratios+=("$ratio")
        done
        result "${name[$how]}" ">=" "${target[$how]}" "${ratios[@]}"
    done
}

drain

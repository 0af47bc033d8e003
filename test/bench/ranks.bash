# shellcheck shell=bash
# shellcheck disable=SC2154
# Ranks, boards and the ledger: databases ranks1 and ranks10, with a million and
# ten million members on the board.

members=$(scaled 1000000)
awards=$(scaled 100000)

# board DATABASE MEMBERS LEDGER: makes it.
board() {
    sql postgres -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1"
    sql "$1" -v members="$2" -v ledger="$3" -f sql/board.sql >/dev/null
    sql "$1" -c "CHECKPOINT"
}

# rate CLIENTS DATABASE MEMBERS STATEMENT: its transactions a second, prepared, go to $measured.
rate() {
    measured=$(pgbench -n -M prepared -c "$1" -j "$((($1 + 3) / 4))" -T "$BENCH_SECONDS" -D members="$3" \
        -f <(printf '%s\n' '\set u random(1, :members)' "$4") "$2" 2>/dev/null | awk '/^tps/ { print $3 }')
    [ -n "$measured" ] || fail "not measured: $4"
}

rank_rate() {
    case $1 in
    nothing) rate 8 ranks1 "$members" 'SELECT 1;' ;;
    million) rate 8 ranks1 "$members" 'SELECT calculate_user_rank(:u);' ;;
    ten_million) rate 8 ranks10 "$((10 * members))" 'SELECT calculate_user_rank(:u);' ;;
    column) rate 8 ranks1 "$members" 'SELECT all_time FROM reputation.points_scores WHERE user_id = (:u)::text;' ;;
    nothing_alone) rate 1 ranks1 "$members" 'SELECT 1;' ;;
    million_alone) rate 1 ranks1 "$members" 'SELECT calculate_user_rank(:u);' ;;
    counted) rate 8 ranks1 "$members" 'SELECT 1 + count(*) FROM reputation.points_scores WHERE all_time > (SELECT all_time FROM reputation.points_scores WHERE user_id = (:u)::text);' ;;
    top) rate 8 ranks1 "$members" "SELECT * FROM leaderboard('points', 'all_time', 100);" ;;
    plain_top) rate 8 ranks1 "$members" 'SELECT user_id, all_time, reached_at FROM reputation.points_scores ORDER BY all_time DESC, reached_at, user_id LIMIT 100;' ;;
    esac
}

# Everybody's rank is what a count says; after that everybody was asked for once.
check_ranks() {
    [ "$(sql "$1" -c "SELECT count(*) FROM (SELECT user_id, rank() OVER (ORDER BY all_time DESC) AS rank FROM reputation.points_scores) s
        WHERE calculate_user_rank(user_id) IS DISTINCT FROM rank")" = 0 ] || fail "a rank is wrong"
}

# The awards of a round: of as many random members; the key makes them new.
award() {
    printf "INSERT INTO %s (user_id, points, source_key) SELECT (random() * %d)::int + 1, i %% 50, '%s ' || i FROM generate_series(1, %d) i" \
        "$1" "$((members - 1))" "$round" "$awards"
}

drain_awards() {
    case $1 in
    plain) timed sql ranks1 -c "$(award plain_ledger)" ;;
    drained)
        sql ranks1 -c "$(award reputation.point_ledger)"
        timed sql ranks1 -c "SELECT reputation_process('points')"
        [ "$(sql ranks1 -c "SELECT count(*) FROM reputation.job")" = 0 ] || fail "jobs are left"
        ;;
    esac
}

ranks() {
    local alone=() one=() column=() ten=() counted=() drained=() top=()

    setting reputation.workers 0
    board ranks1 "$members" true
    board ranks10 "$((10 * members))" false
    sql ranks1 -c "CREATE TABLE plain_ledger (LIKE reputation.point_ledger INCLUDING ALL)" \
        -c "INSERT INTO plain_ledger (user_id, points, source_key, created_at) SELECT user_id, points, source_key, created_at FROM reputation.point_ledger"
    # Nothing but the awards shall be drained.
    [ "$(sql ranks1 -c "SELECT reputation_process('points')")" = 0 ] || fail "the board was not complete"
    settle ranks1
    check_ranks ranks10
    check_ranks ranks1
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        compare rank_rate million nothing
        one+=("$ratio")
        compare rank_rate million_alone nothing_alone
        alone+=("$ratio")
        compare rank_rate million column
        column+=("$ratio")
        compare rank_rate ten_million million
        ten+=("$ratio")
        compare rank_rate million counted once
        counted+=("$ratio")
        compare rank_rate top plain_top
        top+=("$ratio")
    done
    # These change the board.
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        compare drain_awards drained plain once
        drained+=("$ratio")
    done
    check_ranks ranks1
    result "calculate_user_rank() with $members members against SELECT 1, 8 clients (rate)" ">=" 0.5 "${one[@]}"
    result "the same with one client (rate)" ">=" 0.5 "${alone[@]}"
    result "against a read of one column by the primary key, 8 clients (rate)" - - "${column[@]}"
    result "calculate_user_rank() with 10 times the members against it, 8 clients (rate)" ">=" 0.8 "${ten[@]}"
    result "calculate_user_rank() against 1 + count(*) of those with more (rate)" ">=" 200 "${counted[@]}"
    result "leaderboard(), the first 100, against an indexed LIMIT 100 (rate)" ">=" 0.8 "${top[@]}"
    result "draining $awards awards into three periods against a plain INSERT of them (time)" "<=" 4 "${drained[@]}"
}

ranks

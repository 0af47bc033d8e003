# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
# What the benchmarks share: databases, settings, measuring, results.
#
# "plain" and "attached" are copies of one database, and the builder engine is
# attached to one of them. A measuring function takes the side it is to measure
# and leaves the number in $measured.

declare -A defaults=([BENCH]="commits both update drain full latency pinned uncached cache ranks"
    [BENCH_SCALE]=1 [BENCH_SECONDS]=20 [BENCH_ROUNDS]=3 [BENCH_EVENTS]=2000000)
for name in "${!defaults[@]}"; do
    declare "$name=${!name:-${defaults[$name]}}"
done

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'bench: %s\n' "$*" >&2
    exit 1
}

calc() {
    awk "BEGIN { printf \"%.10g\", $1 }"
}

# scaled N: N times BENCH_SCALE, a multiple of 200.
scaled() {
    awk -v n="$1" -v scale="$BENCH_SCALE" 'BEGIN { printf "%d", int(n * scale / 200 + 0.5) * 200 }'
}

users=$(scaled 100000)
projects=$(scaled 300000)
collaborations=$(scaled 900000)
due=$(scaled 20000)

# sql DATABASE ARGUMENT...: psql as the superuser, with the sizes as variables.
sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 -v users="$users" -v projects="$projects" \
        -v collaborations="$collaborations" -v due="$due" -d "$1" "${@:2}"
}

# app DATABASE ARGUMENT...: psql as the application.
app() {
    sql "$1" -U app "${@:2}"
}

# timed COMMAND...: a psql command with \timing; the milliseconds of its last
# statement go to $measured.
timed() {
    measured=$("${@:1:2}" -c '\timing on' "${@:3}" | awk '/^Time: / { ms = $2 } END { print ms }')
    [ -n "$measured" ] || fail "not measured: $*"
}

# timed_process: times reputation_process(), which must compute the due users.
timed_process() {
    local log computed
    log=$(sql attached -c '\timing on' -c "SELECT reputation_process('builder')")
    computed=$(head -n 1 <<<"$log")
    [ "$computed" = "$due" ] || fail "reputation_process() computed $computed users instead of $due"
    measured=$(awk '/^Time: / { ms = $2 } END { print ms }' <<<"$log")
}

# setting NAME VALUE: changes the server's setting; new sessions have it then.
setting() {
    local shown=
    sql postgres -c "ALTER SYSTEM SET $1 = $2" -c "SELECT pg_reload_conf()" >/dev/null
    until [ "$shown" = "$2" ]; do
        sleep 0.05
        shown=$(sql postgres -c "SELECT setting FROM pg_settings WHERE name = '$1'")
    done
}

# workers N: the attached database has that many workers then, idle if there is
# nothing due.
workers() {
    local tries=600 running=
    setting reputation.workers "$1"
    until [ "$running" = "$1" ]; do
        ((tries--)) || fail "the workers did not become $1"
        sleep 0.1
        running=$(sql attached -c "SELECT count(*) FROM reputation.workers() w JOIN pg_database d ON d.oid = w.database
                                   WHERE d.datname = current_database()")
    done
}

# fresh DATABASE: makes it anew; attached: with every score computed.
fresh() {
    local changed
    # Into a server without other work, and out of one.
    setting reputation.workers 1
    sql postgres -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1 TEMPLATE base OWNER app"
    if [ "$1" = attached ]; then
        setting reputation.debounce 300000
        sql attached -c "CREATE EXTENSION reputation" -c "SELECT builder_score_attach()" >/dev/null
        workers 1
        sql attached -v deferred=true -f sql/pending.sql
        changed=$(sql attached -c "SELECT sum(changed) FROM reputation.job_runs")
        [ "$changed" = 0 ] || fail "the extension computes other scores than the statement by hand: $changed"
    fi
    settle "$1"
}

settle() {
    sql "$1" -c "VACUUM ANALYZE" -c "CHECKPOINT"
}

# ready SIDE: before a measurement with the worker on; it must not take time
# from the side without it.
ready() {
    if [ "$1" = plain ]; then
        workers 0
    else
        workers 1
        sql attached -v deferred=false -f sql/pending.sql
    fi
    settle "$1"
}

# The scores of both databases must agree.
check_scores() {
    local query="SELECT md5(string_agg(id || ' ' || builder_score, ',' ORDER BY id)) FROM users"
    [ "$(sql plain -c "$query")" = "$(sql attached -c "$query")" ] ||
        fail "the scores of the two databases differ"
}

# compare MEASURE A B [once]: one round. Measures A B B A (once: A B), the other
# way round in every other round; $ratio is what A took of B.
compare() {
    local side sides=("$2" "$3") a=0 b=0
    ((round % 2)) || sides=("$3" "$2")
    [ "${4-}" = once ] || sides+=("${sides[1]}" "${sides[0]}")
    for side in "${sides[@]}"; do
        "$1" "$side"
        say "  round $round, $1, $side: $measured"
        if [ "$side" = "$2" ]; then
            a=$(calc "$a + $measured")
        else
            b=$(calc "$b + $measured")
        fi
    done
    ratio=$(calc "$a / $b")
}

median() {
    printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# result FIGURE COMPARISON TARGET VALUE...: a row of the table, of the median of
# the values. A target of - has nothing to reach.
rows=()
result() {
    local middle reached=- target=-
    middle=$(median "${@:4}")
    if [ "$3" != - ]; then
        target="$2 $3"
        reached=$(awk "BEGIN { print ($middle $2 $3) ? \"yes\" : \"no\" }")
    fi
    rows+=("$(printf '| %s | %s | %.3f | %s | %s |' "$1" "$target" "$middle" \
        "$(printf '%.3f ' "${@:4}")" "$reached")")
    say "${rows[-1]}"
}

# The table with what it was measured on.
report() {
    local names=() name
    say
    say "Measured on $(date -u +%F): $(nproc) cores ($(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo))," \
        "$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo) RAM," \
        "PostgreSQL $(sql postgres -c 'SHOW server_version')."
    for name in BENCH BENCH_SCALE BENCH_SECONDS BENCH_ROUNDS BENCH_EVENTS; do
        [ "${!name}" = "${defaults[$name]}" ] || names+=("$name='${!name}'")
    done
    say "Command: \`${names[*]}${names:+ }make bench\`; $users users, $projects projects, $collaborations collaborations."
    say "Settings: $(sql postgres -c "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name)
        FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'autovacuum', 'wal_level',
            'shared_buffers', 'work_mem', 'max_wal_size', 'checkpoint_timeout', 'reputation.batch_size',
            'reputation.drain_interval')"); reputation.workers = 1 and reputation.debounce = 5min but where a row says otherwise."
    say
    say "| figure | target | median | each round | reached |"
    say "|---|---|---|---|---|"
    printf '%s\n' "${rows[@]}"
}

# What the benchmarks share: a cluster whose settings favour nobody, measures of time and WAL, and medians.
# shellcheck shell=bash
# shellcheck disable=SC2034 # used where this is sourced

# shellcheck source=../setup/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/../setup/cluster.sh"

# Durable as in production. No checkpoint and no autovacuum falls into a measure, and the segments of WAL are reused,
# so that the first way measured does not pay for making them.
start_bench_cluster() {
    choose_server
    make_scratch
    need_space 8000
    say "Building the extension and starting a throw-away PostgreSQL $pg_major ..."
    make_installation
    build_extension || fail "the extension could not be built"
    start_cluster shared_buffers=1GB max_wal_size=32GB min_wal_size=4GB checkpoint_timeout=1h autovacuum=off
    sql -c "CREATE EXTENSION partbackfill"
}

sql() { psql -Xq -v ON_ERROR_STOP=1 "$@"; }
ask() { sql -At -c "$1"; }

# Processor seconds of the whole cluster since it was started: of the server's processes, and of those that have ended.
cluster_cpu() {
    local postmaster pid children ticks
    postmaster=$(head -n 1 "$scratch/data/postmaster.pid")
    # Until no process ended meanwhile: it would be counted neither as alive nor among those that have ended.
    until
        children=$(pgrep -P "$postmaster")
        # The name of the process, in parentheses, may have spaces.
        ticks=$(for pid in $postmaster $children; do sed 's/^.*) //' "/proc/$pid/stat" 2>/dev/null || true; done |
            awk '{ sum += $12 + $13 + $14 + $15 } END { print sum }')
        [[ $children == "$(pgrep -P "$postmaster")" ]]
    do :; done
    awk -v ticks="$ticks" -v second="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", ticks / second }'
}

# measure_command COMMAND...: runs it; sets seconds, cpu (processor seconds of the cluster) and wal (in MB).
measure_command() {
    local lsn began ended spent
    run_child sql -c CHECKPOINT
    lsn=$(ask "SELECT pg_current_wal_insert_lsn()")
    spent=$(cluster_cpu)
    began=$(date +%s%N)
    run_child "$@" >"$scratch/answers" 2>&1 || fail "$(cat "$scratch/answers")"
    ended=$(date +%s%N)
    cpu=$(awk -v a="$(cluster_cpu)" -v b="$spent" 'BEGIN { printf "%.2f", a - b }')
    seconds=$(awk -v ns="$((ended - began))" 'BEGIN { printf "%.2f", ns / 1e9 }')
    wal=$(ask "SELECT round(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$lsn') / 1048576.0)")
}

# measure FILE: a script of psql's.
measure() { measure_command sql -f "$1"; }

# A gate holds up a build whose source has the condition gate_condition: a session of its own has the lock until the gate
# opens. The condition is evaluated once in a statement, and costs no row anything.
gate_condition='(SELECT pg_advisory_xact_lock_shared(1)) IS NOT NULL'
gate_locks() { ask "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = 1 AND granted = $1"; }
close_gate() {
    start_child sql -o /dev/null -c "SELECT pg_advisory_lock(1), pg_sleep(86400)" 2>/dev/null
    gate=$child
    until [[ $(gate_locks true) == 1 ]]; do sleep 0.05; done
}
# await_at_gate COUNT: until so many builds stand there.
await_at_gate() { until [[ $(gate_locks false) == "$1" ]]; do sleep 0.05; done; }
open_gate() {
    ask "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = 1 AND granted" >/dev/null
    wait "$gate" || true
}

# start_client OPTION...: pgbench, until end_clients. A client that has lost its session ends, and has written its log then.
bench_clients=()
start_client() {
    start_child env PGAPPNAME=client pgbench -n -T 3600 "$@" "$PGDATABASE" >>"$scratch/pgbench.out" 2>&1
    bench_clients+=("$child")
}
end_clients() {
    local pid
    while [[ $(ask "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'client'") != 0 ]]; do sleep 0.05; done
    for pid in "${bench_clients[@]}"; do wait "$pid" || true; done
    bench_clients=()
}

# The median of the numbers given, one a line.
median() {
    sort -n | awk '{ value[NR] = $1 }
                   END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

# compare WHAT FIGURE OTHER TARGET: prints the ratio beside what it should be at most.
compare() {
    awk -v what="$1" -v figure="$2" -v other="$3" -v target="$4" 'BEGIN {
        ratio = figure / other
        printf "%-48s %5.2f   (target <= %.2f%s)\n", what, ratio, target, ratio <= target ? "" : ", missed"
    }'
}

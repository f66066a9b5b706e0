#!/usr/bin/env bash
# Ways to rebuild the same partitions, in turn, on one cluster: by hand as one does it without the extension,
# CREATE TABLE AS with indexes afterwards, the same with ANALYZE (as partbackfill leaves a partition), and partbackfill with one
# worker, without helpers, and with two workers; in a database with collation C and in one with a linguistic one, and once more
# beside two processes that keep both processors busy.
# BENCH_ROWS (in all) and BENCH_RUNS change the size.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

bench=$checkout/test/bench
rows=${BENCH_ROWS:-3000000}
runs=${BENCH_RUNS:-3}
ways=(by_hand create_table_as analyzed partbackfill alone two_workers)
declare -A title=(
    [by_hand]="by hand: LIKE INCLUDING ALL, INSERT, swap"
    [create_table_as]="CREATE TABLE AS, then indexes (no swap)"
    [analyzed]="CREATE TABLE AS, indexes, ANALYZE"
    [partbackfill]="partbackfill"
    [alone]="partbackfill, without helpers"
    [two_workers]="partbackfill, workers => 2"
)

start_bench_cluster
sql -c "CREATE DATABASE linguistic TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'"
PGDATABASE=linguistic sql -c "CREATE EXTENSION partbackfill"

# run_way PLACE WAY: once; notes its figures.
run_way() {
    local place=$1 way=$2 found measured
    measure "$bench/$way.sql"
    printf '%-11s %-42s %9s %9s %8s\n' "$place" "${title[$way]}" "$seconds" "$cpu" "$wal"
    for measured in seconds cpu wal; do echo "${!measured}" >>"$scratch/$place.$way.$measured"; done
    sql -c "SET client_min_messages = warning" -c "DROP TABLE IF EXISTS events_1_new, events_2_new, events_3_new"
    # A way that had lost a row would be a fast one.
    found=$(ask "SELECT count(*) FROM events")
    [[ $found == "$rows" ]] || fail "$way left $found rows of $rows"
}

# of PLACE WAY FIGURE: the median.
of() { median <"$scratch/$1.$2.$3"; }

# Ways beside two busy processes.
run_beside_busy() {
    local run way busy=()
    for run in 1 2; do
        start_child bash -c 'while :; do :; done'
        busy+=("$child")
    done
    for ((run = 1; run <= runs; run++)); do
        for way in create_table_as analyzed partbackfill; do run_way busy "$way"; done
    done
    kill "${busy[@]}"
    wait "${busy[@]}" 2>/dev/null || true
}

say
printf '%-11s %-42s %9s %9s %8s\n' "" way seconds processor "WAL MB"
declare -A database=([C]=postgres [linguistic]=linguistic)
for place in C linguistic; do
    export PGDATABASE=${database[$place]}
    run_child sql -v rows="$rows" -f "$bench/ways.sql"
    for ((run = 1; run <= runs; run++)); do
        for way in "${ways[@]}"; do run_way "$place" "$way"; done
    done
done
run_beside_busy

say
say "median of $runs, $rows rows in 3 partitions with 3 indexes each, $(ask "SELECT format('%s each and indexes of %s',
    pg_size_pretty(pg_table_size(oid)), pg_size_pretty(pg_indexes_size(oid))) FROM pg_class WHERE oid = 'events_1'::regclass")"
for place in C linguistic; do
    for way in "${ways[@]}"; do
        printf '%-11s %-42s %9.2f %9.2f %8.0f\n' "$place" "${title[$way]}" "$(of $place "$way" seconds)" "$(of $place "$way" cpu)" \
            "$(of $place "$way" wal)"
    done
done
say
declare -A most=([C]=0.35 [linguistic]=0.55)
for place in C linguistic; do
    say "$place"
    compare "time       partbackfill / by hand" "$(of $place partbackfill seconds)" "$(of $place by_hand seconds)" "${most[$place]}"
    compare "time       workers => 2 / by hand" "$(of $place two_workers seconds)" "$(of $place by_hand seconds)" "${most[$place]}"
    compare "WAL        partbackfill / by hand" "$(of $place partbackfill wal)" "$(of $place by_hand wal)" 0.47
    compare "time       partbackfill / create table as" "$(of $place partbackfill seconds)" "$(of $place create_table_as seconds)" 0.80
    compare "processor  partbackfill / create table as" "$(of $place partbackfill cpu)" "$(of $place create_table_as cpu)" 0.95
    compare "processor  without helpers / create table as" "$(of $place alone cpu)" "$(of $place create_table_as cpu)" 0.95
    compare "processor  partbackfill / the same with ANALYZE" "$(of $place partbackfill cpu)" "$(of $place analyzed cpu)" 0.95
    compare "processor  without helpers / with ANALYZE" "$(of $place alone cpu)" "$(of $place analyzed cpu)" 0.95
done
say "beside two busy processes"
compare "time       partbackfill / create table as" "$(of busy partbackfill seconds)" "$(of busy create_table_as seconds)" 0.95
compare "time       partbackfill / the same with ANALYZE" "$(of busy partbackfill seconds)" "$(of busy analyzed seconds)" 0.95

#!/usr/bin/env bash
# Ways to rebuild the same partitions, in turn, on one cluster: by hand as one does it without the extension,
# CREATE TABLE AS with indexes afterwards, and partbackfill with one worker and with two. BENCH_ROWS (in all) and BENCH_RUNS change the size.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

bench=$checkout/test/bench
rows=${BENCH_ROWS:-3000000}
runs=${BENCH_RUNS:-3}
ways=(by_hand create_table_as partbackfill two_workers)
declare -A title=(
    [by_hand]="by hand: LIKE INCLUDING ALL, INSERT, swap"
    [create_table_as]="CREATE TABLE AS, then indexes (no swap)"
    [partbackfill]="partbackfill"
    [two_workers]="partbackfill, workers => 2"
)

start_bench_cluster
say "Making $rows rows in 3 partitions with 3 indexes each ..."
run_child sql -v rows="$rows" -f "$bench/ways.sql"
say "One partition: $(ask "SELECT format('%s, indexes %s, %s bytes a row', pg_size_pretty(pg_table_size(oid)),
    pg_size_pretty(pg_indexes_size(oid)), round(pg_table_size(oid) / greatest(reltuples, 1)))
    FROM pg_class WHERE oid = 'events_1'::regclass")"

say
say "run  way                                          seconds   WAL MB"
for ((run = 1; run <= runs; run++)); do
    for way in "${ways[@]}"; do
        measure "$bench/$way.sql"
        printf '%3d  %-42s %9s %8s\n' "$run" "${title[$way]}" "$seconds" "$wal"
        echo "$seconds" >>"$scratch/$way.seconds"
        echo "$wal" >>"$scratch/$way.wal"
        sql -c "SET client_min_messages = warning" -c "DROP TABLE IF EXISTS events_1_new, events_2_new, events_3_new"
        # A way that had lost a row would be a fast one.
        found=$(ask "SELECT count(*) FROM events")
        [[ $found == "$rows" ]] || fail "$way left $found rows of $rows"
    done
done

of() { median <"$scratch/$1.$2"; }

say
say "     median of $runs"
for way in "${ways[@]}"; do
    printf '     %-42s %9.2f %8.0f\n' "${title[$way]}" "$(of "$way" seconds)" "$(of "$way" wal)"
done
say
compare "time  partbackfill / by hand" "$(of partbackfill seconds)" "$(of by_hand seconds)" 0.35
compare "time  partbackfill, workers => 2 / by hand" "$(of two_workers seconds)" "$(of by_hand seconds)" 0.35
compare "WAL   partbackfill / by hand" "$(of partbackfill wal)" "$(of by_hand wal)" 0.47
compare "time  partbackfill / create table as + indexes" "$(of partbackfill seconds)" \
    "$(of create_table_as seconds)" 0.90

#!/usr/bin/env bash
# How long backfill_diff takes to compare a partition of BENCH_ROWS rows with what it was, beside reading both: each row with all
# of its columns, in one process. 1,000 rows are changed, 10 only old and 20 only new, which it has to say exactly. Medians of five.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-1000000}
rounds=5
columns="t.id, t.at, t.kind, t.amount, t.ok, t.note, t.payload"

start_bench_cluster
say "Making a partition of $rows rows ..."
run_child sql -q -o /dev/null -v rows="$rows" -f "$checkout/test/bench/diff.sql"
job=$(ask "SELECT backfill_start('compared', 'corrected', delay => '0')")
state=$(ask "SELECT backfill_wait($job)")
[[ $state == "done" ]] || fail "the job ended as $state: $(ask "SELECT error FROM backfill_status")"

found=$(ask "SELECT old_rows, new_rows, same, changed, only_old, only_new, changed_columns FROM backfill_diff($job)")
expected="$rows|$((rows + 10))|$((rows - 1010))|1000|10|20|{\"amount\": 1000}"
[[ $found == "$expected" ]] || fail "backfill_diff says $found, not $expected"

# time_of STATEMENT: its seconds, the median.
time_of() {
    local round
    for ((round = 0; round < rounds; round++)); do
        measure_command sql -c "$1" >&2
        echo "$seconds"
    done | median
}

old="backfill_${job}_old.compared_1"
both() { echo "SELECT $1 FROM ONLY $old AS t UNION ALL SELECT $1 FROM ONLY compared_1 AS t"; }
reading=$(time_of "SET max_parallel_workers_per_gather = 0; $(both "count(ROW($columns))")")
counting=$(time_of "SET max_parallel_workers_per_gather = 0; $(both "count(*)")")
diff=$(time_of "SELECT * FROM backfill_diff($job)")
# As where keys are in no order: no index is read along the table.
hashed=$(time_of "SET enable_mergejoin = off; SELECT * FROM backfill_diff($job)")
examples=$(time_of "SELECT * FROM backfill_diff_rows($job, 'compared_1')")
say
say "$rows rows: backfill_diff $diff s, by hash $hashed s, backfill_diff_rows $examples s; reading both $reading s, counting both $counting s"
compare "backfill_diff / reading both" "$diff" "$reading" 3.00

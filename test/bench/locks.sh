#!/usr/bin/env bash
# How long a swap holds its locks (backfill_progress.locked_for, which includes the commit), by both methods: beside 10
# and 1,000 siblings, with 6 indexes, and beside a DEFAULT partition with few rows and with many (BENCH_ROWS).
# Medians of 12 partitions, milliseconds.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

large=${BENCH_ROWS:-5000000}

# make NAME SIBLINGS REST
make_table() {
    say "Making $2 siblings and a DEFAULT of $3 rows ..."
    run_child sql -q -o /dev/null -v name="$1" -v default="$1_default" -v siblings="$2" -v rest="$3" \
        -f "$checkout/test/bench/locks.sql"
}

# locked NAME METHOD: sets locked, the median.
locked() {
    local job state
    # The first pass is not counted: caches of a new worker are empty, those of a real job are not.
    job=$(ask "SELECT backfill_start('$1', '$1', range_start => '0', range_end => '12000', swap => '$2', delay => '0',
        keep_old => false)")
    state=$(ask "SELECT backfill_wait($job)")
    [[ $state == "done" ]] ||
        fail "the job ended as $state: $(ask "SELECT error FROM backfill_progress WHERE job = $job AND error IS NOT NULL")"
    locked=$(ask "SELECT round((date_part('epoch', locked_for) * 1000)::numeric, 2) FROM backfill_progress
        WHERE job = $job" | median)
}

start_bench_cluster
make_table few 10 5
make_table many 1000 5
make_table default 10 "$large"

say
printf '%-44s %10s %10s\n' "locked for, ms (median of 12)" attach storage
declare -A of
for name in few many default; do
    for method in attach storage; do
        locked "$name" "$method"
        of[$name.$method]=$locked
    done
done
row() { printf '%-44s %10s %10s\n' "$1" "${of[$2.attach]}" "${of[$2.storage]}"; }
row "10 siblings, DEFAULT of 5 rows" few
row "1000 siblings, DEFAULT of 5 rows" many
row "10 siblings, DEFAULT of $large rows" default
say
compare "storage, 1000 siblings / 5 ms" "${of[many.storage]}" 5 1.00
compare "storage, 1000 siblings / 10 siblings" "${of[many.storage]}" "${of[few.storage]}" 1.50
compare "attach, DEFAULT of $large rows / 5 rows" "${of[default.attach]}" "${of[few.attach]}" 2.00

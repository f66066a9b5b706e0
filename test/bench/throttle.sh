#!/usr/bin/env bash
# Whether a job goes as slowly as it is told to, and what others feel of it. Each figure is measured over at least
# BENCH_SECONDS, of a job that is made of BENCH_PARTITIONS partitions with BENCH_ROWS rows in all.
#   max_wal_rate: WAL that the server wrote a second, from the job's start to its end, by 1 and by 3 workers
#   nice_ratio: time that the same builds took with 1 and with 0
#   foreground: what pgbench gets done meanwhile
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-960000}
partitions=${BENCH_PARTITIONS:-12}
seconds=${BENCH_SECONDS:-20}
runs=${BENCH_RUNS:-2}

start_bench_cluster
say "Making $rows rows in $partitions partitions ..."
run_child sql -v rows="$rows" -v partitions="$partitions" -f "$checkout/test/bench/throttle.sql"
run_child as_server_user env PGHOST="$PGHOST" "$bindir/pgbench" -U postgres -i -q -s 20 postgres 2>"$scratch/init.log" ||
    fail "$(cat "$scratch/init.log")"

# within FIGURE LOW HIGH: "ok" or "missed", with the bounds.
within() {
    awk -v figure="$1" -v low="$2" -v high="$3" 'BEGIN {
        printf "(target %.2f to %.2f%s)\n", low, high, (figure >= low && figure <= high ? "" : ", missed") }'
}

long_enough() {
    awk -v took="$1" -v wanted="$seconds" 'BEGIN { exit !(took >= wanted) }' || say "     (only $1 s: too short, set BENCH_ROWS higher)"
}

run_job() {
    job=$(ask "SELECT backfill_start('events', '$1', delay => '0', keep_old => false, $2)")
    [[ $(ask "SELECT backfill_wait($job)") == "done" ]] || fail "job $job is not done: $(ask "SELECT error FROM backfill_status WHERE job = $job")"
    took=$(ask "SELECT date_part('epoch', finished_at - started_at) FROM backfill_status WHERE job = $job")
}

say
say "max_wal_rate => '8MB'"
limit=8388608
for workers in 1 3; do
    lsn=$(ask "SELECT pg_current_wal_insert_lsn()")
    run_job events "workers => $workers, max_wal_rate => '8MB'"
    bytes=$(ask "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$lsn')")
    awk -v w="$workers" -v b="$bytes" -v s="$took" 'BEGIN { printf "     %d worker%s  %6.1f MB of WAL in %5.1f s: %5.2f MB/s   ", w, (w > 1 ? "s" : " "), b / 1048576, s, b / 1048576 / s }'
    within "$(awk -v b="$bytes" -v s="$took" -v l=$limit 'BEGIN { print b / s / l * 8 }')" 6.8 9.2
    long_enough "$took"
done

say
say "nice_ratio: the time of all builds"
for ratio in 0 1 1 0; do # in turn, so that a machine that gets slower favours neither
    run_job costly "nice_ratio => $ratio"
    took=$(ask "SELECT date_part('epoch', sum(build_time)) FROM backfill_progress WHERE job = $job")
    printf '     nice_ratio %d  %6.1f s\n' "$ratio" "$took"
    long_enough "$took"
    echo "$took" >>"$scratch/built.$ratio"
done
factor=$(awk -v a="$(median <"$scratch/built.1")" -v b="$(median <"$scratch/built.0")" 'BEGIN { printf "%.2f", a / b }')
printf '     factor %s   ' "$factor"
within "$factor" 1.8 2.3

# One run of pgbench, with a job beside it unless the settings are "none".
foreground() {
    local name=$1 settings=$2
    job=0
    if [[ $settings != none ]]; then
        job=$(ask "SELECT backfill_start('events', 'costly', delay => '0', keep_old => false, $settings)")
        until [[ $(ask "SELECT count(*) > 0 FROM backfill_progress WHERE job = $job AND phase = 'loading'") == t ]]; do sleep 0.1; done
    fi
    rm -f "$scratch"/log.*
    run_child as_server_user env -C "$scratch/server" PGHOST="$PGHOST" "$bindir/pgbench" -U postgres -n -N -c 2 -j 2 -T "$seconds" \
        -l --log-prefix="$scratch/server/log.$name" postgres >"$scratch/pgbench.out" 2>&1 || fail "$(cat "$scratch/pgbench.out")"
    if ((job > 0)); then
        [[ $(ask "SELECT state FROM backfill_status WHERE job = $job") == running ]] || say "     (the job ended too early: set BENCH_ROWS higher)"
        ask "SELECT backfill_cancel($job)" >/dev/null
        ask "SELECT backfill_wait($job)" >/dev/null
    fi
    tps=$(awk '/^tps = / { print $3 }' "$scratch/pgbench.out")
    p99=$(cat "$scratch/server/log.$name".* | awk '{ print $3 }' | sort -n | awk '{ v[NR] = $1 } END { print v[int(NR * 0.99)] / 1000 }')
    rm -f "$scratch/server/log.$name".*
    echo "$tps" >>"$scratch/$name.tps"
    echo "$p99" >>"$scratch/$name.p99"
    printf '     %3d  %-12s %8.0f %9.2f\n' "$run" "$name" "$tps" "$p99"
}

say
say "what pgbench -N with 2 clients gets done"
say "     run  backfill          TPS   p99 (ms)"
for ((run = 1; run <= runs; run++)); do
    foreground none none
    foreground unthrottled "nice_ratio => 0"
    foreground nice_4 "nice_ratio => 4"
done
say "     median of $runs"
for name in none unthrottled nice_4; do
    printf '          %-12s %8.0f %9.2f\n' "$name" "$(median <"$scratch/$name.tps")" "$(median <"$scratch/$name.p99")"
done
share=$(awk -v a="$(median <"$scratch/nice_4.tps")" -v b="$(median <"$scratch/none.tps")" 'BEGIN { printf "%.3f", a / b }')
printf '     TPS with nice_ratio => 4 to TPS without a backfill: %s   ' "$share"
within "$share" 0.95 1000 | sed 's/ to 1000.00/ or more/'
slower=$(awk -v a="$(median <"$scratch/nice_4.p99")" -v b="$(median <"$scratch/none.p99")" 'BEGIN { printf "%.3f", a / b }')
printf '     p99 with nice_ratio => 4 to p99 without a backfill: %s   ' "$slower"
within "$slower" 0 1.05 | sed 's/0.00 to //'

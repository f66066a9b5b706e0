#!/usr/bin/env bash
# Whether a job goes as slowly as it is told to, and what others feel of it. Each figure is measured over at least
# BENCH_SECONDS, of a job that is made of BENCH_PARTITIONS partitions with BENCH_ROWS rows in all.
#   max_wal_rate: WAL that the server wrote a second, from the job's start to its end, by 1 and by 3 workers
#   nice_ratio: time that the same builds took with 1 and with 0
#   foreground: what pgbench gets done meanwhile, in short runs that take turns, since what a machine that is shared
#   gives to one changes by more than what is looked for
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-1200000}
partitions=${BENCH_PARTITIONS:-12}
seconds=${BENCH_SECONDS:-20}
rounds=${BENCH_ROUNDS:-6}

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

# A short run of pgbench, with a job beside it unless the settings are "none".
foreground() {
    local clients=$1 name=$2 settings=$3 log=$scratch/server/log
    job=0
    if [[ $settings != none ]]; then
        job=$(ask "SELECT backfill_start('events', 'costly', delay => '0', keep_old => false, $settings)")
        until [[ $(ask "SELECT count(*) > 0 FROM backfill_progress WHERE job = $job AND phase = 'loading'") == t ]]; do sleep 0.1; done
    fi
    run_child as_server_user env -C "$scratch/server" PGHOST="$PGHOST" "$bindir/pgbench" -U postgres -n -N -c "$clients" -j 2 \
        -T $((seconds / 4)) -l --log-prefix="$log.$name" postgres >"$scratch/pgbench.out" 2>&1 || fail "$(cat "$scratch/pgbench.out")"
    if ((job > 0)); then
        [[ $(ask "SELECT state FROM backfill_status WHERE job = $job") == running ]] || say "     (the job ended too early: set BENCH_ROWS higher)"
        ask "SELECT backfill_cancel($job)" >/dev/null
        ask "SELECT backfill_wait($job)" >/dev/null
    fi
    awk '/^tps = / { print $3 }' "$scratch/pgbench.out" >>"$scratch/$clients.$name.tps"
    cat "$log.$name".* | awk '{ print $3 }' | sort -n | awk '{ v[NR] = $1 } END { print v[int(NR * 0.99)] / 1000 }' >>"$scratch/$clients.$name.p99"
    rm -f "$log.$name".*
}

# ratio NAME OTHER: of two files' medians.
ratio() {
    awk -v a="$(median <"$scratch/$1")" -v b="$(median <"$scratch/$2")" 'BEGIN { printf "%.3f", a / b }'
}

compare_foreground() {
    local clients=$1 ways=(none unthrottled nice_4) round way share slower
    local -A settings=([none]=none [unthrottled]="nice_ratio => 0" [nice_4]="nice_ratio => 4")
    say
    say "what pgbench -N with $clients clients gets done: medians of $rounds runs of $((seconds / 4)) s"
    say "          backfill          TPS   p99 (ms)"
    for ((round = 0; round < rounds; round++)); do
        for way in 0 1 2; do # there and back, so that a machine that gets slower favours nobody
            way=${ways[round % 2 ? 2 - way : way]}
            foreground "$clients" "$way" "${settings[$way]}"
        done
    done
    for way in "${ways[@]}"; do
        printf '          %-12s %8.0f %9.2f\n' "$way" "$(median <"$scratch/$clients.$way.tps")" "$(median <"$scratch/$clients.$way.p99")"
    done
    share=$(ratio "$clients.nice_4.tps" "$clients.none.tps")
    printf '     TPS with nice_ratio => 4 to TPS without a backfill: %s   ' "$share"
    within "$share" 0.95 1000 | sed 's/ to 1000.00/ or more/'
    slower=$(ratio "$clients.nice_4.p99" "$clients.none.p99")
    printf '     p99 with nice_ratio => 4 to p99 without a backfill: %s   ' "$slower"
    within "$slower" 0 1.05 | sed 's/0.00 to //'
}

# As many as there are processors, which leaves them idle at times, and more than they can serve.
processors=$(nproc)
compare_foreground "$processors"
compare_foreground $((4 * processors))

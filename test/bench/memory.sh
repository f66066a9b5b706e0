#!/usr/bin/env bash
# The memory a worker needs must not grow with the partition: the peak of its own memory (RssAnon, which leaves
# shared buffers out) for a large partition against a small one, sampled every 20 ms. Sorting for an index takes up to
# maintenance_work_mem once there are rows enough, in any way of building it; so that is shown with the server's
# default and with a small one, which leaves what is the worker's own.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

large=${BENCH_ROWS:-4000000}
small=200000
target_mb=32

# Prints the pid of our worker: a child of the postmaster with our name, not one of its parallel helpers.
find_worker() {
    local child title children
    read -r -a children <"/proc/$postmaster/task/$postmaster/children"
    for child in "${children[@]}"; do
        title=$(tr '\0' ' ' 2>/dev/null <"/proc/$child/cmdline") || continue
        if [[ $title == *partbackfill\ worker* && $title != *"parallel worker"* ]]; then
            echo "$child"
            return
        fi
    done
}

# Writes the largest RssAnon seen, in kB, to the file, as long as the run lasts.
sample() {
    local peak=0 samples=0 worker='' line
    while true; do
        if [[ -z $worker || ! -d /proc/$worker ]]; then worker=$(find_worker); fi
        if [[ -n $worker ]]; then
            while read -r line; do
                [[ $line == RssAnon:* ]] || continue
                line=${line//[!0-9]/}
                samples=$((samples + 1))
                if ((line > peak)); then peak=$line; fi
            done 2>/dev/null <"/proc/$worker/status" || worker=''
            echo "$peak $samples" >"$1"
        fi
        sleep 0.02
    done
}

# peak_of PARTITION MAINTENANCE_WORK_MEM: rebuilds it; sets peak (MB). The caller's settings travel with a job.
peak_of() {
    local sampler job state samples
    echo "0 0" >"$scratch/peak"
    start_child sample "$scratch/peak"
    sampler=$child
    job=$(sql -At -c "SET maintenance_work_mem = '$2'" -c "SELECT backfill_start('narrow', 'narrow_source',
        partitions => ARRAY['$1'::regclass], delay => '0', keep_old => false)")
    state=$(ask "SELECT backfill_wait($job)")
    kill -TERM -- "-$sampler"
    wait "$sampler" 2>/dev/null || true
    [[ $state == "done" ]] ||
        fail "the job ended as $state: $(ask "SELECT error FROM backfill_progress WHERE job = $job")"
    read -r peak samples <"$scratch/peak"
    ((samples > 0)) || fail "the worker was never seen"
    peak=$((peak / 1024))
}

start_bench_cluster
postmaster=$(head -n 1 "$scratch/data/postmaster.pid")
say "Making a partition of $small rows and one of $large ..."
run_child sql -v small="$small" -v all="$((small + large))" -f "$checkout/test/bench/memory.sql"

say
printf '%20s %12s %14s %14s\n' maintenance_work_mem "$small rows" "$large rows" difference
for memory in "$(ask "SHOW maintenance_work_mem")" 16MB; do
    peak_of narrow_small "$memory"
    small_peak=$peak
    peak_of narrow_large "$memory"
    difference=$((peak - small_peak))
    verdict=''
    if ((difference > target_mb)); then verdict=", missed"; fi
    printf '%20s %9d MB %11d MB %11d MB   (target <= %d MB%s)\n' \
        "$memory" "$small_peak" "$peak" "$difference" "$target_mb" "$verdict"
done

#!/usr/bin/env bash
# The memory a worker needs must not grow with the partition: the peak of its own memory (RssAnon, which leaves
# shared buffers out) for a large partition against a small one, sampled every 20 ms. Sorting for an index takes up to
# maintenance_work_mem once there are rows enough, in any way of building it. So the target is for a table without an
# index, and for one with a primary key under a small maintenance_work_mem; the server's default is shown beside them.
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

# peak_of TABLE PARTITION MAINTENANCE_WORK_MEM: rebuilds it; sets peak (MB). The caller's settings travel with a job.
peak_of() {
    local sampler job state samples
    echo "0 0" >"$scratch/peak"
    start_child sample "$scratch/peak"
    sampler=$child
    job=$(sql -At -c "SET maintenance_work_mem = '$3'" -c "SELECT backfill_start('$1', 'narrow_source',
        partitions => ARRAY['$2'::regclass], delay => '0', keep_old => false)")
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
# compare NAME TABLE MAINTENANCE_WORK_MEM TARGET
compare() {
    local small_peak difference verdict=''
    peak_of "$2" "$2_small" "$3"
    small_peak=$peak
    peak_of "$2" "$2_large" "$3"
    difference=$((peak - small_peak))
    if [[ -n $4 ]]; then
        verdict="(target <= $4 MB"
        if ((difference > $4)); then verdict+=", missed"; fi
        verdict+=")"
    fi
    printf '%-12s %20s %9d MB %11d MB %11d MB   %s\n' "$1" "$3" "$small_peak" "$peak" "$difference" "$verdict"
}

default=$(ask "SHOW maintenance_work_mem")
printf '%-12s %20s %12s %14s %14s\n' table maintenance_work_mem "$small rows" "$large rows" difference
compare "no index" bare "$default" "$target_mb"
compare "primary key" narrow 16MB "$target_mb"
compare "primary key" narrow "$default" ""

#!/usr/bin/env bash
# What a partition costs beside its rows, in jobs of ever more partitions of 10 rows: seconds of backfill_plan, _start and
# _cancel, of a look at backfill_status while the job runs, the overhead of a partition (between two that are done one after
# the other) at the beginning and at the end of the job, the worker's private memory at the end, by what the catalogs have grown,
# and bytes of the log and of the queue of NOTIFY (for a listener that does not read) for each partition. Then a job with 1, 2 and
# 8 workers, and the view beside jobs that have ended. BENCH_SIZES are the numbers of partitions,
# BENCH_METHODS the methods: by attach, 10,000 partitions take the server half an hour.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

read -r -a sizes <<<"${BENCH_SIZES:-10 100 1000 10000}"
read -r -a methods <<<"${BENCH_METHODS:-attach storage}"
ended_jobs=${BENCH_ENDED_JOBS:-1000}

start_bench_cluster
ask "ALTER SYSTEM SET max_locks_per_transaction = 512" >/dev/null # backfill_start locks all of a table's partitions
ask "ALTER SYSTEM SET max_worker_processes = 32" >/dev/null
restart_cluster() { as_server_user "$bindir/pg_ctl" -s -w -D "$scratch/data" -l "$server_log" restart >/dev/null; }
restart_cluster

# A table with so many partitions of so many rows (10), and the same rows elsewhere.
make_table() {
    local rows=${2:-10}
    sql <<SQL
CREATE TABLE t_$1 (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE t_$1_%s PARTITION OF t_$1 FOR VALUES FROM (%s) TO (%s)', n, n * $rows, n * $rows + $rows)
FROM generate_series(0, $1 - 1) AS n \gexec
CREATE TABLE raw_$1 (k int PRIMARY KEY, v text);
INSERT INTO raw_$1 SELECT k, 'new ' || k FROM generate_series(0, $1 * $rows - 1) AS k;
INSERT INTO t_$1 SELECT k, 'old ' || k FROM generate_series(0, $1 * $rows - 1) AS k;
VACUUM (ANALYZE) raw_$1;
SQL
}

# seconds_of STATEMENT: its time in the server's session, without psql's own start.
seconds_of() {
    sql -At <<SQL
SELECT clock_timestamp() AS begun \gset
$1 \g /dev/null
SELECT round(date_part('epoch', clock_timestamp() - :'begun')::numeric, 4);
SQL
}

catalogs_mb() {
    ask "SELECT round(sum(pg_total_relation_size(oid)) / 1048576.0, 1) FROM pg_class
         WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'"
}

# Bytes in the queue of NOTIFY, which holds 8 GB.
notify_queue() { ask "SELECT round((pg_notification_queue_usage() * 8 * 1024 ^ 3)::numeric)"; }

# Of the worker, in kB; nothing when it has gone.
private_memory() {
    local pid
    pid=$(ask "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'")
    if [[ -n $pid ]]; then awk '/RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true; fi
}

# Milliseconds between the ends of partitions, the median of the tenth that begins with the given share of the job.
overhead() {
    ask "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY 1000 * date_part('epoch', gap))::numeric, 1)
         FROM (SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS gap,
                      ntile(10) OVER (ORDER BY finished_at) AS tenth
               FROM backfill_progress WHERE job = $1) AS partition
         WHERE gap IS NOT NULL AND tenth BETWEEN $2 AND $3"
}

# run_job SIZE METHOD: prints its line.
run_job() {
    local size=$1 method=$2 plan start status cancel job memory=0 last catalogs log queue listener
    plan=$(seconds_of "SELECT count(*) FROM backfill_plan('t_$size', 'raw_$size')")
    catalogs=$(catalogs_mb)
    log=$(stat -c %s "$server_log")
    exec {listener}> >(psql -Xq >/dev/null)
    echo "LISTEN partbackfill; BEGIN; SELECT 1;" >&"$listener"
    queue=$(notify_queue)
    start=$(seconds_of "SELECT backfill_start('t_$size', 'raw_$size', swap => '$method', delay => '0', keep_old => false)")
    job=$(ask "SELECT max(job) FROM backfill_job")
    status=$(for _ in 1 2 3 4 5; do seconds_of "SELECT * FROM backfill_status"; done | median)
    while [[ $(ask "SELECT state FROM backfill_job WHERE job = $job") == running ]]; do
        last=$(private_memory)
        memory=${last:-$memory}
        sleep 1
    done
    queue=$(awk -v a="$(notify_queue)" -v b="$queue" 'BEGIN { print int(a - b) }')
    exec {listener}>&-
    [[ $(ask "SELECT backfill_wait($job)") == "done" ]] || fail "job $job: $(ask "SELECT error FROM backfill_status WHERE job = $job")"
    [[ $(ask "SELECT count(*) FROM t_$size WHERE v LIKE 'new %'") == $((size * 10)) ]] || fail "not every row of t_$size is new"
    local median first end
    median=$(overhead "$job" 1 10)
    first=$(overhead "$job" 1 1)
    end=$(overhead "$job" 10 10)
    catalogs=$(awk -v a="$(catalogs_mb)" -v b="$catalogs" 'BEGIN { print a - b }')
    log=$(($(stat -c %s "$server_log") - log))
    sql -c "UPDATE raw_$size SET v = 'old ' || k" -c "VACUUM raw_$size"
    ask "SELECT backfill_start('t_$size', 'raw_$size', swap => '$method', delay => '0', keep_old => false)" >/dev/null
    cancel=$(seconds_of "SELECT backfill_cancel((SELECT max(job) FROM backfill_job))")
    ask "SELECT backfill_wait((SELECT max(job) FROM backfill_job))" >/dev/null
    sql -c "UPDATE raw_$size SET v = 'new ' || k" -c "VACUUM raw_$size"
    echo "$median" >"$scratch/overhead.$method.$size"
    printf '%-8s %7d %9s %9s %9s %9s %9s %9s %9s %9d %8.1f %9d %9d\n' "$method" "$size" "$plan" "$start" "$status" "$cancel" \
        "$median" "$first" "$end" "$memory" "$catalogs" "$((log / size))" "$((queue / size))"
    echo "$plan $start $status $memory" >"$scratch/figures.$method.$size"
}

say
printf '%-8s %7s %9s %9s %9s %9s %9s %9s %9s %9s %8s %9s %9s\n' method parts "plan s" "start s" "status s" "cancel s" "ms/part" first last \
    "kB" "cat MB" "log B/p" "queue B/p"
for size in "${sizes[@]}"; do
    make_table "$size"
    for method in "${methods[@]}"; do run_job "$size" "$method"; done
done
smallest=${sizes[0]}
largest=${sizes[-1]}
last=${methods[-1]}
say
compare "overhead, $last: $largest against $smallest" "$(cat "$scratch/overhead.$last.$largest")" \
    "$(cat "$scratch/overhead.$last.$smallest")" 1.3
read -r plan start status memory <"$scratch/figures.$last.$largest"
read -r _ _ _ memory_before <"$scratch/figures.$last.$smallest"
compare "overhead, $last, against 40 ms" "$(cat "$scratch/overhead.$last.$largest")" 40 1
compare "plan, against 1 ms a partition" "$plan" "$(awk -v n="$largest" 'BEGIN { print n / 1000 }')" 1
compare "start, against 1 ms a partition" "$start" "$(awk -v n="$largest" 'BEGIN { print n / 1000 }')" 1
compare "status, against 50 ms" "$status" 0.05 1
compare "memory, against 4 kB a partition" "$((memory > memory_before ? memory - memory_before : 0))" "$((4 * largest))" 1

# Many small partitions, by more workers.
make_table 400 1000
for workers in 1 2 8; do
    job=$(ask "SELECT backfill_start('t_400', 'raw_400', swap => 'storage', delay => '0', keep_old => false, workers => $workers)")
    ask "SELECT backfill_wait($job)" >/dev/null
    ask "SELECT date_part('epoch', max(finished_at) - min(started_at)) FROM backfill_progress WHERE job = $job" >"$scratch/workers.$workers"
    say "400 partitions of 1,000 rows by $workers workers: $(printf %.2f "$(cat "$scratch/workers.$workers")") s"
done
compare "2 workers against 1" "$(cat "$scratch/workers.2")" "$(cat "$scratch/workers.1")" 0.59
compare "8 workers against 2" "$(cat "$scratch/workers.8")" "$(cat "$scratch/workers.2")" 1

# Ended jobs: rows of another table's, as many as a server has after years.
sql <<SQL
INSERT INTO backfill_job
SELECT (jsonb_populate_record(j, jsonb_build_object('job', j.job + 1000000 + n))).*
FROM backfill_job AS j, generate_series(1, $ended_jobs) AS n
WHERE j.job = (SELECT min(job) FROM backfill_job WHERE state = 'done');
INSERT INTO backfill_control
SELECT (jsonb_populate_record(c, jsonb_build_object('job', j.job, 'ordinal', n))).*
FROM backfill_job AS j, backfill_control AS c, generate_series(1, 100) AS n
WHERE j.job > 1000000 AND c.ordinal = 1 AND c.job = (SELECT min(job) FROM backfill_job WHERE state = 'done');
VACUUM (ANALYZE) backfill_job, backfill_control;
SQL
job=$(ask "SELECT backfill_start('t_$smallest', 'raw_$smallest', delay => '10 s')")
with_ended=$(for _ in 1 2 3 4 5; do seconds_of "SELECT * FROM backfill_status WHERE job = $job"; done | median)
all_ended=$(for _ in 1 2 3 4 5; do seconds_of "SELECT * FROM backfill_status"; done | median)
ask "SELECT backfill_cancel($job)" >/dev/null
say "status beside $ended_jobs ended jobs of 100 partitions: $with_ended s of the running one, $all_ended s of all"
compare "status of the running job, against 50 ms" "$with_ended" 0.05 1

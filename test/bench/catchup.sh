#!/usr/bin/env bash
# How fast on_write => 'catch_up' refreshes rows: jobs on a partition of BENCH_ROWS rows whose source is a view over an indexed
# table, or a GROUP BY of five indexed rows each. While the build is held up in its source, rows scattered over the partition
# are written, of which each leaves a key; then the build goes on. What is measured is the time between two lines of the server's
# log, "rebuilt partition" and "swapped partition", less that of a job in which nothing was written. BENCH_KEYS are the numbers of
# keys, each in BENCH_RUNS jobs. Then a client that updates single rows all the while says how long a writer waits at the most.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-1000000}
runs=${BENCH_RUNS:-3}
read -r -a sizes <<<"${BENCH_KEYS:-1000 10000 100000 1000000}"
declare -A title=([indexed]="a view over an indexed table" [grouped]="a GROUP BY of five rows each")

start_bench_cluster
ask "ALTER SYSTEM SET log_line_prefix = '%n '" >/dev/null # seconds since 1970, with milliseconds
ask "SELECT pg_reload_conf()" >/dev/null
say "Making tables of $rows rows ..."
run_child sql -o /dev/null -v rows="$rows" -v gate="$gate_condition" -f "$checkout/test/bench/catchup.sql"

# The time of a line of the job's in the log.
logged_at() { awk -v line="backfill job $job $1 partition" 'index($0, line) { print $1 }' "$server_log"; }

# start_job TABLE: its build stands at the gate. Sets job.
start_job() {
    close_gate
    job=$(ask "SELECT backfill_start('$1', '$1_source', on_write => 'catch_up', delay => '0', keep_old => false)")
    await_at_gate 1
}

# end_job: sets seconds, from the end of the build to that of the swap.
end_job() {
    local state
    open_gate
    state=$(ask "SELECT backfill_wait($job)")
    [[ $state == "done" ]] || fail "the job ended as $state: $(ask "SELECT error FROM backfill_progress WHERE job = $job")"
    [[ $(ask "SELECT rebuilds FROM backfill_progress WHERE job = $job") == 0 ]] || fail "the partition was rebuilt"
    seconds=$(awk -v a="$(logged_at swapped)" -v b="$(logged_at rebuilt)" 'BEGIN { printf "%.3f", a - b }')
}

# catch_up TABLE KEYS
catch_up() {
    start_job "$1"
    sql -c "CALL write('$1', $2)"
    run_child sql -c CHECKPOINT
    end_job
    sql -c "VACUUM $1"
}

# rate TABLE KEYS: keys a second.
rate() {
    awk -v keys="$2" -v a="$(median <"$scratch/$1.$2")" -v b="$(median <"$scratch/$1.0")" 'BEGIN { if (a > b) print int(keys / (a - b)); else print 0 }'
}

say
printf '%-30s %9s %4s %9s\n' source keys run seconds
for table in indexed grouped; do
    for ((run = 1; run <= runs; run++)); do
        for keys in 0 "${sizes[@]}"; do
            catch_up "$table" "$keys"
            printf '%-30s %9d %4d %9s\n' "${title[$table]}" "$keys" "$run" "$seconds"
            echo "$seconds" >>"$scratch/$table.$keys"
        done
    done
done

# The waits of a client that writes to a row 100 times a second and does not wait for the disk, in ms: begin_writes TABLE,
# end_writes TITLE. A write that begins late because of the one before has waited too.
begin_writes() {
    rm -f "$scratch"/point.[0-9]*
    cat >"$scratch/point.pgbench" <<SQL
\\set id random(1, $rows)
UPDATE $1 SET id = id WHERE id = :id;
SQL
    start_child env PGAPPNAME=writer PGOPTIONS="-c synchronous_commit=off" pgbench -n -M prepared -c 1 -R 100 -T 3600 -f "$scratch/point.pgbench" --log --log-prefix="$scratch/point" \
        "$PGDATABASE" >"$scratch/pgbench.out" 2>&1
    writer=$child
}
end_writes() {
    ask "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'" >/dev/null
    wait "$writer" || true
    cat "$scratch"/point.[0-9]* | awk '{ print $3 / 1000 }' | sort -n | awk -v title="$1" '
        { wait[NR] = $1 }
        END { printf "%-44s %8d %10.1f %10.1f %10.1f\n", title, NR, wait[int(NR / 2) + 1], wait[int(NR * 0.99) + 1], wait[NR] }'
}

say
printf '%-44s %8s %10s %10s %10s\n' "a writer of single rows" writes "median ms" "99 % ms" "longest ms"
begin_writes indexed
sleep 15
end_writes "beside nothing"
for table in indexed grouped; do
    start_job "$table"
    sql -c "CALL write('$table', $((rows / 10)))"
    begin_writes "$table"
    end_job
    end_writes "${title[$table]}, $((rows / 10)) keys"
    say "     the swap held its locks for $(ask "SELECT round((date_part('epoch', locked_for) * 1000)::numeric, 1) FROM backfill_progress WHERE job = $job") ms"
done

say
say "medians of $runs, $rows rows in the partition, less $(median <"$scratch/indexed.0") s and $(median <"$scratch/grouped.0") s without a key"
printf '%-30s %9s %9s %9s\n' source keys seconds "keys/s"
for table in indexed grouped; do
    for keys in "${sizes[@]}"; do
        printf '%-30s %9d %9.3f %9d\n' "${title[$table]}" "$keys" "$(median <"$scratch/$table.$keys")" "$(rate "$table" "$keys")"
    done
done
say
for keys in "${sizes[@]:1}"; do
    compare "20,000 keys/s / ${title[indexed]}, $keys" 20000 "$(rate indexed "$keys")" 1
done
for table in indexed grouped; do
    if ((${#sizes[@]} > 1)); then
        compare "s per key, $table: ${sizes[-1]} / ${sizes[1]} keys" "$(rate "$table" "${sizes[1]}")" "$(rate "$table" "${sizes[-1]}")" 1.25
    fi
done

#!/usr/bin/env bash
# Readers who know what they must find, writers who keep a journal, and jobs that rewrite everything again and again, by
# each method and each way to deal with writes in turn, STRESS_SECONDS in all. Prints a line for each; fails when a reader
# has seen anything but whole partitions, a write is lost or undone, anybody's statement was canceled, or a transaction
# took longer than the stated bound. Beside the big table a queue is consumed, and a small one is altered and truncated
# together with its source; they have jobs of their own.
# Needs a running server (PGHOST, ...) with the extension installed, and the directory $scratch, which it can read.
set -euo pipefail
exec 2>&1 # what fails says so among the lines
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${scratch:?}"
seconds=${STRESS_SECONDS:-20}
still=100 # rows of a partition that nobody writes
bound=20000 # milliseconds in which every transaction of every client has ended
database=stress

say() { printf '%s\n' "$*"; }
sql() { psql -Xq -v ON_ERROR_STOP=1 -d "$database" "$@"; }
ask() { sql -At -c "$1"; }

work=$scratch/stress
clients=()
stop_clients() {
    local pid
    for pid in "${clients[@]}"; do kill "$pid" 2>/dev/null || true; done
}
trap stop_clients EXIT

# bench NAME SECONDS OPTION...: clients in the background, each transaction's time in $work/NAME.*
bench() {
    local name=$1 limit=$2
    shift 2
    pgbench -n -T "$limit" -D "still=$still" -D "directory=$work" --log --log-prefix="$work/$name" "$@" "$database" \
        >"$work/$name.out" 2>"$work/$name.err" &
    clients+=($!)
}

start_clients() {
    local limit=$1 script writers=()
    bench point "$limit" -M prepared -c 2 -R 200 -f "$here/read_point.pgbench"
    bench read "$limit" -c 3 -R 30 -f "$here/read_partition.pgbench@4" -f "$here/read_all.pgbench" -f "$here/read_repeatable.pgbench@2"
    bench whole "$limit" -c 2 -R 40 -f "$here/read_whole.pgbench"
    bench old "$limit" -c 1 -f "$here/read_old.pgbench"
    bench update "$limit" -D base=20 -c 1 -R 40 -f "$here/write_update.pgbench@3" -f "$here/write_insert.pgbench"
    for script in insert@4 update@4 delete@2 move@3 conflict@2 savepoint@2 rollback prepared copy; do
        writers+=(-f "$here/write_${script/@/.pgbench@}")
        [[ $script == *@* ]] || writers[-1]+=.pgbench
    done
    bench write "$limit" -D base=1 -c 5 -R 40 "${writers[@]}"
    bench queue "$limit" -c 2 -R 20 -f "$here/write_queue.pgbench"
    bench migrate "$limit" -c 1 -R 3 -f "$here/migrate_target.pgbench" -f "$here/migrate_source.pgbench" -f "$here/migrate_truncate.pgbench"
    bench measured "$limit" -c 1 -R 20 -f "$here/read_measured.pgbench"
    bench truncate "$limit" -D base=40 -c 1 -R 2 -f "$here/write_truncate.pgbench"
}

# longest FILE...: the longest transaction of clients, in milliseconds, without how late it began by its schedule (the seventh
# field); none has ended when it is still waiting.
longest() { awk '$3 - $7 > max { max = $3 - $7 } END { printf "%.0f", max / 1000 }' "$@"; }
transactions() { sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$work/$1.out"; }
# Clients that have ended early, and transactions that have failed.
errors() {
    local ended failures
    ended=$(cat "$work"/*.err | grep -c 'aborted' || true)
    failures=$(cat "$work"/*.out | sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' | awk '{ sum += $1 } END { print sum + 0 }')
    echo $((ended + failures))
}

# revert JOB TABLE: brings old rows back, all that were swapped together or every third partition. One that was truncated or
# migrated since its swap is refused.
revert() {
    local job=$1 table=$2 partition partitions
    partitions=$(ask "SELECT CASE publish WHEN 'each' THEN quote_literal(partition) ELSE 'NULL' END
                      FROM backfill_progress JOIN backfill_job USING (job) WHERE job = $job AND ordinal % 3 = 0")
    while read -r partition; do
        if ask "SELECT backfill_revert($job, $partition)" 2>"$work/$table.error" >>"$work/reverted"; then continue; fi
        if ! grep -q 'written to or changed since\|rows were written to it since\|has other columns' "$work/$table.error"; then
            cat "$work/$table.error"
            return 1
        fi
    done < <(sort -u <<<"$partitions")
    ask "SELECT backfill_purge($job)" >/dev/null
    ask "SELECT backfill_wait($job, '1 min')" >/dev/null
}

# rewrite NUMBERS TABLE SOURCE METHOD ON_WRITE [PUBLISH]: one job after the other for as long as there are clients, whose numbers go
# to that file, errors to one of its own. %s in the source is another number each time.
rewrite() {
    local numbers=$1 table=$2 source=$3 method=$4 on_write=$5 publish=${6:-each} job state keep_old=false
    # What is written after a swap comes along.
    if [[ $on_write == catch_up || $publish == together ]]; then keep_old=true; fi
    while kill -0 "${clients[0]}" 2>/dev/null; do
        pass=$((pass + 1))
        # In a deadlock with a migration it is backfill_start that gives way.
        until job=$(ask "SELECT backfill_start('$table', '${source/\%s/$pass}', swap => '$method',
            on_write => '$on_write', publish => '$publish', workers => 2, delay => '0', keep_old => $keep_old)" 2>"$work/$table.error"); do
            if ! grep -q 'deadlock detected' "$work/$table.error"; then
                cat "$work/$table.error"
                return 1
            fi
        done
        echo "$job" >>"$numbers"
        state=$(ask "SELECT backfill_wait($job, '2 min')")
        case $state in
        "done") if [[ $keep_old == true ]]; then revert "$job" "$table" || return 1; fi ;;
        failed) ask "SELECT backfill_cancel($job)" >/dev/null && ask "SELECT backfill_wait($job, '1 min')" >/dev/null ;;
        *)
            say "job $job is $state after two minutes:"
            ask "SELECT ordinal, state, phase, waiting_on, error FROM backfill_progress WHERE job = $job AND state <> 'done'"
            return 1
            ;;
        esac
    done
}

bad=0
# run METHOD ON_WRITE SECONDS
run() {
    local method=$1 on_write=$2 limit=$3 anomalies lost canceled numbers others pid gid jobs wait side=()
    rm -f "$work"/*.[0-9]* "$work"/*.out "$work"/*.err
    sql -c "TRUNCATE anomaly" -c "VACUUM journal, events"
    for ((client = 0; client < 5; client++)); do
        for ((n = 0; n < 50; n++)); do
            printf '%s\t%s\t%s\n' $((1000000 + 1000 * client + n)) $(((client * 50 + n) * 97 % 23000)) "$n"
        done >"$work/copy.$client"
    done
    clients=()
    start_clients "$limit"
    : >"$work/jobs"
    : >"$work/side_jobs"
    : >"$work/reverted"
    rewrite "$work/side_jobs" message "SELECT * FROM message" "$method" "$on_write" &
    side+=($!)
    rewrite "$work/side_jobs" measured "SELECT k, generation, note FROM measured_raw" "$method" "$on_write" &
    side+=($!)
    # Of nothing that is swapped together a part is seen.
    rewrite "$work/side_jobs" whole "SELECT k, %s AS pass FROM whole" "$method" "${on_write/block/rebuild}" together &
    side+=($!)
    rewrite "$work/jobs" events "SELECT id, at, value, %s AS pass, note FROM events" "$method" "$on_write" ||
        { bad=1; say "  the jobs ended early"; }
    pass=$((pass + 10000))
    for pid in "${side[@]}"; do
        wait "$pid" || { bad=1; say "  the jobs beside it ended early"; }
    done
    mapfile -t jobs <"$work/jobs"
    for pid in "${clients[@]}"; do wait "$pid" || true; done
    clients=()
    for gid in $(ask "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"); do sql -c "COMMIT PREPARED '$gid'"; done

    sql -At -f "$here/lost.sql" >"$work/lost"
    anomalies=$(ask "SELECT count(*) FROM anomaly")
    lost=$(wc -l <"$work/lost")
    canceled=$(errors)
    numbers=$(IFS=,; echo "${jobs[*]}")
    others=$(paste -sd, "$work/side_jobs")
    wait=$(longest "$work"/*.[0-9]*)
    printf '%-8s %-8s %5s %6s %9s %7s %7s %7s %10s %5s %8s %13s %13s %8s\n' "$method" "$on_write" "${#jobs[@]}" \
        "$(ask "SELECT count(*) FROM backfill_progress WHERE job IN ($numbers) AND state IN ('done', 'reverted')")" \
        "$(ask "SELECT sum(rebuilds) FROM backfill_progress WHERE job IN ($numbers)")" \
        "$(ask "SELECT count(*) FROM backfill_progress WHERE job IN ($numbers) AND error IS NOT NULL AND state NOT IN ('done', 'reverted')")" \
        "$(($(transactions point) + $(transactions read) + $(transactions old)))" \
        "$(($(transactions update) + $(transactions write) + $(transactions truncate)))" \
        "$anomalies" "$lost" "$canceled" "$(longest "$work"/point.[0-9]*)" "$(longest "$work"/update.[0-9]*)" "$wait"
    ask "SELECT format('  %s: %s of %s partitions rewritten', j.target, count(*) FILTER (WHERE p.state IN ('done', 'reverted')), count(*))
         FROM backfill_progress AS p JOIN backfill_status AS j USING (job) WHERE j.job IN ($others) GROUP BY j.target ORDER BY 1"
    ask "SELECT format('  not rewritten: %s (%s)', split_part(error, E'\\n', 2), count(*)) FROM backfill_progress
         WHERE job IN ($numbers) AND error IS NOT NULL AND state NOT IN ('done', 'reverted') GROUP BY split_part(error, E'\\n', 2) LIMIT 5"
    say "  reverted: $(awk '{ sum += $1 } END { print sum + 0 }' "$work/reverted") partitions"
    if ((wait > bound)); then
        bad=1
        say "  a transaction took $wait ms, longer than $bound ms"
    fi
    if ((anomalies + lost + canceled > 0)); then
        bad=1
        ask "SELECT '  anomaly: ' || what FROM anomaly ORDER BY n LIMIT 10"
        sed 's/^/  /' "$work/lost" | head -n 10
        grep -h 'ERROR\|error' "$work"/*.err | head -n 10 || true
    fi
}

mkdir -p "$work"
PGOPTIONS=--client-min-messages=warning psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" -c "CREATE DATABASE $database"
sql -c "CREATE EXTENSION partbackfill"
sql -q -o /dev/null -v still=$still -f "$here/schema.sql" -f "$here/queue.sql"
pass=0
say "method   on_write  jobs  swaps  rebuilds  failed   reads  writes  anomalies  lost canceled  longest read longest write (ms)  any: at most $bound"
for method in attach storage; do
    for on_write in ${STRESS_ON_WRITE:-rebuild block catch_up}; do
        run $method "$on_write" $(((seconds + 5) / 6))
    done
done
if ((bad > 0)); then exit 1; fi
psql -Xq -d postgres -c "DROP DATABASE $database WITH (FORCE)"

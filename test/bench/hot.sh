#!/usr/bin/env bash
# Partitions that are written to all the time, rebuilt with on_write => 'catch_up' by each method: whether all are done, how often
# one was built twice, whether a write is lost or has come back, and how long a writer and a reader wait at the most. BENCH_WRITERS
# clients write to rows of every partition, and one reads rows; BENCH_ROWS are the rows of a partition.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-50000}
writers=${BENCH_WRITERS:-4}
partitions=12
lock_timeout=100 # ms, the default

start_bench_cluster
say "Making $partitions partitions of $rows rows ..."
run_child sql -q -o /dev/null -v rows="$rows" -v partitions=$partitions -f "$checkout/test/bench/hot.sql"
cat >"$scratch/write.pgbench" <<'END'
\set k random(0, :all - 1)
SELECT write_hot(:k);
END
cat >"$scratch/read.pgbench" <<'END'
\set k random(0, :all - 1)
SELECT v FROM hot WHERE k = :k;
END

# start NAME OPTION...: does not wait for the disk.
start() {
    local name=$1
    shift
    PGOPTIONS="-c synchronous_commit=off" start_client -D "all=$((partitions * rows))" -f "$scratch/$name.pgbench" --log --log-prefix="$scratch/$name" "$@"
}
start_clients() {
    rm -f "$scratch"/write.[0-9]* "$scratch"/read.[0-9]*
    start write -c "$writers" -R $((writers * 50))
    start read -c 1 -R 200
}

# The longest transaction of a client, in ms, without how late it began.
longest() { cat "$scratch/$1".[0-9]* | awk '$3 - $7 > max { max = $3 - $7 } END { printf "%.1f", max / 1000 }'; }

# Keys whose row is not what the journal says, or not what the source gives.
differences() {
    ask "WITH last AS (SELECT DISTINCT ON (k) k, v FROM hot_journal ORDER BY k, n DESC)
         SELECT (SELECT count(*) FROM last LEFT JOIN hot USING (k) WHERE hot.v IS DISTINCT FROM last.v)
              + (SELECT count(*) FROM hot FULL JOIN hot_raw USING (k) WHERE hot.v IS DISTINCT FROM hot_raw.v)"
}

run() {
    local title=$1 state='' figures='' job
    shift
    start_clients
    if (($# == 0)); then
        sleep 15
    else
        job=$(ask "SELECT backfill_start('hot', 'SELECT k, v, ''computed'' AS tag, note FROM hot_raw', on_write => 'catch_up', workers => 2,
            delay => '0', keep_old => false, swap => '$1')")
        state=$(ask "SELECT backfill_wait($job)")
        [[ $state == "done" ]] || say "the job ended as $state"
        figures=$(ask "SELECT format('%s of %s', count(*) FILTER (WHERE state = 'done'), count(*)) FROM backfill_progress WHERE job = $job")
        rebuilds=$(ask "SELECT sum(rebuilds) FROM backfill_progress WHERE job = $job")
    fi
    end_clients
    if grep ERROR "$scratch/pgbench.out"; then fail "a client has met an error"; fi
    write=$(longest write)
    read=$(longest read)
    printf '%-12s %10s %9s %8s %8s %12s %12s\n' "$title" "$figures" "${rebuilds:-}" "$(cat "$scratch"/write.[0-9]* | wc -l)" "$(differences)" "$write" "$read"
}

say
printf '%-12s %10s %9s %8s %8s %12s %12s\n' "" "done" rebuilds writes wrong "write ms" "read ms"
run nothing
waits=()
for method in attach storage; do
    run $method $method
    waits+=("$method" "$write" "$read")
done
say
for ((i = 0; i < ${#waits[@]}; i += 3)); do
    compare "longest write, ${waits[i]} / (lock_timeout + 100 ms)" "${waits[i + 1]}" $((lock_timeout + 100)) 1.00
    compare "longest read, ${waits[i]} / (lock_timeout + 100 ms)" "${waits[i + 2]}" $((lock_timeout + 100)) 1.00
done

#!/usr/bin/env bash
# All partitions swapped in one transaction, by each method: for how long its locks are held, in all and for each partition, how long
# a reader waits at the most, and whether a reader ever sees a mix of old and new partitions. BENCH_PARTITIONS are swapped (36),
# BENCH_ROWS are the rows of each.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

partitions=${BENCH_PARTITIONS:-36}
rows=${BENCH_ROWS:-20000}
each_target=5 # ms a partition, by storage

start_bench_cluster
say "Making $partitions partitions of $rows rows ..."
run_child sql -q -o /dev/null -v rows="$rows" -v partitions="$partitions" -f "$checkout/test/bench/publish.sql"
cat >"$scratch/read.pgbench" <<'END'
SELECT count(*) AS versions FROM (SELECT v FROM whole WHERE k % :rows = 0 GROUP BY v) AS version \gset
\if :versions != 1
INSERT INTO mix VALUES (:versions);
\endif
END
cat >"$scratch/read_twice.pgbench" <<'END'
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT v AS first FROM whole WHERE k = 0 \gset
SELECT v AS second FROM whole WHERE k = :last \gset
COMMIT;
\if :first != :second
INSERT INTO mix VALUES (2);
\endif
END

# The longest transaction of a client, in ms, without how late it began.
longest() { cat "$scratch"/read.[0-9]* | awk '$3 - $7 > max { max = $3 - $7 } END { printf "%.1f", max / 1000 }'; }

version=0
run() {
    local method=$1 on_write=$2 job state line
    version=$((version + 1))
    rm -f "$scratch"/read.[0-9]*
    start_client -D rows="$rows" -D last=$((partitions * rows - 1)) -f "$scratch/read.pgbench" -f "$scratch/read_twice.pgbench@4" \
        --log --log-prefix="$scratch/read" -c 2 -R 100
    job=$(ask "SELECT backfill_start('whole', 'SELECT k, $version AS v, note FROM whole', publish => 'manual', workers => 2, delay => '0',
        swap => '$method', on_write => '$on_write')")
    state=$(ask "SELECT backfill_wait($job)")
    [[ $state == "ready" ]] || fail "the job is $state"
    ask "SELECT backfill_publish($job)" >/dev/null
    end_clients
    if grep ERROR "$scratch/pgbench.out"; then fail "a client has met an error"; fi
    line=$(grep "backfill job $job published" "$server_log" | tail -n 1)
    held=$(sed -E 's/.*held their locks for ([0-9.]+) ms.*/\1/' <<<"$line")
    slowest=$(longest)
    printf '%-9s %-9s %12s %16s %14s %8s\n' "$method" "$on_write" "$held" "$(awk -v a="$held" -v n="$partitions" 'BEGIN { printf "%.2f", a / n }')" \
        "$slowest" "$(ask "SELECT count(*) FROM mix")"
    ask "SELECT backfill_purge($job)" >/dev/null
    ask "SELECT backfill_wait($job)" >/dev/null
}

say
printf '%-9s %-9s %12s %16s %14s %8s\n' method on_write "held, ms" "ms a partition" "longest read" mixes
storage_helds=()
for method in ${BENCH_METHODS:-attach storage}; do
    for on_write in rebuild catch_up; do
        run $method $on_write
        if [[ $method == storage ]]; then storage_helds+=("$on_write" "$held"); fi
    done
done
say
for ((i = 0; i < ${#storage_helds[@]}; i += 2)); do
    compare "locks held, storage, ${storage_helds[i]} / ($each_target ms each)" "${storage_helds[i + 1]}" $((each_target * partitions)) 1.00
done

#!/usr/bin/env bash
# What the guard costs a writer: INSERT of BENCH_ROWS rows in one statement into a partition that is watched, against
# one that is not, in turn, the least disturbed run of each. The job that watches stands in its source all the while.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-1000000}
runs=${BENCH_RUNS:-5}

start_bench_cluster
say "Making $rows rows to insert ..."
run_child sql -v rows="$rows" -f "$checkout/test/bench/guard.sql"

# The gate that holds the build up: a session of its own, gone with the cluster.
start_child sql -c "SELECT pg_advisory_lock(1), pg_sleep(86400)"
gate=$child
until [[ $(ask "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND granted") == 1 ]]; do sleep 0.05; done
job=$(ask "SELECT backfill_start('events', 'SELECT i.* FROM input AS i, pg_advisory_xact_lock_shared(1)',
    partitions => '{guarded}')")
until [[ $(ask "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted") == 1 ]]; do sleep 0.05; done
[[ $(ask "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'guarded'::regclass AND tgname LIKE 'partbackfill%'") == 2 ]] ||
    fail "the partition is not watched"

declare -A shift=([guarded]="0 month" [bare]="1 month")
say
say "run  partition   seconds   WAL MB"
for ((run = 0; run <= runs; run++)); do
    # Neither always comes after the other's VACUUM.
    if ((run % 2)); then order=(guarded bare); else order=(bare guarded); fi
    for partition in "${order[@]}"; do
        echo "INSERT INTO events SELECT id, '2024-01-01'::timestamptz + interval '${shift[$partition]}' + (at - '2024-01-01'), kind, payload
              FROM input WHERE at < '2024-01-29';" >"$scratch/insert.sql"
        measure "$scratch/insert.sql"
        ask "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM $partition; COMMIT" >/dev/null
        ask "VACUUM $partition" >/dev/null
        # The first is to warm up.
        if ((run > 0)); then
            printf '%3d  %-9s %9s %8s\n' "$run" "$partition" "$seconds" "$wal"
            echo "$seconds" >>"$scratch/$partition.seconds"
        fi
    done
done
[[ $(ask "SELECT count(*) > 0 FROM backfill_write WHERE job = $job") == t ]] || fail "no write was noticed"
kill -TERM -- "-$gate"
wait "$gate" 2>/dev/null || true

# What else runs on the machine makes a run longer, never shorter: the least disturbed ones are compared.
least() { sort -n "$scratch/$1.seconds" | head -n 1; }
say
printf '     least of %d: bare %.2f s, guarded %.2f s; median: %.2f s, %.2f s\n' "$runs" "$(least bare)" "$(least guarded)" \
    "$(median <"$scratch/bare.seconds")" "$(median <"$scratch/guarded.seconds")"
compare "time  INSERT into a guarded / an unguarded leaf" "$(least guarded)" "$(least bare)" 1.15

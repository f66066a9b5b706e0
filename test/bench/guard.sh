#!/usr/bin/env bash
# What it costs writers that a partition's writes are captured: by on_write => 'rebuild', which notes that there was a write, by
# 'catch_up', which notes the key of each row, and by the trigger and the log of pg_repack, which notes the whole row, against
# none. BENCH_ROWS rows are inserted, updated and deleted in one statement each, and BENCH_TRANSACTIONS transactions of one client
# update a row each, none of which waits for the disk, which would hide what it costs; in turn, in an order that is another one in each of BENCH_RUNS runs. Two jobs stand in their sources all the while.
# pg_repack is left out where Debian's package cannot be had.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-1000000}
transactions=${BENCH_TRANSACTIONS:-20000}
runs=${BENCH_RUNS:-3}
ways=(none rebuild catch_up)
writes=(insert single update delete)
declare -A title=(
    [insert]="INSERT of $rows rows"
    [single]="$transactions UPDATEs of a row"
    [update]="UPDATE of $rows rows"
    [delete]="DELETE of $rows rows"
)

# Unpacks the package into the throw-away installation only.
get_repack() {
    local package=postgresql-$pg_major-repack from=$scratch/repack
    mkdir "$from"
    (cd "$from" && apt-get download "$package" && dpkg -x "$package"_*.deb .) >"$scratch/repack.log" 2>&1 || return 1
    find "$from" -name pg_repack.so -exec cp -t "$scratch/root$("$PG_CONFIG" --pkglibdir)" {} +
    find "$from" -path '*/extension/*' -type f -exec cp -t "$scratch/root$("$PG_CONFIG" --sharedir)/extension" {} +
    sql -c "CREATE EXTENSION pg_repack" 2>>"$scratch/repack.log"
}

# Makes the trigger and the log from the statements that pg_repack would run, by its own view of them.
capture_by_repack() {
    sql -o /dev/null <<'SQL'
SELECT unnest(ARRAY[create_pktype, create_log, create_trigger, enable_trigger])
FROM repack.tables WHERE relid = 'repack_1'::regclass
\gexec
SQL
}

triggers() { ask "SELECT count(*) FROM pg_trigger WHERE tgrelid = '$1_1'::regclass AND (tgname LIKE 'partbackfill%' OR tgname LIKE 'repack%')"; }

# Writes the statements of a kind of write to a table into a file.
script() {
    case $1 in
    insert) echo "INSERT INTO $2 SELECT * FROM input;" ;;
    update) echo "UPDATE $2 SET amount = amount + 1, kind = 'checked';" ;;
    delete) echo "DELETE FROM $2;" ;;
    single)
        echo "\\set id random(1, $rows)"
        echo "UPDATE $2 SET amount = amount + 1, kind = 'checked' WHERE id = :id;"
        ;;
    esac >"$scratch/script.sql"
}

write() {
    script "$1" "$2"
    case $1 in
    single) measure_command env PGOPTIONS="-c synchronous_commit=off" pgbench -n -M prepared -c 1 -t "$transactions" --random-seed=1 -f "$scratch/script.sql" "$PGDATABASE" ;;
    *) measure "$scratch/script.sql" ;;
    esac
}

start_bench_cluster
say "Making $rows rows to insert ..."
run_child sql -o /dev/null -v rows="$rows" -f "$checkout/test/bench/guard.sql"
if get_repack && capture_by_repack; then
    ways+=(repack)
else
    say "The package postgresql-$pg_major-repack cannot be had or does not work here: pg_repack is left out ($(tail -n 1 "$scratch/repack.log"))."
fi
close_gate
for on_write in rebuild catch_up; do
    ask "SELECT backfill_start('$on_write', 'SELECT * FROM input WHERE $gate_condition', on_write => '$on_write')" >/dev/null
done
await_at_gate 2
[[ "$(triggers none) $(triggers rebuild) $(triggers catch_up)" == "0 2 2" ]] || fail "the partitions are not watched as they should be"

say
printf '%3s  %-24s %-10s %9s %10s %8s\n' run "" capture seconds processor "WAL MB"
for ((run = 0; run < runs; run++)); do
    for ((i = 0; i < ${#ways[@]}; i++)); do
        way=${ways[(i + run) % ${#ways[@]}]}
        for write in "${writes[@]}"; do
            write "$write" "$way"
            printf '%3d  %-24s %-10s %9s %10s %8s\n' $((run + 1)) "${title[$write]}" "$way" "$seconds" "$cpu" "$wal"
            for measured in seconds cpu wal; do echo "${!measured}" >>"$scratch/$write.$way.$measured"; done
        done
        # A build's snapshot keeps dead rows from VACUUM.
        ask "TRUNCATE $way" >/dev/null
    done
done
[[ $(ask "SELECT count(*) > 0 FROM backfill_write WHERE partition = 'rebuild_1'::regclass") == t ]] || fail "no write was noticed"
log=$(ask "SELECT oid::regclass FROM pg_class WHERE relname = 'partbackfill_keys_' || 'catch_up_1'::regclass::oid")
[[ $(ask "SELECT count(*) FROM $log") == $((runs * (3 * rows + transactions))) ]] || fail "not every key was noted"

of() { median <"$scratch/$1.$2.$3"; }
ratio() { awk -v a="$(of "$1" "$2" "$4")" -v b="$(of "$1" "$3" "$4")" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }'; }
say
say "medians of $runs, a row of $(ask "SELECT round(avg(pg_column_size(input))) FROM input") bytes; ratios to no capture"
printf '%-24s %-10s %9s %10s %8s %7s %10s %7s\n' "" capture seconds processor "WAL MB" time processor WAL
for write in "${writes[@]}"; do
    for way in "${ways[@]}"; do
        printf '%-24s %-10s %9.2f %10.2f %8.0f %7s %10s %7s\n' "${title[$write]}" "$way" "$(of "$write" "$way" seconds)" "$(of "$write" "$way" cpu)" \
            "$(of "$write" "$way" wal)" "$(ratio "$write" "$way" none seconds)" "$(ratio "$write" "$way" none cpu)" "$(ratio "$write" "$way" none wal)"
    done
done
say
compare "time  INSERT, rebuild / none" "$(of insert rebuild seconds)" "$(of insert none seconds)" 1.15
if [[ ${ways[-1]} == repack ]]; then
    for write in "${writes[@]}"; do
        compare "time  ${title[$write]}, catch_up / repack" "$(of "$write" catch_up seconds)" "$(of "$write" repack seconds)" 1
        compare "WAL   ${title[$write]}, catch_up / repack" "$(of "$write" catch_up wal)" "$(of "$write" repack wal)" 1
    done
fi

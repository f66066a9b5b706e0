#!/usr/bin/env bash
# Tables of different shapes, rebuilt by hand, by CREATE TABLE AS with indexes afterwards, the same with ANALYZE, and by partbackfill:
# time, processor time and WAL of the extension against those of the others, as the table of docs/performance.md. BENCH_SCALE (100, percent) and BENCH_RUNS (3)
# change the size, BENCH_SHAPES names some of them.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

runs=${BENCH_RUNS:-3}
read -r -a shapes <<<"${BENCH_SHAPES:-aggregate fdw wide indexes gin columns}"
declare -A title=(
    [aggregate]="a GROUP BY of ten rows each"
    [fdw]="a source through postgres_fdw"
    [wide]="rows of 2 to 20 kB, out of line"
    [indexes]="ten indexes"
    [gin]="GIN on jsonb"
    [columns]="200 columns"
)

start_bench_cluster
say "Making the tables ..."
run_child sql -o /dev/null -v scale="${BENCH_SCALE:-100}" -v socket="$PGHOST" -v database="$PGDATABASE" -f "$checkout/test/bench/shapes.sql"

# script WAY SHAPE: writes the statements to a file.
script() {
    case $1 in
    by_hand | create_table_as | analyzed) ask "SELECT $1('$2')" | sed 's/$/;/' ;;
    partbackfill)
        cat <<SQL
SELECT backfill_start('$2.t', '$2.source', delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job) AS state \gset
SELECT 1 / (:'state' = 'done')::int;
SQL
        ;;
    esac >"$scratch/$1.sql"
}

of() { median <"$scratch/$1.$2.$3"; }
ratio() { awk -v a="$(of "$1" partbackfill "$3")" -v b="$(of "$1" "$2" "$3")" 'BEGIN { printf "%.2f", a / b }'; }

for shape in "${shapes[@]}"; do
    rows=$(ask "SELECT count(*) FROM $shape.t")
    for ((run = 1; run <= runs; run++)); do
        for way in by_hand create_table_as analyzed partbackfill; do
            script "$way" "$shape"
            measure "$scratch/$way.sql"
            say "$(printf '%-10s %-16s %7s s %7s s of processors %6s MB of WAL' "$shape" "$way" "$seconds" "$cpu" "$wal")"
            for measured in seconds cpu wal; do echo "${!measured}" >>"$scratch/$shape.$way.$measured"; done
            sql -c "SET client_min_messages = warning" -c "DROP TABLE IF EXISTS $shape.t_0_new, $shape.t_1_new"
            [[ $(ask "SELECT count(*) FROM $shape.t") == "$rows" ]] || fail "$way lost rows of $shape"
        done
    done
done
say
echo "| shape | time / by hand | time / CREATE TABLE AS | and ANALYZE | processor / CREATE TABLE AS | and ANALYZE | WAL / by hand |"
echo "|---|---|---|---|---|---|---|"
for shape in "${shapes[@]}"; do
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "${title[$shape]}" "$(ratio "$shape" by_hand seconds)" \
        "$(ratio "$shape" create_table_as seconds)" "$(ratio "$shape" analyzed seconds)" \
        "$(ratio "$shape" create_table_as cpu)" "$(ratio "$shape" analyzed cpu)" "$(ratio "$shape" by_hand wal)"
done

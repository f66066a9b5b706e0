#!/usr/bin/env bash
# What a reader of single rows feels of a backfill of 24 partitions, and how long it takes, while an analyst keeps a
# transaction that has read the table open for 5 s, again and again, with a pause of 1 s, and two sessions read it at the
# end of REPEATABLE READ transactions that are seconds old by then: the longest read, by each method and by hand. By
# 'storage' once more for a reader of another partition, who is compared to one of another table: he, too, shares the
# machine with the builds.
# BENCH_ROWS are the rows of a partition. With gnuplot the reads over time are drawn, to build/stall.svg or where BENCH_FIGURE says.
set -euo pipefail
# shellcheck source=measure.sh
source "$(dirname "${BASH_SOURCE[0]}")/measure.sh"

rows=${BENCH_ROWS:-50000}
partitions=24
lock_timeout=100 # ms, the default

start_bench_cluster
say "Making $partitions partitions of $rows rows ..."
run_child sql -q -o /dev/null -v rows="$rows" -v partitions=$partitions -f "$checkout/test/bench/stall.sql"
cat >"$scratch/analyst.pgbench" <<'END'
BEGIN;
SELECT count(*) FROM events;
\sleep 5 s
COMMIT;
\sleep 1 s
END
cat >"$scratch/repeatable.pgbench" <<'END'
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM pg_class;
\sleep 3 s
\set id random(0, :rows - 1)
SELECT kind FROM events WHERE id = :id AND at = :id;
COMMIT;
END
cat >"$scratch/point.pgbench" <<'END'
\set id random(:low, :high - 1)
SELECT kind FROM events WHERE id = :id AND at = :id;
END

# job TABLE METHOD
job() {
    local job state
    job=$(ask "SELECT backfill_start('$1', 'SELECT id, at, kind + 1 AS kind, payload FROM $1', range_end => '$((partitions * rows))',
        swap => '$2', delay => '0', keep_old => false)")
    state=$(ask "SELECT backfill_wait($job)")
    [[ $state == "done" ]] || fail "the job ended as $state"
}
by_hand() {
    run_child sql -o /dev/null -v rows="$rows" -v partitions=$partitions -v script="$scratch/by_hand.sql" -f "$checkout/test/bench/stall_by_hand.sql"
}

# stall NAME LOW HIGH COMMAND...: the command beside a reader of rows from LOW to HIGH; sets longest and usual (99.9 %), in
# milliseconds.
stall() {
    local name=$1 low=$2 high=$3 began
    shift 3
    rm -f "$scratch"/point.[0-9]*
    start_client -c 1 -f "$scratch/analyst.pgbench"
    start_client -c 2 -D "rows=$((partitions * rows))" -f "$scratch/repeatable.pgbench"
    start_client -c 1 -R 200 -D "low=$low" -D "high=$high" -f "$scratch/point.pgbench" --log --log-prefix="$scratch/point"
    began=$(date +%s%N)
    "$@"
    seconds=$(awk -v ns="$(($(date +%s%N) - began))" 'BEGIN { printf "%.1f", ns / 1e9 }')
    end_clients
    # The longest read of each tenth of a second, by the seconds since the beginning. A read is in the log when it ends.
    awk -v began="$began" '{ at = $5 + $6 / 1e6 - began / 1e9; slot = int(at * 10); ms = $3 / 1000
                             if (at >= 0 && ms > longest[slot]) longest[slot] = ms; if (slot > last) last = slot }
        END { for (slot = 0; slot <= last; slot++) if (slot in longest) print slot / 10, longest[slot] }' \
        "$scratch"/point.[0-9]* >"$scratch/$name.over_time"
    awk '{ print $3 / 1000 }' "$scratch"/point.[0-9]* | sort -n >"$scratch/reads"
    longest=$(tail -n 1 "$scratch/reads")
    usual=$(awk '{ read[NR] = $1 } END { print read[int(NR * 0.999) + 1] }' "$scratch/reads")
    awk -v name="$name" -v seconds="$seconds" '
        { read[NR] = $1; if ($1 > 50) felt++ }
        END { printf "%-44s %8s %8d %10.1f %10.1f %10.1f %8d\n", name, seconds, NR, read[int(NR / 2) + 1], read[int(NR * 0.999) + 1], read[NR], felt }
    ' "$scratch/reads"
}

all=$((partitions * rows))
say
printf '%-44s %8s %8s %10s %10s %10s %8s\n' "" seconds reads "median ms" "99.9 % ms" "longest ms" "> 50 ms"
stall "nothing" 0 $all sleep 20
stall "attach" 0 $all job events attach
attach=$longest
attach_seconds=$seconds
stall "storage" 0 $all job events storage
storage=$longest
storage_seconds=$seconds
stall "storage, a reader of another table" $all $((all + rows)) job elsewhere storage
noise=$usual
noise_longest=$longest
stall "storage, a reader of another partition" $all $((all + rows)) job events storage
other=$usual
other_longest=$longest
stall "by hand" 0 $all by_hand
hand=$longest
hand_seconds=$seconds
say
compare "seconds for all, attach / by hand" "$attach_seconds" "$hand_seconds" 1.00
compare "seconds for all, storage / by hand" "$storage_seconds" "$hand_seconds" 1.00
compare "longest read, attach / (lock_timeout + 100 ms)" "$attach" $((lock_timeout + 100)) 1.00
compare "longest read, storage / (lock_timeout + 100 ms)" "$storage" $((lock_timeout + 100)) 1.00
compare "99.9 % of reads, storage, partition / table" "$other" "$noise" 2.00
compare "longest read, storage, partition / table" "$other_longest" "$noise_longest" 2.00
awk -v hand="$hand" -v attach="$attach" 'BEGIN { printf "%-48s %5.1f\n", "longest read, by hand / attach", hand / attach }'

# The reads over time: one panel a way, on one scale.
draw() {
    local file=$1 way panel=0
    mkdir -p "$(dirname "$file")"
    {
        echo "set terminal svg size 760,540 dynamic enhanced font 'sans-serif,12' background 'white'"
        echo "set output '$file'"
        echo "set multiplot layout 3,1 title 'Longest read of a row in each tenth of a second, ms' font ',14'"
        echo "set logscale y; set yrange [0.1:10000]; set ytics (0.1, 1, 10, 100, '1 s' 1000, '10 s' 10000); set grid y"
        echo "set xrange [0:$(awk 'FNR == 1 { file++ } $1 > last { last = $1 } END { print last }' "$scratch/by hand.over_time" "$scratch/attach.over_time" "$scratch/storage.over_time")]"
        echo "set key top left Left reverse samplen 1; set lmargin 8; set tmargin 1; set bmargin 2"
        for way in "by hand" attach storage; do
            panel=$((panel + 1))
            if ((panel == 3)); then echo "set xlabel 'seconds' offset 0,0.5; set bmargin 3"; fi
            echo "plot '$scratch/$way.over_time' using 1:2 with impulses lc rgb '$([[ $way == "by hand" ]] && echo "#c0392b" || echo "#2471a3")' lw 1 title '$way'"
        done
        echo "unset multiplot"
    } >"$scratch/stall.gnuplot"
    gnuplot "$scratch/stall.gnuplot"
    say "The reads over time: $file"
}
if command -v gnuplot >/dev/null; then draw "${BENCH_FIGURE:-$checkout/build/stall.svg}"; fi

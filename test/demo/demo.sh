#!/usr/bin/env bash
# Corrects three years of events while four readers read them, and proves what is claimed. Needs a minute or two and
# about 6 GB below TMPDIR; DEMO_ROWS is the number of events a month.
set -euo pipefail
# shellcheck source=../setup/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/../setup/cluster.sh"

demo=$checkout/test/demo
rows=${DEMO_ROWS:-80000}
# A backfill of 2.9 million rows takes well under a minute; one that never ends must not hold a terminal forever.
patience=$((90 + rows * 36 / 20000))

choose_server
make_scratch
# shellcheck source=readers.sh
source "$demo/readers.sh"
# shellcheck source=show.sh
source "$demo/show.sh"
need_space $((1000 + rows * 36 / 600))

title "partbackfill: three years of events corrected while they are read"
say "Building the extension and starting a throw-away PostgreSQL $pg_major ..."
make_installation
build_extension || fail "the extension could not be built"
# Durability off for the loading of the data only.
start_cluster shared_buffers=256MB max_wal_size=4GB fsync=off

heading "The data"
say "Making 36 months of $(thousands "$rows") events each ..."
load() { psql -Xq -v ON_ERROR_STOP=1 -v rows="$rows" "$@"; }
load -f "$demo/schema.sql"
start_child load -v first=0 -v last=17 -f "$demo/load.sql"
first_half=$child
run_child load -v first=18 -v last=35 -f "$demo/load.sql"
wait "$first_half"
run_child load -f "$demo/indexes.sql"
load -c "ALTER SYSTEM SET fsync = on" -c "SELECT pg_reload_conf()" -c "CREATE EXTENSION partbackfill" >/dev/null
sync -f "$scratch"
run_child load -c CHECKPOINT
show "SELECT count(*) AS partitions,
       sum(reltuples)::bigint AS rows,
       pg_size_pretty(sum(pg_total_relation_size(oid))) AS size
FROM pg_class WHERE oid IN (SELECT relid FROM pg_partition_tree('events') WHERE isleaf)"

heading "The mistake: pence were taken for pounds"
show "SELECT currency, count(*) AS events, round(avg(amount), 2) AS average
FROM events GROUP BY currency ORDER BY currency"
say "The corrected transformation is a view:"
view=$(ask "SELECT pg_get_viewdef('recompute_source', true)")
show_statement "CREATE VIEW recompute_source AS"$'\n'"$view"
count_before=$(ask "SELECT count(*) FROM events")
wrong_before=$(load -At -f "$demo/wrong.sql")
definition() { pg_dump --schema-only --table='public.events*' | grep -vE '^\\(un)?restrict '; }
definition >"$scratch/definition_before"

heading "The readers"
say "$readers sessions, $reads_per_second reads a second: whole months, each compared with the two figures it may have,"
say "the old and the new; and single events by key, which must always be there."
start_readers
sleep 6

heading "The backfill"
lsn_before=$(ask "SELECT pg_current_wal_insert_lsn()")
began=$(now)
statement="SELECT backfill_start('events', 'recompute_source', delay => '50 ms')"
show_statement "$statement"
job=$(ask "$statement")
follow "$job" "$patience"
ended=$(now)
lsn_after=$(ask "SELECT pg_current_wal_insert_lsn()")
# Readers go on for a while, over the new partitions only.
sleep 3
well=no
if readers_are_well; then well=yes; fi
stop_readers

heading "The proof"
count_after=$(ask "SELECT count(*) FROM events")
wrong_after=$(load -At -f "$demo/wrong.sql")
partial=$(ask "SELECT count(*) FROM partial_reads")
proof "rows before and after" "$(thousands "$count_before") / $(thousands "$count_after")" \
    test "$count_before" = "$count_after"
proof "wrong rows before" "$(thousands "$wrong_before")" test "$wrong_before" -gt 0
proof "wrong rows after" "$(thousands "$wrong_after")" test "$wrong_after" = 0
proof "partial, empty or mixed reads" "$partial" test "$partial" = 0
proof "all readers still reading" "$well" test "$well" = yes
if [[ $well == no ]]; then tail -n 5 "$readers_log/output"; fi
say
# Before: from a second after they connected.
quiet=$(awk -v began="$began" 'BEGIN { printf "%.3f", began - 5 }')
show_latencies "months" 0 "$quiet" "$began" "$ended"
show_latencies "events by key" 1 "$quiet" "$began" "$ended"
say
show "SELECT round(extract(epoch FROM finished_at - started_at)::numeric, 1) AS seconds, rows, rows_per_second,
       pg_size_pretty(pg_wal_lsn_diff('$lsn_after', '$lsn_before')) AS wal_written
FROM backfill_status WHERE job = $job"
show "SELECT max(locked_for) AS longest_lock, sum(locked_for) AS all_locks, max(lock_wait) AS longest_wait
FROM backfill_progress WHERE job = $job"

heading "What was changed"
show "SELECT partition, old_rows, changed, only_old, only_new, changed_columns
FROM backfill_diff($job, 'events_2024_02')"
show "SELECT kind, key, old, new FROM backfill_diff_rows($job, 'events_2024_02', 3)"

heading "A partition undone, and done again"
show "SELECT backfill_revert($job, 'events_2024_02')"
show "SELECT partition, state, locked_for FROM backfill_progress WHERE job = $job AND state = 'reverted'"
back=$(ask "SELECT count(*) = (SELECT old_rows FROM backfill_diff($job, 'events_2024_02')) FROM events_2024_02")
proof "its old rows are there" "$back" test "$back" = t
show "SELECT backfill_revert($job, 'events_2024_02')"

heading "Afterwards"
say "The old partitions are kept, out of the way, until somebody says so:"
old="backfill_${job}_old"
kept=$(ask "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('$old') AND relkind = 'r'")
proof "old partitions in schema $old" "$kept" test "$kept" = 36
show "SELECT backfill_purge($job)"
left=$(ask "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('$old')")
proof "old partitions left" "$left" test "$left" = 0
definition >"$scratch/definition_after"
same=no
if diff "$scratch/definition_before" "$scratch/definition_after" >"$scratch/definition_diff"; then same=yes; fi
proof "pg_dump --schema-only as before" "$same" test "$same" = yes
head -n 20 "$scratch/definition_diff"

say
if ((failed_proofs > 0)); then fail "$failed_proofs proof(s) failed"; fi
say "Everything above held."

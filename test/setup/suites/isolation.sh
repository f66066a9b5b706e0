#!/usr/bin/env bash
# The isolation specs: test/isolation/specs/*.spec against test/isolation/expected/*.out, in one database that has
# the extension.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

input=$checkout/test/isolation
output=$scratch/isolation
mkdir -p "$output"

specs=()
for spec in "$input"/specs/*.spec; do
    specs+=("$(basename "$spec" .spec)")
done

# Since version 16 the expected output is not looked for beside the input.
directories=(--inputdir="$input" --outputdir="$output")
if ((pg_major >= 16)); then directories+=(--expecteddir="$input"); fi

status=0
"$(dirname "$("$PG_CONFIG" --pgxs)")/../test/isolation/pg_isolation_regress" \
    --bindir="$bindir" --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=isolation_regression \
    --load-extension=partbackfill \
    "${directories[@]}" "${specs[@]}" >"$output/log" 2>&1 || status=$?

bad=$(grep -cE '\.\.\. FAILED|^not ok' "$output/log" || true)
good=$(grep -cE '\.\.\. ok|^ok ' "$output/log" || true)
if ((status != 0 && bad == 0)); then bad=1; fi
count "$good" "$bad"
if ((bad == 0)); then
    say "  ok      $good specs"
else
    say "  FAILED  $bad of $((good + bad)) specs"
    show_log "$output/log" "pg_isolation_regress"
    show_log "$output/regression.diffs"
fi
((failed == 0))

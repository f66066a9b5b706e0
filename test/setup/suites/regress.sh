#!/usr/bin/env bash
# The regression scripts: sql/*.sql against expected/*.out, in the order of test/regress_schedule.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

# What sql/boundary.sql calls. Its objects go with the scratch directory; the extension's are there already.
cp -r "$checkout/test/boundary" "$scratch/boundary"
sed -i -e "s#\.\./\.\./#$checkout/#g" -e "s#\.\./\.\.\$#${build:?}#" "$scratch/boundary/Makefile"
make -C "$scratch/boundary" install "PG_CONFIG=$PG_CONFIG" "DESTDIR=$scratch/root" >"$scratch/boundary.log" 2>&1 || {
    cat "$scratch/boundary.log"
    exit 1
}

schedule=$checkout/test/regress_schedule
output=$scratch/regress
mkdir -p "$output"

# A script that no schedule names would look tested.
while IFS= read -r script; do
    name=$(basename "$script" .sql)
    if ! grep -qE "^test:(.* )?$name( |\$)" "$schedule"; then
        say "  FAILED  $name: not in $(basename "$schedule")"
        count 0 1
    fi
done < <(find "$checkout/sql" -name '*.sql' ! -name 'partbackfill--*' | sort)

# Since version 16 the expected output is not looked for beside the input.
directories=(--inputdir="$checkout" --outputdir="$output")
if ((pg_major >= 16)); then directories+=(--expecteddir="$checkout"); fi

status=0
"$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress" \
    --bindir="$bindir" --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=regression \
    "${directories[@]}" --schedule="$schedule" >"$output/log" 2>&1 || status=$?

# Before version 16 it says "test name ... ok", since then "ok 1 - name".
lines=$(grep -E '^(test |     )[a-z0-9_]+ +\.\.\. |^(not )?ok [0-9]+ ' "$output/log" || true)
bad=$(grep -cE '\.\.\. FAILED|^not ok' <<<"$lines" || true)
good=$(grep -cE '\.\.\. ok|^ok ' <<<"$lines" || true)
if ((status != 0 && bad == 0)); then bad=1; fi
count "$good" "$bad"
if ((bad == 0)); then
    say "  ok      $good scripts"
else
    say "  FAILED  $bad of $((good + bad)) scripts"
    show_log "$output/log" "pg_regress"
    show_log "$output/regression.diffs"
fi
((failed == 0))

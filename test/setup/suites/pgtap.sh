#!/usr/bin/env bash
# The pgTAP scripts, each in a database of its own: a job that one leaves behind must not be seen by the next. The
# database has the extension pgtap; partbackfill is for the script to create, in the schema it likes.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

for script in "$checkout"/test/pgtap/*.sql; do
    name=$(basename "$script" .sql)
    # Included by others.
    [[ $name != _* ]] || continue
    log=$scratch/pgtap_$name.log
    status=0
    psql -Xq -c "CREATE DATABASE $name" && psql -Xq -d "$name" -c "CREATE EXTENSION pgtap" >"$log" 2>&1 &&
        pg_prove --verbose --dbname "$name" "$script" >"$log" 2>&1 || status=$?
    count_tap "$name" "$log" "$status"
    psql -Xq -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" >>"$log" 2>&1 || true
done
((failed == 0))

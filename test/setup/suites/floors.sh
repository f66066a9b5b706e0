#!/usr/bin/env bash
# The floors of the code: a file includes only its own floor or a lower one, and the pure floors name no header of
# the server. Nothing else says so before the day somebody wants to test core without a server. And its doors: whatever
# the server calls pins search_path before it looks up a name.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

cd "$checkout"

# Prints file:line:directive for every include.
list_includes() {
    find src include/partbackfill \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' \) -print0 2>/dev/null |
        xargs -0 -r grep -nHE '^[[:space:]]*#[[:space:]]*include' || true
}

check_floors() { report "$1" "$(list_includes | awk -v want="$2" -f test/setup/suites/floors.awk)"; }

# Prints file:line: why for every way past include/partbackfill/pg/entry.hpp and pg::Transaction.
list_passers() {
    find src include/partbackfill \( -name '*.cpp' -o -name '*.hpp' \) -print0 | sort -z |
        xargs -0 awk -f test/setup/suites/entries.awk
}

report() {
    local title=$1 found=$2
    if [[ -z $found ]]; then
        say "  ok      $title"
        count 1 0
    else
        say "  FAILED  $title"
        say "$found"
        count 0 1
    fi
}

check_floors "no floor includes a higher one" order
check_floors "core and job include no server header" pure
report "every entry pins search_path" "$(list_passers)"
((failed == 0))

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

# Prints the files of more than 400 lines. The extension's script is one by the server's rules, outputs are not written.
list_long_files() {
    find src include test sql -type f \( -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.sql' -o -name '*.p[lm]' \
        -o -name '*.sh' -o -name '*.awk' -o -name '*.spec' \) ! -name 'partbackfill--*.sql' -exec wc -l {} + |
        awk '$1 > 400 && $2 != "total" { print $2 ": " $1 " lines" }' | sort
}

# Prints the rooms that are more than a fifth of the house.
list_large_rooms() {
    find src include/partbackfill \( -name '*.cpp' -o -name '*.hpp' \) -exec grep -c '' {} + | awk -F: '
        { room = $1; sub(/^(src|include\/partbackfill)\//, "", room); sub(/\/?[^\/]*$/, "", room) }
        { lines[room] += $2; all += $2 }
        END { for (room in lines) if (lines[room] * 5 > all) print room ": " lines[room] " of " all " lines" }'
}

list_wide_headers() { find include -name '*.hpp' -print0 | sort -z | xargs -0 awk -v most=15 -f test/setup/suites/declarations.awk; }

list_version_tests() {
    grep -rnw PG_VERSION_NUM src include --include='*.[ch]pp' | grep -vE '^(src|include/partbackfill)/pg/' || true
}

# Prints the number of each directory's scripts that two of them have.
list_shared_numbers() { find test -name '[0-9]*_*.pl' | sed 's/_[^/]*$//' | sort | uniq -d; }

# What the docs name and is not there: paths in backquotes, and what links point at, from where the document is.
list_missing_paths() {
    local document path
    for document in ./*.md docs/*.md; do
        # shellcheck disable=SC2016
        grep -oE '`(src|include|test|docs|sql|expected)/[A-Za-z0-9_./-]+`' "$document" | tr -d '`' | sort -u |
            while read -r path; do
                [[ -e $path ]] || echo "$document: $path"
            done
        grep -oE '\]\([A-Za-z0-9_./-]+\)' "$document" | sed 's/^](//; s/)$//' | sort -u |
            while read -r path; do
                [[ -e $(dirname "$document")/$path ]] || echo "$document: $path"
            done
    done
}

# Messages that the list of diagnostics lacks, or has and the code has not.
list_other_messages() {
    # shellcheck disable=SC2016
    diff <(perl test/setup/suites/messages.pl | LC_ALL=C sort) \
        <(sed '/^## What a job waits for/,$d' docs/diagnostics.md | sed -n 's/^| `\([^`]*\)` |.*/\1/p' | grep -v '^hazards$' | LC_ALL=C sort -u) |
        sed -n 's/^< /not in docs\/diagnostics.md: /p; s/^> /not in the code: /p'
}

# Comments whose subject is not in the sentence, or that name no role.
list_vague_comments() {
    grep -rniwE --include='*.?pp' '//.*(whoever|somebody|nobody|anybody|someone|everybody)' src include || true
    grep -rnE --include='*.?pp' '^ *// (The same|Its|That|Those) ' src include || true
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
report "no file has more than 400 lines" "$(list_long_files)"
report "no room is more than a fifth of the house" "$(list_large_rooms)"
report "no header declares more than 15 functions" "$(list_wide_headers)"
report "only pg knows the server's version" "$(list_version_tests)"
report "each test script has a number of its own" "$(list_shared_numbers)"
report "comments name their subjects" "$(list_vague_comments)"
report "what the docs name is there" "$(list_missing_paths)$(perl test/setup/suites/links.pl)"
report "the diagnostics are those of the code" "$(list_other_messages)"
report "META.json is valid, and all name one version" "$(perl test/setup/suites/metadata.pl)"
((failed == 0))

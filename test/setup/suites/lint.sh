#!/usr/bin/env bash
# What reads the code without running it, a check for each tool. LINTERS="clang_format shellcheck" selects.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

cd "$checkout"

# in_parallel [-n COUNT] COMMAND...: runs it on the names that it reads, each ended by a zero.
in_parallel() { xargs -0 -r -P "$(nproc)" "$@"; }

lint_clang_format() {
    find src include test \( -name '*.cpp' -o -name '*.hpp' -o -name '*.c' \) -print0 |
        xargs -0 clang-format --dry-run --Werror
}

# The units are those of CMake's compilation database; .clang-tidy has the checks, and why others are left out.
lint_clang_tidy() {
    cmake -S . -B build/lint -DPG_CONFIG="$PG_CONFIG" >/dev/null
    sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' build/lint/compile_commands.json | sort -u | tr '\n' '\0' |
        in_parallel -n 1 clang-tidy -p build/lint --quiet 2> >(grep -v 'warnings\{0,1\} generated\.$' >&2)
}

# Without the server's headers, so that macros of theirs stand unexpanded.
lint_cppcheck() {
    cppcheck --quiet -j "$(nproc)" --error-exitcode=1 --std=c++20 --language=c++ --library=googletest \
        --enable=warning,performance,portability --inline-suppr --suppressions-list=test/setup/suites/cppcheck.txt \
        -Iinclude src include test
}

lint_shellcheck() { find .ci/run contrib test -name run -print0 -o -name '*.sh' -print0 | xargs -0 shellcheck; }

list_perl() { find test \( -name '*.pl' -o -name '*.pm' \) -print0; }

lint_perltidy() { list_perl | in_parallel -n 1 perltidy --assert-tidy --standard-output --standard-error-output >"$scratch/tidied"; }

# Into memory: compiled files would stay beside the sources.
lint_python() {
    find contrib test \( -name '*.py' -o -path test/schedulers/dbt \) -print0 |
        in_parallel -n 1 /usr/bin/python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")'
}

lint_perl() {
    local modules
    modules=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/perl
    list_perl | in_parallel -n 1 perl -I "$modules" -I test/t -I test/fuzz -c
}

for linter in ${LINTERS:-clang_format clang_tidy cppcheck shellcheck perltidy perl python}; do
    log=$scratch/lint_$linter.log
    status=0
    "lint_$linter" >"$log" 2>&1 || status=$?
    verdict "$status" "$linter"
    if ((status != 0)); then show_log "$log"; fi
done
((failed == 0))

# What the suites have in common: each is a script of its own that prints a line a test, shows the log of what
# failed and writes its two sums to the file that $tally_file names. Sourced.
# shellcheck shell=bash

# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# Exported by check.sh; the last two only for the suites that need the server.
: "${scratch:?}" "${pg_major:?}" "${tally_file:?}" "${bindir=}" "${server_log=}"

# Printed instead of a whole log that nobody would read.
readonly log_lines=200

passed=0
failed=0

# The sums stand in the file at any time, so that a suite that is interrupted has reported what it did.
write_tally() { echo "$passed $failed" >"$tally_file"; }

count() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    write_tally
}

# verdict STATUS TITLE: one check.
verdict() {
    if (($1 == 0)); then
        say "  ok      $2"
        count 1 0
    else
        say "  FAILED  $2"
        count 0 1
    fi
}

show_log() {
    local log=$1
    [[ -s $log ]] || return 0
    say "----- ${2:-$(basename "$log")} (last $log_lines lines)"
    tail -n "$log_lines" "$log"
    say "-----"
}

# count_tap TITLE LOG STATUS: counts the top-level lines of a TAP log. A script that ends badly without a failed
# test (it died, or its plan was not met) is one failure.
count_tap() {
    local title=$1 log=$2 status=$3 good bad skipped
    good=$(grep -c '^ok [0-9]' "$log" || true)
    bad=$(grep '^not ok [0-9]' "$log" | grep -vc '# TODO' || true)
    if ((status != 0 && bad == 0)); then bad=1; fi
    count "$good" "$bad"
    skipped=$(sed -n 's/.*\.\. skipped: //p' "$log")
    if ((bad == 0)) && [[ -n $skipped ]]; then
        say "  skipped $title: $skipped"
    elif ((bad == 0)); then
        say "  ok      $title ($good)"
    else
        say "  FAILED  $title ($bad of $((good + bad)))"
        show_log "$log"
    fi
}

# run_installcheck OUTPUT TITLE DIRECTORY VARIABLE...: `make installcheck` on the throw-away server, with those variables
# of make; counts its regression scripts or isolation specs. Their results are below $scratch.
run_installcheck() {
    local output=$scratch/$1 title=$2 directory=$3 status=0 results good bad
    shift 3
    mkdir -p "$output"
    make -C "$directory" installcheck "PG_CONFIG=$bindir/pg_config" "EXTRA_REGRESS_OPTS=--outputdir=$output" "$@" \
        >"$output/log" 2>&1 || status=$?

    # Before version 16 it says "test name ... ok", since then "ok 1 - name".
    results=$(grep -E '^test [a-z0-9_]+ +\.\.\. |^(not )?ok [0-9]+ ' "$output/log" || true)
    bad=$(grep -cE '\.\.\. FAILED|^not ok' <<<"$results" || true)
    good=$(grep -cE '\.\.\. ok|^ok ' <<<"$results" || true)
    if ((status != 0 && bad == 0)); then bad=1; fi
    count "$good" "$bad"
    if ((bad == 0)); then
        say "  ok      $good $title"
    else
        say "  FAILED  $bad of $((good + bad)) $title"
        show_log "$output/log" "make installcheck"
        show_log "$output/regression.diffs"
    fi
}

# count_crashes TITLE LOG...: a crash is a failure of what ran then, which may have noticed nothing.
count_crashes() {
    local title=$1 crashes
    shift
    crashes=$(crashes_in "$@")
    [[ -n $crashes ]] || return 0
    count 0 1
    say "  FAILED  $title (a process of the server crashed)"
    head -n 60 <<<"$crashes"
}

write_tally

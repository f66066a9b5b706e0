#!/usr/bin/env bash
# The check with SANITIZE=1, of what does most in little time: all that is not slow, scripts in which workers die and
# partitions are swapped in both ways, and beside that the fuzzers. SANITIZE=1 SUITES=tap check.sh runs all scripts.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
# shellcheck source=../scratch.sh
source "$checkout/test/setup/scratch.sh"

# What it starts must not outlive it; its own files are the run's.
trap 'signal_children TERM' EXIT
trap 'exit 143' TERM INT HUP

export SANITIZE=1 TAP_LANES=1 BACKFILL_FAULT_ROUNDS=${BACKFILL_FAULT_ROUNDS:-6}

# start_check NAME SUITES
start_check() {
    SUITES=$2 start_child "$checkout/test/setup/check.sh" >"$scratch/sanitized_$1.log" 2>&1
}

# end_check NAME PROCESS: counts what it has counted.
end_check() {
    local log=$scratch/sanitized_$1.log status=0 good bad
    wait "$2" || status=$?
    grep -vE '^([0-9]+ passed, [0-9]+ failed|build |sanitizer$|  ok      (build|the library is|.* is found|exceptions))' "$log" || true
    read -r good bad <<<"$(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log")" || true
    if ((status != 0 && ${bad:-0} == 0)); then bad=1; fi
    count "${good:-0}" "${bad:-1}"
}

# The first builds, so that the others need not.
start_check build sanitizer
end_check build "$child"
((failed == 0)) || exit 1
export TAP_SCRIPTS="003_plans 030_control 036_random_faults"
start_check suites "regress pgtap isolation tap"
suites_child=$child
start_check fuzz fuzz
fuzz_child=$child
end_check suites "$suites_child"
end_check fuzz "$fuzz_child"
((failed == 0))

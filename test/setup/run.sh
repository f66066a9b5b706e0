#!/usr/bin/env bash
# Runs one goal of the Makefile that needs more than a compiler: check, check-all, lint, stress, demo, bench, or deps alone.
set -euo pipefail
setup=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

goal=${1:?a goal is needed: check, check-all, lint, stress, demo, bench, deb or deps}
case $goal in
deps) exec "$setup/deps.sh" deps ;;
check-all) exec "$setup/check_all.sh" ;;
check) script=$setup/check.sh ;;
lint)
    script=$setup/check.sh
    export SUITES=lint
    ;;
stress)
    script=$setup/check.sh
    export SUITES="stress tap" STRESS_SECONDS=${STRESS_SECONDS:-600}
    export TAP_SCRIPTS=036_random_faults BACKFILL_FAULT_ROUNDS=${BACKFILL_FAULT_ROUNDS:-100}
    ;;
deb) script=$setup/deb.sh ;;
demo | bench) script=$setup/../$goal/$goal.sh ;;
*)
    echo "there is no goal \"$goal\"" >&2
    exit 2
    ;;
esac
"$setup/deps.sh" "$goal"
exec "$script"

#!/usr/bin/env bash
# The fuzzers, test/fuzz/*.pl: FUZZ_CALLS calls of our own, FUZZ_SECONDS of sqlsmith, FUZZ_SEED to repeat a run.
# FUZZ_ENCODING is of its database. FUZZ_SCRIPTS selects.
set -euo pipefail
# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

status=0
TAP_DIRECTORY=fuzz TAP_SCRIPTS=${FUZZ_SCRIPTS:-} "$checkout/test/setup/suites/tap.sh" || status=$?
# What a run was, also of one in which all went well.
sed -n 's/^# \(FUZZ_\|fuzz:\)/          \1/p' "$scratch"/tap_0*.log
exit "$status"

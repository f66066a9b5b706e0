#!/usr/bin/env bash
# Readers and writers beside jobs that rewrite everything: test/stress/stress.sh, for STRESS_SECONDS.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

if "$checkout/test/stress/stress.sh"; then
    count 1 0
    say "  ok      no anomaly, no write lost, nobody canceled"
else
    count 0 1
    say "  FAILED"
fi
((failed == 0))

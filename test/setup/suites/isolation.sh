#!/usr/bin/env bash
# The isolation specs: test/isolation/specs/*.spec against test/isolation/expected/*.out, in one database that has
# the extension.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

run_installcheck isolation "specs" "$checkout" REGRESS= TAP_TESTS=
((failed == 0))

#!/usr/bin/env bash
# The regression scripts, sql/*.sql against expected/*.out, and those of test/boundary.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

run_installcheck regress "scripts" "$checkout" ISOLATION= TAP_TESTS=

# The objects of its library go with the scratch directory; the extension's are there already.
cp -r "$checkout/test/boundary" "$scratch/boundary"
sed -i -e "s#\.\./\.\./#$checkout/#g" -e "s#\.\./\.\.\$#${build:?}#" "$scratch/boundary/Makefile"
if make -C "$scratch/boundary" install "PG_CONFIG=$PG_CONFIG" "DESTDIR=$scratch/root" >"$scratch/boundary.log" 2>&1; then
    run_installcheck regress_boundary "script of the boundary" "$scratch/boundary"
else
    say "  FAILED  build of the boundary's library"
    count 0 1
    show_log "$scratch/boundary.log"
fi
((failed == 0))

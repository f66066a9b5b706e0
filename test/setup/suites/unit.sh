#!/usr/bin/env bash
# The unit tests of the pure core: CMake, GoogleTest, no server.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

log=$scratch/unit.log
build=$checkout/build/unit

# A build directory that came along with a copied checkout still names the place it was copied from.
if [[ -f $build/CMakeCache.txt ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$checkout" "$build/CMakeCache.txt"; then
    rm -rf "$build"
fi

build_failed() {
    say "  FAILED  build of the unit tests"
    show_log "$log"
    count 0 1
    exit 1
}
cmake -S "$checkout" -B "$build" -DPG_CONFIG="$PG_CONFIG" >"$log" 2>&1 || build_failed
cmake --build "$build" --target unit_tests -j "$(nproc)" >>"$log" 2>&1 || build_failed

ctest --test-dir "$build" --output-on-failure --no-tests=error >"$log" 2>&1 || true
# "97% tests passed, 3 tests failed out of 100"
sums=$(sed -n 's/.* \([0-9]*\) tests\{0,1\} failed out of \([0-9]*\)$/\1 \2/p' "$log")
if [[ -z $sums ]]; then build_failed; fi
read -r bad all <<<"$sums"
count $((all - bad)) "$bad"
if ((bad == 0)); then
    say "  ok      $all tests"
else
    say "  FAILED  $bad of $all tests"
    show_log "$log"
    exit 1
fi

#!/usr/bin/env bash
# clang-tidy over all of src, with the compilation database that CMake writes.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=server.sh
source "$checkout/test/setup/server.sh"
choose_server
cmake -S "$checkout" -B "$checkout/build/tidy" -DPG_CONFIG="$PG_CONFIG" >/dev/null
cmake --build "$checkout/build/tidy" --target tidy

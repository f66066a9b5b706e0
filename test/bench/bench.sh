#!/usr/bin/env bash
# Runs one benchmark: BENCH=ways (three ways to rebuild the same partitions), BENCH=memory or BENCH=guard.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bench=${BENCH:-ways}
case $bench in
ways | memory | guard) exec "$here/$bench.sh" ;;
*)
    echo "there is no benchmark \"$bench\", only: ways, memory, guard" >&2
    exit 2
    ;;
esac

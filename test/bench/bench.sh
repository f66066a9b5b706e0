#!/usr/bin/env bash
# Runs one benchmark: BENCH=ways (ways to rebuild the same partitions), BENCH=memory, BENCH=locks, BENCH=guard, BENCH=stall, BENCH=throttle, BENCH=scale, BENCH=shapes, BENCH=catchup, BENCH=hot, BENCH=diff or BENCH=publish.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bench=${BENCH:-ways}
case $bench in
ways | memory | locks | guard | stall | throttle | scale | shapes | catchup | hot | diff | publish) exec "$here/$bench.sh" ;;
*)
    echo "there is no benchmark \"$bench\", only: ways, memory, locks, guard, stall, throttle, scale, shapes, catchup, hot, diff, publish" >&2
    exit 2
    ;;
esac

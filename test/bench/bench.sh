#!/usr/bin/env bash
# Runs one benchmark: BENCH=ways (three ways to rebuild the same partitions) or BENCH=memory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bench=${BENCH:-ways}
case $bench in
ways | memory) exec "$here/$bench.sh" ;;
*)
    echo "there is no benchmark \"$bench\", only: ways, memory" >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# Records make demo as it looks in a terminal, as an animated SVG: docs/img/demo.svg, or the file that is named. DEMO_ROWS is
# the number of events a month. With util-linux's script, which keeps the time of each piece of the output.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
figure=${1:-$checkout/docs/img/demo.svg}
recording=$(mktemp -d)
trap 'rm -rf "$recording"' EXIT

script --quiet --return --output-limit 10M --log-out "$recording/output" --log-timing "$recording/timing" \
    --command "stty cols 110 rows 34; make -s -C '$checkout' demo" </dev/null
python3 "$checkout/test/demo/terminal_svg.py" "$recording/timing" "$recording/output" 110 34 >"$recording/demo.svg"
mv "$recording/demo.svg" "$figure"

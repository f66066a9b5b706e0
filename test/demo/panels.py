"""Prints a script for gnuplot that draws the panels of a Grafana dashboard: panels.py DASHBOARD PROMETHEUS BEGIN, from what the
Prometheus answers to their queries since then."""
import json
import re
import sys
import time
import urllib.parse
import urllib.request

dashboard, prometheus, begin = sys.argv[1], sys.argv[2], int(sys.argv[3])
end = int(time.time())
UNITS = {"percentunit": "%", "Bps": "MB/s", "s": "s", "rowsps": "rows/s"}
SCALE = {"percentunit": 100, "Bps": 1e-6}


def series_of(target):
    query = urllib.parse.urlencode({"query": target["expr"].replace("$job", ".*"), "start": begin, "end": end, "step": 1})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}") as answer:
        for series in json.load(answer)["data"]["result"]:
            name = re.sub(r"\{\{(\w+)\}\}", lambda match: series["metric"].get(match[1], ""), target["legendFormat"]).strip()
            yield name, [(float(at) - begin, float(value)) for at, value in series["values"] if value != "NaN"]


with open(dashboard, encoding="utf-8") as file:
    panels = [panel for panel in json.load(file)["panels"] if panel["type"] == "timeseries"]
print("""set terminal svg size 1200,1150 font 'DejaVu Sans,12' background '#111217'
set multiplot layout 4,2 title "Panels of contrib/grafana/partbackfill.json: what Prometheus answered to their queries, drawn by gnuplot (not a picture of Grafana)" \\
    textcolor '#ccccdc' margins 0.06,0.98,0.04,0.92 spacing 0.08,0.08
set border 3 linecolor '#5a5d66'
set tics textcolor '#ccccdc' nomirror
set grid linecolor '#2c3235' linetype 1
set key top left opaque fillcolor '#111217' textcolor '#ccccdc' samplen 1 noenhanced
set xlabel ''
set format x '%.0f s'""")
print(f"set xrange [0:{end - begin}]")
COLOURS = ["#73bf69", "#5794f2", "#f2cc0c", "#ff9830", "#f2495c", "#b877d9"]
for panel in panels:
    unit = panel["fieldConfig"]["defaults"].get("unit")
    stacked = "stacking" in panel["fieldConfig"]["defaults"]["custom"]
    found = sorted(series for target in panel["targets"] for series in series_of(target))
    found = [(name, {at: value * SCALE.get(unit, 1) for at, value in points}) for name, points in found]
    if stacked:
        moments = [float(at) for at in range(end - begin + 1)]
        found = [(name, {at: points.get(at, 0.0) for at in moments}) for name, points in found]
        # From the top one to the lowest, each over the sum of those below.
        below = {}
        for _, points in found:
            for at in points:
                points[at] = below[at] = below.get(at, 0) + points[at]
        found.reverse()
    print(f"set title \"{panel['title']}{', ' + UNITS[unit] if unit in UNITS else ''}\" textcolor '#ccccdc'")
    print("set yrange [0:*]")
    plots = []
    for number, (name, points) in enumerate(found):
        print(f"$data{number} << EOD")
        for at, value in sorted(points.items()):
            print(f"{at:g} {value:g}")
        print("EOD")
        colour = COLOURS[(len(found) - 1 - number if stacked else number) % len(COLOURS)]
        style = f"filledcurves y1=0 linecolor '{colour}'" if stacked else f"lines linewidth 2 linecolor '{colour}'"
        plots.append(f"$data{number} using 1:2 with {style} title \"{name}\"")
    print("plot " + ", ".join(plots or ["0 linecolor '#111217' notitle"]))
print("unset multiplot")

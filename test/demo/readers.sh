# The demo's readers: four sessions that read at a steady rate, whatever the server does, and what their latency logs
# say. A read that had to wait for its turn counts from when it was due, so a stall cannot hide behind itself.
# shellcheck shell=bash
: "${scratch:?}" "${demo:?}" "${rows:?}"

readonly readers=4
readonly reads_per_second=80
readonly readers_log=$scratch/readers

start_readers() {
    mkdir -p "$readers_log"
    start_child pgbench --no-vacuum --client="$readers" --time=3600 --rate="$reads_per_second" \
        --define=rows="$rows" --file="$demo/read_month.sql@1" --file="$demo/read_event.sql@7" \
        --log --log-prefix="$readers_log/latency" >"$readers_log/output" 2>&1
    # shellcheck disable=SC2154 # set by start_child
    readers_pid=$child
}

# A reader that met an error is gone, and pgbench has said so; with the last of them pgbench ends.
readers_are_well() {
    kill -0 "$readers_pid" 2>/dev/null && ! grep -qE 'aborted|ERROR|FATAL' "$readers_log/output"
}

# The tail of a log may stay in pgbench's buffer, so they are stopped some seconds after the last read that matters.
stop_readers() {
    kill -TERM "$readers_pid" 2>/dev/null || true
    wait "$readers_pid" 2>/dev/null || true
}

# latencies SCRIPT FROM UNTIL: number, 99th percentile and maximum, in ms, of the reads that ended in that time (in
# seconds since 1970). Script 0 reads months, 1 events.
latencies() {
    cat "$readers_log"/latency.* |
        awk -v script="$1" -v from="$2" -v until="$3" \
            'NF >= 7 && $4 == script && $5 + $6 / 1e6 >= from && $5 + $6 / 1e6 < until { print $3 / 1000 }' |
        sort -n |
        awk '{ value[NR] = $1 }
             END {
                 if (NR == 0) { print "0 - -"; exit }
                 rank = int(NR * 0.99 + 0.999999)
                 printf "%d %.1f %.1f\n", NR, value[rank], value[NR]
             }'
}

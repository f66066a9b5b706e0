#!/usr/bin/env bash
# That the sanitizers find faults, before their silence is believed: a library that has some is loaded, and each of its
# functions has to end the backend and leave the report that it asks for.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
# shellcheck source=../sanitizer.sh
source "$checkout/test/setup/sanitizer.sh"

library=$scratch/root$("$PG_CONFIG" --pkglibdir)/partbackfill
# An overflow is to be found by the address sanitizer itself: the other one knows some sizes, too.
g++ -std=c++20 -O1 -g1 -fPIC -shared -fsanitize=address,undefined -fno-sanitize=object-size -fno-sanitize-recover=undefined \
    -isystem "$("$PG_CONFIG" --includedir-server)" -o "${library}_faults.so" "$checkout/test/sanitizer/faults.cpp"

# The library that is tested has been built so, too.
for runtime in asan ubsan; do
    status=0
    nm -D "$library.so" | grep "U __${runtime}_" >/dev/null || status=1
    verdict "$status" "the library is instrumented for $runtime"
done

# Waits until the server has got over the death of a backend.
await_server() {
    local i
    for ((i = 0; i < 200; i++)); do
        if psql -Xqc 'SELECT 1' >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "the server did not come back"
}

expect() {
    local fault=$1 report=$2 found status=0 logged
    logged=$(wc -l <"$server_log")
    psql -Xqc "CREATE OR REPLACE FUNCTION pg_temp.fault() RETURNS void LANGUAGE c AS 'partbackfill_faults', '$fault';
               SELECT pg_temp.fault()" >"$scratch/fault.log" 2>&1 || true
    await_server
    # Since GCC 16 undefined behaviour is reported in the server's log, and ends the process all the same.
    found=$(take_reports; tail -n "+$((logged + 1))" "$server_log") || true
    grep -q "$report" <<<"$found" || status=1
    verdict "$status" "$fault is found"
    if ((status != 0)); then
        show_log "$scratch/fault.log"
        say "$found"
    fi
}

expect overflow_of_heap heap-buffer-overflow
expect use_after_free heap-use-after-free
expect overflow_of_stack stack-buffer-overflow
expect overflow_of_palloc heap-buffer-overflow
expect overflow_of_integer 'signed integer overflow'
# What came after an exception or a jump of the server is seen as before.
expect overflow_after_throw heap-buffer-overflow
expect overflow_after_jump stack-buffer-overflow

# No report of what is right: exceptions and jumps through frames with variables that are watched.
status=0
psql -XqAtc "CREATE FUNCTION pg_temp.sound() RETURNS void LANGUAGE c AS 'partbackfill_faults', 'sound';
             SELECT pg_temp.sound()" >"$scratch/fault.log" 2>&1 || status=1
if take_reports; then status=1; fi
verdict "$status" "exceptions and jumps alone are not"
((failed == 0))

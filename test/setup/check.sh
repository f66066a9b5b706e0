#!/usr/bin/env bash
# Runs the test suites on a throw-away cluster, all of them even if one fails. SUITES="regress tap" selects.
# The last line is the sum. SANITIZE=1 builds the library with sanitizers: see sanitizer.sh.
set -euo pipefail
# shellcheck source=cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

suites=$checkout/test/setup/suites
passed=0
failed=0

# A suite without a test yet is left out.
has_tests() {
    case $1 in
    floors | lint) true ;;
    unit) compgen -G "$checkout/test/unit/*.cpp" ;;
    regress) compgen -G "$checkout/sql/*.sql" ;;
    pgtap) compgen -G "$checkout/test/pgtap/*.sql" ;;
    stress) true ;;
    isolation) compgen -G "$checkout/test/isolation/specs/*.spec" ;;
    tap) compgen -G "$checkout/test/t/*.pl" ;;
    fuzz) compgen -G "$checkout/test/fuzz/*.pl" ;;
    sanitizer) true ;;
    sanitized) true ;;
    *) fail "there is no suite \"$1\", only: floors lint unit regress pgtap isolation stress tap fuzz sanitized" ;;
    esac >/dev/null
}

# The fuzzers run with sanitizers only, where they find more: the suite "sanitized" is a check of its own.
wanted=()
all="floors lint unit regress pgtap isolation stress tap sanitized"
if [[ -n ${SANITIZE:-} ]]; then all="sanitizer regress pgtap isolation tap fuzz"; fi
for suite in ${SUITES:-$all}; do
    if has_tests "$suite"; then wanted+=("$suite"); fi
done

needs_server() { [[ $1 != floors && $1 != lint && $1 != unit && $1 != sanitized ]]; }

add_tally() {
    local good bad
    read -r good bad <"$tally_file" || true
    passed=$((passed + good))
    failed=$((failed + bad))
}

run_suite() {
    local suite=$1 status=0 before=$failed logged=0
    # What the server wrote for this suite only. The TAP scripts have servers of their own.
    if needs_server "$suite"; then logged=$(wc -l <"$server_log"); fi
    say "$suite"
    run_child "$suites/$suite.sh" || status=$?
    add_tally
    if take_reports; then
        say "  FAILED  $suite: the sanitizers' reports are above"
        failed=$((failed + 1))
    fi
    # One that ended before it could count a failure has failed all the same.
    if ((status != 0 && failed == before)); then
        say "  FAILED  $suite ended with status $status"
        failed=$((failed + 1))
    fi
    # Those of the sanitizers' own test are what it wants.
    if needs_server "$suite" && [[ $suite != sanitizer && -n $(tail -n "+$((logged + 1))" "$server_log" | crashes_in -) ]]; then
        say "  FAILED  a process of the server crashed"
        failed=$((failed + 1))
    fi
    if ((failed > before)) && needs_server "$suite" && [[ $suite != tap && $suite != fuzz ]]; then
        say "----- server log (last 60 lines)"
        tail -n "+$((logged + 1))" "$server_log" | tail -n 60
        say "-----"
    fi
}

# Made by the first suite that needs it.
server_state=none
prepare_server() {
    if [[ $server_state == none ]]; then
        say "build (PostgreSQL $pg_major)"
        make_installation
        if build_extension; then
            say "  ok      build and installation"
            passed=$((passed + 1))
            start_cluster "${fast_settings[@]}" max_worker_processes=32 max_prepared_transactions=8
            server_state=running
        else
            say "  FAILED  build or installation"
            failed=$((failed + 1))
            server_state=failed
        fi
    fi
    [[ $server_state == running ]]
}

# Printed last, however the run ends: one that could not go on has failed.
print_sum() {
    if (($1 != 0 && failed == 0)); then failed=1; fi
    say "$passed passed, $failed failed"
}

choose_server
make_scratch
trap 'status=$?; print_sum "$status"; clean_scratch "$status"' EXIT
export scratch pg_major tally_file=$scratch/tally

for suite in "${wanted[@]}"; do
    : >"$tally_file"
    if needs_server "$suite" && ! prepare_server; then
        say "$suite"
        say "  FAILED  not run, there is nothing to test"
        failed=$((failed + 1))
        continue
    fi
    run_suite "$suite"
done

((failed == 0))

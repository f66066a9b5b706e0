#!/usr/bin/env bash
# Finds what a goal needs and this machine lacks; as root installs it, otherwise says the command that would.
# Each need is a thing looked for, not a package: what was built from source will do as well. The goal "suites" is check
# without lint, in a chroot of another release: what that does not have is said and left out.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=server.sh
source "$checkout/test/setup/server.sh"

goal=${1:-check}

# Shows what a command says only if it fails.
export DEBIAN_FRONTEND=noninteractive
quietly() {
    local output
    say "$*"
    output=$("$@" 2>&1 </dev/null) || fail "$output"$'\n'"could not install what is missing"
}

# A machine whose package lists are empty cannot say which server it offers.
updated=no
update_lists() {
    if [[ $updated == no ]]; then quietly apt-get update; fi
    updated=yes
}
if ((EUID == 0)) && command -v apt-get >/dev/null &&
    [[ -z ${PG_CONFIG:-}${PG_MAJOR:-}$(newest_installed_major)$(offered_major) ]]; then
    update_lists
fi
choose_server

missing=()

# need PACKAGE PURPOSE COMMAND...: the package is missing when the command fails.
need() {
    local package=$1 purpose=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing+=("$package")
        say "missing: $package ($purpose)"
    fi
}

is_offered() { [[ -n $(apt-cache show --no-all-versions "$1" 2>/dev/null) ]]; }
leave_out() { say "  skipped what needs $1: this release does not have it"; }

# As need, but for a package that not every version of the server has: what wants it is skipped then.
wish() {
    if "${@:3}" >/dev/null 2>&1; then return; fi
    if ! is_offered "$1" && ((EUID == 0)) && command -v apt-get >/dev/null; then update_lists; fi
    if is_offered "$1"; then need "$@"; else leave_out "$1"; fi
}

has_program() { command -v "$1"; }
# Debian's own interpreter, since that is what its packages are for.
has_python_module() { /usr/bin/python3 -c "import $1"; }
has_header() { printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | g++ -std=c++20 -fsyntax-only -x c++ -; }
has_server() { test -x "$("$PG_CONFIG" --bindir)/postgres"; }
has_pgxs() { test -f "$("$PG_CONFIG" --pgxs)" && test -f "$("$PG_CONFIG" --includedir-server)/postgres.h"; }
# That of a server that is missing, too.
has_extension() {
    test -f "$("$PG_CONFIG" --sharedir 2>/dev/null || echo "/usr/share/postgresql/$pg_major")/extension/$1.control"
}

need make "builds the extension" has_program make
need g++ "builds the extension" has_program g++
need libfmt-dev "formats its messages" has_header fmt/format.h
need "postgresql-server-dev-$pg_major" "the server's headers and build rules" has_pgxs

case $goal in
check | suites | stress | demo | bench | deps)
    need "postgresql-$pg_major" "the server, for a throw-away cluster" has_server
    ;;
esac
case $goal in
check | suites | deps | lint)
    need cmake "builds the unit tests" has_program cmake
    need libgtest-dev "unit tests" has_header gtest/gtest.h
    ;;
esac
case $goal in
check | suites | deps)
    need "postgresql-$pg_major-pgtap" "SQL tests" has_extension pgtap
    need libtap-parser-sourcehandler-pgtap-perl "runs the SQL tests" has_program pg_prove
    need prometheus-postgres-exporter "reads the metrics" has_program prometheus-postgres-exporter
    need sqlsmith "random queries" has_program sqlsmith
    wish "postgresql-$pg_major-partman" "sets of partitions that it maintains" has_extension pg_partman
    wish "postgresql-$pg_major-cron" "jobs that it starts" has_extension pg_cron
    need python3-psycopg "the client in Python" has_python_module psycopg
    need python3-jinja2 "renders the dbt macro" has_python_module jinja2
    need prometheus "alerts, and the queries of the dashboard" has_program promtool
    ;;
esac
if [[ $goal == deb ]]; then
    need dpkg-dev "builds packages" has_program dpkg-buildpackage
    need debhelper "builds packages" has_program dh
    need postgresql-server-dev-all "builds packages for servers" test -f /usr/share/postgresql-common/pgxs_debian_control.mk
    need debootstrap "makes the clean root in which the packages are tried" has_program debootstrap
fi
if [[ $goal == bench && ${BENCH:-} == stall ]]; then need gnuplot-nox "draws the reads over time" has_program gnuplot; fi
case $goal in
check | suites | stress | deps | lint)
    need perl "runs the crash, restart and standby tests" has_program prove
    need libipc-run-perl "crash, restart and standby tests" perl -MIPC::Run -e 1
    ;;
esac
case $goal in
check | deps | lint)
    need clang-format "layout of the code" has_program clang-format
    need clang-tidy "reads the code" has_program clang-tidy
    need cppcheck "reads the code" has_program cppcheck
    need shellcheck "reads the scripts" has_program shellcheck
    need perltidy "layout of the test scripts" has_program perltidy
    ;;
esac

((${#missing[@]} > 0)) || exit 0

if [[ $goal == suites ]]; then
    wanted=("${missing[@]}")
    missing=()
    for package in "${wanted[@]}"; do
        if is_offered "$package"; then missing+=("$package"); else leave_out "$package"; fi
    done
    ((${#missing[@]} > 0)) || exit 0
fi

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if ! command -v apt-get >/dev/null; then
    fail "These are Debian's names; install what they stand for here, then run make $goal again."
fi
if ((EUID != 0)); then
    fail "Install them with: sudo apt-get update && sudo ${install[*]}"
fi

# The server's package makes a cluster "main" where there is none and may start it. Nothing here uses it: one that
# was not running before shall not run afterwards.
main_is_running() {
    pg_lsclusters -h 2>/dev/null |
        awk -v major="$pg_major" '$1 == major && $2 == "main" && $4 ~ /^online/ { found = 1 } END { exit !found }'
}
was_running=no
if main_is_running; then was_running=yes; fi

update_lists
quietly "${install[@]}"

# Nor shall services that are here for their programs only.
for service in prometheus-postgres-exporter prometheus; do
    if [[ " ${missing[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
        systemctl disable --now "$service" >/dev/null 2>&1 || true
    fi
done
if [[ $was_running == no ]] && main_is_running; then
    pg_ctlcluster "$pg_major" main stop ||
        complain "cluster $pg_major main was started by its package and is still running"
fi

# Where the checkout is, how a script speaks, and whom it runs as. Sourced first by every script of the harness.
# shellcheck shell=bash
# shellcheck disable=SC2034 # used where this is sourced

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Files made here are read by the server's user too.
umask 022

# The goal is dispatched by make, but what is built below it is a make of its own.
unset MAKEFLAGS MFLAGS MAKELEVEL

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
fail() {
    complain "$@"
    exit 1
}

# The server refuses to run as root.
if ((EUID == 0)); then server_user=postgres; else server_user=$(id -un); fi

# Runs a command as the server's user, who may be unable to read the directory we stand in or our home.
as_server_user() {
    (
        cd "${scratch:-/}" || exit
        if ((EUID == 0)); then
            exec runuser -u "$server_user" -- env HOME="${scratch:-/}" "$@"
        fi
        exec "$@"
    )
}

# crashes_in LOG...: what servers' logs have of processes that stopped at an assertion, an invalid address or a panic.
# Such a server goes on with new processes.
crashes_in() { grep -hE -A 20 '^TRAP:|PANIC: |terminated by signal (4|6|7|8|11)\b' "$@" || true; }

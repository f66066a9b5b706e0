# One temporary directory for all that a run makes, and the end of it: whatever happens, the servers started below
# it are stopped and it is removed. KEEP=yes leaves the files for a look.
# shellcheck shell=bash
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

children=()

# A socket's path holds about 100 bytes, and the server's user must get in: a TMPDIR that is too long or too private
# is passed over.
make_scratch() {
    local parent=${TMPDIR:-/tmp}
    id "$server_user" >/dev/null 2>&1 || fail "there is no user $server_user for the server, which does not run as root"
    if ((${#parent} > 40)) || ! as_server_user test -x "$parent"; then parent=/tmp; fi
    # Kept apart from the assignment to the global name: an early signal must not remove "".
    local made
    made=$(mktemp -d "$parent/partbackfill.XXXXXX")
    chmod 755 "$made"
    scratch=$made
    trap 'clean_scratch "$?"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# need_space MB: asks before a disk is filled rather than after.
need_space() {
    local free
    free=$(df -Pm "$scratch" | awk 'NR == 2 { print $4 }')
    ((free >= $1)) || fail "$1 MB are needed below $scratch, $free are free; set TMPDIR to another place"
}

# Only servers whose data directory lies in the scratch directory: our own, and those of tests that were interrupted.
stop_servers() {
    local pid_file
    while IFS= read -r pid_file; do
        as_server_user "$("$PG_CONFIG" --bindir)/pg_ctl" -D "$(dirname "$pid_file")" -m immediate -t 30 stop \
            >/dev/null 2>&1 || true
    done < <(find "$scratch" -name postmaster.pid 2>/dev/null)
}

signal_children() {
    local child
    for child in "${children[@]}"; do
        kill "-$1" -- "-$child" 2>/dev/null || true
    done
}

# clean_scratch STATUS: ends the run with it. Nothing that goes wrong here may leave the rest undone.
clean_scratch() {
    local status=$1
    set +e
    trap '' INT TERM HUP
    trap - EXIT
    signal_children TERM
    stop_servers
    signal_children KILL
    # What a child started between the two.
    stop_servers
    if [[ -n ${KEEP:-} ]]; then say "kept: $scratch"; else rm -rf "$scratch"; fi
    exit "$status"
}

# Starts a command in a process group of its own, which ends with the run; its id is then in $child. A foreground
# command would hold up the traps above until it ends by itself.
start_child() {
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    children+=("$child")
}

# Runs a command that may take long, so that a signal is obeyed at once.
run_child() {
    local status=0
    start_child "$@"
    wait "$child" || status=$?
    return "$status"
}

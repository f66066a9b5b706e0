# A private installation and a throw-away cluster in it, reached through a socket in the scratch directory.
# Sourced. In turn: make_scratch, make_installation, build_extension, start_cluster [setting=value ...].
# shellcheck shell=bash

# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=server.sh
source "$checkout/test/setup/server.sh"
# shellcheck source=installation.sh
source "$checkout/test/setup/installation.sh"

# A setting of the caller's own session (PGOPTIONS, PGSERVICE, PGDATABASE, ...) must not reach a test.
for name in ${!PG@}; do
    [[ $name == PG_* ]] || unset "$name"
done
unset name

# Makes the cluster and starts it with the given settings; exports PGHOST, PGPORT, PGUSER and server_log.
start_cluster() {
    local data=$scratch/data setting
    export PGHOST=$scratch/socket PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
    export server_log=$scratch/server/log

    # Whoever may open the socket is a superuser of this cluster, so nobody else may.
    mkdir -m 700 "$PGHOST" "$data" "$scratch/server"
    if ((EUID == 0)); then chown "$server_user" "$PGHOST" "$data" "$scratch/server"; fi

    # The same collation everywhere, or a test's order of rows would depend on the machine.
    as_server_user "$bindir/initdb" -D "$data" -U "$PGUSER" -A trust -E UTF8 --locale=C --no-sync \
        >"$scratch/initdb.log" ||
        fail "could not make a cluster: $(cat "$scratch/initdb.log")"
    {
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$PGHOST'"
        echo "timezone = 'UTC'"
        echo "log_timezone = 'UTC'"
        echo "log_line_prefix = '%m [%p] %b %q%d '"
        for setting in "$@"; do
            echo "${setting%%=*} = '${setting#*=}'"
        done
    } >>"$data/postgresql.conf"
    as_server_user "$bindir/pg_ctl" -D "$data" -l "$server_log" -t 60 start >"$scratch/start.log" ||
        fail "could not start the cluster: $(cat "$scratch/start.log" "$server_log")"
}

# For a run whose data is thrown away anyway.
# shellcheck disable=SC2034 # used where this is sourced
fast_settings=(fsync=off synchronous_commit=off full_page_writes=off)

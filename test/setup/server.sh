# Which server to build for: PG_CONFIG names it outright, PG_MAJOR names its major version; without either it is
# the newest installed one, or, where there is none yet, the one the distribution offers.
# shellcheck shell=bash
# shellcheck disable=SC2034 # used where this is sourced

readonly oldest_major=15
readonly debian_servers=/usr/lib/postgresql

# Prints the newest installed major version that will do, or nothing.
newest_installed_major() {
    local directory major newest=0
    for directory in "$debian_servers"/*/; do
        major=$(basename "$directory")
        [[ $major =~ ^[0-9]+$ && -x $directory/bin/postgres ]] || continue
        if ((major >= oldest_major && major > newest)); then newest=$major; fi
    done
    if ((newest > 0)); then echo "$newest"; fi
}

# Prints the major version behind the distribution's package "postgresql", or nothing.
offered_major() {
    command -v apt-cache >/dev/null || return 0
    { apt-cache depends postgresql 2>/dev/null || true; } |
        sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1
}

# Sets PG_CONFIG and pg_major. The program that PG_CONFIG names need not be there yet.
choose_server() {
    if [[ -n ${PG_CONFIG:-} ]] && command -v "$PG_CONFIG" >/dev/null; then
        PG_CONFIG=$(command -v "$PG_CONFIG")
        pg_major=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    else
        pg_major=${PG_MAJOR:-$(newest_installed_major)}
        pg_major=${pg_major:-$(offered_major)}
        pg_major=${pg_major:-$oldest_major}
        PG_CONFIG=$debian_servers/$pg_major/bin/pg_config
        # Elsewhere than on Debian there is one server, on the path.
        if [[ ! -d $debian_servers && -z ${PG_MAJOR:-} ]] && command -v pg_config >/dev/null; then
            PG_CONFIG=$(command -v pg_config)
            pg_major=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
        fi
    fi
    if ((pg_major < oldest_major)); then
        fail "partbackfill needs PostgreSQL $oldest_major or newer, this is $pg_major"
    fi
    export PG_CONFIG
}

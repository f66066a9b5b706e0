# A private installation of the server with this checkout's extension in it. PostgreSQL finds its libraries and
# scripts relative to its own program, so a copy of the programs with links to the rest is an installation in which
# nobody needs a right on the system's directories, and nothing of a test remains there.
# shellcheck shell=bash
# shellcheck source=scratch.sh
source "$(dirname "${BASH_SOURCE[0]}")/scratch.sh"
# shellcheck source=sanitizer.sh
source "$checkout/test/setup/sanitizer.sh"

# Links every entry of one directory into another. "extension" is a real directory: files are added there.
link_entries() {
    local from=$1 into=$2
    mkdir -p "$into"
    find "$from" -mindepth 1 -maxdepth 1 ! -name extension ! -name 'partbackfill*' -exec ln -s -t "$into" {} +
}

# Sets and exports bindir, and PATH with it in front. The directories keep their full names below $root, which is
# what `make install DESTDIR=` expects too.
make_installation() {
    local root=$scratch/root system_bin system_lib system_share
    system_bin=$("$PG_CONFIG" --bindir)
    system_lib=$("$PG_CONFIG" --pkglibdir)
    system_share=$("$PG_CONFIG" --sharedir)
    bindir=$root$system_bin

    mkdir -p "$bindir"
    # Copies, since a program looks for its neighbours where its links lead.
    cp -L "$system_bin"/* "$bindir/"
    link_entries "$system_lib" "$root$system_lib"
    link_entries "$system_share" "$root$system_share"
    link_entries "$system_share/extension" "$root$system_share/extension"
    export bindir PATH="$bindir:$PATH"
    if [[ -n ${SANITIZE:-} ]]; then wrap_server; fi
    as_server_user "$bindir/postgres" --version >/dev/null ||
        fail "could not run programs below $scratch; set TMPDIR to a directory that allows it"
}

# Links what the extension is built from into another directory, for objects that are kept apart.
link_sources() {
    (
        cd "$checkout" || exit
        find "$1" -xtype l -delete
        find src include sql -type d -exec mkdir -p "$1/{}" \;
        # A link that is there stays: a directory that is newer than its unit would have the unit compiled anew.
        find Makefile partbackfill.control src include sql -type f ! -name '*.o' ! -name '*.d' \
            ! -exec test -L "$1/{}" \; -exec ln -s "$checkout/{}" "$1/{}" \;
    )
}

# Prints what the build says only if it fails. Sets and exports build, the directory of its objects: those with
# sanitizers have one of their own, so that neither kind is built anew because of the other.
build_extension() {
    local log=$scratch/build.log options=("PG_CONFIG=$PG_CONFIG") lock built=0
    export build=$checkout
    if [[ -n ${SANITIZE:-} ]]; then
        build=$checkout/build/sanitized
        options+=(SANITIZE=1)
        mkdir -p "$build"
    fi
    # Two checks at once build one after the other: neither installs what the other is about to link.
    mkdir -p "$checkout/build"
    exec {lock}>"$checkout/build/lock"
    flock "$lock"
    if [[ -n ${SANITIZE:-} ]]; then link_sources "$build"; fi
    if ! run_child make -C "$build" -j "$(nproc)" "${options[@]}" >"$log" 2>&1 ||
        ! run_child make -C "$build" install "${options[@]}" "DESTDIR=$scratch/root" >>"$log" 2>&1; then
        tail -n 60 "$log" >&2
        built=1
    fi
    exec {lock}>&-
    return "$built"
}

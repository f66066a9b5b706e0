#!/usr/bin/env bash
# Runs the suites on every version of PostgreSQL, each in a chroot of the Debian release that has it. VERSIONS="18 19",
# SUITES and TAP_SCRIPTS select, as for check.sh; MIRROR is the Debian mirror, by default the machine's own. The chroots
# are made once, below CHROOTS, and kept: to have a newer minor release, remove them. The last lines say of each version
# how it went, or why it did not run.
#
# Version 16 is in no Debian release. It is compiled where its headers are to be had: with the pg_config that PG_CONFIG_16
# names, or in a chroot if EXTRA_SOURCES_16 is a line of apt's sources that has it.
set -euo pipefail
# shellcheck source=chroots.sh
source "$(dirname "${BASH_SOURCE[0]}")/chroots.sh"

versions=${VERSIONS:-15 16 17 18 19}
# What does not depend on the server is for check.sh alone: lint and floors.
suites=${SUITES:-unit regress pgtap isolation stress tap sanitized}

# The Debian release that has the version, and a line of apt's sources that the release needs for it.
release_of() {
    case $1 in
    15 | 16) echo bookworm ;;
    17) echo trixie ;;
    18 | 19) echo sid ;;
    *) fail "no Debian release is known for version \"$1\", only for 15 to 19" ;;
    esac
}
extra_sources_of() {
    local variable=EXTRA_SOURCES_$1
    if [[ -n ${!variable:-} ]]; then
        echo "${!variable}"
    elif [[ $1 == 19 ]]; then
        echo "deb $mirror experimental main"
    fi
}

results=()
status=0
report() { results+=("$(printf '%-4s%s' "$1" "$2")"); }
not_run() {
    report "$1" "did not run: $2"
    # That this one is not to be had is no fault of the machine.
    [[ $1 == 16 ]] || status=1
}

trap 'signal_children KILL' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# has_package ROOT PACKAGE: with the lists of the chroot.
has_package() { [[ -n $(chroot "$1" apt-cache show --no-all-versions "$2" 2>/dev/null) ]]; }

# Where an archive has no pgTAP for the version: it is SQL only, and that of another version will do.
borrow_pgtap() {
    local root=$1 version=$2 package
    package=$(chroot "$root" apt-cache pkgnames postgresql- | sed -n '/^postgresql-[0-9]*-pgtap$/p' | sort -V | tail -n 1)
    [[ -n $package ]] || return 0
    # shellcheck disable=SC2016 # for the shell inside
    in_chroot "$root" bash -c '
        set -e
        cd "$(mktemp -d)"
        chmod 755 .
        apt-get -q download "$1"
        dpkg-deb -x ./*.deb .
        mkdir -p "/usr/share/postgresql/$2/extension"
        cp usr/share/postgresql/*/extension/pgtap* "/usr/share/postgresql/$2/extension/"' bash "$package" "$version"
}

# The chroot is there when it is complete: it is made beside its place.
make_chroot() {
    local version=$1 root=$2 new=$2.new extra
    if [[ ! -d $root ]]; then
        say "makes the chroot $root"
        rm -rf "$new"
        mkdir -p "$new"
        debootstrap --variant=minbase "$(release_of "$version")" "$new" "$mirror" || return
        write_apt_settings "$new"
        extra=$(extra_sources_of "$version")
        if [[ -n $extra ]]; then echo "$extra" >"$new/etc/apt/sources.list.d/extra.list"; fi
        in_chroot "$new" apt-get -q update || return
        mv "$new" "$root"
    fi
}

# Laid anew, but for what was built of this checkout before: another one's files may be older than the objects, and differ.
lay_checkout() {
    local into=$1
    if [[ $(cat "$into/build/checkout" 2>/dev/null) != "$checkout" ]]; then rm -rf "$into/build"; fi
    mkdir -p "$into/build"
    echo "$checkout" >"$into/build/checkout"
    find "$into" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    archive_checkout | tar --no-same-owner -C "$into" -xf -
}

check_16_by_headers() {
    local pg_config=${PG_CONFIG_16:-/usr/lib/postgresql/16/bin/pg_config}
    if [[ ! -x $pg_config || ! -e $("$pg_config" --includedir-server)/postgres.h ]]; then
        not_run 16 "no Debian release has it; PG_CONFIG_16 names a pg_config whose headers are there"
        return
    fi
    lay_checkout "$chroots/16.src"
    if run_child make -C "$chroots/16.src" -j "$(nproc)" "PG_CONFIG=$pg_config" >"$chroots/16.log" 2>&1; then
        report 16 "compiles against the headers of $pg_config; no suite was run"
    else
        tail -n 60 "$chroots/16.log"
        report 16 "FAILED to compile against the headers of $pg_config"
        status=1
    fi
}

# The sum of a run is its last line, whatever came before.
run_suites() {
    local version=$1 root=$2 log=$chroots/$1.log sum shown tee
    exec {shown}> >(tee "$log")
    tee=$!
    # shellcheck disable=SC2016 # for the shell inside
    in_chroot "$root" env -u CHROOTS -u VERSIONS PG_MAJOR="$version" SUITES="$suites" TAP_SCRIPTS="${TAP_SCRIPTS:-}" bash -c '
        cd /src/partbackfill && test/setup/deps.sh suites && exec test/setup/check.sh' >&"$shown" 2>&1 || true
    exec {shown}>&-
    wait "$tee"
    sum=$(sed -n '$s/^\([0-9]* passed, [0-9]* failed\)$/\1/p' "$log")
    report "$version" "${sum:-FAILED before it could count; see $log}"
    [[ $sum == *' 0 failed' ]] || status=1
    # What did not run within it.
    while IFS= read -r line; do report "" "$line"; done < <(sed -n 's/^  skipped *//p' "$log")
}

check_version() {
    local version=$1 root=$chroots/$1
    say "PostgreSQL $version"
    if [[ $version == 16 && -z ${EXTRA_SOURCES_16:-} ]]; then
        check_16_by_headers
        return
    fi
    if [[ -n $why_none ]]; then
        not_run "$version" "$why_none"
        return
    fi
    mkdir -p "$chroots"
    if ! make_chroot "$version" "$root" >"$chroots/$version.log" 2>&1; then
        tail -n 20 "$chroots/$version.log"
        not_run "$version" "its chroot could not be made; see $chroots/$version.log"
        return
    fi
    if ! has_package "$root" "postgresql-server-dev-$version"; then
        not_run "$version" "the Debian release $(release_of "$version") does not have it on this mirror"
        return
    fi
    if ! has_package "$root" "postgresql-$version-pgtap"; then borrow_pgtap "$root" "$version" >>"$chroots/$version.log" 2>&1; fi
    lay_checkout "$root/src/partbackfill"
    run_suites "$version" "$root"
}

# Since a shell reads a script as it goes, one that runs for hours is read to its end first.
main() {
    local version line
    for version in $versions; do release_of "$version" >/dev/null; done
    mirror=${MIRROR:-$(own_mirror)}
    why_none=$(obstacle)
    for version in $versions; do check_version "$version"; done
    say "in all"
    for line in "${results[@]}"; do say "  $line"; done
    exit "$status"
}
main

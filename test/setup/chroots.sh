# Roots of Debian releases, for a run in them: how they are made, and how a command runs in one.
# shellcheck shell=bash
# shellcheck source=scratch.sh
source "$(dirname "${BASH_SOURCE[0]}")/scratch.sh"

# shellcheck disable=SC2034 # used where this is sourced
chroots=${CHROOTS:-/var/cache/partbackfill/chroots}
mirror=
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# The first Debian archive that apt knows of; its lists need not be there.
own_mirror() {
    # shellcheck disable=SC2016 # apt's own variable
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n '0,/\/debian\/*$/s#\(.*/debian\)/*$#\1#p' || true
}

# Why no chroot can be used here, or nothing.
obstacle() {
    if ((EUID != 0)); then
        echo "chroots need root"
    elif ! command -v debootstrap >/dev/null; then
        echo "debootstrap is missing"
    elif [[ -z $mirror ]]; then
        echo "apt knows of no Debian mirror; MIRROR names one"
    elif ! unshare --mount --pid --fork true 2>/dev/null; then
        echo "namespaces for mounts and processes cannot be made here"
    fi
}

# Runs a command with the chroot as its root. Mounts and processes are in namespaces of their own, which end
# with the command, whatever it has started.
in_chroot() {
    local root=$1
    shift
    # shellcheck disable=SC2016 # for the shell inside
    run_child unshare --mount --propagation private --pid --fork --kill-child bash -c '
        set -e
        root=$1; shift
        mount -t proc proc "$root/proc"
        mkdir -p "$root/dev/shm"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
        # Not exec: the first process of a namespace takes in those whose parents have ended.
        status=0
        chroot "$root" "$@" || status=$?
        exit "$status"' bash "$root" "$@"
}

# The machine's way to the mirror is the chroot's. The mirror may be a copy that is older than it should be.
write_apt_settings() {
    apt-config dump | grep -iE '^Acquire::(.*::)?(Proxy|CaInfo|Verify-Peer)\b' >"$1/etc/apt/apt.conf.d/90machine" || true
    echo 'Acquire::Check-Valid-Until "false";' >>"$1/etc/apt/apt.conf.d/90machine"
    # Of an archive that is not asked by itself: the server and its client library, which belong together.
    printf 'Package: postgresql* libpq*\nPin: release n=rc-buggy\nPin-Priority: 990\n' >"$1/etc/apt/preferences.d/partbackfill"
}

# The checkout's own files, as an archive: neither what git ignores nor what was built.
archive_checkout() {
    if [[ -e $checkout/.git ]] && command -v git >/dev/null; then
        git -c safe.directory='*' -C "$checkout" ls-files -z --cached --others --exclude-standard --deduplicate |
            (cd "$checkout" && while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done) |
            tar -C "$checkout" --null --files-from=- -cf -
    else
        tar -C "$checkout" --exclude=./build --exclude='*.o' --exclude='*.d' --exclude='*.so' -cf - .
    fi
}

#!/usr/bin/env bash
# Builds the Debian packages, for the versions of PostgreSQL that this machine's release has, into build/deb, and tries them
# where nothing else is: in a chroot of the release that debootstrap has made, the packages are installed with what they
# depend on, debian/tests/smoke runs, and they are removed. The chroot is made once, below CHROOTS, and kept; each run
# works in a copy. MIRROR is the Debian mirror, by default the machine's own.
set -euo pipefail
# shellcheck source=chroots.sh
source "$(dirname "${BASH_SOURCE[0]}")/chroots.sh"

release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
base=$chroots/clean-$release
packages=$checkout/build/deb

build_packages() {
    local source=$scratch/partbackfill version
    version=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' "$checkout/debian/changelog")
    say "build of the packages ($version)"
    mkdir "$source"
    archive_checkout | tar --no-same-owner -C "$source" -xf -
    (
        cd "$source"
        pg_buildext updatecontrol
        run_child dpkg-buildpackage --build=binary --no-sign --jobs=auto
    ) >"$scratch/build.log" 2>&1 || {
        tail -n 60 "$scratch/build.log"
        fail "could not build the packages"
    }
    rm -rf "$packages"
    mkdir -p "$packages"
    cp "$scratch"/*.deb "$packages/"
    for package in "$packages"/postgresql-*.deb; do say "  ok      $(basename "$package")"; done
}

# As it is after debootstrap: only apt knows what the machine's knows.
make_base() {
    [[ ! -d $base ]] || return 0
    say "makes the chroot $base"
    rm -rf "$base.new"
    mkdir -p "$base.new"
    run_child debootstrap --variant=minbase "$release" "$base.new" "$mirror" >"$scratch/debootstrap.log" 2>&1 || {
        tail -n 20 "$scratch/debootstrap.log"
        fail "could not make the chroot"
    }
    cp -RL /etc/apt/sources.list /etc/apt/sources.list.d "$base.new/etc/apt/" 2>/dev/null || true
    write_apt_settings "$base.new"
    mv "$base.new" "$base"
}

# The dbgsym packages are not needed.
try_packages() {
    local root=$scratch/clean
    say "installation in a clean chroot ($release)"
    cp -a "$base" "$root"
    mkdir -p "$root/packages" "$root/tests"
    cp "$packages"/postgresql-*-partbackfill_*.deb "$root/packages/"
    cp "$checkout"/debian/tests/smoke* "$root/tests/"
    # shellcheck disable=SC2016 # for the shell inside
    in_chroot "$root" bash -c '
        set -e
        # Nothing is started by being installed.
        printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        apt-get -q update
        apt-get -q -y --no-install-recommends install /packages/*.deb' >"$scratch/install.log" 2>&1 || {
        tail -n 60 "$scratch/install.log"
        fail "could not install the packages"
    }
    say "  ok      installed, with $(grep -c '^Setting up' "$scratch/install.log") packages in all"
    in_chroot "$root" runuser -u postgres -- /tests/smoke >"$scratch/smoke.log" 2>&1 || {
        tail -n 60 "$scratch/smoke.log"
        fail "the smoke test failed"
    }
    say "  ok      $(grep '^the main job' "$scratch/smoke.log")"
    in_chroot "$root" bash -c 'apt-get -q -y purge "postgresql-*-partbackfill"' >"$scratch/purge.log" 2>&1 || {
        tail -n 60 "$scratch/purge.log"
        fail "could not remove the packages"
    }
    if find "$root/usr" "$root/etc" "$root/var/lib/postgresql" -name '*partbackfill*' ! -path "$root/etc/apt/*" | grep .; then
        fail "the packages leave files behind"
    fi
    say "  ok      removed without a trace"
}

[[ -n $release ]] || fail "this machine's release has no name in /etc/os-release"
mirror=${MIRROR:-$(own_mirror)}
why_none=$(obstacle)
[[ -z $why_none ]] || fail "the packages cannot be tried here: $why_none"
make_scratch
need_space 3000
mkdir -p "$chroots"
build_packages
make_base
try_packages

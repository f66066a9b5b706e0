#!/usr/bin/env bash
# The TAP scripts test/t/*.pl, which make, crash and restart clusters of their own with the modules that PostgreSQL
# ships for that; or those of test/$TAP_DIRECTORY. They run as the server's user, from a copy, since that one may be unable
# to read the checkout; a script at a time, so that each is counted, and its servers' logs are read, by itself.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

directory=${TAP_DIRECTORY:-t}
home=$scratch/tap_$directory
mkdir -p "$home/tmp"
cp -RL "$checkout/Makefile" "$checkout/test" "$checkout/contrib" "$home/"
if ((EUID == 0)); then chown -R "$server_user" "$home"; fi

# A disk that is small enough to be filled. Where none can be mounted the tests of it are skipped.
small_disk=
unmount_small_disk() {
    if [[ -n $small_disk ]]; then umount --lazy "$small_disk"; fi
}
if ((EUID == 0)) && mkdir "$home/small_disk" &&
    mount -t tmpfs -o "size=64m,mode=700,uid=$(id -u "$server_user")" tmpfs "$home/small_disk" 2>/dev/null; then
    small_disk=$home/small_disk
    trap unmount_small_disk EXIT
fi

# What failed, with its diagnosis: only the script's own log has that, often far from its end.
show_failures() {
    local log
    while IFS= read -r log; do
        say "----- failed tests of $(basename "$log") (first $log_lines lines)"
        awk -v most="$log_lines" '
            /\) (not )?ok [0-9]/ { failed = /\) not ok / }
            failed && lines++ < most' "$log"
        say "-----"
    done < <(find "$1" -name 'regress_log_*' -type f)
}

# TAP_SCRIPTS="001_cancel 030_control" selects.
for script in "$home/test/$directory"/*.pl; do
    name=$(basename "$script" .pl)
    [[ -z ${TAP_SCRIPTS:-} || " $TAP_SCRIPTS " == *" $name "* ]] || continue
    log=$scratch/tap_$name.log
    status=0
    # All that the script makes is below the scratch directory, where an interrupted run finds its servers.
    # The installation that they run has no headers of its own.
    as_server_user env TMPDIR="$home/tmp" ${small_disk:+PARTBACKFILL_SMALL_DISK="$small_disk"} \
        PARTBACKFILL_SERVER_HEADERS="$("$PG_CONFIG" --includedir-server)" \
        make -C "$home" installcheck "PG_CONFIG=$bindir/pg_config" REGRESS= ISOLATION= \
        "PROVE_TESTS=test/$directory/$name.pl" PROVE_FLAGS="--verbose --timer" >"$log" 2>&1 || status=$?
    before=$failed
    count_tap "$name" "$log" "$status"
    mapfile -t server_logs < <(find "$home/tmp_check" -path '*/log/*' -type f | sort)
    if ((${#server_logs[@]} > 0)) && [[ ! -e $home/tmp_check/crashes_on_purpose ]]; then
        count_crashes "$name" "${server_logs[@]}"
    fi
    if ((failed > before)); then
        show_failures "$home/tmp_check"
        for server_log in "${server_logs[@]}"; do
            show_log "$server_log"
        done
    fi
    rm -rf "$home/tmp_check"
done
((failed == 0))

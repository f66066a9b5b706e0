#!/usr/bin/env bash
# The TAP scripts test/t/*.pl, which make, crash and restart clusters of their own with the modules that PostgreSQL
# ships for that; or those of test/$TAP_DIRECTORY. They run as the server's user, from a copy, since he may be unable to read the checkout.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

directory=${TAP_DIRECTORY:-t}
home=$scratch/tap_$directory
mkdir -p "$home/tmp" "$home/t" "$home/$directory"
cp -RL "$checkout/test/t/." "$home/t/"
cp -RL "$checkout/test/$directory/." "$home/$directory/"
cp -RL "$checkout/test/lossless" "$home/t/"
cp -RL "$checkout/contrib/prometheus" "$home/"
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

modules=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
# TAP_SCRIPTS="001_cancel 030_control" selects.
for script in "$home/$directory"/*.pl; do
    name=$(basename "$script" .pl)
    [[ -z ${TAP_SCRIPTS:-} || " $TAP_SCRIPTS " == *" $name "* ]] || continue
    log=$scratch/tap_$name.log
    status=0
    as_server_user mkdir "$home/$name"
    # TMPDIR and TESTDIR (TESTDATADIR and TESTLOGDIR since version 16) put all that the script makes below the
    # scratch directory, where an interrupted run finds its servers.
    as_server_user env -C "$home" \
        TMPDIR="$home/tmp" TESTDIR="$home/$name" TESTDATADIR="$home/$name/data" TESTLOGDIR="$home/$name/log" \
        PG_REGRESS="$modules/regress/pg_regress" PERL5LIB="$modules/perl:$home/t" \
        ${small_disk:+PARTBACKFILL_SMALL_DISK="$small_disk"} \
        prove --verbose --timer "$directory/$name.pl" >"$log" 2>&1 || status=$?
    before=$failed
    count_tap "$name" "$log" "$status"
    mapfile -t server_logs < <(find "$home/$name" -path '*/log/*' -type f | sort)
    if ((${#server_logs[@]} > 0)) && [[ ! -e $home/$name/crashes_on_purpose ]]; then
        count_crashes "$name" "${server_logs[@]}"
    fi
    if ((failed > before)); then
        show_failures "$home/$name"
        for server_log in "${server_logs[@]}"; do
            show_log "$server_log"
        done
    fi
    rm -rf "${home:?}/$name"
done
((failed == 0))

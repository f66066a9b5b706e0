#!/usr/bin/env bash
# The TAP scripts test/t/*.pl, which make, crash and restart clusters of their own with the modules that PostgreSQL
# ships for that; or those of test/$TAP_DIRECTORY. They run as the server's user, from copies, since that one may be unable
# to read the checkout; each is counted, and its servers' logs are read, by itself. Most of the time they wait: TAP_LANES of
# them (two) run side by side, each lane from a copy of its own.
set -euo pipefail
# shellcheck source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"

directory=${TAP_DIRECTORY:-t}
lanes=${TAP_LANES:-2}

# A disk that is small enough to be filled. Where none can be mounted the tests of it are skipped.
small_disks=()
unmount_small_disks() {
    local disk
    for disk in "${small_disks[@]}"; do umount --lazy "$disk" || true; done
}
trap unmount_small_disks EXIT

home_of() { echo "$scratch/tap_$directory$1"; }

make_lane() {
    local home
    home=$(home_of "$1")
    mkdir -p "$home/tmp"
    cp -RL "$checkout/Makefile" "$checkout/test" "$checkout/contrib" "$checkout/docs" "$checkout/README.md" "$home/"
    if ((EUID == 0)); then chown -R "$server_user" "$home"; fi
    if ((EUID == 0)) && mkdir "$home/small_disk" &&
        mount -t tmpfs -o "size=64m,mode=700,uid=$(id -u "$server_user")" tmpfs "$home/small_disk" 2>/dev/null; then
        small_disks+=("$home/small_disk")
    fi
}

# run_script LANE NAME: all that the script makes is below the scratch directory, where an interrupted run finds its
# servers. The installation that they run has no headers of its own.
run_script() {
    local home small_disk=
    home=$(home_of "$1")
    if [[ " ${small_disks[*]} " == *" $home/small_disk "* ]]; then small_disk=$home/small_disk; fi
    as_server_user env TMPDIR="$home/tmp" ${small_disk:+PARTBACKFILL_SMALL_DISK="$small_disk"} \
        PARTBACKFILL_SERVER_HEADERS="$("$PG_CONFIG" --includedir-server)" \
        make -C "$home" installcheck "PG_CONFIG=$bindir/pg_config" REGRESS= ISOLATION= \
        "PROVE_TESTS=test/$directory/$2.pl" PROVE_FLAGS="--verbose --timer" >"$scratch/tap_$2.log" 2>&1 </dev/null
}

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

# report LANE NAME STATUS: counts the script that has ended there.
report() {
    local home before=$failed server_log server_logs
    home=$(home_of "$1")
    count_tap "$2" "$scratch/tap_$2.log" "$3"
    mapfile -t server_logs < <(find "$home/tmp_check" -path '*/log/*' -type f | sort)
    if ((${#server_logs[@]} > 0)) && [[ ! -e $home/tmp_check/crashes_on_purpose ]]; then
        count_crashes "$2" "${server_logs[@]}"
    fi
    if ((failed > before)); then
        show_failures "$home/tmp_check"
        for server_log in "${server_logs[@]}"; do
            show_log "$server_log"
        done
    fi
    rm -rf "$home/tmp_check"
}

# Both by the process that runs the script.
declare -A lane_of=() name_of=()
free=()

# Waits for a script to end, whose lane is free then.
await_lane() {
    local ended status=0
    wait -n -p ended "${!lane_of[@]}" || status=$?
    report "${lane_of[$ended]}" "${name_of[$ended]}" "$status"
    free+=("${lane_of[$ended]}")
    unset "lane_of[$ended]" "name_of[$ended]"
}

for ((lane = 1; lane <= lanes; lane++)); do
    make_lane "$lane"
    free+=("$lane")
done
# TAP_SCRIPTS="001_cancel 030_control" selects.
for script in "$checkout/test/$directory"/*.pl; do
    name=$(basename "$script" .pl)
    [[ -z ${TAP_SCRIPTS:-} || " $TAP_SCRIPTS " == *" $name "* ]] || continue
    while ((${#free[@]} == 0)); do await_lane; done
    lane=${free[0]}
    free=("${free[@]:1}")
    run_script "$lane" "$name" &
    lane_of[$!]=$lane
    name_of[$!]=$name
done
while ((${#lane_of[@]} > 0)); do await_lane; done
((failed == 0))

# How the demo speaks: headings, statements with their answers, the live view of a job, and proofs.
# shellcheck shell=bash

bold='' dim='' green='' red='' plain=''
if [[ -t 1 ]]; then
    bold=$'\e[1m' dim=$'\e[36m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi
failed_proofs=0

title() { say "$bold$*$plain"; }
heading() {
    say
    say "$bold== $*$plain"
}
now() { date +%s.%N; }
thousands() { sed -E ':again; s/^([0-9]+)([0-9]{3})/\1,\2/; t again' <<<"$1"; }

# The bare answer of a query.
ask() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }

show_statement() { sed "s/^/    $dim/; s/\$/$plain/" <<<"${1%;};"; }

# A query and its answer.
show() {
    show_statement "$1"
    psql -Xq -v ON_ERROR_STOP=1 -P footer=off -P null=- -c "$1" | sed '/^$/d; s/^/    /'
}

# proof CLAIM FIGURE TEST...: a claim, the figure it rests on, and whether it holds.
proof() {
    local claim=$1 figure=$2 verdict=${green}ok$plain
    shift 2
    if ! "$@"; then
        verdict=${red}FAILED$plain
        failed_proofs=$((failed_proofs + 1))
    fi
    printf '  %-36s %24s   %s\n' "$claim" "$figure" "$verdict"
}

# show_latencies WHAT SCRIPT QUIET BEGAN ENDED: a line on the reads before and during the backfill.
show_latencies() {
    local what=$1 script=$2 quiet=$3 began=$4 ended=$5 count slow slowest
    read -r count slow slowest <<<"$(latencies "$script" "$quiet" "$began")"
    printf '  reads of %-14s before: %6s, p99 %7s ms, slowest %7s ms' "$what" "$count" "$slow" "$slowest"
    read -r count slow slowest <<<"$(latencies "$script" "$began" "$ended")"
    printf '   during: %6s, p99 %7s ms, slowest %7s ms\n' "$count" "$slow" "$slowest"
}

# follow JOB SECONDS: the job's line of backfill_status every second until it rests; in a terminal the line is
# written over. Ends the run unless the job is done in time.
follow() {
    local job=$1 deadline=$((SECONDS + $2)) state line again=''
    local columns="job, state, percent, bar, done, running, rows, rows_per_second, eta"
    local layout='    %4s  %-8s %7s  %-22s %4s  %7s  %9s  %15s  %s' words
    if [[ -t 1 ]]; then again=$'\r\e[K'; fi
    say
    show_statement "SELECT $columns FROM backfill_status"
    IFS=', ' read -r -a words <<<"$columns"
    # shellcheck disable=SC2059 # one layout for the head and the lines
    printf "$layout\n" "${words[@]}"
    while true; do
        line=$(psql -XAtq -F $'\t' -P null=- -c "SELECT $columns FROM backfill_status WHERE job = $job")
        state=$(cut -f 2 <<<"$line")
        IFS=$'\t' read -r -a words <<<"$line"
        # shellcheck disable=SC2059
        printf "%s$layout" "$again" "${words[@]}"
        if [[ -z $again ]]; then say; fi
        [[ $state == running ]] || break
        if ((SECONDS > deadline)); then
            state="still running after $2 s"
            break
        fi
        sleep 1
    done
    if [[ -n $again ]]; then say; fi
    if [[ $state == "done" ]]; then return; fi
    show "SELECT partition, state, attempts, waiting_on, error
FROM backfill_progress WHERE job = $job AND state <> 'done' ORDER BY ordinal LIMIT 10"
    fail "the backfill is not done: $state"
}

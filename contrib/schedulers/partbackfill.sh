#!/usr/bin/env bash
# Runs a backfill of partbackfill under a label: starts it or finds it again, shows its progress, and says by its exit status how it
# ended. The database is the one that libpq's environment names (PGHOST, PGDATABASE, PGSERVICE, PGPASSFILE ...).
#
#     partbackfill.sh [-i SECONDS] [-p SECONDS] [-s leave|pause|cancel] -l LABEL TARGET SOURCE [PARAMETER=VALUE ...]
#
#   -l  stands for this piece of work: who runs it again finds its job, and what has failed of it is tried again
#   -i  seconds between two looks at the job (2)
#   -p  seconds for which the server may be away (300)
#   -s  what becomes of the job on SIGINT, SIGTERM and SIGHUP (leave: it goes on)
#
# exit status: 0 done (or ready, with publish=manual); 1 partitions failed, which are listed; 2 not started, or the server was away
# for too long; 3 paused; 4 canceled or reverted; 128 + n stopped by signal n.
set -euo pipefail

usage() {
    sed -n 's/^#  *\(partbackfill.sh .*\)/usage: \1/p' "$0" >&2
    exit 2
}

label='' interval=2 patience=300 on_signal=leave
while getopts 'l:i:p:s:' option; do
    case $option in
    l) label=$OPTARG ;;
    i) interval=$OPTARG ;;
    p) patience=$OPTARG ;;
    s) on_signal=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[[ -n $label && $# -ge 2 && $on_signal =~ ^(leave|pause|cancel)$ ]] || usage
target=$1 source=$2
shift 2

# Values go to psql as variables, which it quotes: :'name'.
variables=(-v "label=$label" -v "target=$target" -v "source=$source")
named=''
for parameter in "$@"; do
    [[ $parameter =~ ^([a-z_]+)=(.*)$ ]] || usage
    variables+=(-v "p_${BASH_REMATCH[1]}=${BASH_REMATCH[2]}")
    named+=", ${BASH_REMATCH[1]} => :'p_${BASH_REMATCH[1]}'"
done

# ask STATEMENT: its rows, columns separated by tabs. psql ends with 3 when the statement is wrong, with 2 when the server is away.
ask() {
    PGAPPNAME=partbackfill.sh psql -X -q -A -t -F $'\t' -v ON_ERROR_STOP=1 "${variables[@]}" -f - <<<"$1"
}

# patiently STATEMENT: the same, again and again while the server is away. A job outlives a restart or a failover.
patiently() {
    local status deadline=$((SECONDS + patience))
    while true; do
        status=0
        ask "$1" || status=$?
        ((status == 2 && SECONDS < deadline)) || break
        sleep 1 &
        wait $!
    done
    ((status == 0)) || exit 2
}

job=''
# shellcheck disable=SC2317 # called by the traps
stopped() {
    trap - INT TERM HUP
    if [[ -n $job ]]; then
        if [[ $on_signal != leave ]]; then ask "SELECT backfill_$on_signal($job)" >/dev/null || true; fi
        echo "stopped by signal $1; job $job: $on_signal" >&2
    fi
    exit $((128 + $1))
}
trap 'stopped 2' INT
trap 'stopped 15' TERM
trap 'stopped 1' HUP

known=$(ask "SELECT job, state FROM backfill_status WHERE label = :'label' AND owner = current_user ORDER BY job DESC LIMIT 1") || exit 2
IFS=$'\t' read -r job state <<<"$known" || true
case $state in
running | ready) how=found ;;
paused)
    how=resumed
    patiently "SELECT backfill_resume($job)" >/dev/null
    ;;
failed)
    how=retried
    patiently "SELECT backfill_retry($job)" >/dev/null
    ;;
*)
    how=started
    job=''
    job=$(ask "SELECT backfill_start(:'target', :'source', label => :'label'$named)") || exit 2
    ;;
esac
echo "job $job: $how, label $label"

shown=''
while true; do
    row=$(patiently "SELECT state, format('job %s: %s %s %s %%, %s of %s partitions', job, state, bar, COALESCE(percent, 0), done, partitions)
        || COALESCE(', ' || eta || ' left', '') || COALESCE(', waits for ' || waiting_on, ''), waiting_on LIKE 'no worker%'
        FROM backfill_status WHERE job = $job")
    IFS=$'\t' read -r state line without_worker <<<"$row"
    if [[ $line != "$shown" ]]; then echo "$line"; fi
    shown=$line
    [[ $state == running ]] || break
    # A restart has left it without a worker.
    if [[ $without_worker == t ]]; then patiently "SELECT backfill_resume($job)" >/dev/null; fi
    sleep "$interval" &
    wait $!
done

state=$(patiently "SELECT backfill_wait($job, '1 minute')") # until it is tidied
case $state in
done | ready) exit 0 ;;
failed)
    patiently "SELECT 'failed: ' || split_part(error, chr(10), 1) FROM backfill_status WHERE job = $job AND failed = 0" >&2
    patiently "SELECT format('failed: %s: %s (%s, attempt %s)', partition, split_part(error, chr(10), 1), sqlstate, attempts)
        FROM backfill_progress WHERE job = $job AND state = 'failed' ORDER BY ordinal" >&2
    exit 1
    ;;
paused) exit 3 ;;
canceled | reverted) exit 4 ;;
*) exit 2 ;;
esac

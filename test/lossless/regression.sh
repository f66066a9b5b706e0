#!/usr/bin/env bash
# The measure of lossless.pl over PostgreSQL's own regression database, whose tables nobody made with us in mind: each
# that is not rebuilt without a loss has to be refused.
#
# usage: regression.sh DIRECTORY     src/test/regress of the server's source, best of its very release: a script of
#                                    the suite that fails leaves less behind to be measured
set -euo pipefail
# shellcheck source=../setup/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/../setup/cluster.sh"

suite=${1:?the directory of the regression suite is needed}
[[ -f $suite/parallel_schedule && -f $suite/regress.c ]] || fail "$suite is not the directory of the regression suite"

choose_server
make_scratch
make_installation
build_extension || fail "could not build the extension"
start_cluster "${fast_settings[@]}" max_worker_processes=32 max_prepared_transactions=8 wal_level=logical

# What the suite writes is written by the server, too.
work=$scratch/suite
mkdir "$work"
cp -r "$suite"/{sql,expected,data,parallel_schedule,resultmap,regress.c} "$work/"
cc -O2 -fPIC -shared -I"$("$PG_CONFIG" --includedir-server)" -o "$work/regress.so" "$work/regress.c"
for library in autoinc refint; do
    if [[ -f $("$PG_CONFIG" --pkglibdir)/$library.so ]]; then cp "$("$PG_CONFIG" --pkglibdir)/$library.so" "$work/"; fi
done
if ((EUID == 0)); then chown -R "$server_user" "$work"; fi

directories=(--inputdir="$work" --outputdir="$work" --dlpath="$work")
if ((pg_major >= 16)); then directories+=(--expecteddir="$work"); fi
say "the regression suite"
as_server_user env -C "$work" PGHOST="$PGHOST" "$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress" \
    --bindir="$bindir" --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --max-connections=8 \
    "${directories[@]}" --schedule="$work/parallel_schedule" >"$scratch/suite.log" 2>&1 || true
grep -E 'tests (failed|passed)' "$scratch/suite.log" || fail "$(tail -n 20 "$scratch/suite.log")"

status=0
for method in auto attach storage; do
    psql -Xq -c "CREATE DATABASE measured TEMPLATE regression"
    psql -Xq -d measured -c "CREATE EXTENSION amcheck" -c "CREATE EXTENSION partbackfill"
    say "$method"
    perl "$checkout/test/lossless/lossless.pl" "$method" measured >"$scratch/$method.out" || status=1
    grep -v '^same ' "$scratch/$method.out"
    psql -Xq -c "DROP DATABASE measured WITH (FORCE)"
done
exit "$status"

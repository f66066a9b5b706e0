#!/usr/bin/env bash
# Draws the panels of contrib/grafana/partbackfill.json to docs/img/dashboard.svg, or the file that is named: gnuplot does, from what
# a Prometheus answers to their queries while jobs run in a throw-away cluster. Grafana itself takes no part. Needs prometheus,
# prometheus-postgres-exporter, gnuplot and two minutes.
set -euo pipefail
# shellcheck source=../setup/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/../setup/cluster.sh"

figure=${1:-$checkout/docs/img/dashboard.svg}
exporter_port=${EXPORTER_PORT:-29187}
port=${PROMETHEUS_PORT:-29090}

choose_server
make_scratch
say "Building the extension and starting a throw-away PostgreSQL $pg_major ..."
make_installation
build_extension || fail "the extension could not be built"
start_cluster "${fast_settings[@]}"
ask() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }

psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE EXTENSION partbackfill;
CREATE TABLE events (id integer PRIMARY KEY, amount integer, payload text) PARTITION BY RANGE (id);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%s) TO (%s)', n, n * 20000, n * 20000 + 20000)
FROM generate_series(0, 23) AS n
\gexec
INSERT INTO events SELECT g, 0, repeat(md5(g::text), 4) FROM generate_series(0, 479999) AS g;
CREATE TABLE clicks (LIKE events INCLUDING ALL) PARTITION BY RANGE (id);
SELECT format('CREATE TABLE clicks_%s PARTITION OF clicks FOR VALUES FROM (%s) TO (%s)', n, n * 20000, n * 20000 + 20000)
FROM generate_series(0, 7) AS n
\gexec
INSERT INTO clicks SELECT * FROM events WHERE id < 160000;
SQL
mkdir "$scratch/prometheus"
if ((EUID == 0)); then chown "$server_user" "$scratch/prometheus"; fi
cat >"$scratch/prometheus.yml" <<END
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: postgres
    static_configs: [{targets: ['127.0.0.1:$exporter_port']}]
END
export DATA_SOURCE_NAME="host=$PGHOST port=$PGPORT user=$PGUSER dbname=postgres sslmode=disable"
start_child as_server_user prometheus-postgres-exporter "--web.listen-address=127.0.0.1:$exporter_port" --disable-default-metrics \
    --disable-settings-metrics "--extend.query-path=$checkout/contrib/prometheus/partbackfill.yaml" >"$scratch/exporter.log" 2>&1
start_child as_server_user prometheus "--config.file=$scratch/prometheus.yml" "--storage.tsdb.path=$scratch/prometheus" \
    "--web.listen-address=127.0.0.1:$port" --log.level=warn >"$scratch/prometheus.log" 2>&1
sleep 5

# One job is throttled, and meets writers and a long transaction; another one comes later, and a partition of it fails.
say "Two jobs ..."
began=$(date +%s)
first=$(ask "SELECT backfill_start('events', 'SELECT id, id % 100 AS amount, payload FROM events', workers => 2, max_wal_rate => '1500kB',
    delay => '500 ms', swap => 'attach', keep_old => false, label => 'amounts')")
sleep 15
psql -Xq -c "BEGIN; SELECT count(*) FROM events; SELECT pg_sleep(12); COMMIT" >/dev/null &
holder=$!
sleep 8
second=$(ask "SELECT backfill_start('clicks', 'SELECT id, 1 AS amount, payload FROM clicks', max_wal_rate => '1MB', keep_old => false,
    delay => '200 ms', audits => ARRAY['SELECT id FROM {shadow} WHERE id = 90000'], label => 'clicks')")
for _ in 1 2 3; do
    sleep 4
    ask "UPDATE events SET amount = -1 WHERE id % 20000 = 7" >/dev/null
done
wait "$holder"
ask "SELECT backfill_alter($first, max_wal_rate => '4MB')" >/dev/null
say "They are $(ask "SELECT backfill_wait($first, '3 min')") and $(ask "SELECT backfill_wait($second, '3 min')")."
sleep 3

python3 "$checkout/test/demo/panels.py" "$checkout/contrib/grafana/partbackfill.json" "http://127.0.0.1:$port" "$began" >"$scratch/panels.gp"
gnuplot "$scratch/panels.gp" >"$scratch/dashboard.svg"
cp "$scratch/dashboard.svg" "$figure"
say "Drawn: $figure"

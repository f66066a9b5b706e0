-- A table of one partition for each way of capturing writes, and BENCH_ROWS (:rows) rows to insert.
CREATE TABLE input AS
SELECT id, '2024-01-01'::timestamptz + id * interval '1 second' AS at, id % 50000 AS account, (ARRAY['view', 'click', 'purchase', 'refund'])[1 + id % 4] AS kind,
       (id % 100000 / 100.0)::numeric(12, 2) AS amount, md5(id::text) || md5((id + 1)::text) || md5((id + 2)::text) AS note
FROM generate_series(1::bigint, :rows) AS id;
VACUUM ANALYZE input;
SELECT unnest(ARRAY[
    format('CREATE TABLE %I (id bigint PRIMARY KEY, at timestamptz NOT NULL, account bigint NOT NULL, kind text NOT NULL, amount numeric(12, 2) NOT NULL, note text)
                PARTITION BY RANGE (id)', way),
    format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (1) TO (1000000000)', way || '_1', way)])
FROM unnest(ARRAY['none', 'rebuild', 'catch_up', 'repack']) AS way
\gexec

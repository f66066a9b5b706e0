-- A table with :siblings partitions beside 12 that are rebuilt, each with 6 indexes, and a DEFAULT with :rest rows.
CREATE TABLE :"name" (id bigint NOT NULL, at timestamptz NOT NULL, a int, b text, c numeric, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
SELECT format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', :'name' || '_' || n, :'name', n * 1000, (n + 1) * 1000)
FROM generate_series(0, 12 + :siblings - 1) AS n
\gexec
CREATE TABLE :"default" PARTITION OF :"name" DEFAULT;
CREATE INDEX ON :"name" (at);
CREATE INDEX ON :"name" (a, b);
CREATE INDEX ON :"name" (b);
CREATE INDEX ON :"name" (c);
CREATE INDEX ON :"name" (lower(b));
INSERT INTO :"name" SELECT n, '2024-01-01'::timestamptz + n * '1 second'::interval, n % 97, md5(n::text), n / 7.0
FROM generate_series(0, 11999) AS n;
INSERT INTO :"default" SELECT -n, '2024-01-01', n % 97, 'x', 0 FROM generate_series(1, :rest) AS n;
ANALYZE :"name";

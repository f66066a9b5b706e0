CREATE TABLE mix (versions int);
CREATE TABLE whole (k int PRIMARY KEY, v int NOT NULL, note text) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE whole_%s PARTITION OF whole FOR VALUES FROM (%s) TO (%s)', n, n * :rows, (n + 1) * :rows)
FROM generate_series(0, :partitions - 1) AS n
\gexec
CREATE INDEX ON whole (v);
INSERT INTO whole SELECT k, 0, repeat('x', 50) FROM generate_series(0, :partitions * :rows - 1) AS k;
VACUUM ANALYZE whole;

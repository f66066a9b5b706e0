-- What is rebuilt, the work that this costs, and what the foreground reads and writes: variables rows, partitions.
CREATE TABLE events (id bigint, at integer, kind integer, payload text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%s) TO (%s)', n, n, n + 1)
FROM generate_series(0, :partitions - 1) AS n
\gexec
CREATE INDEX ON events (kind);
INSERT INTO events
SELECT id, id % :partitions, id % 1000, md5(id::text) || md5((id + 1)::text) || md5((id + 2)::text) || md5((id + 3)::text)
FROM generate_series(1, :rows) AS id;
VACUUM ANALYZE events;

-- The same rows, each of which takes some microseconds to compute.
CREATE VIEW costly AS
SELECT id, at, kind, (SELECT max(md5(id::text || n::text)) FROM generate_series(1, 25) AS n) || substr(payload, 33) AS payload
FROM events;

-- :partitions partitions of :rows rows each, and one more, which no job rebuilds; and another table like that.
CREATE TABLE events (id bigint NOT NULL, at int NOT NULL, kind int, payload text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%s) TO (%s)', p, p * :rows, (p + 1) * :rows)
FROM generate_series(0, :partitions) AS p
\gexec
CREATE INDEX ON events (kind);
INSERT INTO events SELECT n, n, n % 100, md5(n::text) FROM generate_series(0, (:partitions + 1) * :rows - 1) AS n;
CREATE TABLE elsewhere (LIKE events INCLUDING ALL) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE elsewhere_%s PARTITION OF elsewhere FOR VALUES FROM (%s) TO (%s)', p, p * :rows, (p + 1) * :rows)
FROM generate_series(0, :partitions) AS p
\gexec
INSERT INTO elsewhere SELECT * FROM events;
VACUUM ANALYZE events, elsewhere;

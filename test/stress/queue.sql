-- A queue, as pgmq and pg-boss have it, and a table with a source that is migrated with it. An event is written in one
-- statement with what it tells of; all rows of `measured` are of one generation.
CREATE TABLE message (queue int, id bigint, state text NOT NULL DEFAULT 'created', read_ct int NOT NULL DEFAULT 0,
    vt timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (queue, id)) PARTITION BY LIST (queue);
SELECT format('CREATE TABLE message_%s PARTITION OF message FOR VALUES IN (%s)', n, n) FROM generate_series(1, 6) AS n
\gexec
CREATE TABLE event (queue int, id bigint, what text);
CREATE INDEX ON event (id);
CREATE SEQUENCE ids;

CREATE TABLE measured (k int PRIMARY KEY, generation int NOT NULL, note text) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE measured_%s PARTITION OF measured FOR VALUES FROM (%s) TO (%s)', p, p * 100, (p + 1) * 100)
FROM generate_series(0, 3) AS p
\gexec
CREATE TABLE measured_raw AS SELECT k, 0 AS generation, 'x' AS note FROM generate_series(0, 399) AS k;
INSERT INTO measured TABLE measured_raw;

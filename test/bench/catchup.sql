-- Two tables of one partition and :rows rows each, and their sources: a view over an indexed table, and one that groups five rows
-- of an indexed table each.
CREATE TABLE raw AS
SELECT id, '2024-01-01'::timestamptz + id * interval '1 second' AS at, id % 50000 AS account, (ARRAY['view', 'click', 'purchase', 'refund'])[1 + id % 4] AS kind,
       (id % 100000)::bigint AS amount_minor, md5(id::text) || md5((id + 1)::text) || md5((id + 2)::text) AS note
FROM generate_series(1::bigint, :rows) AS id;
ALTER TABLE raw ADD PRIMARY KEY (id);
CREATE VIEW indexed_source AS
SELECT id, at, account, kind, (amount_minor / 100.0)::numeric(12, 2) AS amount, note
FROM raw WHERE :gate;
CREATE TABLE indexed (id bigint PRIMARY KEY, at timestamptz NOT NULL, account bigint NOT NULL, kind text NOT NULL, amount numeric(12, 2) NOT NULL, note text)
    PARTITION BY RANGE (id);
CREATE TABLE indexed_1 PARTITION OF indexed FOR VALUES FROM (1) TO (1000000000);
INSERT INTO indexed SELECT id, at, account, kind, (amount_minor / 100.0)::numeric(12, 2), note FROM raw;

-- The rows of a group lie far from each other.
CREATE TABLE item AS
SELECT (n * 7919) % :rows + 1 AS id, '2024-01-01'::timestamptz + n * interval '1 second' AS at, n % 100000 AS amount_minor
FROM generate_series(1::bigint, :rows * 5) AS n;
CREATE INDEX ON item (id);
CREATE VIEW grouped_source AS
SELECT id, count(*) AS items, sum(amount_minor)::bigint AS amount_minor, max(at) AS latest
FROM item WHERE :gate GROUP BY id;
CREATE TABLE grouped (id bigint PRIMARY KEY, items bigint NOT NULL, amount_minor bigint NOT NULL, latest timestamptz NOT NULL)
    PARTITION BY RANGE (id);
CREATE TABLE grouped_1 PARTITION OF grouped FOR VALUES FROM (1) TO (1000000000);
INSERT INTO grouped SELECT id, count(*), sum(amount_minor), max(at) FROM item GROUP BY id;

-- The rows that are written, scattered over the table.
CREATE TABLE key AS SELECT row_number() OVER () AS n, id FROM (SELECT id FROM raw ORDER BY md5(id::text)) AS scattered;
ALTER TABLE key ADD PRIMARY KEY (n);
-- Writes to so many of them, one after the other.
CREATE PROCEDURE write(target text, how_many bigint) LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    EXECUTE format('UPDATE %I AS t SET amount%s = t.amount%s + 1 FROM (SELECT id FROM key ORDER BY n LIMIT %s) AS k WHERE t.id = k.id',
                   target, CASE target WHEN 'grouped' THEN '_minor' ELSE '' END, CASE target WHEN 'grouped' THEN '_minor' ELSE '' END, how_many);
END
$$;
VACUUM ANALYZE raw, indexed, item, grouped, key;

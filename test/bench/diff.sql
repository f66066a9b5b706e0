-- A partition of `rows` rows, of columns as events have them, and a source that gives 1,000 of them changed, 10 not and 20 more.
CREATE TABLE compared (id bigint, at timestamptz NOT NULL, kind text NOT NULL, amount numeric(12,2), ok boolean, note text, payload jsonb, PRIMARY KEY (id))
PARTITION BY RANGE (id);
CREATE TABLE compared_1 PARTITION OF compared FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
INSERT INTO compared
SELECT id, timestamptz '2024-01-01' + id * interval '1 second', 'kind ' || id % 20, (id % 10000) / 7.0, id % 3 = 0,
       CASE WHEN id % 4 > 0 THEN 'note of ' || md5(id::text) END, jsonb_build_object('a', id, 'b', 'text')
FROM generate_series(1, :rows) AS id;
VACUUM ANALYZE compared;
CREATE VIEW corrected AS
    SELECT id, at, kind, CASE WHEN id > 10 AND id <= 1010 THEN amount + 1 ELSE amount END AS amount, ok, note, payload FROM compared WHERE id > 10
    UNION ALL
    SELECT -id, at, kind, amount, ok, note, payload FROM compared WHERE id <= 20;

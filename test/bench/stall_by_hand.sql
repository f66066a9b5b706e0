-- The article's way, one partition after the other, with the locks as they come.
\pset tuples_only on
\pset format unaligned
SELECT format('CREATE TABLE new_%1$s (LIKE events INCLUDING ALL);
INSERT INTO new_%1$s SELECT id, at, kind + 1, payload FROM events_%1$s;
BEGIN;
ALTER TABLE events DETACH PARTITION events_%1$s;
ALTER TABLE events_%1$s RENAME TO old_%1$s;
ALTER TABLE new_%1$s RENAME TO events_%1$s;
ALTER TABLE events ATTACH PARTITION events_%1$s FOR VALUES FROM (%2$s) TO (%3$s);
COMMIT;
DROP TABLE old_%1$s;', p, p * :rows, (p + 1) * :rows)
FROM generate_series(0, :partitions - 1) AS p \g :script
\i :script

-- Two partitions of narrow rows, one of :small rows and one with the rest of :all.
CREATE TABLE narrow_source AS
SELECT n AS key, n * 7 AS a, hashint8(n)::bigint AS b FROM generate_series(0::bigint, :all - 1) AS n;
CREATE INDEX ON narrow_source (key);
CREATE TABLE narrow (key bigint PRIMARY KEY, a bigint, b bigint) PARTITION BY RANGE (key);
CREATE TABLE narrow_small PARTITION OF narrow FOR VALUES FROM (0) TO (:small);
CREATE TABLE narrow_large PARTITION OF narrow FOR VALUES FROM (:small) TO (:all);
-- The same without an index.
CREATE TABLE bare (key bigint, a bigint, b bigint) PARTITION BY RANGE (key);
CREATE TABLE bare_small PARTITION OF bare FOR VALUES FROM (0) TO (:small);
CREATE TABLE bare_large PARTITION OF bare FOR VALUES FROM (:small) TO (:all);
INSERT INTO narrow SELECT * FROM narrow_source;
VACUUM (ANALYZE) narrow_source;
VACUUM (ANALYZE) narrow;

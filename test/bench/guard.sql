-- Two partitions alike; job 1 holds the guard on the first, its build waiting in the source.
CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL, kind integer, payload text)
    PARTITION BY RANGE (at);
CREATE TABLE guarded PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE bare PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE INDEX ON events (id);
CREATE TABLE input AS
    SELECT id, '2024-01-01'::timestamptz + id % 2600000 * interval '1 second' AS at, (id % 100)::integer AS kind,
           md5(id::text) || md5((id + 1)::text) AS payload
    FROM generate_series(1, :rows) AS id;
VACUUM ANALYZE input;

-- :partitions partitions of :rows rows, a table that their source reads, and a journal of what writers have done.
CREATE TABLE hot (k bigint PRIMARY KEY, v bigint NOT NULL, tag text NOT NULL, note text) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE hot_%s PARTITION OF hot FOR VALUES FROM (%s) TO (%s)', n, n * :rows, (n + 1) * :rows)
FROM generate_series(0, :partitions - 1) AS n
\gexec
INSERT INTO hot SELECT k, 0, 'old', md5(k::text) FROM generate_series(0, :partitions * :rows - 1) AS k;
CREATE TABLE hot_raw AS SELECT k, v, note FROM hot;
ALTER TABLE hot_raw ADD PRIMARY KEY (k);
-- The order of entries is that of the writes to a key: the row is locked when the number is taken.
CREATE TABLE hot_journal (n bigserial PRIMARY KEY, k bigint NOT NULL, v bigint);
-- A row is deleted, or inserted or changed.
CREATE FUNCTION write_hot(wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    new_v bigint;
BEGIN
    IF random() < 0.2 THEN
        DELETE FROM hot WHERE k = wanted;
        IF FOUND THEN
            DELETE FROM hot_raw WHERE k = wanted;
            INSERT INTO hot_journal (k, v) VALUES (wanted, NULL);
        END IF;
    ELSE
        INSERT INTO hot AS t VALUES (wanted, 1, 'written') ON CONFLICT (k) DO UPDATE SET v = t.v + 1, tag = 'written' RETURNING v INTO new_v;
        INSERT INTO hot_raw VALUES (wanted, new_v) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v;
        INSERT INTO hot_journal (k, v) VALUES (wanted, new_v);
    END IF;
END
$$;
VACUUM ANALYZE hot, hot_raw;

-- 24 partitions that are rewritten all the time. Rows with a negative id are never written: each partition but the last
-- has :still of them, and readers know what they must find. The others belong to one client each, which keeps a journal
-- of what it did to them in the transaction that did it.
CREATE TABLE events (id bigint, at int, value bigint NOT NULL, pass int NOT NULL DEFAULT 0, note text, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%s) TO (%s)', p, p * 1000, (p + 1) * 1000)
FROM generate_series(0, 23) AS p
\gexec
CREATE INDEX ON events (value);
INSERT INTO events (id, at, value, note)
SELECT -(p * 1000 + n + 1), p * 1000 + n, n, repeat('x', 100)
FROM generate_series(0, 22) AS p, generate_series(0, :still - 1) AS n;
VACUUM ANALYZE events;

CREATE TABLE journal (n bigserial PRIMARY KEY, id bigint NOT NULL, at int, value bigint); -- at NULL: deleted
CREATE INDEX ON journal (id, n);
CREATE TABLE anomaly (n bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), what text NOT NULL);

-- What is wrong with the partitions as the caller sees them: the rows that nobody writes are all there, in a partition
-- all of the same pass.
CREATE VIEW wrong AS
    SELECT format('partition %s: %s rows of %s passes', p, count(e.id), count(DISTINCT e.pass)) AS what
    FROM generate_series(0, 22) AS p
    LEFT JOIN events AS e ON e.at / 1000 = p AND e.id < 0
    GROUP BY p
    HAVING count(e.id) <> current_setting('stress.still')::int OR count(DISTINCT e.pass) <> 1;
SELECT format('ALTER DATABASE %I SET stress.still = %s', current_database(), :still)
\gexec

-- Swapped together: every row of it has the same pass.
CREATE TABLE whole (k int PRIMARY KEY, pass int NOT NULL) PARTITION BY RANGE (k);
SELECT format('CREATE TABLE whole_%s PARTITION OF whole FOR VALUES FROM (%s) TO (%s)', n, n * 200, (n + 1) * 200) FROM generate_series(0, 11) AS n
\gexec
INSERT INTO whole SELECT k, 0 FROM generate_series(0, 2399) AS k;

CREATE EXTENSION partbackfill;

CREATE TABLE events (id bigint, at timestamptz, amount numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_2023_01 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2023-02-01');
CREATE TABLE events_2023_02 PARTITION OF events FOR VALUES FROM ('2023-02-01') TO ('2023-03-01');
INSERT INTO events SELECT n, timestamptz '2023-01-01' + n * interval '1 minute', n FROM generate_series(0, 59999) AS n;

SELECT ordinal, partition, action FROM backfill_plan('events', 'SELECT id, at, amount / 100 AS amount FROM events');
SELECT backfill_start('events', 'SELECT id, at, amount / 100 AS amount FROM events', delay => '0') AS job \gset
SELECT backfill_wait(:job, '5 min') AS state \gset
SELECT job, state, bar, done, partitions FROM backfill_status;
SELECT sum(old_rows) AS old_rows, sum(changed) AS changed FROM backfill_diff(:job);
SELECT backfill_revert(:job) AS reverted, backfill_purge(:job) AS purged \gset

SELECT :'state' <> 'done' OR :reverted <> 2 OR :purged <> 2 OR sum(amount) <> 59999 * 30000 AS wrong, current_setting('server_version') AS version FROM events \gset
\if :wrong
    \echo the job was not done as it should be
    SELECT 1 / 0;
\endif
DROP EXTENSION partbackfill;
\echo the main job was done on PostgreSQL :version

-- What a source may be, and what a row may have to become.
CREATE SCHEMA sources;
SET search_path = sources, public;
SET client_min_messages = warning;

CREATE TABLE events (
    id     bigint NOT NULL,
    at     timestamptz NOT NULL,
    kind   varchar(10) NOT NULL,
    amount numeric(10, 2),
    twice  numeric GENERATED ALWAYS AS (amount * 2) STORED,
    note   text DEFAULT 'none',
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
INSERT INTO events (id, at, kind, amount)
    SELECT g, '2024-01-01'::timestamptz + g * interval '1 hour', 'a', g FROM generate_series(0, 1439) AS g;
CREATE TABLE raw (id int, at timestamptz, kind text, amount text, note varchar(5));
INSERT INTO raw SELECT id, at, 'b', (amount / 3)::text, 'n' || id FROM events;
CREATE PROCEDURE run(source text, INOUT state text DEFAULT NULL, INOUT error text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    number := backfill_start('events', source, delay => '0', max_attempts => 1);
    COMMIT;
    state := backfill_wait(number, '60 s');
    SELECT s.error INTO error FROM backfill_status AS s WHERE s.job = number;
END
$$;

-- columns match by name, values are assigned as INSERT assigns them
CALL run('SELECT note, at, kind, amount::numeric, id FROM raw');
SELECT count(*), sum(amount), sum(twice), max(note) FROM events;
-- numeric(10, 2) out of text needs a cast: INSERT would ask for it too
DO $$ BEGIN PERFORM backfill_start('events', 'raw'); EXCEPTION WHEN datatype_mismatch THEN RAISE INFO '%', SQLERRM; END $$;
-- a view; a generated column that the source has is computed nevertheless
CREATE VIEW corrected AS SELECT id, at, kind, amount + 1 AS amount, 0 AS twice, note FROM events;
CALL run('corrected');
SELECT count(*), sum(amount), sum(twice) FROM events;
-- a name that needs quotes, and one with a schema
CREATE VIEW "Odd ""Name" AS SELECT * FROM corrected;
CALL run('"Odd ""Name"');
CALL run('sources.corrected');
-- the table itself, its leaf read directly
CALL run('events');
-- a query with comments and a semicolon, bounds, CTE, aggregate, order
CALL run('SELECT id, at, kind, amount, note -- all there is
          FROM events WHERE at >= $1 AND at < $2; -- and no more');
CALL run('WITH m AS (SELECT id, max(at) AS at FROM events GROUP BY id, at)
          SELECT id, at, ''c''::text AS kind, 1 AS amount, NULL AS note FROM m ORDER BY at');
SELECT count(*), sum(amount), min(kind), count(note) FROM events;

-- settings of the session travel with the job
CREATE TABLE one_month (day text, at timestamp) PARTITION BY RANGE (at);
CREATE TABLE one_month_1 PARTITION OF one_month FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Kolkata';
SET app.factor = '7';
SET work_mem = '5MB';
SELECT backfill_start('one_month', $$
    SELECT concat_ws(' ', '2024-01-02'::date, '2024-01-02 12:00+00'::timestamptz, current_setting('app.factor'),
                     current_setting('work_mem'), current_setting('TimeZone'), current_setting('search_path')) AS day,
           '2024-01-15'::timestamp AS at
$$) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT day FROM one_month;
-- the bounds of partitions do not depend on them
SELECT partition, range_start, range_end FROM backfill_progress WHERE job = :job;
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'one_month_1' AND relispartition;
RESET ALL;
SET search_path = sources, public;
SET client_min_messages = warning;

-- a source may not write, nor may its functions
CREATE TABLE log (n int);
CREATE FUNCTION sneaky(n numeric) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (n); RETURN n; END $$;
CALL run('SELECT id, at, kind, sneaky(amount) AS amount, note FROM events');
SELECT count(*) FROM log;

-- plan: what would be computed whole for each partition
SELECT partition, hazards FROM backfill_plan('events', 'SELECT id, at, kind, sum(amount) OVER (ORDER BY id) AS amount, note FROM events');
SELECT partition, hazards FROM backfill_plan('events', 'SELECT id, at, kind, sum(amount) OVER (PARTITION BY at ORDER BY id) AS amount, note FROM events');
SELECT partition, hazards FROM backfill_plan('events', 'SELECT id, at, kind, amount, note FROM events WHERE at >= $1 LIMIT 5');

-- keys keep type, type modifier and collation
CREATE TABLE keyed (k varchar(3) COLLATE "C", v int) PARTITION BY LIST (k);
CREATE TABLE keyed_a PARTITION OF keyed FOR VALUES IN ('abc');
SELECT count(*) FROM backfill_plan('keyed', 'SELECT ''abc''::varchar(3) COLLATE "C" AS k, 1 AS v');
SELECT count(*) FROM backfill_plan('keyed', 'SELECT ''abc''::varchar(4) COLLATE "C" AS k, 1 AS v');
SELECT count(*) FROM backfill_plan('keyed', 'SELECT ''abc''::text COLLATE "C" AS k, 1 AS v');
SELECT count(*) FROM backfill_plan('keyed', 'SELECT ''abc''::varchar(3) COLLATE "POSIX" AS k, 1 AS v');

-- what the source of a partition sets does not last into the next
CREATE TABLE told (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE told_1 PARTITION OF told FOR VALUES FROM (1) TO (2);
CREATE TABLE told_2 PARTITION OF told FOR VALUES FROM (2) TO (3);
CREATE FUNCTION tell_and_set() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := current_setting('bytea_output') || ' ' || current_setting('TimeZone');
BEGIN
    PERFORM set_config('bytea_output', 'hex', false), set_config('TimeZone', 'Asia/Tokyo', false);
    RETURN before;
END
$$;
SET bytea_output = 'escape';
SET TimeZone = 'Europe/Paris';
SELECT backfill_start('told', 'SELECT k, sources.tell_and_set() AS v FROM generate_series(1, 2) AS k', delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job, '60 s');
SELECT * FROM told ORDER BY k;
RESET bytea_output;
RESET TimeZone;

-- a policy that would hide rows is an error, not a loss
CREATE ROLE backfill_sources LOGIN;
GRANT ALL ON SCHEMA sources TO backfill_sources;
CREATE TABLE guarded (id bigint, at timestamptz, kind text, amount numeric, note text);
INSERT INTO guarded SELECT id, at, kind, amount, note FROM events;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY half ON guarded USING (id % 2 = 0);
GRANT SELECT ON guarded TO backfill_sources;
ALTER TABLE events OWNER TO backfill_sources;
ALTER TABLE events_1 OWNER TO backfill_sources;
ALTER TABLE events_2 OWNER TO backfill_sources;
SET ROLE backfill_sources;
SELECT backfill_start('events', 'guarded');
RESET ROLE;

SELECT count(backfill_purge(job)) > 0 AS purged FROM backfill_status WHERE target LIKE 'sources.%';
DROP SCHEMA sources CASCADE;
DROP ROLE backfill_sources;

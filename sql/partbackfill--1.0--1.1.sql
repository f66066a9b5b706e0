-- partbackfill 1.0 to 1.1: an installation that has been updated has the same objects as a new one, but for the
-- order of the columns of the control tables. Jobs stay, with their states and what they have kept; what 1.0 had
-- built and not swapped is built again, as 1.1 checks more of it.
--
-- What partbackfill--1.1.sql says of names and operands holds here, too.
\echo Use "ALTER EXTENSION partbackfill UPDATE" to load this file. \quit

------------------------------------------------------------------ nobody is at work

DO $$
DECLARE
    workers text;
BEGIN
    SELECT pg_catalog.string_agg(a.pid::pg_catalog.text, ', ') INTO workers
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'partbackfill worker';
    IF workers IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_in_use',
            MESSAGE = 'extension "partbackfill" cannot be updated while its workers are at work',
            DETAIL = pg_catalog.format('Their process IDs are %s.', workers),
            HINT = 'Pause the jobs with backfill_pause(), or end the workers with pg_terminate_backend(). backfill_resume() has the jobs go on after the update.';
    END IF;
END
$$;

-- Transactions that have written to a partition which 1.0 watches hold a lock on backfill_write, and new ones would queue
-- behind this one while it waits for them.
DO $$
BEGIN
    IF pg_catalog.current_setting('lock_timeout') = '0' THEN
        PERFORM pg_catalog.set_config('lock_timeout', '5s', true);
    END IF;
END
$$;
LOCK TABLE @extschema@.backfill_job, @extschema@.backfill_control, @extschema@.backfill_write IN ACCESS EXCLUSIVE MODE;

-- A session that has called the extension before keeps the library that it has loaded then.
DO $$
BEGIN
    CREATE FUNCTION @extschema@.backfill_without_worker(OUT job bigint, OUT waiting_on text) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_without_worker';
EXCEPTION
    WHEN undefined_function THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'this session has loaded the library of partbackfill 1.0',
            HINT = 'Install that of 1.1, and run ALTER EXTENSION in a new session; where the library is preloaded, restart the server first.';
END
$$;
COMMENT ON FUNCTION @extschema@.backfill_without_worker IS 'internal: jobs that have no worker until backfill_resume is called, for the views';

DROP TRIGGER announce_start ON @extschema@.backfill_job;
DROP TRIGGER announce ON @extschema@.backfill_job;
DROP TRIGGER announce ON @extschema@.backfill_control;
DROP INDEX @extschema@.backfill_control_unfinished;

------------------------------------------------------------------ backfill_job

-- A constant that belongs to this installation: pg_upgrade and physical standbys
-- keep it, while a database that gets rows of the control tables in another way
-- (logical replication, COPY) has a value of its own.
DO $$
BEGIN
    EXECUTE pg_catalog.format(
        'CREATE FUNCTION %s.backfill_installation() RETURNS pg_catalog.uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS %L',
        '@extschema@', pg_catalog.format('SELECT %L::pg_catalog.uuid', pg_catalog.gen_random_uuid()));
END
$$;
COMMENT ON FUNCTION @extschema@.backfill_installation IS 'internal: identity of this installation of the extension; jobs of other installations are ignored';

ALTER TABLE @extschema@.backfill_job
    ADD COLUMN installation uuid,
    ADD COLUMN shard bigint,
    ADD COLUMN min_free_disk_bytes bigint,
    ADD COLUMN min_free_disk_ratio float8,
    ADD COLUMN audits text[] NOT NULL DEFAULT '{}',
    ADD COLUMN publish text,
    ADD COLUMN publishing boolean,
    ADD COLUMN reverts_from text,
    ADD COLUMN skip_triggers boolean,
    ADD COLUMN allow_shrink boolean,
    ADD COLUMN label text,
    ADD COLUMN workers_started_at timestamptz,
    ADD COLUMN partitions integer,
    ADD COLUMN pending integer,
    ADD COLUMN ready integer,
    ADD COLUMN done integer,
    ADD COLUMN failed integer,
    ADD COLUMN skipped integer,
    ADD COLUMN percent numeric,
    ADD COLUMN rows bigint,
    ADD COLUMN rows_per_second numeric;
ALTER TABLE @extschema@.backfill_job RENAME COLUMN max_wal_rate TO max_wal_rate_text;
ALTER TABLE @extschema@.backfill_job ADD COLUMN max_wal_rate bigint;

-- The texts are those of backfill_start(): a number with or without a unit. Where 1.0 skipped BEFORE ROW INSERT triggers
-- unasked, a job that goes on fails: no job of 1.0 was told to skip them. Workers of 1.0 had the search_path of their role where
-- the caller had set none; those of 1.1 have no other than that of the job.
UPDATE @extschema@.backfill_job AS j
SET installation = @extschema@.backfill_installation(),
    max_wal_rate = given.wal_rate,
    max_replica_lag = NULLIF(j.max_replica_lag, '0'::interval),
    min_free_disk_bytes = given.disk_bytes,
    min_free_disk_ratio = given.disk_ratio,
    publish = 'each',
    publishing = false,
    skip_triggers = false,
    allow_shrink = false,
    workers_started_at = j.started_at,
    setting_names = CASE WHEN j.state IN ('done', 'canceled') THEN '{}'
                         WHEN 'search_path' = ANY (j.setting_names) THEN j.setting_names
                         ELSE pg_catalog.array_append(j.setting_names, 'search_path') END,
    setting_values = CASE WHEN j.state IN ('done', 'canceled') THEN '{}'
                          WHEN 'search_path' = ANY (j.setting_names) THEN j.setting_values
                          ELSE pg_catalog.array_append(j.setting_values, given.path) END
FROM (
    SELECT t.job,
           NULLIF(pg_catalog.ceil(t.wal[1]::numeric * pg_catalog.power(1024::numeric, u.wal))::bigint, 0::bigint) AS wal_rate,
           CASE WHEN t.disk[2] = '%' THEN NULL
                ELSE NULLIF(pg_catalog.ceil(t.disk[1]::numeric * pg_catalog.power(1024::numeric, u.disk))::bigint, 0::bigint)
           END AS disk_bytes,
           CASE WHEN t.disk[2] = '%' THEN NULLIF(t.disk[1]::float8 / 100::float8, 0::float8) END AS disk_ratio,
           COALESCE(of_role.path, of_server.path) AS path
    FROM (
        SELECT o.job, o.owner,
               pg_catalog.regexp_match(pg_catalog.lower(o.max_wal_rate_text), '^[[:space:]]*([0-9.]+)[[:space:]]*([a-z]*)[[:space:]]*$') AS wal,
               pg_catalog.regexp_match(pg_catalog.lower(o.min_free_disk), '^[[:space:]]*([0-9.]+)[[:space:]]*([a-z]*|%)[[:space:]]*$') AS disk
        FROM @extschema@.backfill_job AS o
    ) AS t
    CROSS JOIN LATERAL (
        SELECT COALESCE(pg_catalog.array_position(ARRAY ['kb', 'mb', 'gb', 'tb'], t.wal[2]), 0)::numeric AS wal,
               COALESCE(pg_catalog.array_position(ARRAY ['kb', 'mb', 'gb', 'tb'], t.disk[2]), 0)::numeric AS disk
    ) AS u
    CROSS JOIN (
        SELECT COALESCE((SELECT f.setting FROM pg_catalog.pg_file_settings AS f
                         WHERE f.name = 'search_path' AND f.applied ORDER BY f.seqno DESC LIMIT 1),
                        (SELECT d.boot_val FROM pg_catalog.pg_settings AS d WHERE d.name = 'search_path')) AS path
    ) AS of_server
    LEFT JOIN LATERAL (
        SELECT pg_catalog.substr(c.setting, pg_catalog.length('search_path=') + 1) AS path
        FROM pg_catalog.pg_db_role_setting AS r
        CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c (setting)
        WHERE r.setrole IN (0::oid, t.owner)
          AND r.setdatabase IN (0::oid, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = pg_catalog.current_database()))
          AND pg_catalog.starts_with(c.setting, 'search_path=')
        ORDER BY r.setrole <> 0::oid DESC, r.setdatabase <> 0::oid DESC
        LIMIT 1
    ) AS of_role ON true
) AS given
WHERE given.job = j.job;

ALTER TABLE @extschema@.backfill_job
    DROP COLUMN max_wal_rate_text,
    DROP COLUMN min_free_disk,
    ALTER COLUMN installation SET NOT NULL,
    ALTER COLUMN publish SET NOT NULL,
    ALTER COLUMN publishing SET NOT NULL,
    ALTER COLUMN skip_triggers SET NOT NULL,
    ALTER COLUMN allow_shrink SET NOT NULL,
    ALTER COLUMN workers_started_at SET NOT NULL,
    ALTER COLUMN workers_started_at SET DEFAULT pg_catalog.clock_timestamp(),
    ADD CHECK (state IN ('running', 'paused', 'ready', 'done', 'failed', 'canceled', 'reverted')),
    ADD CHECK (reverts_from IN ('done', 'failed', 'canceled', 'reverted')),
    ADD CHECK (workers > 0),
    ADD CHECK (delay >= '0'::interval),
    ADD CHECK (nice_ratio >= 0::float8),
    ADD CHECK (max_wal_rate > 0::bigint),
    ADD CHECK (max_replica_lag > '0'::interval),
    ADD CHECK (min_free_disk_bytes > 0::bigint),
    ADD CHECK (min_free_disk_ratio > 0::float8 AND min_free_disk_ratio <= 1::float8),
    ADD CHECK (min_free_disk_bytes IS NULL OR min_free_disk_ratio IS NULL),
    ADD CHECK (on_write IN ('rebuild', 'catch_up', 'block', 'ignore')),
    ADD CHECK (max_attempts > 0),
    ADD CHECK (on_error IN ('continue', 'stop')),
    ADD CHECK (swap IN ('attach', 'storage')),
    ADD CHECK (publish IN ('each', 'together', 'manual')),
    ADD CHECK (lock_timeout >= '0'::interval),
    ADD CHECK (swap_patience >= '0'::interval),
    ADD CHECK (pg_catalog.cardinality(setting_names) = pg_catalog.cardinality(setting_values));
COMMENT ON COLUMN @extschema@.backfill_job.installation IS 'backfill_installation() where the job was started; a job of another installation is neither shown nor worked on';
COMMENT ON COLUMN @extschema@.backfill_job.target IS 'name of the target when the job began, readable when the table is gone';
COMMENT ON COLUMN @extschema@.backfill_job.reads_target IS 'whether the source reads the target: then a build delays the swaps of its siblings';
COMMENT ON COLUMN @extschema@.backfill_job.key_columns IS 'columns of partition keys; the source must give them with exactly the types of the keys';
COMMENT ON COLUMN @extschema@.backfill_job.state IS 'running, paused, ready, done, failed, canceled or reverted';
COMMENT ON COLUMN @extschema@.backfill_job.tidied IS 'whether the job is inactive and what its work left behind is dropped';
COMMENT ON COLUMN @extschema@.backfill_job.nice_ratio IS 'seconds that the job''s workers sleep for each second of work';
COMMENT ON COLUMN @extschema@.backfill_job.max_wal_rate IS 'bytes of WAL that the job''s workers together may write in a second; NULL for no limit';
COMMENT ON COLUMN @extschema@.backfill_job.max_replica_lag IS 'the workers wait while a standby''s replay is further behind; NULL for no limit';
COMMENT ON COLUMN @extschema@.backfill_job.throttle_query IS 'the workers wait while this query returns true or a number above 0';
COMMENT ON COLUMN @extschema@.backfill_job.min_free_disk_bytes IS 'the workers wait rather than leave fewer bytes of a volume free; NULL where the limit is a ratio, or there is none';
COMMENT ON COLUMN @extschema@.backfill_job.min_free_disk_ratio IS 'the workers wait rather than leave less of a volume free, as a part of the whole; NULL where the limit is a size, or there is none';
COMMENT ON COLUMN @extschema@.backfill_job.on_write IS 'what happens when a partition is written to while it is rebuilt: rebuild, catch_up, block or ignore';
COMMENT ON COLUMN @extschema@.backfill_job.audits IS 'queries that must give no row before a partition is swapped, as the caller wrote them';
COMMENT ON COLUMN @extschema@.backfill_job.publish IS 'when partitions are swapped: each by itself, all together, or all together by backfill_publish (manual)';
COMMENT ON COLUMN @extschema@.backfill_job.publishing IS 'whether all partitions of the job are to be swapped in one transaction, once they are built';
COMMENT ON COLUMN @extschema@.backfill_job.reverts_from IS 'the state of a job before backfill_revert() had it run; NULL when it is not being reverted';
COMMENT ON COLUMN @extschema@.backfill_job.skip_triggers IS 'whether the new rows may do without the partitions'' BEFORE ROW INSERT triggers';
COMMENT ON COLUMN @extschema@.backfill_job.allow_shrink IS 'whether a partition may be swapped that has lost most of its rows';
COMMENT ON COLUMN @extschema@.backfill_job.label IS 'the owner''s own name for the job; a call of backfill_start with the label of an unfinished job starts nothing';
COMMENT ON COLUMN @extschema@.backfill_job.setting_names IS 'settings of the calling session under which the source is read; setting_values has their values';
COMMENT ON COLUMN @extschema@.backfill_job.setting_values IS 'values of setting_names, secrets in custom settings included; emptied when the job is done or canceled';
COMMENT ON COLUMN @extschema@.backfill_job.rested_at IS 'when the job became inactive; NULL while it runs';
COMMENT ON COLUMN @extschema@.backfill_job.idle_time IS 'how long the job was inactive before it was resumed or retried';
COMMENT ON COLUMN @extschema@.backfill_job.workers_started_at IS 'when a session last started workers for the job';
COMMENT ON COLUMN @extschema@.backfill_job.finished_at IS 'when the job ended and was tidied up; NULL while it runs, is paused or is ready';
COMMENT ON COLUMN @extschema@.backfill_job.partitions IS 'partitions of a job that has ended; like the figures after it NULL until then, and what backfill_status shows from then on without a look at the partitions';

------------------------------------------------------------------ backfill_control

ALTER TABLE @extschema@.backfill_control RENAME COLUMN fingerprint TO definition_digest;
ALTER TABLE @extschema@.backfill_control RENAME COLUMN seen_snapshot TO build_snapshot;
ALTER TABLE @extschema@.backfill_control RENAME COLUMN seen_guard TO capture_versions;
ALTER TABLE @extschema@.backfill_control RENAME COLUMN seal TO shadow_digest;
ALTER TABLE @extschema@.backfill_control RENAME COLUMN held_time TO stalled_time;
ALTER TABLE @extschema@.backfill_control
    DROP COLUMN seen_file,
    ADD COLUMN held boolean NOT NULL DEFAULT false,
    ADD COLUMN audited boolean NOT NULL DEFAULT false,
    ADD COLUMN audit_failed boolean NOT NULL DEFAULT false,
    ADD COLUMN settling boolean NOT NULL DEFAULT false,
    ADD COLUMN new_oid oid,
    ADD COLUMN reverts_from text,
    ADD COLUMN revert_by text,
    ADD COLUMN revert_forced boolean NOT NULL DEFAULT false,
    ADD COLUMN revert_snapshot pg_snapshot,
    ADD COLUMN live_columns text,
    ADD COLUMN rows_before bigint;

-- A job that has failed is tidied up again, since it keeps no shadow any more.
UPDATE @extschema@.backfill_job AS j
SET tidied = false
WHERE j.state = 'failed'
  AND EXISTS (SELECT FROM @extschema@.backfill_control AS c WHERE c.job = j.job AND c.state = 'failed' AND c.built);

-- The shadows are dropped when their partitions are built again. A revert has to be forced: 1.0 did not watch what was
-- written after a swap.
UPDATE @extschema@.backfill_control AS c
SET state = CASE WHEN c.state = 'ready' THEN 'pending' ELSE c.state END,
    attempts = CASE WHEN c.state = 'ready' THEN GREATEST(c.attempts - 1, 0) ELSE c.attempts END,
    swap_since = NULL,
    built = false,
    definition_digest = NULL,
    shadow_digest = NULL,
    build_snapshot = NULL,
    capture_versions = NULL,
    -- By "attach" another table has taken the name.
    new_oid = CASE WHEN c.old_oid IS NULL OR c.state <> 'done' THEN NULL
                   WHEN c.old_oid = c.partition_oid THEN pg_catalog.to_regclass(c.partition)::pg_catalog.oid
                   ELSE c.partition_oid END;

ALTER TABLE @extschema@.backfill_control
    DROP CONSTRAINT backfill_control_pkey,
    ADD PRIMARY KEY (ordinal, job),
    ADD CHECK (state IN ('pending', 'running', 'ready', 'done', 'failed', 'skipped', 'canceled', 'reverted')),
    ADD CHECK (reverts_from IN ('done', 'reverted')),
    ADD CHECK (revert_by IN ('exchange', 'build')),
    ADD CHECK ((reverts_from IS NULL) = (revert_by IS NULL));
COMMENT ON TABLE @extschema@.backfill_control IS 'partbackfill: a row for each partition of a job';
COMMENT ON COLUMN @extschema@.backfill_control.partition_oid IS 'the live partition when the job, or its revert, began';
COMMENT ON COLUMN @extschema@.backfill_control.partition_bound IS 'the partition''s FOR VALUES clause when the job began; the partition is skipped when it has another one by then';
COMMENT ON COLUMN @extschema@.backfill_control.state IS 'pending, running, ready, done, failed, skipped, canceled or reverted';
COMMENT ON COLUMN @extschema@.backfill_control.claim IS 'token of the worker that has claimed the partition; a worker with another token changes nothing';
COMMENT ON COLUMN @extschema@.backfill_control.swap_since IS 'when the first swap of the present build was tried';
COMMENT ON COLUMN @extschema@.backfill_control.not_before IS 'no worker takes the partition up earlier';
COMMENT ON COLUMN @extschema@.backfill_control.partition_constraint IS 'implicit constraint of the partition as SQL text, which filters the source';
COMMENT ON COLUMN @extschema@.backfill_control.definition_digest IS 'digest of the partition''s definition when the shadow was made; another one at the swap means a rebuild';
COMMENT ON COLUMN @extschema@.backfill_control.proof_oid IS 'the CHECK on a DEFAULT sibling that spares the swap a scan of the sibling; dropped by the swap';
COMMENT ON COLUMN @extschema@.backfill_control.build_snapshot IS 'snapshot of the build: a mark in backfill_write that it does not see is a write that the shadow lacks; since the swap that of the swap, for a revert';
COMMENT ON COLUMN @extschema@.backfill_control.capture_versions IS 'versions of the write capture''s triggers that the build saw; others at the swap mean a rebuild; since the swap those that it made, for a revert';
COMMENT ON COLUMN @extschema@.backfill_control.shadow_digest IS 'digest of the shadow''s definition when it was made, then when it was built; another one means that the shadow was changed since';
COMMENT ON COLUMN @extschema@.backfill_control.throttled_time IS 'how long the builds of the partition were throttled';
COMMENT ON COLUMN @extschema@.backfill_control.stalled_time IS 'the part of the job''s time in which no work could be done, for want of a standby, throttle_query or the disk';
COMMENT ON COLUMN @extschema@.backfill_control.shadow_oid IS 'the shadow, a table that is built beside the partition';
COMMENT ON COLUMN @extschema@.backfill_control.built IS 'whether the shadow is complete: only the swap is left to do';
COMMENT ON COLUMN @extschema@.backfill_control.audited IS 'whether the shadow has passed the job''s audits since it last changed';
COMMENT ON COLUMN @extschema@.backfill_control.audit_failed IS 'whether an audit of the shadow gave a row: the shadow is kept to be looked at, and a retry builds it anew';
COMMENT ON COLUMN @extschema@.backfill_control.held IS 'whether nothing is left to do but to swap it together with the others of its job';
COMMENT ON COLUMN @extschema@.backfill_control.settling IS 'a swap has begun that changes rows of the shadow in place: a worker that died in it has left a shadow that must be built anew';
COMMENT ON COLUMN @extschema@.backfill_control.orphaned IS 'how often a worker died that had claimed the partition when it was ready';
COMMENT ON COLUMN @extschema@.backfill_control.suspect IS 'whether the worker of the last build died, perhaps of it: the partition is then built while no other one is';
COMMENT ON COLUMN @extschema@.backfill_control.rows_before IS 'rows of the live partition when the shadow has fewer than half as many: the swap then needs allow_shrink';
COMMENT ON COLUMN @extschema@.backfill_control.old_oid IS 'the table that keep_old kept, in schema backfill_<job>_old: with the old rows, or after a revert with the new ones';
COMMENT ON COLUMN @extschema@.backfill_control.new_oid IS 'the live partition since the swap';
COMMENT ON COLUMN @extschema@.backfill_control.reverts_from IS 'the state of the partition before its revert, while that is being made';
COMMENT ON COLUMN @extschema@.backfill_control.revert_by IS 'how the rows of the kept table come back: exchange of the tables, or build of a shadow from it';
COMMENT ON COLUMN @extschema@.backfill_control.revert_forced IS 'whether rows written since the swap are left behind';
COMMENT ON COLUMN @extschema@.backfill_control.revert_snapshot IS 'snapshot of the beginning of a forced revert: what was written to the kept table before that counts as its old rows';
COMMENT ON COLUMN @extschema@.backfill_control.live_columns IS 'the columns of the live partition at its swap, and its file: a revert has to know whether values were changed by ALTER TABLE since';

-- One unfinished job on a partition, also when two sessions start jobs at once; and no
-- other job while a failed one keeps what it has built for the partition.
CREATE UNIQUE INDEX backfill_control_unfinished ON @extschema@.backfill_control (partition_oid)
    WHERE state IN ('pending', 'running', 'ready') OR (state = 'failed' AND built);

-- What a worker asks between partitions, and the views of a running job, must not grow with the
-- partitions of the job, nor with the jobs that have ended. No other index than the first begins
-- with the job, the primary key's neither: while most partitions are in one state, or before the
-- table is analyzed, the planner would take the other index for as good, and read the whole job.
CREATE INDEX backfill_control_state ON @extschema@.backfill_control (job, state, ordinal);
CREATE INDEX backfill_control_finished ON @extschema@.backfill_control (finished_at);
CREATE INDEX backfill_control_old ON @extschema@.backfill_control (old_oid) WHERE old_oid IS NOT NULL;
CREATE INDEX backfill_job_unfinished ON @extschema@.backfill_job (job) WHERE NOT tidied OR state = 'paused';

-- One unfinished job a label and owner.
CREATE UNIQUE INDEX backfill_job_label ON @extschema@.backfill_job (owner, label, installation)
    WHERE label IS NOT NULL AND state = ANY (ARRAY ['running', 'paused', 'ready']) AND reverts_from IS NULL;

------------------------------------------------------------------ backfill_write

COMMENT ON TABLE @extschema@.backfill_write IS 'partbackfill: a mark for each transaction that wrote to a partition while it was rebuilt, and for the first ones while its old rows are kept; made by the write capture''s triggers';
COMMENT ON COLUMN @extschema@.backfill_write.job IS 'the job; its negative number for writes while the old rows are kept';
COMMENT ON COLUMN @extschema@.backfill_write.xid IS 'the top-level transaction that wrote';

-- Without a policy GRANT ... ON ALL TABLES IN SCHEMA and pg_write_all_data give other roles
-- no row to see and none to write. Superusers pass, and so does the owner.
ALTER TABLE @extschema@.backfill_job ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.backfill_control ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.backfill_write ENABLE ROW LEVEL SECURITY;

------------------------------------------------------------------ functions

-- Other parameters or results. The views use the last one until they are replaced.
ALTER FUNCTION @extschema@.backfill_start(regclass, text, text, text, regclass[], boolean, integer, interval, float8, text, interval, text, text, text, text, integer, text, boolean, interval, interval)
    RENAME TO backfill_start_1_0;
ALTER FUNCTION @extschema@.backfill_alter(bigint, integer, interval, float8, text, interval, text, text, interval, interval)
    RENAME TO backfill_alter_1_0;
ALTER FUNCTION @extschema@.backfill_live() RENAME TO backfill_live_1_0;

CREATE FUNCTION @extschema@.backfill_start(
    target        regclass,
    source        text,
    range_start   text       DEFAULT NULL,
    range_end     text       DEFAULT NULL,
    partitions    regclass[] DEFAULT NULL,
    newest_first  boolean    DEFAULT false,
    workers       integer    DEFAULT 1,
    delay         interval   DEFAULT '1 second',
    nice_ratio    float8     DEFAULT 0,
    max_wal_rate  text       DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    throttle_query text      DEFAULT NULL,
    min_free_disk text       DEFAULT '5%',
    on_write      text       DEFAULT 'rebuild',
    audits        text[]     DEFAULT '{}',
    on_error      text       DEFAULT 'continue',
    max_attempts  integer    DEFAULT 3,
    swap          text       DEFAULT 'auto',
    publish       text       DEFAULT 'each',
    keep_old      boolean    DEFAULT true,
    lock_timeout  interval   DEFAULT '100 ms',
    swap_patience interval   DEFAULT '1 hour',
    label         text       DEFAULT NULL,
    skip_triggers boolean    DEFAULT false,
    allow_shrink  boolean    DEFAULT false
) RETURNS bigint
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_start_1_1';
COMMENT ON FUNCTION @extschema@.backfill_start IS 'recompute partitions of a table from a source; returns the job''s number';

CREATE FUNCTION @extschema@.backfill_alter(
    job           bigint,
    workers       integer    DEFAULT NULL,
    delay         interval   DEFAULT NULL,
    nice_ratio    float8     DEFAULT NULL,
    max_wal_rate  text       DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    throttle_query text      DEFAULT NULL,
    min_free_disk text       DEFAULT NULL,
    lock_timeout  interval   DEFAULT NULL,
    swap_patience interval   DEFAULT NULL,
    allow_shrink  boolean    DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_alter_1_1';
COMMENT ON FUNCTION @extschema@.backfill_alter IS 'change how fast and how patiently a job works, also while it runs; NULL keeps an option, an empty text or 0 clears it';

CREATE FUNCTION @extschema@.backfill_live(
    OUT job bigint, OUT ordinal integer, OUT worker_pid integer, OUT phase text, OUT fraction float8,
    OUT rows bigint, OUT throttled interval, OUT stalled interval, OUT waiting_on text, OUT keys_behind bigint,
    OUT catch_up_time interval
) RETURNS SETOF record
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_live_1_1';
COMMENT ON FUNCTION @extschema@.backfill_live IS 'internal: what the workers of the caller''s jobs are doing now, for the views';

-- Who may call them: as decided for those of 1.0, also for pg_dump, to which all that is granted here would be a part of the
-- extension.
DO $$
DECLARE
    function record;
    entry record;
BEGIN
    FOR function IN
        SELECT old.oid AS old, new.oid AS new, new.oid::pg_catalog.regprocedure AS name, old.proacl AS acl
        FROM pg_catalog.pg_proc AS old
        JOIN pg_catalog.pg_proc AS new ON new.pronamespace = old.pronamespace AND old.proname = pg_catalog.concat(new.proname, '_1_0')::pg_catalog.name
        WHERE old.pronamespace = '@extschema@'::pg_catalog.regnamespace::pg_catalog.oid
          AND old.proname IN ('backfill_start_1_0', 'backfill_alter_1_0', 'backfill_live_1_0') AND old.proacl IS NOT NULL
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function.name);
        FOR entry IN
            SELECT CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee,
                   a.is_grantable
            FROM pg_catalog.aclexplode(function.acl) AS a
            JOIN pg_catalog.pg_proc AS p ON p.oid = function.new AND p.proowner <> a.grantee
        LOOP
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s %s', function.name, entry.grantee,
                                      CASE WHEN entry.is_grantable THEN 'WITH GRANT OPTION' END);
        END LOOP;
        DELETE FROM pg_catalog.pg_init_privs AS i
        WHERE i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AND i.objoid = function.new;
        DELETE FROM pg_catalog.pg_shdepend AS d
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AND d.objid = function.new AND d.deptype = 'i'::"char";
    END LOOP;
END
$$;

CREATE FUNCTION @extschema@.backfill_publish(job bigint) RETURNS integer
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'partbackfill_publish';
COMMENT ON FUNCTION @extschema@.backfill_publish IS 'swap the partitions of a ready job in one transaction, and wait for that; returns how many';

CREATE FUNCTION @extschema@.backfill_revert(job bigint, partition regclass DEFAULT NULL, force boolean DEFAULT false) RETURNS integer
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_revert';
COMMENT ON FUNCTION @extschema@.backfill_revert IS 'bring back the old rows of a partition or of all that a job has swapped, keep the new ones beside, and wait for that; returns how many';

CREATE FUNCTION @extschema@.backfill_diff(job bigint, partition regclass DEFAULT NULL) RETURNS TABLE (
    ordinal integer, partition text, old_rows bigint, new_rows bigint, same bigint, changed bigint,
    only_old bigint, only_new bigint, changed_columns jsonb
)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_diff';
COMMENT ON FUNCTION @extschema@.backfill_diff IS 'how the new rows of partitions that are built, or done and kept, differ from the old ones; changes nothing';

CREATE FUNCTION @extschema@.backfill_diff_rows(job bigint, partition regclass, max_rows integer DEFAULT 20) RETURNS TABLE (
    kind text, key jsonb, old jsonb, new jsonb
)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_diff_rows';
COMMENT ON FUNCTION @extschema@.backfill_diff_rows IS 'some of the rows by which the old and the new rows of a partition differ; changes nothing';

CREATE FUNCTION @extschema@.backfill_forget(job bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'partbackfill_forget';
COMMENT ON FUNCTION @extschema@.backfill_forget IS 'remove a job that has ended, and of which nothing is kept, from the control tables and views; false when it stays';

CREATE FUNCTION @extschema@.backfill_may_see(owner oid, target oid) RETURNS boolean
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'partbackfill_may_see';
COMMENT ON FUNCTION @extschema@.backfill_may_see IS 'internal: whether you could SET ROLE to the owner of a job, or to the owner of its table';

CREATE FUNCTION @extschema@.backfill_may_act_as(owner oid) RETURNS boolean
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'partbackfill_may_act_as';
COMMENT ON FUNCTION @extschema@.backfill_may_act_as IS 'internal: whether you could SET ROLE to the owner of a job';

-- At a subscriber, for the rows that the initial copy of a FOR ALL TABLES publication brings.
CREATE FUNCTION @extschema@.backfill_keep_local() RETURNS trigger
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'partbackfill_keep_local';
REVOKE ALL ON FUNCTION @extschema@.backfill_keep_local() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.backfill_keep_local IS 'internal: keeps what logical replication brings out of the control tables';

COMMENT ON FUNCTION @extschema@.backfill_pause IS 'stop a job until it is resumed, and give up the builds in progress; false when it did not run';
COMMENT ON FUNCTION @extschema@.backfill_wait IS 'wait until a job is inactive, or until the timeout; returns its state';
COMMENT ON FUNCTION @extschema@.backfill_announce IS 'internal: announces a change of state by NOTIFY on channel partbackfill';

------------------------------------------------------------------ what subscriptions bring

CREATE TRIGGER keep_local BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.backfill_job
    FOR EACH ROW EXECUTE FUNCTION @extschema@.backfill_keep_local();
CREATE TRIGGER keep_local BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.backfill_control
    FOR EACH ROW EXECUTE FUNCTION @extschema@.backfill_keep_local();
CREATE TRIGGER keep_local BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.backfill_write
    FOR EACH ROW EXECUTE FUNCTION @extschema@.backfill_keep_local();

-- Only where session_replication_role is replica, as it is in a subscription's workers.
ALTER TABLE @extschema@.backfill_job ENABLE REPLICA TRIGGER keep_local;
ALTER TABLE @extschema@.backfill_control ENABLE REPLICA TRIGGER keep_local;
ALTER TABLE @extschema@.backfill_write ENABLE REPLICA TRIGGER keep_local;

------------------------------------------------------------------ NOTIFY

CREATE TRIGGER announce_start AFTER INSERT ON @extschema@.backfill_job
    FOR EACH ROW EXECUTE FUNCTION @extschema@.backfill_announce();
CREATE TRIGGER announce AFTER UPDATE OF state ON @extschema@.backfill_job
    FOR EACH ROW WHEN (NEW.state OPERATOR(pg_catalog.<>) OLD.state)
    EXECUTE FUNCTION @extschema@.backfill_announce();

-- A transaction that notifies waits at its commit for others that do, which must not happen
-- while readers or writers wait for a swap. The states that come with a swap are therefore
-- announced after it: done and reverted when locked_for is recorded, ready and skipped by the worker.
CREATE TRIGGER announce AFTER UPDATE OF state, locked_for ON @extschema@.backfill_control
    FOR EACH ROW
    WHEN ((NEW.state OPERATOR(pg_catalog.<>) OLD.state
           AND NEW.state OPERATOR(pg_catalog.<>) ALL (ARRAY ['ready', 'done', 'skipped', 'reverted']))
          OR (NEW.state OPERATOR(pg_catalog.=) ANY (ARRAY ['done', 'reverted']) AND NEW.locked_for IS DISTINCT FROM OLD.locked_for))
    EXECUTE FUNCTION @extschema@.backfill_announce();

-- With any session_replication_role of the caller.
ALTER TABLE @extschema@.backfill_job ENABLE ALWAYS TRIGGER announce_start;
ALTER TABLE @extschema@.backfill_job ENABLE ALWAYS TRIGGER announce;
ALTER TABLE @extschema@.backfill_control ENABLE ALWAYS TRIGGER announce;

------------------------------------------------------------------ views

CREATE OR REPLACE VIEW @extschema@.backfill_progress WITH (security_barrier) AS
    SELECT c.job,
           c.ordinal,
           c.partition,
           c.range_start,
           c.range_end,
           c.state,
           live.phase,
           pg_catalog.round((CASE c.state
               WHEN 'done' THEN 100
               WHEN 'reverted' THEN 100
               WHEN 'ready' THEN 99
               WHEN 'running' THEN 100::float8 * COALESCE(live.fraction, 0)
               ELSE 0
           END)::numeric, 1) AS percent,
           CASE c.state WHEN 'running' THEN live.rows ELSE c.rows END AS rows,
           c.rows_estimate,
           c.wal_bytes,
           c.attempts,
           c.rebuilds,
           c.swap_attempts,
           CASE WHEN COALESCE(w.waiting_on, live.waiting_on, c.waiting_on) IS NULL THEN NULL
                WHEN me.is_owner THEN COALESCE(w.waiting_on, live.waiting_on, c.waiting_on)
                ELSE pg_catalog.regexp_replace(COALESCE(w.waiting_on, live.waiting_on, c.waiting_on),
                                               'throttle_query .*', 'throttle_query')
           END AS waiting_on,
           live.worker_pid,
           c.started_at,
           c.finished_at,
           c.build_time,
           -- The waits of the present attempt are not in the table yet.
           CASE WHEN c.state = 'running' AND live.throttled IS NOT NULL
                THEN COALESCE(c.throttled_time, '0') + live.throttled
                ELSE c.throttled_time
           END AS throttled_time,
           c.lock_wait,
           c.locked_for,
           c.sqlstate,
           -- An error may quote what the owner of the job may read and the owner of the table may not.
           CASE WHEN c.error IS NOT NULL AND me.is_owner THEN c.error END AS error,
           j.label,
           j.swap,
           live.keys_behind
    FROM @extschema@.backfill_control AS c
    JOIN @extschema@.backfill_job AS j ON j.job = c.job
    CROSS JOIN LATERAL (SELECT @extschema@.backfill_may_act_as(j.owner) AS is_owner) AS me
    LEFT JOIN @extschema@.backfill_live() AS live ON live.job = c.job AND live.ordinal = c.ordinal
    LEFT JOIN @extschema@.backfill_without_worker() AS w
           ON w.job = c.job AND c.state IN ('pending', 'running', 'ready')
    WHERE @extschema@.backfill_may_see(j.owner, j.target_oid) AND j.installation = @extschema@.backfill_installation()
    ORDER BY c.job, c.ordinal;
COMMENT ON VIEW @extschema@.backfill_progress IS 'a row for each partition of the jobs that you may control, and of those on your tables';

-- The partitions of a job that has ended are not looked at: a server has thousands of such jobs
-- after some years.
CREATE OR REPLACE VIEW @extschema@.backfill_status WITH (security_barrier) AS
    SELECT j.job,
           j.target,
           CASE WHEN me.is_owner THEN j.source END AS source,
           COALESCE(r.rolname::text, 'role ' || j.owner::text) AS owner,
           j.state,
           COALESCE(j.partitions::bigint, f.partitions) AS partitions,
           COALESCE(j.pending::bigint, f.pending) AS pending,
           COALESCE(f.running, 0) AS running,
           COALESCE(j.ready::bigint, f.ready, 0) AS ready,
           COALESCE(j.done::bigint, f.done) AS done,
           COALESCE(j.failed::bigint, f.failed) AS failed,
           COALESCE(j.skipped::bigint, f.skipped) AS skipped,
           share.percent,
           '[' || pg_catalog.rpad(pg_catalog.repeat('#', (share.percent / 5::numeric)::integer), 20, '-') || ']' AS bar,
           COALESCE(j.rows, f.rows) AS rows,
           COALESCE(j.rows_per_second, pg_catalog.round(f.rows::numeric / NULLIF(speed.seconds, 0::numeric), 0)) AS rows_per_second,
           CASE WHEN j.state = 'running' AND share.percent > 0::numeric
                THEN pg_catalog.make_interval(secs => pg_catalog.round(speed.seconds * (100::numeric - share.percent) / share.percent)::double precision
                                                    + f.catch_up_time)
           END AS eta,
           COALESCE(w.waiting_on, f.waiting_on) AS waiting_on,
           j.workers,
           j.started_at,
           j.finished_at,
           CASE WHEN me.is_owner THEN j.error END AS error,
           j.label
    FROM @extschema@.backfill_job AS j
    CROSS JOIN LATERAL (SELECT @extschema@.backfill_may_act_as(j.owner) AS is_owner) AS me
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = j.owner
    LEFT JOIN @extschema@.backfill_without_worker() AS w ON w.job = j.job
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS partitions,
               pg_catalog.count(*) FILTER (WHERE p.state = 'pending') AS pending,
               pg_catalog.count(*) FILTER (WHERE p.state = 'running') AS running,
               pg_catalog.count(*) FILTER (WHERE p.state = 'ready') AS ready,
               pg_catalog.count(*) FILTER (WHERE p.state = 'done') AS done,
               pg_catalog.count(*) FILTER (WHERE p.state = 'failed') AS failed,
               pg_catalog.count(*) FILTER (WHERE p.state = 'skipped') AS skipped,
               -- A partition weighs as many rows as it is estimated to have.
               pg_catalog.sum(p.weight) FILTER (WHERE p.state <> 'skipped') AS weight,
               pg_catalog.sum(p.weight::float8 * CASE p.state WHEN 'done' THEN 100::float8 WHEN 'reverted' THEN 100::float8 WHEN 'ready' THEN 99::float8
                                                   ELSE 100::float8 * COALESCE(p.fraction, 0) END) AS worked,
               COALESCE(pg_catalog.sum(p.rows), 0)::bigint AS rows,
               COALESCE(pg_catalog.date_part('epoch', pg_catalog.sum(p.stalled)), 0) AS stalled,
               -- The partitions that catch up do so side by side.
               COALESCE(pg_catalog.date_part('epoch', pg_catalog.max(p.catch_up_time)), 0) AS catch_up_time,
               pg_catalog.string_agg(DISTINCT
                   CASE WHEN p.waiting_on IS NULL THEN NULL
                        WHEN me.is_owner THEN p.waiting_on
                        ELSE pg_catalog.regexp_replace(p.waiting_on, 'throttle_query .*', 'throttle_query')
                   END, '; ') AS waiting_on
        FROM (
            SELECT c.state, GREATEST(c.rows_estimate, 1) AS weight, NULL::float8 AS fraction, c.rows, c.stalled_time AS stalled, c.waiting_on,
                   NULL::interval AS catch_up_time
            FROM @extschema@.backfill_control AS c
            WHERE c.job = j.job AND j.partitions IS NULL AND c.state <> ALL (ARRAY ['running', 'ready'])
            UNION ALL
            -- Only these few are joined with what their workers do.
            SELECT c.state, GREATEST(c.rows_estimate, 1), CASE c.state WHEN 'running' THEN live.fraction END,
                   CASE c.state WHEN 'running' THEN live.rows ELSE c.rows END,
                   COALESCE(c.stalled_time, '0') + CASE c.state WHEN 'running' THEN COALESCE(live.stalled, '0') ELSE '0' END,
                   COALESCE(live.waiting_on, c.waiting_on), live.catch_up_time
            FROM @extschema@.backfill_control AS c
            LEFT JOIN @extschema@.backfill_live() AS live ON live.job = c.job AND live.ordinal = c.ordinal
            WHERE c.job = j.job AND j.partitions IS NULL AND c.state = ANY (ARRAY ['running', 'ready'])
        ) AS p
    ) AS f
    CROSS JOIN LATERAL (
        SELECT COALESCE(j.percent, pg_catalog.round((f.worked / NULLIF(f.weight, 0::numeric)::float8)::numeric, 1), 0) AS percent
    ) AS share
    CROSS JOIN LATERAL (
        -- Time in which the whole job had to wait says nothing of its speed.
        SELECT GREATEST(pg_catalog.date_part('epoch', COALESCE(j.rested_at, pg_catalog.clock_timestamp()) - j.started_at - j.idle_time)
                   - f.stalled, 0)::numeric AS seconds
    ) AS speed
    WHERE @extschema@.backfill_may_see(j.owner, j.target_oid) AND j.installation = @extschema@.backfill_installation()
    ORDER BY j.job;
COMMENT ON VIEW @extschema@.backfill_status IS 'a row for each job that you may control, and for each on your tables';

DROP FUNCTION @extschema@.backfill_start_1_0;
DROP FUNCTION @extschema@.backfill_alter_1_0;
DROP FUNCTION @extschema@.backfill_live_1_0;

-- What the views show of jobs that have ended.
UPDATE @extschema@.backfill_job AS j
SET (partitions, pending, ready, done, failed, skipped, percent, rows, rows_per_second)
    = (SELECT s.partitions, s.pending, s.ready, s.done, s.failed, s.skipped, s.percent, s.rows, s.rows_per_second
       FROM @extschema@.backfill_status AS s WHERE s.job = j.job)
WHERE j.tidied AND j.state IN ('done', 'failed', 'canceled');

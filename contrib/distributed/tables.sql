-- What the coordinator knows of runs. Included by partbackfill_nodes.sql.

CREATE TABLE IF NOT EXISTS partbackfill_nodes.run (
    owner        name NOT NULL DEFAULT current_user,
    label        text NOT NULL,
    target       text NOT NULL,
    source       text NOT NULL,
    source_table text NOT NULL,
    options      jsonb NOT NULL,
    search_path  text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (owner, label)
);
COMMENT ON TABLE partbackfill_nodes.run IS 'a row for each run, with the arguments of its start';

CREATE TABLE IF NOT EXISTS partbackfill_nodes.run_job (
    owner        name NOT NULL,
    label        text NOT NULL,
    ordinal      integer NOT NULL,
    node         text NOT NULL,
    target       text NOT NULL,
    shard        bigint,
    source       text NOT NULL,
    partitions   text[],
    job          bigint,
    state        text NOT NULL DEFAULT 'not started' CHECK (state IN ('not started', 'started', 'skipped', 'canceled', 'replaced')),
    error        text,
    PRIMARY KEY (owner, label, ordinal),
    FOREIGN KEY (owner, label) REFERENCES partbackfill_nodes.run ON DELETE CASCADE
);
COMMENT ON TABLE partbackfill_nodes.run_job IS 'a row for each job of a run';
COMMENT ON COLUMN partbackfill_nodes.run_job.target IS 'the table on the node, its name qualified and quoted';
COMMENT ON COLUMN partbackfill_nodes.run_job.source IS 'the source of the job, with the names of the node';
COMMENT ON COLUMN partbackfill_nodes.run_job.partitions IS 'the only partitions of the job; NULL: those that the options select';
COMMENT ON COLUMN partbackfill_nodes.run_job.job IS 'its number on the node; NULL while it is not started';
COMMENT ON COLUMN partbackfill_nodes.run_job.state IS 'of its start; skipped: no partition of the table is in the range; replaced: its shard has moved, and another job does the rest';
COMMENT ON COLUMN partbackfill_nodes.run_job.error IS 'why it could not be started';

ALTER TABLE partbackfill_nodes.run ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE partbackfill_nodes.run_job ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS members ON partbackfill_nodes.run;
DROP POLICY IF EXISTS members ON partbackfill_nodes.run_job;
-- As for jobs: who has the owner's rights and may become it. A source that is written here is run by the owner.
SELECT current_setting('server_version_num')::integer >= 160000 AS has_set_option \gset
\if :has_set_option
\set become SET
\else
\set become MEMBER
\endif
CREATE POLICY members ON partbackfill_nodes.run
    USING (EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                   WHERE r.rolname = owner AND pg_catalog.pg_has_role(r.oid, 'USAGE') AND pg_catalog.pg_has_role(r.oid, :'become')));
CREATE POLICY members ON partbackfill_nodes.run_job
    USING (EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                   WHERE r.rolname = owner AND pg_catalog.pg_has_role(r.oid, 'USAGE') AND pg_catalog.pg_has_role(r.oid, :'become')));
GRANT SELECT, INSERT, UPDATE, DELETE ON partbackfill_nodes.run, partbackfill_nodes.run_job TO PUBLIC;

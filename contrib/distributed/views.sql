-- How a run is watched.

CREATE OR REPLACE FUNCTION partbackfill_nodes.jobs(run_owner name DEFAULT NULL, run_label text DEFAULT NULL)
RETURNS TABLE (
    owner name, label text, ordinal integer, node text, shard bigint, target text, job bigint, state text, partitions bigint, done bigint,
    failed bigint, percent numeric, rows bigint, rows_per_second numeric, eta interval, waiting_on text, error text
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    nodes text[];
    commands text[];
BEGIN
    SELECT coalesce(array_agg(n.node ORDER BY n.node), '{}'),
           coalesce(array_agg(format(
               'SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(''job'', s.job, ''label'', s.label, ''state'', s.state,'
               ' ''partitions'', s.partitions, ''done'', s.done, ''failed'', s.failed, ''percent'', s.percent, ''rows'', s.rows,'
               ' ''speed'', s.rows_per_second, ''eta'', pg_catalog.date_part(''epoch'', s.eta), ''waiting_on'', s.waiting_on, ''error'', s.error)),'
               ' ''[]'')::text FROM %I.backfill_status AS s WHERE s.job = ANY (%L::bigint[])',
               partbackfill_nodes.extension_schema(), n.jobs::text) ORDER BY n.node), '{}')
    INTO nodes, commands
    FROM (SELECT j.node, array_agg(j.job) AS jobs FROM partbackfill_nodes.run_job AS j
          WHERE j.job IS NOT NULL AND (run_owner IS NULL OR j.owner = run_owner) AND (run_label IS NULL OR j.label = run_label)
          GROUP BY j.node) AS n;
    RETURN QUERY
        WITH answers AS MATERIALIZED (
            SELECT nodes[a.ordinal] AS node, a.success, a.result FROM partbackfill_nodes.run_on(nodes, commands) AS a
        ), found AS MATERIALIZED (
            SELECT a.node, f.*
            FROM answers AS a
            CROSS JOIN LATERAL jsonb_to_recordset(CASE WHEN a.success THEN a.result::jsonb ELSE '[]' END) AS f (
                job bigint, label text, state text, partitions bigint, done bigint, failed bigint, percent numeric, rows bigint, speed numeric,
                eta float8, waiting_on text, error text)
        )
        SELECT j.owner, j.label, j.ordinal, j.node, j.shard, j.target, j.job, s.state,
               CASE WHEN s.state = 'replaced' THEN f.done ELSE f.partitions END,
               f.done,
               CASE WHEN s.state = 'replaced' THEN 0 ELSE f.failed END,
               CASE WHEN s.state = 'replaced' THEN 100 ELSE f.percent END,
               f.rows, f.speed,
               CASE WHEN s.state = 'running' THEN make_interval(secs => f.eta) END,
               CASE WHEN s.state = 'running' THEN f.waiting_on END,
               CASE s.state WHEN 'node down' THEN a.result
                            WHEN 'moved' THEN format('Its shard is on node "%s" now.', place.node)
                            WHEN 'gone' THEN format('Job %s is not in backfill_status of the node.', j.job)
                            WHEN 'replaced' THEN CASE WHEN NOT a.success THEN a.result END
                            WHEN 'skipped' THEN NULL
                            ELSE coalesce(f.error, j.error) END
        FROM partbackfill_nodes.run_job AS j
        LEFT JOIN answers AS a ON j.job IS NOT NULL AND a.node = j.node
        LEFT JOIN found AS f ON f.node = j.node AND f.job = j.job AND f.label = format('%s/%s', j.label, j.target)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN j.shard IS NOT NULL AND f.state <> ALL ('{done,canceled,reverted}') THEN partbackfill_nodes.node_of_shard(j.shard) END AS node
        ) AS place
        CROSS JOIN LATERAL (
            SELECT CASE WHEN j.job IS NULL OR j.state = 'replaced' THEN j.state
                        WHEN NOT a.success THEN 'node down'
                        WHEN f.job IS NULL THEN 'gone'
                        -- Moved away and back, it is another table on the same node.
                        WHEN place.node <> j.node OR f.error LIKE '%has left this node%' AND place.node IS NOT NULL THEN 'moved'
                        ELSE f.state END AS state
        ) AS s
        WHERE (run_owner IS NULL OR j.owner = run_owner) AND (run_label IS NULL OR j.label = run_label)
        ORDER BY j.owner, j.label, j.ordinal;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.jobs IS 'a row a job of one run, or of all that the caller can see; asks every node of them once';

CREATE OR REPLACE VIEW partbackfill_nodes.progress WITH (security_invoker = true) AS
    SELECT j.label, j.owner, j.node, j.shard, j.target, j.job, j.state, j.partitions, j.done, j.failed, j.percent, j.rows, j.rows_per_second, j.eta,
           j.waiting_on, pg_catalog.split_part(j.error, E'\n', 1) AS error
    FROM partbackfill_nodes.jobs() AS j;
COMMENT ON VIEW partbackfill_nodes.progress IS 'a row for each job of your runs; each query asks all nodes of them';

CREATE OR REPLACE VIEW partbackfill_nodes.status WITH (security_invoker = true) AS
    SELECT r.label,
           r.owner,
           r.target,
           partbackfill_nodes.run_state(pg_catalog.array_agg(j.state)) AS state,
           pg_catalog.count(*) AS jobs,
           pg_catalog.count(*) FILTER (WHERE j.state = 'running') AS running,
           pg_catalog.count(*) FILTER (WHERE j.state IN ('done', 'skipped', 'replaced')) AS done,
           pg_catalog.count(*) FILTER (WHERE j.state IN ('failed', 'not started', 'gone')) AS failed,
           pg_catalog.count(*) FILTER (WHERE j.state = 'moved') AS moved,
           pg_catalog.count(DISTINCT j.node) FILTER (WHERE j.state = 'node down') AS unreachable,
           pg_catalog.sum(j.partitions)::bigint AS partitions,
           pg_catalog.sum(j.done)::bigint AS partitions_done,
           -- A job that is not known weighs as much as the others do in the mean, and has done nothing.
           pg_catalog.round(COALESCE(pg_catalog.sum(j.percent * j.partitions) / NULLIF(pg_catalog.sum(j.partitions), 0)
               * pg_catalog.count(j.partitions) / pg_catalog.count(*) FILTER (WHERE j.state <> 'skipped'), 0), 1) AS percent,
           pg_catalog.sum(j.rows)::bigint AS rows,
           pg_catalog.sum(j.rows_per_second) FILTER (WHERE j.state = 'running') AS rows_per_second,
           pg_catalog.max(j.eta) AS eta,
           pg_catalog.string_agg(DISTINCT pg_catalog.format('%s: %s', j.node, j.waiting_on), '; ') FILTER (WHERE j.waiting_on IS NOT NULL) AS waiting_on,
           pg_catalog.min(pg_catalog.format('%s: %s', j.node, pg_catalog.split_part(j.error, E'\n', 1))) FILTER (WHERE j.error IS NOT NULL) AS error
    FROM partbackfill_nodes.run AS r
    JOIN partbackfill_nodes.jobs() AS j ON j.owner = r.owner AND j.label = r.label
    GROUP BY r.owner, r.label;
COMMENT ON VIEW partbackfill_nodes.status IS 'a row for each of your runs; each query asks all nodes of them';
GRANT SELECT ON partbackfill_nodes.progress, partbackfill_nodes.status TO PUBLIC;

CREATE OR REPLACE FUNCTION partbackfill_nodes.wait(label text, timeout interval DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(wait.label);
    deadline timestamptz := clock_timestamp() + wait.timeout;
    states text[];
    nodes text[];
    commands text[];
BEGIN
    LOOP
        SELECT array_agg(j.state),
               coalesce(array_agg(j.node) FILTER (WHERE j.rests), '{}'),
               coalesce(array_agg(format('SELECT %I.backfill_wait(%s, %L)', partbackfill_nodes.extension_schema(), j.job,
                                         greatest(deadline - clock_timestamp(), '0'))) FILTER (WHERE j.rests), '{}')
        INTO states, nodes, commands
        FROM (SELECT j.*, j.state IN ('done', 'failed', 'paused', 'ready', 'canceled', 'reverted') AS rests
              FROM partbackfill_nodes.jobs(run.owner, run.label) AS j) AS j;
        EXIT WHEN NOT states && '{running,node down}';
        IF clock_timestamp() >= deadline THEN
            RETURN 'running';
        END IF;
        PERFORM pg_sleep(least(1, date_part('epoch', deadline - clock_timestamp())));
    END LOOP;
    -- Until they are tidied, too, and may be purged.
    PERFORM a.result FROM partbackfill_nodes.run_on(nodes, commands) AS a;
    RETURN partbackfill_nodes.run_state(states);
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.wait IS 'waits until no job of a run runs and no node of it is down, or for so long; the state of the run, running after the timeout';

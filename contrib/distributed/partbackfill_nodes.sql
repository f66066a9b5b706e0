-- One call on a coordinator starts, watches and controls jobs of partbackfill on many nodes: docs/distributed.md.
--
-- This file has what all drivers share; contrib/citus and contrib/postgres_fdw include it and define the functions by which it reaches
-- the nodes:
--   run_on(nodes, commands)            runs each command on its node
--   pieces(relation, other)            lists the tables of the nodes of which a relation consists, and those of another beside them
--   has_pieces(relation)               true when pieces() can be asked for it
--   node_of_shard(shard)               the node that has a shard now; NULL where a piece stays where it is
--
-- A run is one call over all nodes, named by its label. Every function runs as its caller, here and on the nodes.

CREATE SCHEMA IF NOT EXISTS partbackfill_nodes;
COMMENT ON SCHEMA partbackfill_nodes IS 'jobs of partbackfill on many nodes';
GRANT USAGE ON SCHEMA partbackfill_nodes TO PUBLIC;

------------------------------------------------------------------ tables

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
CREATE POLICY members ON partbackfill_nodes.run
    USING (EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = owner AND pg_catalog.pg_has_role(r.oid, 'MEMBER')));
CREATE POLICY members ON partbackfill_nodes.run_job
    USING (EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = owner AND pg_catalog.pg_has_role(r.oid, 'MEMBER')));
GRANT SELECT, INSERT, UPDATE, DELETE ON partbackfill_nodes.run, partbackfill_nodes.run_job TO PUBLIC;

------------------------------------------------------------------ for the functions below

CREATE OR REPLACE FUNCTION partbackfill_nodes.extension_schema() RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema name := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'partbackfill');
BEGIN
    IF schema IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'extension "partbackfill" is not installed in this database',
            DETAIL = 'Its schema on the nodes is taken to be the one that it has here.';
    END IF;
    RETURN schema;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.extension_schema IS 'the schema of the extension, here and on every node';

CREATE OR REPLACE FUNCTION partbackfill_nodes.option_arguments(options jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    types jsonb := (
        SELECT jsonb_object_agg(a.name, format_type(a.type, NULL) ORDER BY a.place)
        FROM pg_proc AS p
        CROSS JOIN LATERAL unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, place)
        WHERE p.pronamespace = quote_ident(partbackfill_nodes.extension_schema())::regnamespace AND p.proname = 'backfill_start'
          AND a.name <> ALL ('{target,source,partitions,label}'));
    arguments text := '';
    given record;
BEGIN
    IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'options must be a JSON object';
    END IF;
    FOR given IN SELECT e.key, e.value, types ->> e.key AS type FROM jsonb_each(options) AS e LOOP
        IF given.type IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('there is no option "%s"', given.key),
                HINT = format('Options are: %s.', (SELECT string_agg(k.name, ', ' ORDER BY k.name) FROM jsonb_object_keys(types) AS k (name)));
        END IF;
        arguments := arguments || format(', %I => %s::%s', given.key,
            CASE WHEN jsonb_typeof(given.value) = 'array'
                 THEN quote_literal(ARRAY(SELECT jsonb_array_elements_text(given.value))::text)
                 ELSE quote_nullable(given.value #>> '{}') END, given.type);
    END LOOP;
    RETURN arguments;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.option_arguments IS 'options as named arguments of backfill_start, each preceded by a comma; an error for one that it has not';

CREATE OR REPLACE FUNCTION partbackfill_nodes.is_name(source text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT source ~ '^\s*("([^"]|"")+"|[^\s\d"''.,;:(){}][^\s"''.,;:(){}]*)(\s*\.\s*("([^"]|"")+"|[^\s\d"''.,;:(){}][^\s"''.,;:(){}]*))?\s*$'
$$;
COMMENT ON FUNCTION partbackfill_nodes.is_name IS 'a source is a relation''s name rather than a query';

CREATE OR REPLACE FUNCTION partbackfill_nodes.named_relation(source text, search_path text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass;
BEGIN
    IF partbackfill_nodes.is_name(source) THEN
        PERFORM pg_catalog.set_config('search_path', named_relation.search_path, true);
        relation := pg_catalog.to_regclass(source);
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    END IF;
    RETURN relation;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.named_relation IS 'the relation that a source names here; NULL for a query';

CREATE OR REPLACE FUNCTION partbackfill_nodes.job_source(source text, source_table text, filter text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN filter IS NULL THEN s.text
                WHEN partbackfill_nodes.is_name(s.text) THEN format('SELECT * FROM %s AS source WHERE %s', s.text, filter)
                ELSE format(E'SELECT * FROM (%s\n) AS source WHERE %s', regexp_replace(s.text, ';\s*$', ''), filter) END
    FROM (SELECT replace(source, '{source}', source_table) AS text) AS s
$$;
COMMENT ON FUNCTION partbackfill_nodes.job_source IS 'a source with the names of a node, and only those of its rows that belong to the piece';

CREATE OR REPLACE FUNCTION partbackfill_nodes.find_run(label text) RETURNS partbackfill_nodes.run
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run;
    owners text[] := (SELECT array_agg(r.owner ORDER BY r.owner) FROM partbackfill_nodes.run AS r WHERE r.label = find_run.label);
BEGIN
    IF owners IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no run "%s"', label),
            HINT = 'partbackfill_nodes.status lists the runs of the roles of which you are a member.';
    END IF;
    IF cardinality(owners) > 1 AND current_user <> ALL (owners) THEN
        RAISE EXCEPTION USING ERRCODE = 'ambiguous_parameter', MESSAGE = format('several roles have a run "%s"', label),
            DETAIL = format('They are: %s.', array_to_string(owners, ', ')), HINT = 'SET ROLE to the one that you mean.';
    END IF;
    SELECT r.* INTO run FROM partbackfill_nodes.run AS r WHERE r.label = find_run.label ORDER BY r.owner = current_user DESC LIMIT 1;
    RETURN run;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.find_run IS 'the run of that label: the caller''s own, else the only one that he can see';

CREATE OR REPLACE FUNCTION partbackfill_nodes.run_state(states text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN 'running' = ANY (states) THEN 'running'
                WHEN states && '{failed,moved,not started,node down,gone}' THEN 'failed'
                WHEN 'paused' = ANY (states) THEN 'paused'
                WHEN 'ready' = ANY (states) THEN 'ready'
                WHEN 'canceled' = ANY (states) THEN 'canceled'
                WHEN 'reverted' = ANY (states) THEN 'reverted'
                ELSE 'done' END
$$;
COMMENT ON FUNCTION partbackfill_nodes.run_state IS 'the state of a run, from those of its jobs';

CREATE OR REPLACE FUNCTION partbackfill_nodes.details(message text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(regexp_replace(substr(message, strpos(message || E'\n', E'\n') + 1), '^DETAIL:\s+', ''), '')
$$;
COMMENT ON FUNCTION partbackfill_nodes.details IS 'what follows the first line of a node''s message; NULL when nothing does';

CREATE OR REPLACE FUNCTION partbackfill_nodes.warn(node text, message text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    summary text := format('node "%s": %s', node, split_part(message, E'\n', 1));
BEGIN
    IF partbackfill_nodes.details(message) IS NULL THEN
        RAISE WARNING USING MESSAGE = summary;
    ELSE
        RAISE WARNING USING MESSAGE = summary, DETAIL = partbackfill_nodes.details(message);
    END IF;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.warn IS 'a WARNING about a node';

CREATE OR REPLACE FUNCTION partbackfill_nodes.call(run_owner name, run_label text, function text, states text[], ordinals integer[] DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes text[];
    commands text[];
    answer record;
    total integer := 0;
BEGIN
    -- A number alone could be that of another job, on a node that was made anew.
    SELECT coalesce(array_agg(j.node ORDER BY j.ordinal), '{}'),
           coalesce(array_agg(format(
               'SELECT COALESCE(pg_catalog.sum(%1$I.%2$I(s.job)::integer), 0)::text FROM %1$I.backfill_status AS s WHERE s.job = %3$s AND s.label = %4$L AND s.state = ANY (%5$L::text[])',
               partbackfill_nodes.extension_schema(), function, j.job, format('%s/%s', j.label, j.target), states::text) ORDER BY j.ordinal), '{}')
    INTO nodes, commands
    FROM partbackfill_nodes.run_job AS j
    WHERE j.owner = run_owner AND j.label = run_label AND j.job IS NOT NULL AND (ordinals IS NULL OR j.ordinal = ANY (ordinals));
    FOR answer IN
        SELECT nodes[a.ordinal] AS node, a.success, CASE WHEN NOT a.success THEN a.result END AS error,
               sum(CASE WHEN a.success THEN a.result::integer ELSE 0 END) AS touched
        FROM partbackfill_nodes.run_on(nodes, commands) AS a GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    LOOP
        total := total + answer.touched;
        IF NOT answer.success THEN
            PERFORM partbackfill_nodes.warn(answer.node, answer.error);
        END IF;
    END LOOP;
    RETURN total;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.call IS 'calls a function of the extension for those jobs of a run that are in one of the states, and adds up what it returns; a WARNING for each node and reason where it fails';

------------------------------------------------------------------ watching

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
                        WHEN place.node <> j.node THEN 'moved'
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

------------------------------------------------------------------ starting

CREATE OR REPLACE FUNCTION partbackfill_nodes.start_jobs(run partbackfill_nodes.run) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arguments text := partbackfill_nodes.option_arguments(run.options);
    -- A choice of partitions takes the place of a range.
    arguments_without_range text := partbackfill_nodes.option_arguments(run.options - '{range_start,range_end}'::text[]);
    ordinals integer[];
    nodes text[];
    commands text[];
    answer record;
    started integer := 0;
BEGIN
    -- Who starts a job runs its source.
    IF run.owner <> current_user THEN
        RAISE WARNING USING MESSAGE = format('jobs of run "%s" can only be started by role "%s"', run.label, run.owner);
        RETURN 0;
    END IF;
    SELECT coalesce(array_agg(j.ordinal ORDER BY j.ordinal), '{}'),
           coalesce(array_agg(j.node ORDER BY j.ordinal), '{}'),
           coalesce(array_agg(format(
               'WITH path AS MATERIALIZED (SELECT pg_catalog.set_config(''search_path'', %L, true))'
               ' SELECT %I.backfill_start(target => %L::pg_catalog.regclass, source => %L, label => %L%s)::text FROM path',
               run.search_path, partbackfill_nodes.extension_schema(), j.target, j.source, format('%s/%s', j.label, j.target),
               CASE WHEN j.partitions IS NULL THEN arguments
                    ELSE arguments_without_range || format(', partitions => %L::pg_catalog.regclass[]', j.partitions::text) END) ORDER BY j.ordinal), '{}')
    INTO ordinals, nodes, commands
    FROM partbackfill_nodes.run_job AS j
    WHERE j.owner = run.owner AND j.label = run.label AND j.state = 'not started';
    FOR answer IN SELECT a.ordinal, a.success, a.result FROM partbackfill_nodes.run_on(nodes, commands) AS a ORDER BY a.ordinal LOOP
        UPDATE partbackfill_nodes.run_job AS j
        SET job = CASE WHEN answer.success THEN answer.result::bigint END,
            state = CASE WHEN answer.success THEN 'started'
                         WHEN answer.result LIKE 'no partition of % is in the range%' THEN 'skipped'
                         ELSE 'not started' END,
            error = CASE WHEN NOT answer.success THEN answer.result END
        WHERE j.owner = run.owner AND j.label = run.label AND j.ordinal = ordinals[answer.ordinal];
        started := started + answer.success::integer;
    END LOOP;
    RETURN started;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.start_jobs IS 'starts what is not started of a run; how many jobs';

CREATE OR REPLACE FUNCTION partbackfill_nodes.add_jobs(run partbackfill_nodes.run) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    piece record;
    last integer := (SELECT coalesce(max(j.ordinal), 0) FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label);
BEGIN
    FOR piece IN SELECT * FROM partbackfill_nodes.pieces(run.target::regclass, run.source_table::regclass) AS p ORDER BY p.shard, p.target, p.node LOOP
        IF piece.node IS NULL THEN
            RAISE WARNING USING MESSAGE = format('partition %s is on no other node and is left out', piece.target),
                HINT = 'Rebuild it with backfill_start, which has a parameter "partitions".';
            CONTINUE;
        END IF;
        IF piece.filter IS NULL AND piece.shard IS NULL AND strpos(run.source, '{source}') = 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('source must read {source} for table %s of node "%s"', piece.target, piece.node),
                DETAIL = 'Its bounds cannot be said to the node, so rows of other nodes would get into it.',
                HINT = 'Write {source} where the table stands that is divided like the target.';
        END IF;
        IF octet_length(format('%s/%s', run.label, piece.target)) > 200 THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('label must have at most %s bytes', 199 - octet_length(piece.target)),
                DETAIL = 'With the name of a table of a node it is the label of a job.';
        END IF;
        -- One that is not started yet is started where its shard is now.
        UPDATE partbackfill_nodes.run_job AS j SET node = piece.node
        WHERE j.owner = run.owner AND j.label = run.label AND j.shard = piece.shard AND j.state = 'not started';
        CONTINUE WHEN EXISTS (
            SELECT FROM partbackfill_nodes.run_job AS j
            WHERE j.owner = run.owner AND j.label = run.label
              AND (j.shard = piece.shard OR piece.shard IS NULL AND j.node = piece.node AND j.target = piece.target));
        last := last + 1;
        INSERT INTO partbackfill_nodes.run_job (owner, label, ordinal, node, target, shard, source)
        VALUES (run.owner, run.label, last, piece.node, piece.target, piece.shard,
                partbackfill_nodes.job_source(run.source, piece.source_table, piece.filter));
    END LOOP;
    IF last = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('no partition of %s is on another node', run.target);
    END IF;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.add_jobs IS 'adds to a run the jobs of the pieces for which it has none';

-- target        a table that is divided among nodes
-- source        a relation's name or a query, as in backfill_start; {source} stands for the piece of source_table that is on the node
-- source_table  a table that is divided like the target; the target itself when it is left out
-- label         names the run; with the label of one that is there, what is missing of that is started
-- options       other parameters of backfill_start: '{"workers": 2, "on_write": "catch_up"}'
-- search_path   under which the source runs on the nodes: the caller's
-- Returns the label. Jobs are started on the nodes at once, not at the end of the transaction. An error when not one could be started,
-- a WARNING for each node where some could not.
CREATE OR REPLACE FUNCTION partbackfill_nodes.start(
    target       regclass,
    source       text,
    source_table regclass DEFAULT NULL,
    label        text     DEFAULT NULL,
    options      jsonb    DEFAULT '{}',
    search_path  text     DEFAULT pg_catalog.current_setting('search_path')
) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named regclass := partbackfill_nodes.named_relation(start.source, start.search_path);
    target_name text;
    wanted_source text := start.source;
    wanted_table text := coalesce(start.source_table, start.target)::text;
    run partbackfill_nodes.run;
    problem record;
BEGIN
    IF start.target IS NULL OR start.source IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'target and source must not be null';
    END IF;
    PERFORM partbackfill_nodes.option_arguments(start.options);
    SELECT format('%I.%I', n.nspname, c.relname) INTO target_name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = start.target;
    IF named IS NOT NULL AND partbackfill_nodes.has_pieces(named) THEN
        wanted_source := '{source}';
        wanted_table := named::text;
    END IF;
    INSERT INTO partbackfill_nodes.run (label, target, source, source_table, options, search_path)
    VALUES (coalesce(start.label, format('%s %s', target_name, to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.US'))),
            target_name, wanted_source, wanted_table, start.options, start.search_path)
    ON CONFLICT ON CONSTRAINT run_pkey DO NOTHING
    RETURNING * INTO run;
    IF run.label IS NULL THEN
        -- Another session that starts the same run waits here.
        SELECT r.* INTO STRICT run FROM partbackfill_nodes.run AS r WHERE r.owner = current_user AND r.label = start.label FOR UPDATE;
        IF run.target <> target_name THEN
            RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('label "%s" already belongs to a run', run.label),
                DETAIL = format('It is of table %s.', run.target), HINT = 'Use another label.';
        END IF;
        IF (run.source, run.source_table, run.options, run.search_path) IS DISTINCT FROM (wanted_source, wanted_table, start.options, start.search_path) THEN
            RAISE NOTICE USING MESSAGE = format('run "%s" goes on with the arguments with which it was started', run.label);
        END IF;
    END IF;
    PERFORM partbackfill_nodes.add_jobs(run);
    PERFORM partbackfill_nodes.start_jobs(run);
    FOR problem IN
        SELECT j.node, j.error, min(j.target) AS target, bool_and(j.none) AS none
        FROM (SELECT j.*, bool_and(j.job IS NULL) OVER () AS none
              FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label) AS j
        WHERE j.state = 'not started' OR j.state = 'skipped' AND j.none
        GROUP BY j.node, j.error ORDER BY min(j.ordinal)
    LOOP
        IF problem.none THEN
            RAISE EXCEPTION USING ERRCODE = 'external_routine_exception',
                MESSAGE = format('no job could be started: node "%s": %s', problem.node, split_part(problem.error, E'\n', 1)),
                DETAIL = concat_ws(E'\n', format('This is of its table %s.', problem.target), partbackfill_nodes.details(problem.error));
        END IF;
        PERFORM partbackfill_nodes.warn(problem.node, problem.error);
    END LOOP;
    RETURN run.label;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.start IS 'recompute a table that is divided among nodes: starts a job for each piece, where it is; returns the label of the run';

------------------------------------------------------------------ control
-- Each of them returns what the function of the extension does, added up over all jobs. A node that does not answer is a WARNING.

CREATE OR REPLACE FUNCTION partbackfill_nodes.pause(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_pause', '{running}') FROM partbackfill_nodes.find_run(pause.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.pause IS 'pauses the jobs of a run that run; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.resume(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_resume', '{paused,running}') FROM partbackfill_nodes.find_run(resume.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.resume IS 'starts the paused jobs of a run again, and those without workers; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.cancel(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(cancel.label);
    canceled integer;
BEGIN
    UPDATE partbackfill_nodes.run_job AS j SET state = 'canceled' WHERE j.owner = run.owner AND j.label = run.label AND j.state = 'not started';
    GET DIAGNOSTICS canceled = ROW_COUNT;
    RETURN canceled + partbackfill_nodes.call(run.owner, run.label, 'backfill_cancel', '{running,paused,ready,failed}');
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.cancel IS 'cancels the jobs of a run that are not done, and those that were not started; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.publish(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_publish', '{ready}') FROM partbackfill_nodes.find_run(publish.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.publish IS 'swaps the partitions of the jobs of a run that are ready, one job of a node after the other; how many partitions';

CREATE OR REPLACE FUNCTION partbackfill_nodes.purge(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_purge', '{done,failed,canceled,reverted}') FROM partbackfill_nodes.find_run(purge.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.purge IS 'drops the old partitions that the ended jobs of a run keep; how many';

-- For the jobs whose shard has moved, jobs where the shard is now, of the partitions that are not done yet; how many.
CREATE OR REPLACE FUNCTION partbackfill_nodes.follow_shards(run partbackfill_nodes.run, ordinals integer[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes text[];
    commands text[];
    answer record;
    followed integer[] := '{}';
    place integer := (SELECT max(j.ordinal) FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label);
BEGIN
    SELECT coalesce(array_agg(j.node ORDER BY o.place), '{}'),
           coalesce(array_agg(format(
               'SELECT COALESCE(pg_catalog.jsonb_agg(p.partition ORDER BY p.ordinal), ''[]'')::text FROM %I.backfill_progress AS p'
               ' WHERE p.job = %s AND p.state <> ALL (''{done,skipped,reverted}''::text[])',
               partbackfill_nodes.extension_schema(), j.job) ORDER BY o.place), '{}')
    INTO nodes, commands
    FROM unnest(ordinals) WITH ORDINALITY AS o (ordinal, place)
    JOIN partbackfill_nodes.run_job AS j ON j.owner = run.owner AND j.label = run.label AND j.ordinal = o.ordinal;
    FOR answer IN SELECT a.ordinal, a.success, a.result FROM partbackfill_nodes.run_on(nodes, commands) AS a ORDER BY a.ordinal LOOP
        IF NOT answer.success THEN
            PERFORM partbackfill_nodes.warn(nodes[answer.ordinal], answer.result);
            CONTINUE;
        END IF;
        followed := followed || ordinals[answer.ordinal];
        UPDATE partbackfill_nodes.run_job AS j SET state = 'replaced'
        WHERE j.owner = run.owner AND j.label = run.label AND j.ordinal = ordinals[answer.ordinal];
        CONTINUE WHEN answer.result::jsonb = '[]';
        place := place + 1;
        INSERT INTO partbackfill_nodes.run_job (owner, label, ordinal, node, target, shard, source, partitions)
        SELECT j.owner, j.label, place, partbackfill_nodes.node_of_shard(j.shard), j.target, j.shard, j.source,
               ARRAY(SELECT jsonb_array_elements_text(answer.result::jsonb))
        FROM partbackfill_nodes.run_job AS j
        WHERE j.owner = run.owner AND j.label = run.label AND j.ordinal = ordinals[answer.ordinal];
    END LOOP;
    place := partbackfill_nodes.start_jobs(run);
    -- What is left of the former jobs has no shard to swap any more.
    PERFORM partbackfill_nodes.call(run.owner, run.label, 'backfill_cancel', '{running,paused,ready,failed}', followed);
    RETURN place;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.follow_shards IS 'starts jobs where the shards of these jobs are now, and all that is not started; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.retry(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(retry.label);
    jobs record;
    retried integer := 0;
BEGIN
    PERFORM FROM partbackfill_nodes.run AS r WHERE r.owner = run.owner AND r.label = run.label FOR UPDATE;
    SELECT coalesce(array_agg(j.ordinal) FILTER (WHERE j.state = 'moved'), '{}') AS moved,
           array_agg(j.ordinal) FILTER (WHERE j.state IN ('failed', 'running', 'paused', 'ready', 'node down')) AS here,
           count(*) FILTER (WHERE j.state IN ('moved', 'not started')) AS to_start
    INTO jobs
    FROM partbackfill_nodes.jobs(run.owner, run.label) AS j;
    IF jobs.here IS NOT NULL THEN
        retried := partbackfill_nodes.call(run.owner, run.label, 'backfill_retry', '{failed,running,paused,ready}', jobs.here);
    END IF;
    IF jobs.to_start > 0 AND run.owner = current_user THEN
        PERFORM partbackfill_nodes.add_jobs(run);
        retried := retried + partbackfill_nodes.follow_shards(run, jobs.moved);
    ELSIF jobs.to_start > 0 THEN
        RAISE WARNING USING MESSAGE = format('jobs of run "%s" can only be started by role "%s"', run.label, run.owner);
    END IF;
    RETURN retried;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.retry IS 'queues failed partitions again, starts jobs that were not started, and jobs where shards are that have moved; how many partitions and jobs';

CREATE OR REPLACE FUNCTION partbackfill_nodes.forget(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(forget.label);
    jobs record;
    forgotten integer;
BEGIN
    forgotten := partbackfill_nodes.call(run.owner, run.label, 'backfill_forget', '{done,failed,canceled,reverted}');
    DELETE FROM partbackfill_nodes.run_job AS j
    WHERE j.owner = run.owner AND j.label = run.label
      AND (j.job IS NULL OR j.ordinal IN (
          SELECT g.ordinal FROM partbackfill_nodes.jobs(run.owner, run.label) AS g
          WHERE g.state = 'gone' OR g.state = 'replaced' AND g.done IS NULL AND g.error IS NULL));
    SELECT count(*) AS left, min(j.node) AS node INTO jobs FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label;
    IF jobs.left = 0 THEN
        DELETE FROM partbackfill_nodes.run AS r WHERE r.owner = run.owner AND r.label = run.label;
    ELSE
        RAISE NOTICE USING MESSAGE = format('run "%s" stays with %s jobs', run.label, jobs.left),
            DETAIL = format('They have not ended, keep old partitions, or are on a node that does not answer; one of them is on node "%s".', jobs.node),
            HINT = 'Wait for them, cancel and purge them; then call this again.';
    END IF;
    RETURN forgotten;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.forget IS 'removes the ended jobs of a run from their nodes'' control tables, and the run when none is left; how many jobs';

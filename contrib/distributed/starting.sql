-- How a run is started.

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

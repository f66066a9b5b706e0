-- What the other files use: sources and options with the names of a node, and calls on all nodes of a run.

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
               'SELECT COALESCE(pg_catalog.sum(%1$I.%2$I(s.job)::integer), 0)::text FROM %1$I.backfill_status AS s'
               ' WHERE s.job = %3$s AND s.label = %4$L AND s.state = ANY (%5$L::text[])',
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
COMMENT ON FUNCTION partbackfill_nodes.call IS
    'calls a function of the extension for those jobs of a run that are in one of the states, and adds up what it returns; a WARNING for each node and reason where it fails';

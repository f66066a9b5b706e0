-- Jobs of partbackfill on the servers on which the foreign partitions of a table are: docs/distributed.md.
--
--   psql -f contrib/postgres_fdw/partbackfill_postgres_fdw.sql
--
-- on the coordinator. Nodes are foreign servers of postgres_fdw; dblink reaches them with the caller's user mapping.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dblink;
\ir ../distributed/partbackfill_nodes.sql

CREATE OR REPLACE FUNCTION partbackfill_nodes.has_pieces(relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind = 'p')
       AND EXISTS (SELECT FROM pg_partition_tree(relation) AS t JOIN pg_foreign_table AS f ON f.ftrelid = t.relid)
$$;
COMMENT ON FUNCTION partbackfill_nodes.has_pieces IS 'the relation is a partitioned table with foreign partitions';

CREATE OR REPLACE FUNCTION partbackfill_nodes.node_of_shard(shard bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT NULL::text';
COMMENT ON FUNCTION partbackfill_nodes.node_of_shard IS 'nothing: foreign partitions stay where they are';

-- Bounds are compared as text, from the table down to the partition, with how each level is partitioned.
CREATE OR REPLACE FUNCTION partbackfill_nodes.leaves(relation regclass)
RETURNS TABLE (leaf regclass, place text[], node text, wrapper text, remote text, filter text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres' AS $$
    WITH RECURSIVE tree AS (
        SELECT relation::oid AS oid, ARRAY[]::text[] AS place
        UNION ALL
        SELECT i.inhrelid, t.place || format('%s %s %s', p.partstrat, p.partclass, pg_get_expr(c.relpartbound, c.oid)) COLLATE "default"
        FROM tree AS t
        JOIN pg_partitioned_table AS p ON p.partrelid = t.oid
        JOIN pg_inherits AS i ON i.inhparent = t.oid
        JOIN pg_class AS c ON c.oid = i.inhrelid
    )
    SELECT c.oid::regclass, t.place, s.srvname::text, w.fdwname::text,
           format('%I.%I', coalesce(o.schema_name, n.nspname::text), coalesce(o.table_name, c.relname::text)),
           -- The condition of a HASH partition has the OID of its table, and names of columns may be others on the node.
           CASE WHEN strpos(bound.text, 'satisfies_hash_partition(') = 0 AND NOT EXISTS (
                    SELECT FROM pg_attribute AS a CROSS JOIN LATERAL pg_options_to_table(a.attfdwoptions) AS x
                    WHERE a.attrelid = c.oid AND x.option_name = 'column_name' AND x.option_value <> a.attname)
                THEN bound.text END
    FROM tree AS t
    JOIN pg_class AS c ON c.oid = t.oid AND c.relkind <> 'p'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_foreign_table AS f ON f.ftrelid = c.oid
    LEFT JOIN pg_foreign_server AS s ON s.oid = f.ftserver
    LEFT JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
    CROSS JOIN LATERAL (SELECT coalesce(pg_get_partition_constraintdef(c.oid), 'true') AS text) AS bound
    CROSS JOIN LATERAL (
        SELECT max(x.option_value) FILTER (WHERE x.option_name = 'schema_name') AS schema_name,
               max(x.option_value) FILTER (WHERE x.option_name = 'table_name') AS table_name
        FROM pg_options_to_table(f.ftoptions) AS x) AS o
$$;
COMMENT ON FUNCTION partbackfill_nodes.leaves IS
    'the partitions of a table that have rows, and where these are; node is NULL for local ones, filter where the node cannot be told which rows belong there';

CREATE OR REPLACE FUNCTION partbackfill_nodes.pieces(relation regclass, other regclass)
RETURNS TABLE (node text, target text, source_table text, shard bigint, filter text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_piece record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table AS p WHERE p.partrelid = relation) THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a partitioned table', relation);
    END IF;
    FOR found_piece IN
        SELECT t.leaf, t.node, t.wrapper, t.remote, t.filter, s.node AS source_node, s.remote AS source_remote
        FROM partbackfill_nodes.leaves(relation) AS t
        LEFT JOIN partbackfill_nodes.leaves(other) AS s ON s.place = t.place
    LOOP
        IF found_piece.node IS NOT NULL AND found_piece.wrapper <> 'postgres_fdw' THEN
            RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
                MESSAGE = format('foreign table %s is of foreign-data wrapper "%s"', found_piece.leaf, found_piece.wrapper),
                DETAIL = 'Jobs can be started on servers of postgres_fdw only.';
        END IF;
        IF found_piece.node IS NOT NULL AND found_piece.node IS DISTINCT FROM found_piece.source_node THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('table %s is not divided like %s', other, relation),
                DETAIL = format('It has no partition with the bounds of %s on server "%s".', found_piece.leaf, found_piece.node);
        END IF;
        node := found_piece.node;
        target := found_piece.remote;
        source_table := found_piece.source_remote;
        filter := found_piece.filter;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.pieces IS
    'the remote tables of the foreign partitions of a table, and those of a table with the same bounds; node is NULL for a local partition';

CREATE OR REPLACE FUNCTION partbackfill_nodes.run_on(nodes text[], commands text[])
RETURNS TABLE (ordinal bigint, success boolean, result text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    dblink name := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'dblink');
    prefix text := 'partbackfill ';
    opened text[] := '{}';
    broken jsonb := '{}'; -- the error of each node that cannot be reached
    results text[] := array_fill(NULL::text, ARRAY[cardinality(nodes)]);
    errors text[] := array_fill(NULL::text, ARRAY[cardinality(nodes)]);
    node text;
    i integer;
    turn integer[];
    number integer;
    answer text;
    message text;
    detail text;
    hint text;
    pause float8;
BEGIN
    IF dblink IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'extension "dblink" is not installed in this database';
    END IF;
    FOREACH node IN ARRAY ARRAY(SELECT DISTINCT u FROM unnest(nodes) AS u ORDER BY u) LOOP
        BEGIN
            -- dblink takes what is no server for a connection string.
            IF NOT EXISTS (SELECT FROM pg_foreign_server AS s WHERE s.srvname = node) THEN
                RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('server "%s" does not exist', node);
            END IF;
            -- The runs of other roles may name their own servers, to which a superuser is let in without a password.
            IF NOT EXISTS (SELECT FROM pg_foreign_server AS s JOIN pg_roles AS o ON o.oid = s.srvowner CROSS JOIN pg_roles AS me
                           WHERE s.srvname = node AND me.rolname = current_user
                             AND (o.oid = me.oid OR o.rolsuper OR (NOT me.rolsuper AND pg_has_role(o.oid, 'USAGE')))) THEN
                RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('server "%s" belongs neither to you nor to a superuser', node);
            END IF;
            EXECUTE format('SELECT %I.dblink_disconnect($1) WHERE $1 = ANY (%I.dblink_get_connections())', dblink, dblink) USING prefix || node;
            EXECUTE format('SELECT %I.dblink_connect($1, $2)', dblink) USING prefix || node, node;
            opened := opened || node;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
            broken := broken || jsonb_build_object(node, concat_ws(E'\n', message, nullif(detail, '')));
        END;
    END LOOP;
    -- Each node has one command at a time, and all nodes work side by side.
    FOR turn IN
        SELECT array_agg(c.number ORDER BY c.number)
        FROM (SELECT u.number::integer, row_number() OVER (PARTITION BY u.node ORDER BY u.number) AS turn
              FROM unnest(nodes) WITH ORDINALITY AS u (node, number) WHERE u.node = ANY (opened)) AS c
        GROUP BY c.turn ORDER BY c.turn
    LOOP
        FOREACH number IN ARRAY turn LOOP
            BEGIN
                EXECUTE format('SELECT %I.dblink_send_query($1, $2)', dblink) INTO i USING prefix || nodes[number], commands[number];
                IF i <> 1 THEN
                    EXECUTE format('SELECT %I.dblink_error_message($1)', dblink) INTO message USING prefix || nodes[number];
                    errors[number] := message;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                errors[number] := SQLERRM;
            END;
        END LOOP;
        FOREACH number IN ARRAY turn LOOP
            CONTINUE WHEN errors[number] IS NOT NULL;
            BEGIN
                -- dblink itself would not notice that the caller is canceled.
                pause := 0.001;
                LOOP
                    EXECUTE format('SELECT %I.dblink_is_busy($1)', dblink) INTO i USING prefix || nodes[number];
                    EXIT WHEN i = 0;
                    PERFORM pg_sleep(pause);
                    pause := least(2 * pause, 0.05);
                END LOOP;
                EXECUTE format('SELECT r.text FROM %I.dblink_get_result($1) AS r (text text)', dblink) INTO answer USING prefix || nodes[number];
                results[number] := answer;
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                errors[number] := concat_ws(E'\n', message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
            END;
            BEGIN
                EXECUTE format('SELECT r.text FROM %I.dblink_get_result($1, false) AS r (text text)', dblink) USING prefix || nodes[number];
            EXCEPTION WHEN OTHERS THEN
                NULL; -- the connection is lost, as the error above says
            END;
        END LOOP;
    END LOOP;
    FOREACH node IN ARRAY opened LOOP
        EXECUTE format('SELECT %I.dblink_disconnect($1)', dblink) USING prefix || node;
    END LOOP;
    RETURN QUERY
        SELECT u.number, e.error IS NULL, coalesce(e.error, results[u.number])
        FROM unnest(nodes) WITH ORDINALITY AS u (node, number)
        CROSS JOIN LATERAL (SELECT coalesce(broken ->> u.node, errors[u.number]) AS error) AS e
        ORDER BY u.number;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    FOREACH node IN ARRAY opened LOOP
        EXECUTE format('SELECT %I.dblink_disconnect($1)', dblink) USING prefix || node;
    END LOOP;
    RAISE;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.run_on IS 'runs each command on its node, of which it returns one text, or with success = false the reason why not';

COMMIT;

-- Jobs of partbackfill for the shards of a distributed table of Citus: docs/distributed.md.
--
--   psql -f contrib/citus/partbackfill_citus.sql
--
-- on the coordinator. Nodes are written host:port, as pg_dist_node has them; Citus reaches them as for its own queries.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = warning;
-- The runs and these functions belong to the coordinator.
SET LOCAL citus.enable_ddl_propagation = off;
\ir ../distributed/partbackfill_nodes.sql

CREATE OR REPLACE FUNCTION partbackfill_nodes.has_pieces(relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_dist_partition AS p JOIN pg_dist_shard AS s ON s.logicalrelid = p.logicalrelid
        WHERE p.logicalrelid = relation
          AND NOT EXISTS (SELECT FROM pg_dist_placement AS x WHERE x.shardid = s.shardid HAVING count(*) > 1))
$$;
COMMENT ON FUNCTION partbackfill_nodes.has_pieces IS 'the relation is distributed, and has one copy of each shard';

CREATE OR REPLACE FUNCTION partbackfill_nodes.node_of_shard(shard bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s:%s', n.nodename, n.nodeport)
    FROM pg_dist_placement AS p JOIN pg_dist_node AS n ON n.groupid = p.groupid
    WHERE p.shardid = shard AND p.shardstate = 1 AND n.noderole = 'primary'
    ORDER BY p.placementid LIMIT 1
$$;
COMMENT ON FUNCTION partbackfill_nodes.node_of_shard IS 'the node on which a shard is now; NULL when there is no such shard any more';

CREATE OR REPLACE FUNCTION partbackfill_nodes.shard_table(relation regclass, shard bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- Citus leaves the schema out where it is public.
    SELECT CASE WHEN c.relnamespace = 'public'::regnamespace THEN 'public.' ELSE '' END || shard_name(relation, shard)
    FROM pg_class AS c WHERE c.oid = relation
$$;
COMMENT ON FUNCTION partbackfill_nodes.shard_table IS 'the table of a shard on its node, its name qualified and quoted';

CREATE OR REPLACE FUNCTION partbackfill_nodes.check_distributed(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    method "char" := (SELECT p.partmethod FROM pg_dist_partition AS p WHERE p.logicalrelid = relation);
BEGIN
    IF method IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a distributed table', relation),
            HINT = 'Call backfill_start for a table that is on this node only.';
    END IF;
    IF method NOT IN ('h', 'n') THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('table %s is not distributed by hash', relation);
    END IF;
    IF EXISTS (SELECT FROM pg_dist_shard AS s JOIN pg_dist_placement AS p ON p.shardid = s.shardid
               WHERE s.logicalrelid = relation GROUP BY s.shardid HAVING count(*) > 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('table %s has several copies of a shard', relation),
            DETAIL = 'Jobs would make them differ: reference tables, and shards that are replicated by statements, cannot be rebuilt.';
    END IF;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.check_distributed IS 'an error unless the relation is distributed, by hash or as a single shard, with one copy of each shard';

CREATE OR REPLACE FUNCTION partbackfill_nodes.pieces(relation regclass, other regclass)
RETURNS TABLE (node text, target text, source_table text, shard bigint, filter text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    lost bigint;
BEGIN
    PERFORM partbackfill_nodes.check_distributed(relation);
    PERFORM partbackfill_nodes.check_distributed(other);
    -- Tables that are in no group of colocation have number 0.
    IF relation <> other AND (
           (SELECT count(DISTINCT p.colocationid) = 1 AND min(p.colocationid) > 0 FROM pg_dist_partition AS p WHERE p.logicalrelid IN (relation, other)) IS NOT TRUE
           OR EXISTS (SELECT FROM pg_dist_shard AS t WHERE t.logicalrelid = relation AND NOT EXISTS (
                          SELECT FROM pg_dist_shard AS s WHERE s.logicalrelid = other AND s.shardminvalue IS NOT DISTINCT FROM t.shardminvalue
                                                           AND s.shardmaxvalue IS NOT DISTINCT FROM t.shardmaxvalue))) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('tables %s and %s are not colocated', relation, other),
            HINT = 'Distribute one with colocate_with => the other.';
    END IF;
    SELECT min(s.shardid) INTO lost FROM pg_dist_shard AS s WHERE s.logicalrelid = relation AND partbackfill_nodes.node_of_shard(s.shardid) IS NULL;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('shard %s of table %s is on no node', lost, relation);
    END IF;
    -- The extension itself takes only those rows of a source that belong to the shard.
    RETURN QUERY
        SELECT partbackfill_nodes.node_of_shard(t.shardid), partbackfill_nodes.shard_table(relation, t.shardid), partbackfill_nodes.shard_table(other, s.shardid),
               t.shardid, NULL::text
        FROM pg_dist_shard AS t
        JOIN pg_dist_shard AS s ON s.logicalrelid = other AND s.shardminvalue IS NOT DISTINCT FROM t.shardminvalue
                                    AND s.shardmaxvalue IS NOT DISTINCT FROM t.shardmaxvalue
        WHERE t.logicalrelid = relation
        ORDER BY t.shardid;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.pieces IS 'the shards of a distributed table, where they are, and those of a colocated table beside them';

CREATE OR REPLACE FUNCTION partbackfill_nodes.run_on(nodes text[], commands text[])
RETURNS TABLE (ordinal bigint, success boolean, result text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    turn record;
BEGIN
    -- Each node has one command at a time, and all nodes work side by side. A node that Citus does not know gets none: it would be sent the
    -- caller's password.
    FOR turn IN
        SELECT array_agg(c.number ORDER BY c.number) AS numbers, array_agg(c.host ORDER BY c.number) AS hosts,
               array_agg(c.port ORDER BY c.number) AS ports, array_agg(commands[c.number] ORDER BY c.number) AS commands
        FROM (SELECT u.number, substring(u.node FROM '^(.*):\d+$') AS host, substring(u.node FROM ':(\d+)$')::integer AS port,
                     row_number() OVER (PARTITION BY u.node ORDER BY u.number) AS turn
              FROM unnest(nodes) WITH ORDINALITY AS u (node, number)
              WHERE EXISTS (SELECT FROM pg_dist_node AS n WHERE format('%s:%s', n.nodename, n.nodeport) = u.node)) AS c
        GROUP BY c.turn ORDER BY c.turn
    LOOP
        RETURN QUERY
            SELECT turn.numbers[a.place], a.success, CASE WHEN a.success THEN a.result ELSE regexp_replace(a.result, '^ERROR:\s+', '') END
            FROM master_run_on_worker(turn.hosts, turn.ports, turn.commands, true) WITH ORDINALITY AS a (node, port, success, result, place);
    END LOOP;
    RETURN QUERY
        SELECT u.number, false, 'Citus has no such node'
        FROM unnest(nodes) WITH ORDINALITY AS u (node, number)
        WHERE NOT EXISTS (SELECT FROM pg_dist_node AS n WHERE format('%s:%s', n.nodename, n.nodeport) = u.node);
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.run_on IS 'runs each command on its node, of which it returns one text, or with success = false the reason why not';

COMMIT;

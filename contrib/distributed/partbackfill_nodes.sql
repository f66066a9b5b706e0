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

\ir tables.sql
\ir calls.sql
\ir views.sql
\ir starting.sql
\ir control.sql

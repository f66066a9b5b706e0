// The tables below a table in its partition tree, without a lock on any.
#pragma once

#include <string>

namespace partbackfill::catalog {

// A relation for FROM, in a statement that finds the server's names first: the table, an SQL expression of
// its OID, at level 0, and all partitions below it. pg_partition_tree would wait for a lock on each of them.
inline std::string partition_tree(const std::string &table) {
    return "(WITH RECURSIVE tree (oid, level) AS (SELECT " + table +
           ", 0 UNION ALL SELECT i.inhrelid, tree.level + 1 FROM tree"
           " JOIN pg_partitioned_table AS p ON p.partrelid = tree.oid"
           " JOIN pg_inherits AS i ON i.inhparent = tree.oid)"
           " SELECT tree.oid, tree.level FROM tree)";
}

} // namespace partbackfill::catalog

// The key of the topmost table from which a partition has a foreign key.
#pragma once

#include <string>

namespace partbackfill::catalog {

// A relation of one row for FROM, in a statement that finds the server's names first: the OID of the topmost
// foreign key, and its definition as text without NOT VALID, for an SQL expression of a foreign key's OID.
inline std::string topmost_key(const std::string &key) {
    return "(WITH RECURSIVE up (oid, conrelid, conparentid, level) AS ("
           "SELECT f.oid, f.conrelid, f.conparentid, 1 FROM pg_constraint AS f WHERE f.oid = " +
           key +
           " UNION ALL SELECT f.oid, f.conrelid, f.conparentid, up.level + 1 FROM pg_constraint AS f"
           " JOIN up ON f.oid = up.conparentid)"
           " SELECT up.oid, CASE WHEN right(d.text, 10) = ' NOT VALID' THEN left(d.text, -10) ELSE d.text END"
           " AS definition FROM up CROSS JOIN LATERAL pg_get_constraintdef(up.oid) AS d (text)"
           " ORDER BY up.level DESC LIMIT 1)";
}

} // namespace partbackfill::catalog

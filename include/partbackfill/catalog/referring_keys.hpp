// Foreign keys by the table to which they refer.
#pragma once

#include <string>

namespace partbackfill::catalog {

// A relation for FROM, in a statement that finds the server's names first: the rows of
// pg_constraint for the foreign keys that refer to the table, an SQL expression of its OID. There
// is no index on confrelid, but a foreign key depends on the columns to which it refers. OFFSET 0
// keeps the planner from entering pg_depend by a class alone.
inline std::string referring_keys(const std::string &table) {
    return "(SELECT k.* FROM (SELECT DISTINCT d.objid FROM pg_depend AS d"
           " WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_class'::regclass AND "
           "d.refobjid = " +
           table +
           " OFFSET 0) AS d JOIN pg_constraint AS k ON k.oid = d.objid AND k.contype = 'f' AND k.confrelid "
           "= " +
           table + ")";
}

} // namespace partbackfill::catalog

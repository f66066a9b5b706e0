// Where the rows of a foreign table are.
#pragma once

#include <string>

namespace partbackfill::catalog {

// A query, in a statement that finds the server's names first: why the rows of the table, an SQL expression
// of its OID, cannot be rebuilt here, and where they can be; no row unless it is a foreign table. The names
// of remote tables are those of postgres_fdw's options, which are the local ones when they are left out.
inline std::string foreign_table_reason(const std::string &table) {
    return R"SQL(
        SELECT 'is a foreign table of server ' || quote_ident(s.srvname)
            || CASE WHEN w.fdwname = 'postgres_fdw'
                    THEN format(': start the job there, for table %I.%I', COALESCE(remote.schema, n.nspname), COALESCE(remote.name, c.relname))
                    ELSE '' END
        FROM pg_foreign_table AS f
        JOIN pg_foreign_server AS s ON s.oid = f.ftserver
        JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
        JOIN pg_class AS c ON c.oid = f.ftrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT max(o.option_value) FILTER (WHERE o.option_name = 'schema_name') AS schema,
                   max(o.option_value) FILTER (WHERE o.option_name = 'table_name') AS name
            FROM pg_options_to_table(f.ftoptions) AS o) AS remote
        WHERE f.ftrelid = )SQL" +
           table;
}

} // namespace partbackfill::catalog

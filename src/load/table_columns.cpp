#include "partbackfill/load/table_columns.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::load {

std::vector<NamedColumn> table_columns(Oid table) {
    const pg::Result result = pg::query(R"SQL(
        SELECT attname, attgenerated <> ''
        FROM pg_catalog.pg_attribute
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    )SQL",
                                        {table});
    std::vector<NamedColumn> columns;
    columns.reserve(result.rows.size());
    for (const pg::Row &row : result.rows)
        columns.push_back({row.text(0), row.boolean(1)});
    return columns;
}

} // namespace partbackfill::load

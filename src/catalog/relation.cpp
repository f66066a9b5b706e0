#include "partbackfill/catalog/relation.hpp"

#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

std::string RelationEntry::qualified() const {
    return pg::quote_qualified(schema, name);
}

std::optional<RelationEntry> find_relation(Oid oid) {
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relkind, c.relowner::bigint, n.nspname, c.relname
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.oid OPERATOR(pg_catalog.=) $1
    )SQL",
                                       {oid});
    if (found.empty())
        return std::nullopt;
    const pg::Row &row = found.rows.front();
    return RelationEntry{row.text(0).front(), row.oid(1), row.text(2), row.text(3)};
}

RelationEntry relation_entry(Oid oid) {
    if (auto found = find_relation(oid))
        return *std::move(found);
    pg::raise(pg::sqlcode::kUndefinedTable, "relation with OID " + std::to_string(oid) + " does not exist");
}

} // namespace partbackfill::catalog

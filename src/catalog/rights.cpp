#include "partbackfill/catalog/rights.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/rights.hpp"

namespace partbackfill::catalog {

namespace {

[[noreturn]] void raise_not_owner(const std::string &kind, const std::string &name,
                                  const std::string &detail) {
    pg::raise(pg::sqlcode::kInsufficientPrivilege, fmt::format("must be owner of {} \"{}\"", kind, name),
              detail);
}

} // namespace

void check_owner(const std::string &kind, const std::string &name, Oid owner, const std::string &detail) {
    if (!pg::may_change_for(owner))
        raise_not_owner(kind, name, detail);
}

void check_owner(const std::string &kind, Oid table, const std::string &detail) {
    const auto owner = pg::owner_of(table);
    if (owner && !pg::may_change_for(*owner))
        raise_not_owner(kind, relation_entry(table).name, detail);
}

void check_may_drop(const std::string &name, Oid owner) {
    if (!pg::may_act_as(owner))
        raise_not_owner("table", name, "It has the rows that the partition had before.");
}

void check_may_read_tree(Oid table) {
    for (const pg::Row &row : pg::query(R"SQL(
        WITH RECURSIVE tree (oid, level) AS (
            SELECT $1::pg_catalog.oid, 1
            UNION ALL
            SELECT i.inhrelid, tree.level OPERATOR(pg_catalog.+) 1
            FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) tree.oid
        )
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), n.nspname, c.relname, c.relowner::bigint
        FROM tree
        JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) tree.oid
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
        ORDER BY tree.level, c.relname
    )SQL",
                                        {table})
                                  .rows) {
        if (!row.boolean(0))
            pg::raise(pg::sqlcode::kInsufficientPrivilege, "permission denied for schema " + row.text(1));
        if (!pg::may_act_as(row.oid(3)))
            pg::raise(pg::sqlcode::kInsufficientPrivilege, "permission denied for table " + row.text(2));
    }
}

void check_may_read(Oid table) {
    const pg::Result refused = pg::query(R"SQL(
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), n.nspname, c.relname
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.oid OPERATOR(pg_catalog.=) $1
          AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
    )SQL",
                                         {table}, pg::Read::active_snapshot);
    if (refused.empty())
        return;
    const pg::Row &row = refused.rows.front();
    pg::raise(pg::sqlcode::kInsufficientPrivilege, row.boolean(0)
                                                       ? "permission denied for table " + row.text(2)
                                                       : "permission denied for schema " + row.text(1));
}

void check_may_reference(Oid table) {
    const pg::Result refused = pg::query(
        "SELECT relname FROM pg_class WHERE oid = $1 AND NOT has_table_privilege(oid, 'REFERENCES')",
        {table});
    if (!refused.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for table " + pg::quote_identifier(refused.rows.front().text(0)));
}

} // namespace partbackfill::catalog

#include "partbackfill/engine/rights.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/rights.hpp"

namespace partbackfill::engine {

namespace {

[[noreturn]] void raise_not_owner(const std::string &kind, const std::string &name, const std::string &detail) {
    pg::raise(pg::sqlcode::kInsufficientPrivilege, fmt::format("must be owner of {} \"{}\"", kind, name), detail);
}

std::string name_of(Oid table) {
    return pg::query_row("SELECT relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1", {table}).text(0);
}

} // namespace

void check_owner(const std::string &kind, const std::string &name, Oid owner, const std::string &detail) {
    if (!pg::may_change_for(owner))
        raise_not_owner(kind, name, detail);
}

void check_owner(const std::string &kind, Oid table) {
    const auto owner = pg::owner_of(table);
    if (owner && !pg::may_change_for(*owner))
        raise_not_owner(kind, name_of(table), "");
}

void check_may_drop(const std::string &name, Oid owner) {
    if (!pg::may_act_as(owner))
        raise_not_owner("table", name, "It has the rows that the partition had before.");
}

void check_may_reference(Oid table) {
    const pg::Result refused = pg::query("SELECT relname FROM pg_class WHERE oid = $1 AND NOT has_table_privilege(oid, 'REFERENCES')", {table});
    if (!refused.empty())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "permission denied for table " + pg::quote_identifier(refused.rows.front().text(0)));
}

} // namespace partbackfill::engine

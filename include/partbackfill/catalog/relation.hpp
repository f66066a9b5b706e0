// What pg_class says of a relation now.
#pragma once

#include <optional>
#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

struct RelationEntry {
    char kind = 0; // pg_class.relkind
    Oid owner = kNoOid;
    std::string schema;
    std::string name;

    std::string qualified() const; // quoted, schema-qualified
};

// nullopt when there is no such relation. Under any search_path. No lock.
std::optional<RelationEntry> find_relation(Oid oid);

// The relation that must be there: raises undefined_table when it is not.
RelationEntry relation_entry(Oid oid);

} // namespace partbackfill::catalog

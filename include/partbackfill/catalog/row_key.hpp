// The columns by which a row of a table is known: those of a unique index.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

struct KeyColumn {
    std::string name;
    int number = 0; // attribute number in the table
    Oid type = kNoOid;
    int typmod = -1;
    Oid collation = kNoOid;     // the index's; kNoOid: none
    std::string type_name;      // with typmod, and the same type under any search_path
    std::string collation_name; // schema-qualified and quoted; empty: none
    std::string equality;       // the index's own: OPERATOR(pg_catalog.=)
};

struct RowKey {
    Oid index = kNoOid;
    std::string index_name;
    std::vector<KeyColumn> columns; // in the order of the index, without those of INCLUDE

    std::string column_list() const; // quoted where that is needed, by commas
};

struct KeyFinding {
    Oid table = kNoOid;
    std::optional<RowKey> key;
    std::string reason; // when there is no key: "has no primary key ..."
};

// The row key of each table: of its unique B-tree indexes that are valid, immediate and whole, and
// whose columns are all NOT NULL and not generated, the primary key; else the replica identity; else
// the one of the fewest columns. Rows that are equal by such a key are equal for DISTINCT, too: an
// operator class with an equality of its own makes no key. In the order of `tables`; a table that is
// gone has no key. Needs a PinnedSettings scope. No lock.
std::vector<KeyFinding> find_row_keys(const std::vector<Oid> &tables, pg::Read read = pg::Read::newest);
std::optional<RowKey> find_row_key(Oid table, pg::Read read = pg::Read::newest);

// The index of another table that has the columns of the key, by name and in their order, with the
// same operator classes and collations, and is unique, valid, immediate and whole; kNoOid: none. Needs
// a PinnedSettings scope. No lock.
Oid index_with_key(Oid table, const RowKey &key, pg::Read read = pg::Read::newest);

} // namespace partbackfill::catalog

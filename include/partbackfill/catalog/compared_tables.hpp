// Two tables whose rows are compared: which columns they have in common, how values of each are compared, and
// by which key rows are paired.
//
// A value is the same when a reader of its text, as the output function of its type gives it, sees no
// difference: 1.0 and 1.00, 0 and -0, 1 day and 24 hours, json that differs in spaces are different, though
// operators may call some of them equal. The text is asked for only where a quicker answer does not do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

enum class Comparison {
    equality, // values are equal by the type's operator exactly if their text is the same
    image,    // values of the same bytes have the same text; else the text decides
    text,     // the column has another type in each table
};

struct ComparedColumn {
    std::string name;
    Comparison comparison = Comparison::text;
    bool collates = false; // the type has collations; those that are not deterministic would hide differences
    bool may_be_null = true;       // in one of the tables
    bool without_equality = false; // the type has no equality: its values are shown as text, too
};

struct ComparedTables {
    std::string old_table; // quoted, schema-qualified
    std::string new_table;
    std::vector<ComparedColumn> columns; // of both tables, in the order of the new one
    std::optional<RowKey> key;         // one that both tables have; rows are compared as multisets without it
    std::vector<std::string> only_old; // columns of one table
    std::vector<std::string> only_new;

    std::vector<std::string> without_equality() const; // names of such columns
};

// Both tables are there, and locked so that their definitions stay. Needs a PinnedSettings scope, and an
// active snapshot that was taken under the locks.
ComparedTables compare_definitions(Oid old_table, Oid new_table);

} // namespace partbackfill::catalog

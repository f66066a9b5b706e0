// A prepared statement of the user's, with what its result looks like.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"

namespace partbackfill::engine {

struct ResultColumn {
    std::string name;
    Oid type = kNoOid;
    int typmod = -1;
    Oid collation = kNoOid;
};

struct ParsedQuery {
    std::vector<ResultColumn> columns;
    std::vector<Oid> relations; // every relation it reads, through views too
    bool locks_rows = false;    // SELECT ... FOR UPDATE and the like, anywhere
    bool uses_start = false;    // $1
    bool uses_end = false;      // $2
    std::string temporary;      // "table "raw"": the first temporary object that it depends on
};

// Parses, analyzes and rewrites the statement as the current role under the
// caller's search_path and the current settings; $1 and $2 have the type of the key, when there is one.
ParsedQuery parse_query(const std::string &sql, const std::optional<RangeKey> &key);

// Columns of the query that are literals or NULLs without a type, as INSERT takes them:
// by themselves they would come out as text.
std::set<std::string> untyped_columns(const std::string &sql, const std::optional<RangeKey> &key);

// The relation that the text names under the caller's search_path; kNoOid when
// it is no name but, presumably, a query. An error when it is a name and nothing
// has it.
Oid named_relation(const std::string &text);

// The single statement in the text without its semicolon; an error, which calls the
// text by that name, when it is none, several, or not a SELECT.
std::string single_select(const std::string &text, const char *what = "source");

// The type's name as the caller may write it.
std::string type_text(Oid type, int typmod);

// Raises unless each column comes out of the source so that it can be assigned
// to the table's column of that name, and columns of partition keys so that
// nothing is converted at all.
void check_columns(const std::vector<ResultColumn> &columns, Oid table,
                   const std::set<std::string> &key_columns);

} // namespace partbackfill::engine

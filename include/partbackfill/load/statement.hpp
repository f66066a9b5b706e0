// Statements of the user's: parsed, with the columns of their results, and checked.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::load {

struct ResultColumn {
    std::string name;
    Oid type = kNoOid;
    int typmod = -1;
    Oid collation = kNoOid;
    int position = 0;     // of its expression in the statement, in characters from 1; 0: none
    std::string origin{}; // the name of the relation's column that it is; empty: it is computed
};

struct ParsedQuery {
    std::vector<ResultColumn> columns;
    std::vector<Oid> relations; // every relation it reads, through views too
    std::vector<Oid> combined;  // those of which it combines rows
    bool locks_rows = false;    // SELECT ... FOR UPDATE and the like, anywhere
    bool uses_start = false;    // $1
    bool uses_end = false;      // $2
    std::string temporary;      // the first temporary object that it depends on: table "raw"
};

// Parses, analyzes and rewrites the statement as the current role under the
// caller's search_path and the current settings; $1 and $2 have the type of the key, when there is one.
ParsedQuery parse_query(const std::string &sql, const std::optional<catalog::RangeKey> &key);

// Columns of the query that are literals or NULLs without a type: INSERT gives them the
// column's type, and a query by itself text.
std::set<std::string> untyped_columns(const std::string &sql, const std::optional<catalog::RangeKey> &key);

// The relation that the text names under the caller's search_path; kNoOid when the text
// is no name but, presumably, a query. An error when no relation has the name.
Oid named_relation(const std::string &text);

// The single statement in the text, without its semicolon. An error, which calls the text
// `what`, or `subject` at the beginning of a sentence, unless the text is one SELECT.
std::string single_select(const std::string &text, const std::string &what = "source",
                          const std::string &subject = {});

// The type's name as the caller may write it.
std::string type_text(Oid type, int typmod);

// Raises unless each column of the source can be assigned to the table's column of that
// name, and a column of a partition key or of the row key, by which rows are asked for, without any
// conversion.
void check_columns(const std::vector<ResultColumn> &columns, Oid table,
                   const std::set<std::string> &key_columns,
                   const std::set<std::string> &row_key_columns = {});

// The named columns that the source does not give exactly as the table has them, each with what is the
// matter: "is numeric in the source, not integer".
std::map<std::string, std::string> inexact_columns(const std::vector<ResultColumn> &columns, Oid table,
                                                   const std::set<std::string> &names);

} // namespace partbackfill::load

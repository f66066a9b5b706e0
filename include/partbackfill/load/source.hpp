// The source of the corrected rows: a relation or a query of the caller's.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::load {

// A source that was given to backfill_start or backfill_plan, and checked.
struct Source {
    std::string text;             // as given
    Oid relation = kNoOid;        // when the text names one
    bool reads_target = false;    // reads the target, or a table above or below it
    bool own_rows = false;        // is the target, or a table above or below it
    bool combines_target = false; // aggregates, joins and the like rows of the target
    bool uses_start = false;      // names $1
    bool uses_end = false;        // names $2
    std::vector<ResultColumn> columns;
};

// Understands and checks a source against the target's columns, as the caller
// and under the caller's settings: the source parses, it is one statement that only reads,
// its columns match by name and can be assigned, and the columns of the partition
// keys, and of the row keys that are named, have exactly the keys' types. Raises what is wrong, with the
// position in a query. ACCESS SHARE on what the source names.
Source check_source(const std::string &text, const catalog::Target &target,
                    const std::set<std::string> &row_key_columns = {});

// Within its life a policy that would hide rows of the source is an error, as in the
// workers.
class AllRows : public pg::SettingsScope {
public:
    AllRows();
};

// Raises on settings of the session under which the text of a partition's
// constraint would mean something else.
void check_settings();

} // namespace partbackfill::load

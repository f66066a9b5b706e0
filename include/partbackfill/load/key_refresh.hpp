// Refreshing rows of a shadow by their keys, after its build.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/load/load_query.hpp"
#include "partbackfill/core/seen_entries.hpp"

namespace partbackfill::load {

struct RefreshRequest {
    Oid shadow = kNoOid;
    Oid index = kNoOid; // of the shadow: the one of the row key
    Oid log = kNoOid;   // where the keys stand
    KeyQueries queries;
    pg::Params params; // $1 and $2 of the source
};

// A part of the log: entries are taken from a block on, to the end of the block in which there are `most`
// of them, or to the block before `end`.
inline constexpr std::uint32_t kNoBlock = 0xFFFFFFFF;
struct LogPart {
    std::uint32_t from = 0;
    std::int64_t most = 0;
    std::uint32_t end = kNoBlock; // the end of the log as it is then
};

struct Refreshed {
    std::int64_t keys = 0;  // entries of the log, of which several may have one key
    std::uint32_t next = 0; // the block from which the rest of the log is to be read
    bool at_end = false;    // nothing is left, up to the end of the part, of what the snapshot sees
    std::int64_t rows = 0;  // that the source gave
    std::vector<std::uint32_t> blocks{};   // of the shadow that were written to
    Oid file = kNoOid;                     // of the log
    std::vector<core::LogEntry> entries{}; // that were taken, when they have to be remembered
};

// Whether one form of the query was chosen, by the planner's costs for a number of keys.
enum class KeyQuery { by_cost, each, joined };

// What becomes of entries that were used: consumed ones are deleted, kept ones go with the log; of remembered
// ones, which stay, the places are returned.
enum class Entries { consumed, kept, remembered };

// Takes the entries of that part of the log that the active snapshot sees, reads by the same snapshot
// what the source gives for their keys, and puts that in the place of the shadow's rows that have the
// keys. What INSERT checks is checked, foreign keys too; no trigger of a user's fires, and nothing is
// decoded. `form` is set to the form of the query that was used.
//
// ACCESS SHARE on what the source reads, ROW EXCLUSIVE on the shadow and the log; a key that a row
// refers to is locked as by INSERT (FOR KEY SHARE). In a transaction of its own or before its commit;
// an error leaves it to be rolled back.
// Entries that were `seen` are passed over.
Refreshed refresh(const RefreshRequest &request, const LogPart &part, Entries entries,
                  const core::SeenEntries &seen, KeyQuery &form);

// Entries of the log that the active snapshot sees, but for those that were `seen`, and its size in blocks.
// ACCESS SHARE on the log.
struct LogSize {
    std::int64_t entries = 0;
    std::uint32_t blocks = 0;
};
LogSize size_of_log(Oid log, const core::SeenEntries *seen = nullptr);

} // namespace partbackfill::load

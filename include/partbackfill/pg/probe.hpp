// A user's query asked in the middle of something else.
#pragma once

#include <optional>
#include <string>

namespace partbackfill::pg {

struct Answer {
    std::optional<std::string> value; // first column of the first row, in text
    std::string error;                // of the query; empty when it worked
};

// Asks a query of one column, as the current role, with a snapshot taken now. It
// can change nothing: it is read-only and always rolled back. An error in it is
// an answer, and so is a cancel, which nobody can tell from a timeout of its own:
// whether the session was meant, the caller has to find out. Legal while a query runs, but not while that
// runs in parallel (can_probe).
Answer probe(const std::string &query);
bool can_probe();

} // namespace partbackfill::pg

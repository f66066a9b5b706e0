// A user's query that is asked in the middle of something else.
#pragma once

#include <optional>
#include <string>

namespace partbackfill::pg {

struct Answer {
    std::optional<std::string> value; // first column of the first row, in text
    std::string error;                // message of the query's error; empty when it worked
};

// Asks a query of one column, as the current role, with a snapshot taken now. The query
// can change nothing: it is read-only and always rolled back. An error in it is
// an answer, and so is a cancel, which cannot be told from a timeout of the query's own:
// the caller has to find out whether the session was meant. Legal while another query runs,
// but not while that one runs in parallel (can_probe).
Answer probe(const std::string &query);
bool can_probe();

} // namespace partbackfill::pg

// Room on disk: how much a table takes, and how much is left for another.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::engine {

// Bytes of a table with its TOAST table and its indexes, by tablespace. Empty when
// it is gone. Legal while a query runs. ACCESS SHARE for a moment.
std::map<Oid, std::int64_t> bytes_by_tablespace(Oid table);

// The same as it was when the table was last vacuumed or analyzed, without any lock
// on it.
std::map<Oid, std::int64_t> known_bytes_by_tablespace(Oid table);

// A tablespace's volume. Several tablespaces may lie on one.
struct Volume {
    std::uint64_t device = 0;
    double size = 0;
    double free = 0; // for who is not root
};

// Nothing when the system does not tell.
std::optional<Volume> volume_of(Oid tablespace);

// Those of WAL, and of what logical decoding spills of it: an end of their room is
// the end of the server.
std::vector<Volume> volumes_of_log();

} // namespace partbackfill::engine

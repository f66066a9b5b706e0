// Disk space: how much a table takes, and how much is free.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::catalog {

// Bytes of a table with the TOAST table and the indexes, by tablespace; empty when the table is
// gone. Legal while a query runs. ACCESS SHARE on each of them, for a moment; waits for none: where
// another session has one locked exclusively, the bytes are the known ones, as below.
std::map<Oid, std::int64_t> bytes_by_tablespace(Oid table);

// Bytes of a table as bytes_by_tablespace counts them, as of its last VACUUM or ANALYZE. No lock.
std::map<Oid, std::int64_t> known_bytes_by_tablespace(Oid table);

// The volume of a tablespace, in bytes. Several tablespaces may lie on one volume.
struct Volume {
    std::uint64_t device = 0;
    double size = 0;
    double free = 0; // for processes that are not root's
};

// nullopt when the operating system does not tell.
std::optional<Volume> volume_of(Oid tablespace);

// The volumes of WAL and of what logical decoding spills; the server stops when they are full.
std::vector<Volume> volumes_of_log();

} // namespace partbackfill::catalog

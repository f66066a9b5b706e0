// Starting workers.
#pragma once

#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::worker {

// What a worker is started with.
struct Assignment {
    Oid database;
    Oid role; // as which it connects
    std::int64_t job;
    std::uint32_t starter; // transaction that must have ended first
};

// Registers a background worker for a job; it starts at once and waits for the
// calling transaction to end. Raises when the server has no free worker slot.
void register_worker(std::int64_t job, Oid role);

} // namespace partbackfill::worker

// The standbys that stream from this server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace partbackfill::pg {

struct Standby {
    int pid = 0; // of its walsender
    std::uint64_t replayed = 0;
    std::optional<double> lag; // seconds, as pg_stat_replication shows it
};

// Physical standbys that are connected and have said how far they are. Read from
// shared memory: legal while a query runs, and for every role.
std::vector<Standby> standbys();
// application_name of a walsender; empty when it has ended.
std::string standby_name(int pid);
// The position up to which this server has flushed its log.
std::uint64_t flushed_log();

} // namespace partbackfill::pg

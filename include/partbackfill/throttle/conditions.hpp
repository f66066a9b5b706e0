// Throttle conditions: a standby that is behind, a query of the job's owner, a disk that fills
// up. While one holds, the job waits.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "partbackfill/core/replay_lag.hpp"
#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/throttle_settings.hpp"

namespace partbackfill::throttle {

class ThrottleConditions {
public:
    // The partition to be built next: its present size is the size still to be written. `others`
    // are being built by other workers. Until begin_build() their sizes count too: two builds
    // for which the disk has room only one after the other would wait for each other, each half
    // written. In a transaction.
    void set_expected_sizes(Oid live, const std::vector<Oid> &others);
    void begin_build() { others_.clear(); }

    // Evaluates every condition that the settings name. Returns those that hold, with the
    // figures, and an empty text when none does. Legal while a query runs; throttle_query is
    // left out in parallel mode.
    std::string check(const job::ThrottleSettings &settings, Oid shadow);

private:
    std::string check_standbys(double most_seconds);
    std::string check_query(const std::string &query);
    std::string check_disk(const core::DiskReserve &reserve, Oid shadow);

    struct Condition {
        core::Hysteresis hysteresis;
        std::string last; // figures of the last check in which it held
        void update(bool wanted, const std::string &seen, std::vector<std::string> &reasons);
    };
    Condition standbys_;
    Condition query_;
    Condition disk_;
    core::ReplayLag replay_;
    std::map<Oid, std::int64_t> expected_; // bytes by tablespace
    std::map<Oid, std::int64_t> others_;   // bytes by tablespace
};

} // namespace partbackfill::throttle

// What a job has to wait for: a standby that is behind, a query of its owner's, a
// disk that fills up.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "partbackfill/core/replay_lag.hpp"
#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/pace.hpp"

namespace partbackfill::worker {

class Signals {
public:
    // The work at hand is to build that partition; its present size is what is
    // still to be written. Until it begins, others have to be written first: two that
    // fit only one after the other would wait for each other, each half written. In a
    // transaction.
    void expect(Oid live, const std::vector<Oid> &others);
    void begin() { others_.clear(); }

    // Looks at everything that the job wants looked at; returns what it has to
    // wait for, with the figures, and nothing when it may work. Legal while a query
    // runs; in parallel mode throttle_query is left out.
    std::string look(const job::Pace &pace, Oid shadow);

private:
    std::string look_at_standbys(double most_seconds);
    std::string look_at_query(const std::string &query);
    std::string look_at_disk(const core::Room &room, Oid shadow);

    struct Signal {
        core::Hysteresis hysteresis;
        std::string last; // what was to be waited for when it was last seen
        void update(bool wanted, const std::string &seen, std::vector<std::string> &reasons);
    };
    Signal standbys_;
    Signal query_;
    Signal disk_;
    core::ReplayLag replay_;
    std::map<Oid, std::int64_t> expected_; // bytes by tablespace
    std::map<Oid, std::int64_t> others_;   // likewise
};

} // namespace partbackfill::worker

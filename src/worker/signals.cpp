#include "partbackfill/worker/signals.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/engine/disk.hpp"
#include "partbackfill/pg/probe.hpp"
#include "partbackfill/pg/standbys.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;

} // namespace

// One that is away, but not for long enough, is told of with the figures that it
// last had.
void Signals::Signal::update(bool wanted, const std::string &seen, std::vector<std::string> &reasons) {
    if (!wanted) {
        hysteresis.reset();
        return;
    }
    const auto now = Clock::now();
    if (!hysteresis.update(!seen.empty(), now))
        return;
    if (!seen.empty())
        last = seen;
    reasons.push_back(seen.empty() ? fmt::format("{}, over for {:.0f} of {:.0f} s", last,
                                                 hysteresis.clear_for(now).count(),
                                                 core::Hysteresis::kClearFor.count())
                                   : seen);
}

void Signals::expect(Oid live, const std::vector<Oid> &others) {
    expected_ = engine::bytes_by_tablespace(live);
    others_.clear();
    for (const Oid other : others)
        for (const auto &[tablespace, bytes] : engine::known_bytes_by_tablespace(other))
            others_[tablespace] += bytes;
}

std::string Signals::look(const job::Pace &pace, Oid shadow) {
    std::vector<std::string> reasons;
    const auto lag = pace.max_replica_lag;
    standbys_.update(lag.has_value(), lag ? look_at_standbys(*lag) : "", reasons);
    const bool ask = pace.throttle_query.has_value();
    if (!ask || pg::can_probe())
        query_.update(ask, ask ? look_at_query(*pace.throttle_query) : "", reasons);
    const bool room = pace.min_free_disk.wanted();
    disk_.update(room, room ? look_at_disk(pace.min_free_disk, shadow) : "", reasons);
    return fmt::format("{}", fmt::join(reasons, "; "));
}

std::string Signals::look_at_standbys(double most_seconds) {
    const auto now = Clock::now();
    replay_.written(pg::flushed_log(), now);
    double worst = 0;
    int whose = 0;
    for (const pg::Standby &standby : pg::standbys()) {
        double lag = replay_.behind(standby.replayed, now).count();
        if (replay_.older_than_known(standby.replayed))
            lag = std::max(lag, standby.lag.value_or(0));
        if (lag > worst) {
            worst = lag;
            whose = standby.pid;
        }
    }
    if (worst <= most_seconds)
        return "";
    return fmt::format("replica lag {} > {} ({})", core::format_seconds(core::Seconds(worst)),
                       core::format_seconds(core::Seconds(most_seconds)), pg::standby_name(whose));
}

std::string Signals::look_at_query(const std::string &query) {
    const pg::Answer answer = pg::probe(query);
    if (!answer.error.empty())
        return "throttle_query failed: " + answer.error;
    if (!answer.value || *answer.value == "f")
        return "";
    if (*answer.value == "t")
        return "throttle_query is true";
    const std::string &text = *answer.value;
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    // NaN and what is no number are nothing to go on by.
    if (error == std::errc() && end == text.data() + text.size() && number <= 0)
        return "";
    return fmt::format("throttle_query {} > 0", text);
}

std::string Signals::look_at_disk(const core::Room &room, Oid shadow) {
    std::map<Oid, std::int64_t> built;
    if (shadow != kNoOid)
        built = engine::bytes_by_tablespace(shadow);
    struct Demand {
        engine::Volume volume;
        double coming = 0;
    };
    std::map<std::uint64_t, Demand> demands;
    const auto demand = [&](Oid tablespace, std::int64_t bytes) {
        if (const auto volume = engine::volume_of(tablespace)) {
            demands[volume->device].volume = *volume;
            demands[volume->device].coming += static_cast<double>(std::max<std::int64_t>(0, bytes));
        }
    };
    for (const auto &[tablespace, bytes] : expected_)
        demand(tablespace, bytes - built[tablespace]);
    for (const auto &[tablespace, bytes] : others_)
        if (expected_.count(tablespace) > 0)
            demand(tablespace, bytes);
    // How much of the log stays is not known: checkpoints remove it, slots keep it.
    for (const engine::Volume &volume : engine::volumes_of_log())
        demands[volume.device].volume = volume;
    for (const auto &[device, demand] : demands) {
        const double wanted = room.of(demand.volume.size);
        if (demand.volume.free < wanted + demand.coming)
            return fmt::format("free disk {} < {} + {} to come", core::format_bytes(demand.volume.free),
                               core::format_bytes(wanted), core::format_bytes(demand.coming));
    }
    return "";
}

} // namespace partbackfill::worker

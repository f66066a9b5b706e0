#include "partbackfill/throttle/conditions.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/disk.hpp"
#include "partbackfill/pg/probe.hpp"
#include "partbackfill/pg/standbys.hpp"

namespace partbackfill::throttle {

namespace {

using Clock = std::chrono::steady_clock;

} // namespace

// A condition that has cleared, but not for long enough, is reported with its last figures.
void ThrottleConditions::Condition::update(bool wanted, const std::string &seen,
                                           std::vector<std::string> &reasons) {
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

void ThrottleConditions::set_expected_sizes(Oid live, const std::vector<Oid> &others) {
    expected_ = catalog::bytes_by_tablespace(live);
    others_.clear();
    for (const Oid other : others)
        for (const auto &[tablespace, bytes] : catalog::known_bytes_by_tablespace(other))
            others_[tablespace] += bytes;
}

std::string ThrottleConditions::check(const job::ThrottleSettings &settings, Oid shadow) {
    std::vector<std::string> reasons;
    const auto lag = settings.max_replica_lag;
    standbys_.update(lag.has_value(), lag ? check_standbys(*lag) : "", reasons);
    const bool ask = settings.throttle_query.has_value();
    if (!ask || pg::can_probe())
        query_.update(ask, ask ? check_query(*settings.throttle_query) : "", reasons);
    const bool reserve = settings.min_free_disk.wanted();
    disk_.update(reserve, reserve ? check_disk(settings.min_free_disk, shadow) : "", reasons);
    return fmt::format("{}", fmt::join(reasons, "; "));
}

std::string ThrottleConditions::check_standbys(double most_seconds) {
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

std::string ThrottleConditions::check_query(const std::string &query) {
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
    // NaN and a value that is no number hold the job.
    if (error == std::errc() && end == text.data() + text.size() && number <= 0)
        return "";
    return fmt::format("throttle_query {} > 0", text);
}

std::string ThrottleConditions::check_disk(const core::DiskReserve &reserve, Oid shadow) {
    std::map<Oid, std::int64_t> built;
    if (shadow != kNoOid)
        built = catalog::bytes_by_tablespace(shadow);
    struct Demand {
        catalog::Volume volume;
        double coming = 0;
    };
    std::map<std::uint64_t, Demand> demands;
    const auto demand = [&](Oid tablespace, std::int64_t bytes) {
        if (const auto volume = catalog::volume_of(tablespace)) {
            demands[volume->device].volume = *volume;
            demands[volume->device].coming += static_cast<double>(std::max<std::int64_t>(0, bytes));
        }
    };
    for (const auto &[tablespace, bytes] : expected_)
        demand(tablespace, bytes - built[tablespace]);
    for (const auto &[tablespace, bytes] : others_)
        if (expected_.count(tablespace) > 0)
            demand(tablespace, bytes);
    // The WAL to come is not counted: checkpoints remove it, slots keep it.
    for (const catalog::Volume &volume : catalog::volumes_of_log())
        demands[volume.device].volume = volume;
    for (const auto &[device, demand] : demands) {
        const double wanted = reserve.of(demand.volume.size);
        if (demand.volume.free < wanted + demand.coming)
            return fmt::format("free disk {} < {} + {} to come", core::format_bytes(demand.volume.free),
                               core::format_bytes(wanted), core::format_bytes(demand.coming));
    }
    return "";
}

} // namespace partbackfill::throttle

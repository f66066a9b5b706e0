#include "partbackfill/worker/shrinking.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/catalog/row_count.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"

namespace partbackfill::worker {

namespace {

// So many rows of a partition that would shrink are counted for the error, even when fewer decide.
constexpr std::int64_t kAlwaysCounted = 10000;

} // namespace

std::optional<std::int64_t> rows_before_shrinking(const job::Job &job, const job::Partition &partition,
                                                  throttle::Throttler &throttler, std::int64_t rebuilt,
                                                  const std::function<void()> &between) {
    const std::int64_t limit = catalog::kShrinking * rebuilt;
    catalog::RowCount count;
    bool is_open = false;
    lock_live(job, partition, throttler, [&] {
        is_open = catalog::may_shrink(partition.live, rebuilt);
        return false;
    });
    while (is_open && !count.over && !job.allow_shrink) {
        injection_point(InjectionPoint::counting, partition);
        between();
        lock_live(job, partition, throttler, [&] {
            catalog::count_piece(partition.live, std::max(limit, kAlwaysCounted), count);
            return false;
        });
    }
    return count.rows > limit ? std::optional(count.rows) : std::nullopt;
}

bool would_shrink(const job::Job &job, const job::Partition &partition) {
    return partition.rows_before && !job.allow_shrink;
}

pg::ErrorFields shrink_error(const job::Job &job, const job::Partition &partition) {
    const bool kept = partition.state == core::PartitionState::ready;
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectNotInPrerequisiteState;
    error.message = fmt::format("partition \"{}\" would lose {} of its rows", partition.name,
                                partition.rows == 0 ? "all" : "more than half");
    error.detail = fmt::format("The source gives {} rows for it, the live partition has {}{}.",
                               partition.rows, *partition.rows_before > kAlwaysCounted ? "more than " : "",
                               *partition.rows_before > kAlwaysCounted ? *partition.rows_before - 1
                                                                       : *partition.rows_before);
    error.hint = fmt::format(
        "If that is right, backfill_alter({0}, allow_shrink => true) and backfill_retry({0}) {1}.", job.id,
        kept ? "swap what was built" : "build it again");
    return error;
}

} // namespace partbackfill::worker

#include "partbackfill/worker/build.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/write_table.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/lock_waits.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/load_request.hpp"
#include "partbackfill/worker/shrinking.hpp"
#include "partbackfill/worker/swap.hpp"
#include "partbackfill/worker/validation.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// A throttled load goes in small steps. One that is not only asks now and then whether it has come to
// be: a delay point takes as long as a row.
constexpr int kRowsPerDelayPoint = 8;
constexpr int kRowsPerDelayPointUnthrottled = 250;

void check_still_claimed(const job::Partition &partition) {
    if (!locks::holds_claim(partition.job, partition.ordinal))
        throw job::LostClaim();
}

// Completes the shadow once the rows and indexes are there.
void finish_shadow(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = catalog::find_leaf(partition.live, job.target);
    if (!leaf)
        return;
    method_of(job).finish_shadow(swap_request(job, partition), *leaf);
}

// What the build sees of the live partition, by its own snapshot. A write capture that was
// disabled since it was made has missed writes.
writes::WriteBaseline baseline_of(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    writes::WriteBaseline baseline =
        writes::write_baseline(job.id, partition.live, pg::Read::active_snapshot);
    if (job::notices_writes(job.on_write) && !partition.revert_forced && !baseline.captured)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("writes to partition \"{}\" are not noticed", partition.name),
                  "A trigger that watches it was disabled or dropped.");
    return baseline;
}

// Locks the shadow exclusively to the end of the transaction. Rows that another session has inserted
// do not matter, since the load gives the shadow a new file; a constraint that it has dropped does.
void lock_shadow(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    load::lock_for_load(partition.shadow);
    const std::string now = catalog::shadow_digest(partition.shadow);
    const pg::AsExtensionOwner owner;
    if (!job::WriteTable(owner).shadow_unchanged(partition, now))
        pg::raise(
            pg::sqlcode::kObjectNotInPrerequisiteState,
            fmt::format("the shadow of partition \"{}\" was changed before it was filled", partition.name));
}

// Has changes of the shadow noticed from here on: of the rows by a write capture like that of the
// live partition, of the definition by the digest. The shadow has no parent by way of which rows could be
// written to it.
void record_built_shadow(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    writes::create_write_capture(partition.job, partition.shadow, nullptr, writes::Marks::of_all,
                                 writes::finest_level(partition.shadow));
    record_shadow_digest(partition);
}

// The tables that functions and views lock in the middle of a build are not known beforehand: the
// build stands in a queue for them. It gives up after swap_patience; after kLongestHold when writers
// wait for it.
class PatientWaits : public pg::SettingsScope {
public:
    PatientWaits(const job::Job &job, bool throttled) {
        constexpr std::int64_t kLongest = std::numeric_limits<int>::max(); // of the setting
        const std::chrono::milliseconds hold = locks::kLongestHold;
        const std::int64_t limit = (throttled ? std::max(job.swap_patience, job.lock_timeout) : hold).count();
        set("lock_timeout", std::to_string(std::clamp<std::int64_t>(limit, 1, kLongest)).c_str());
    }
};

// One build, within the caller's transaction.
class Build {
public:
    Build(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler, Speed speed)
        : job_(job), partition_(partition), throttler_(throttler), throttled_(speed == Speed::throttled),
          begun_(Clock::now() - std::chrono::duration_cast<Clock::duration>(throttler.waited().throttled)),
          wal_before_(pg::wal_bytes_written()) {}

    // Returns the text for the log.
    std::string run(const std::function<void()> &before_record) {
        load::LoadRequest request = throttled_request();
        lock_shadow(partition_);
        {
            const PatientWaits patient(job_, throttled_);
            const pg::SnapshotScope snapshot;
            baseline_ = baseline_of(job_, partition_);
            load(request);
            build_indexes();
            compare_and_finish();
        }
        const bool may_shrink = !figures_.rows_before || job_.allow_shrink;
        if (before_record && may_shrink)
            before_record();
        record_built_shadow(partition_);
        check_still_claimed(partition_);
        record();
        return report();
    }

private:
    catalog::Leaf live() const {
        const pg::PinnedSettings pinned;
        const auto leaf = catalog::find_leaf(partition_.live, job_.target);
        if (!leaf)
            pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                      fmt::format("partition \"{}\" is gone", partition_.name));
        method_of(job_).check_rights(*leaf);
        return *leaf;
    }

    // The source is parsed as the user meant it.
    load::LoadRequest throttled_request() {
        load::LoadRequest request = bounded_load_request(job_, partition_, live());
        request.stays_undecoded = job::catches_up(job_, partition_);
        throttler_.set_shadow(partition_.shadow);
        throttler_.exclude_elapsed();
        helped_ = throttler_.helper_gate().is_open();
        request.reads_ahead = helped_ && (!throttled_ || !throttler_.may_delay());
        if (throttled_) {
            request.delay_point = [this] { throttler_.delay_point(); };
            request.rows_per_delay_point =
                throttler_.may_delay() ? kRowsPerDelayPoint : kRowsPerDelayPointUnthrottled;
            request.serial = throttler_.requires_serial_plan();
        }
        return request;
    }

    void pay_debt() {
        if (throttled_)
            throttler_.pay_debt();
    }

    void load(load::LoadRequest &request) {
        throttle::show_phase(partition_, throttle::Phase::loading);
        injection_point(InjectionPoint::loading, partition_);
        figures_.rows = static_cast<std::int64_t>(load::load(request));
        loaded_ = Clock::now();
        throttle::show_rows(figures_.rows);
        load::end_progress();
        pay_debt();
    }

    void build_indexes() {
        const bool in_parallel = helped_ && (!throttled_ || !throttler_.waits_between_indexes());
        load::build_indexes(partition_.shadow, in_parallel, [this](int k, int n) {
            throttle::show_phase(partition_, throttle::Phase::indexing, k, n);
            pay_debt();
            injection_point(InjectionPoint::indexing, partition_);
        });
        throttler_.helper_gate().helpers_ended();
        throttle::show_phase(partition_, throttle::Phase::validating);
        load::end_progress();
        pay_debt();
        indexed_ = Clock::now();
    }

    void compare_and_finish() {
        figures_.rows_before =
            rows_before_shrinking(job_, partition_, throttler_, figures_.rows, [this] { pay_debt(); });
        lock_live(job_, partition_, throttler_, [] { return true; });
        if (throttled_)
            throttler_.exclude_elapsed();
        finish_shadow(job_, partition_);
        throttle::show_phase(partition_, throttle::Phase::analyzing);
        injection_point(InjectionPoint::analyzing, partition_);
        load::analyze(partition_.shadow);
    }

    void record() {
        figures_.wal_bytes = static_cast<std::int64_t>(pg::wal_bytes_written() - wal_before_);
        figures_.seconds = Clock::now() - begun_;
        throttler_.account_build();
        figures_.throttled = throttler_.waited().throttled;
        figures_.stalled = throttler_.waited().stalled;
        const pg::AsExtensionOwner owner;
        // The writes that a revert looks for are those since the swap.
        if (!partition_.reverts())
            job::WriteTable(owner).record_write_baseline(partition_, baseline_);
        job::PartitionTable(owner).built(partition_, figures_);
    }

    std::string report() const {
        return fmt::format("rebuilt partition {}: {} rows in {:.2f} s (load {:.2f} s, indexes {:.2f} s, "
                           "rest {:.2f} s), {:.1f} MB of WAL",
                           partition_.name, figures_.rows, figures_.seconds.count(),
                           Seconds(loaded_ - begun_).count(), Seconds(indexed_ - loaded_).count(),
                           Seconds(Clock::now() - indexed_).count(),
                           static_cast<double>(figures_.wal_bytes) / 1048576.0);
    }

    const job::Job &job_;
    job::Partition &partition_;
    throttle::Throttler &throttler_;
    bool throttled_;
    bool helped_ = false;     // by processes that read ahead and build indexes
    Clock::time_point begun_; // later by the time slept before
    std::uint64_t wal_before_;
    Clock::time_point loaded_;
    Clock::time_point indexed_;
    writes::WriteBaseline baseline_;
    job::BuildFigures figures_;
};

} // namespace

std::string build(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler, Speed speed,
                  const std::function<void()> &before_record) {
    return Build(job, partition, throttler, speed).run(before_record);
}

StepResult build_partition(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler) {
    for (;;) {
        try {
            pg::Transaction transaction;
            const std::string report = build(job, partition, throttler, Speed::throttled);
            injection_point(InjectionPoint::built, partition);
            transaction.commit();
            injection_point(InjectionPoint::ready, partition);
            process::log_line(job.id, report);
            announce(partition);
            return {};
        } catch (const pg::Error &error) {
            // throttle_query was set just now and needs a load without parallel workers: it begins anew.
            if (!throttler.take_replan_request())
                return contended_build(job, partition, throttler, error);
        }
    }
}

StepResult contended_build(const job::Job &job, job::Partition &partition,
                           const throttle::Throttler &throttler, const pg::Error &error) {
    if (!locks::is_contention(error))
        throw;
    partition.state = core::PartitionState::running; // nothing of the build was committed
    const std::string &reason = error.fields().message;
    process::log_line(job.id, fmt::format("gives up the build of partition {}: {}", partition.name, reason));
    return {StepOutcome::locks_not_granted,
            {{partition.live, locks::LockMode::access_share}},
            throttler.waited().locked,
            reason};
}

} // namespace partbackfill::worker

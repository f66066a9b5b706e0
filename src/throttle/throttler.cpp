#include "partbackfill/throttle/throttler.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/lock_waits.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/probe.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::throttle {

namespace {

using Clock = std::chrono::steady_clock;
using core::Seconds;

// A smaller debt is not worth a sleep; it stays until it has grown.
constexpr Seconds kShortestSleep{0.002};
// Between two readings of the settings and the conditions.
constexpr Seconds kCheckInterval{1};
// Between two counts of the workers that share the job's limit.
constexpr std::chrono::milliseconds kCountInterval{250};

} // namespace

Throttler::Throttler(std::int64_t job)
    : job_(job), wal_(Clock::now()), accounted_until_(Clock::now()), wal_accounted_(pg::wal_bytes_written()) {
}

void Throttler::wait_before_build(const job::Partition &partition) {
    waited_ = {};
    throttled_at_check_ = Seconds(0);
    shadow_ = kNoOid;
    // The time since the last build is no work of this one, but the WAL written in it counts.
    const auto written = pg::wal_bytes_written();
    wal_.spend(static_cast<double>(written - wal_accounted_), Clock::now());
    wal_accounted_ = written;
    for (;;) {
        {
            pg::Transaction transaction;
            set_expected_size(partition);
            check_conditions();
            transaction.commit();
        }
        if (!stalled_by_.empty())
            sleep_stalled();
        else if (current_debt() >= locks::kLongestHold) { // of a build that was given up for that
            reason_ = reason();
            sleep_throttled(kCheckInterval);
        } else
            break;
    }
    conditions_.begin_build();
    accounted_until_ = Clock::now();
}

void Throttler::set_expected_size(const job::Partition &partition) {
    std::map<int, Oid> before;
    {
        const pg::AsExtensionOwner owner;
        before = job::PartitionTable(owner).built_before(partition);
    }
    std::vector<Oid> others;
    if (!before.empty())
        for (const int ordinal : locks::claims_of(job_))
            if (const auto other = before.find(ordinal); other != before.end())
                others.push_back(other->second);
    conditions_.set_expected_sizes(partition.live, others);
}

Seconds Throttler::debt() {
    pg::Transaction transaction;
    const bool runs = read_settings();
    transaction.commit();
    return runs && current_debt() >= kShortestSleep ? current_debt() : Seconds(0);
}

void Throttler::sleep(Seconds time, pg::Wait why) {
    const auto begun = Clock::now();
    pg::sleep(std::chrono::ceil<std::chrono::milliseconds>(time), why);
    nice_.slept(Clock::now() - begun);
}

void Throttler::delay_point() {
    // Called every few rows: without a pause to compute, accounting can wait for the next check.
    const bool owes = settings_.nice_ratio > 0 || settings_.max_wal_rate > 0;
    if (!owes && Clock::now() - checked_at_ < kCheckInterval)
        return;
    // Between sleeps, too, other processes that wait for this processor go first.
    if (owes)
        std::this_thread::yield();
    obey_conditions();
    if (nice_.is_due() || wal_.debt(Clock::now()) >= kShortestSleep)
        sleep_off_debt();
}

void Throttler::pay_debt() {
    obey_conditions();
    sleep_off_debt();
}

void Throttler::pay_between_batches() {
    account_elapsed();
    for (;;) {
        if (Clock::now() - checked_at_ >= kCheckInterval) {
            pg::Transaction transaction;
            check_conditions();
            transaction.commit();
        }
        if (!stalled_by_.empty())
            sleep_stalled();
        else if (current_debt() >= kShortestSleep) {
            reason_ = reason();
            show_waiting(waited_, reason_);
            sleep_throttled(std::min(current_debt(), kCheckInterval));
        } else
            break;
    }
    accounted_until_ = Clock::now();
}

void Throttler::obey_conditions() {
    account_elapsed();
    if (Clock::now() - checked_at_ >= kCheckInterval)
        check_conditions();
    wait_until_clear();
    accounted_until_ = Clock::now(); // checking is not work
}

bool Throttler::take_replan_request() noexcept {
    return std::exchange(replan_requested_, false);
}

void Throttler::account_elapsed() {
    const auto now = Clock::now();
    const auto written = pg::wal_bytes_written();
    const auto bytes = static_cast<double>(written - wal_accounted_);
    const Seconds worked = now - accounted_until_;
    wal_accounted_ = written;
    accounted_until_ = now;
    wal_.spend(bytes, now);
    wal_rate_.add(bytes, worked);
    nice_.worked(worked);
}

// Walks all locks of the server: not for each of many small partitions.
void Throttler::count_sharers() {
    if (Clock::now() < sharers_known_until_)
        return;
    sharers_ = std::max(1, static_cast<int>(locks::claims_of(job_).size()));
    sharers_known_until_ = Clock::now() + kCountInterval;
}

// The workers that have a partition in hand share the job's limit: each takes an equal part,
// so that together they keep it without talking.
bool Throttler::read_settings() {
    if (!jobs_) {
        const pg::AsExtensionOwner owner;
        jobs_ = job::JobTable(owner).throttle_table(job_);
    }
    const auto newest = job::throttle_settings_if_running(*jobs_, job_);
    if (!newest)
        return false;
    settings_ = *newest;
    count_sharers();
    wal_.set_rate(static_cast<double>(settings_.max_wal_rate) / sharers_, Clock::now());
    nice_.set(settings_.nice_ratio);
    return true;
}

void Throttler::check_conditions() {
    check_job_runs();
    if (settings_.throttle_query && !pg::can_probe()) {
        replan_requested_ = true;
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  "throttle_query cannot be asked beside a parallel query");
    }
    if (settings_.throttle_query)
        show_rows_of_load();
    const auto asked = Clock::now();
    stalled_by_ = conditions_.check(settings_, shadow_);
    nice_.slept(Clock::now() - asked);
    if (settings_.throttle_query)
        check_job_runs(); // the query may have swallowed a cancel
    checked_at_ = Clock::now();
    if (waited_.throttled <= throttled_at_check_)
        reason_.clear();
    throttled_at_check_ = waited_.throttled;
    show_waiting(waited_, !stalled_by_.empty() ? stalled_by_ : reason_);
}

void Throttler::check_job_runs() {
    if (!read_settings())
        pg::raise(pg::sqlcode::kQueryCanceled, fmt::format("backfill job {} does not run any more", job_));
}

void Throttler::wait_until_clear() {
    while (!stalled_by_.empty()) {
        raise_if_session_waits(stalled_by_);
        sleep_stalled();
        check_conditions();
    }
}

// The condition that the build waits for may depend on another session, which waits for a lock
// of the build: the condition would then hold for as long as the build keeps its locks.
void Throttler::raise_if_session_waits(const std::string &reason) {
    if (const auto waiter = locks::waiter_since(locks::kLongestHold))
        pg::raise(pg::sqlcode::kLockNotAvailable,
                  fmt::format("{}, while {} waits for this build", reason, *waiter));
}

// One worker that stalls costs the job its share of the work, not all of it.
void Throttler::sleep_stalled() {
    waited_.stalled += sleep_throttled(kCheckInterval) / sharers_;
}

// In short sleeps, since the settings may change meanwhile.
void Throttler::sleep_off_debt() {
    const auto begun = Clock::now();
    while (current_debt() >= kShortestSleep) {
        const Seconds until_check = checked_at_ + kCheckInterval - Clock::now();
        if (until_check <= Seconds(0)) {
            check_conditions();
            wait_until_clear();
            if (Clock::now() - begun >= locks::kLongestHold)
                raise_if_session_waits(reason());
            continue;
        }
        reason_ = reason();
        show_waiting(waited_, reason_);
        sleep_throttled(std::min(current_debt(), until_check));
    }
}

Seconds Throttler::current_debt() {
    return std::max(wal_.debt(Clock::now()), nice_.owed());
}

Seconds Throttler::sleep_throttled(Seconds time) {
    const auto begun = Clock::now();
    pg::sleep(std::chrono::ceil<std::chrono::milliseconds>(time), pg::Wait::throttle);
    const Seconds slept = Clock::now() - begun;
    nice_.slept(slept);
    waited_.throttled += slept;
    accounted_until_ = Clock::now();
    return slept;
}

std::string Throttler::reason() {
    const Seconds debt = wal_.debt(Clock::now());
    if (nice_.owed() >= debt)
        return fmt::format("nice_ratio {:g}", settings_.nice_ratio);
    const double rate = wal_rate_.per_second() * sharers_;
    const auto limit = static_cast<double>(settings_.max_wal_rate);
    if (rate > limit)
        return fmt::format("WAL {}/s > {}/s", core::format_bytes(rate), core::format_bytes(limit));
    return fmt::format("WAL debt {} at {}/s", core::format_bytes(debt.count() * limit),
                       core::format_bytes(limit));
}

} // namespace partbackfill::throttle

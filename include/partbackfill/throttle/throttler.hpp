// The pace of a worker: its delay points sleep as long as the job's settings ask for, and say why.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/job/throttle_settings.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/throttle/conditions.hpp"
#include "partbackfill/throttle/helper_gate.hpp"

namespace partbackfill::throttle {

// A worker has one throttler for its life: the debt that a partition leaves is paid before the
// next one is claimed. All waits serve interrupts. The settings are read again every second,
// in the middle of a query too: a change takes effect within two seconds.
class Throttler {
public:
    explicit Throttler(std::int64_t job);

    // Before a partition is built: waits until no condition holds. In no transaction.
    void wait_before_build(const job::Partition &partition);
    // The shadow, once it exists: the bytes in it are not still to be written.
    void set_shadow(Oid shadow) noexcept { shadow_ = shadow; }
    // In a build, after each bit of work: sleeps once the debt is large enough, and while a
    // condition holds; yields the processor. Raises an error of contention when it has to wait
    // while another session has waited for a lock of the build for kLongestHold. Legal while a
    // query runs, in parallel mode too.
    void delay_point();
    // Between the parts of a build: as delay_point(), but pays all of the debt.
    void pay_debt();
    // Excludes the time since the last measurement from accounting.
    void exclude_elapsed() noexcept { accounted_until_ = std::chrono::steady_clock::now(); }
    // Excludes the time since the last measurement: the build has waited for a lock, for
    // `time` until now.
    void exclude_lock_wait(core::Seconds time) noexcept {
        waited_.locked = time;
        exclude_elapsed();
    }
    // Between the batches of a partition that catches up, in no transaction: as pay_debt().
    void pay_between_batches();
    // The build is over: accounts for its last bit of work, which may leave a debt.
    void account_build() { account_elapsed(); }
    // Between two partitions, in no transaction: the time still to be slept by the settings as
    // they are now, a sleep that pays some of it, and the reason as waiting_on shows it.
    core::Seconds debt();
    void sleep(core::Seconds time, pg::Wait why);
    std::string reason();
    // How long the partition in hand has waited.
    const Waited &waited() const noexcept { return waited_; }

    // Whether the machine has an idle processor for a build's helpers.
    HelperGate &helper_gate() noexcept { return helper_gate_; }
    // Whether a setting may make the job wait in the middle of a query, and a process that
    // reads ahead for the build must therefore not.
    bool may_delay() const noexcept { return settings_.nice_ratio > 0 || waits_between_indexes(); }
    // Whether the debt of an index is paid before the next one is built; that of nice_ratio may
    // be paid after all of them.
    bool waits_between_indexes() const noexcept {
        return settings_.max_wal_rate > 0 || settings_.max_replica_lag || settings_.throttle_query;
    }
    // Whether the load needs a plan without parallel workers, beside which throttle_query may run.
    bool requires_serial_plan() const noexcept { return settings_.throttle_query.has_value(); }
    // True once after a delay point has ended a parallel query by an error, because
    // throttle_query was set meanwhile and cannot run beside it.
    bool take_replan_request() noexcept;

private:
    void set_expected_size(const job::Partition &partition);
    void account_elapsed();
    void obey_conditions();
    void count_sharers();
    bool read_settings(); // false when the job does not run
    void check_job_runs();
    void check_conditions();
    void wait_until_clear();
    void sleep_stalled();
    void raise_if_session_waits(const std::string &reason);
    void sleep_off_debt();
    core::Seconds current_debt();
    core::Seconds sleep_throttled(core::Seconds time);

    std::int64_t job_;
    std::optional<pg::KeyedTable> jobs_;
    job::ThrottleSettings settings_;
    ThrottleConditions conditions_;
    std::string stalled_by_; // conditions that hold; empty when none does
    Oid shadow_ = kNoOid;
    int sharers_ = 1; // workers of the job that have a partition in hand
    std::chrono::steady_clock::time_point sharers_known_until_{};
    HelperGate helper_gate_;
    core::TokenBucket wal_;
    core::NiceRatio nice_;
    core::RecentRate wal_rate_;
    core::TimePoint accounted_until_; // work since then is not accounted for yet
    std::uint64_t wal_accounted_;
    core::TimePoint checked_at_; // settings and conditions
    Waited waited_;
    core::Seconds throttled_at_check_{0};
    std::string reason_; // of the last wait
    bool replan_requested_ = false;
};

} // namespace partbackfill::throttle

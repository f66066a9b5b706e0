// A worker's pace: it goes as slowly as its job is told to, and says why.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/job/pace.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/signals.hpp"

namespace partbackfill::worker {

// One for a worker's life: what one partition owes at its end is waited for
// before the next one is claimed. All waits
// serve interrupts. The settings are read anew every second, also in the middle
// of a query: a change is obeyed within two.
class Pacer {
public:
    explicit Pacer(std::int64_t job);

    // A partition is to be built: waits until nothing speaks against it. In no
    // transaction.
    void begin(const job::Partition &partition);
    // Its shadow, once it is there: what is in it is not still to be written.
    void fills(Oid shadow) noexcept { shadow_ = shadow; }
    // In its build, after each bit of work: waits once enough is owed for it, and while
    // something speaks against going on; gives way to who waits for the processor. Raises
    // an error of contention when it has to wait while another session has waited for a
    // lock of the build's for kLongestHold. Legal while a query runs, in parallel mode too.
    void check();
    // The same between the parts of a build, for all that is owed.
    void settle();
    // What was done since then was waiting, not work.
    void skip() noexcept { marked_ = std::chrono::steady_clock::now(); }
    // So long the build has waited for a lock, which is no work either.
    void skip_lock_wait(core::Seconds time) noexcept {
        waited_.locked = time;
        skip();
    }
    // The build is over, and may still owe something.
    void end() { account(); }
    // Between two partitions, in no transaction: what is owed by the settings as they
    // are now, and to wait for some of it.
    core::Seconds owes();
    void rest(core::Seconds time, pg::Wait why);
    std::string reason();
    // How long that partition has been made to wait.
    const Waited &waited() const noexcept { return waited_; }

    // Whether something may make the job wait in the middle of a query, and so no other
    // process may go on with that meanwhile.
    bool slows_down() const noexcept { return pace_.nice_ratio > 0 || waits_between_indexes(); }
    // For nice_ratio it is all the same whether one waits after each index or after all.
    bool waits_between_indexes() const noexcept {
        return pace_.max_wal_rate > 0 || pace_.max_replica_lag || pace_.throttle_query;
    }
    // Whether the query must be one beside which everything is legal.
    bool wants_serial_plan() const noexcept { return pace_.throttle_query.has_value(); }
    // True once after check() has raised an error to end a parallel query, since it
    // has got something to do beside which that is not legal.
    bool wants_another_plan() noexcept;

private:
    void expect(const job::Partition &partition);
    void account();
    void serve();
    bool read_settings(); // false when the job does not run
    void check_runs();
    void look();
    void wait_for_signals();
    void give_way(const std::string &reason);
    void wait_held();
    void pay();
    core::Seconds owed();
    core::Seconds nap(core::Seconds time);

    std::int64_t job_;
    std::optional<pg::KeyedTable> jobs_;
    job::Pace pace_;
    Signals signals_;
    std::string held_by_;
    Oid shadow_ = kNoOid;
    int sharers_ = 1; // workers of the job that have a partition in hand
    core::TokenBucket wal_;
    core::NiceRatio nice_;
    core::RecentRate wal_rate_;
    core::TimePoint marked_; // what was done since is not accounted for
    std::uint64_t wal_marked_;
    core::TimePoint looked_;
    Waited waited_;
    core::Seconds seen_throttled_{0}; // at the last look
    std::string reason_;              // of the last wait
    bool another_plan_ = false;
};

} // namespace partbackfill::worker

// The transaction that swaps several partitions, all or none.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "partbackfill/job/job.hpp"
#include "partbackfill/swap/swap.hpp"
#include "partbackfill/worker/audit.hpp"
#include "partbackfill/worker/catch_up.hpp"
#include "partbackfill/worker/claim_lock.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// A partition that is to be swapped with others.
struct Part {
    Part(const job::Job &job, job::Partition claimed)
        : partition(std::move(claimed)), audits(job, partition) {}

    job::Partition partition;
    std::optional<ClaimLock> lock;
    std::optional<CatchUp> catch_up;
    Audits audits;
    bool hot = false;    // it was written to after it had caught up
    bool marked = false; // its row says that rows of the shadow may be settled in place
};

using Parts = std::vector<std::unique_ptr<Part>>;

class JointSwap {
public:
    // Puts the part in hand, whose fault an error is, into `current`.
    JointSwap(const job::Job &job, Parts &parts, Part *&current)
        : job_(job), parts_(parts), current_(current) {}

    // Tries once, in a transaction of its own. ACCESS EXCLUSIVE on what the method names for each of the
    // partitions, all taken together and held until all are exchanged; the worker stands in their queues
    // for no longer than lock_timeout. With on_write => 'catch_up' writers are kept out before that while
    // the last rows of all are refreshed, for lock_timeout and ten milliseconds a partition at most until
    // the exchanges begin.
    // A result that is not done is that of the part in hand.
    StepResult make();

    bool is_committed() const noexcept { return committed_; }
    const std::vector<swap::PendingSwap> &swaps() const noexcept { return swaps_; }

private:
    using Clock = std::chrono::steady_clock;

    StepResult try_once();
    StepResult catch_up_last();
    StepResult keep_writers_out(job::Milliseconds whole);
    StepResult await_all_others();
    StepResult make_exchanges();
    void begin_part(std::size_t i);
    void settle_rows();
    void mark(bool settling);
    void undo();
    bool catches_up() const; // any of them does
    job::Milliseconds hold_left() const;

    const job::Job &job_;
    Parts &parts_;
    Part *&current_;
    std::vector<swap::PendingSwap> swaps_;
    Clock::time_point held_until_{};
    bool settles_ = false; // rows were settled in place
    bool committed_ = false;
};

} // namespace partbackfill::worker

// The step that brings a shadow up to date, by the keys of the rows that were written to the live
// partition since the build.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "partbackfill/core/catch_up_pace.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/load/key_refresh.hpp"
#include "partbackfill/throttle/throttler.hpp"
#include "partbackfill/worker/outcomes.hpp"

namespace partbackfill::worker {

// One object goes with a partition from its build to its swap. Nothing of it has to survive: the key
// log says what is left to do. Entries that were used are deleted; but those of writes since a swap that is
// being reverted stay until the swap, since a shadow that is filled from the old rows once more needs them
// all.
class CatchUp {
public:
    using Clock = std::chrono::steady_clock;

    CatchUp(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler);

    // Refreshes rows in passes over the log, each of small transactions, until a pass takes no longer
    // than a swap may hold writers. Writers do not wait: ROW EXCLUSIVE on the log and the shadow,
    // and what the source reads. Reports keys_left when writers outrun the passes for longer than
    // swap_patience.
    StepResult run();

    // Refreshes what is left, within the transaction of the swap and while writers are locked out.
    // False when that did not end in time: the transaction must then be rolled back. The rows must be
    // settled before the commit.
    bool finish(Clock::time_point deadline);

    // Raises when keys were logged since finish(): the own transaction has written to the partition.
    void check_unwritten() const;
    // Whether the last pass found keys, so that there may soon be more.
    bool is_busy() const { return pace_.behind() > 0 || pace_.done() > 0; }
    // Whether rows were refreshed that are not settled.
    bool has_unsettled() const noexcept { return !blocks_.empty(); }
    // Whether rows were written that run() has not refreshed.
    bool is_behind();
    // Whether finish() has refreshed a row, so that what is swapped is not what it was before.
    bool refreshed_last() const noexcept { return refreshed_last_; }
    // Notes that what else has to be done while writers are locked out did not end in time either.
    void note_unfinished(const std::string &why);

    // Whether writers have outrun the passes, or the time that a swap may hold writers, for longer than
    // swap_patience; and how far, for people: "12,000 keys behind, 900 keys/s in, 700 keys/s out".
    bool is_outrun() const;
    const std::string &distance() const noexcept { return distance_; }

    // Makes all that was refreshed visible to every snapshot; `table` has the rows now. To be the last
    // thing in the transaction of the swap.
    void settle(Oid table);

private:
    StepOutcome prepare();
    StepResult prepare_once();
    StepResult pass();
    StepResult next_batch(load::LogPart &part, std::int64_t &keys, bool &at_end);
    load::Entries last_entries() const;
    load::Refreshed refresh_part(const load::LogPart &part, load::Entries entries);
    StepResult after_error(const pg::Error &error, load::LogPart &part);
    void settle_committed();
    load::LogSize begin_pass();
    void record_refreshed(const load::Refreshed &refreshed);
    void shorten_log(std::uint32_t from, std::uint32_t to);
    void measure(std::int64_t behind);
    void show_pace() const;
    void set_batch(std::int64_t keys, Clock::duration time);
    job::Milliseconds budget() const;
    bool is_over(const std::optional<Clock::time_point> &since) const;

    const job::Job &job_;
    job::Partition &partition_;
    throttle::Throttler &throttler_;
    std::optional<load::RefreshRequest> request_;
    load::KeyQuery form_ = load::KeyQuery::by_cost;
    std::set<std::uint32_t> blocks_; // of the shadow, whose rows are not settled
    std::int64_t batch_;             // entries of the log that the next transaction takes
    std::int64_t finished_at_ = 0;   // entries of the log that finish() has used
    core::SeenEntries seen_;         // that were used and stay
    bool whole_ = false;             // the next part is all of the log
    bool refreshed_last_ = false;
    int violations_ = 0; // of constraints, one after the other
    core::CatchUpPace pace_;
    std::optional<Clock::time_point> outrun_since_;     // no pass has become smaller since
    std::optional<Clock::time_point> unfinished_since_; // a swap had too little time
    std::string unfinished_;                            // what had too little time
    std::string distance_;
};

} // namespace partbackfill::worker

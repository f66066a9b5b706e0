#include "partbackfill/worker/joint_swap.hpp"

#include <algorithm>

#include "partbackfill/core/throttle.hpp"
#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/publication_table.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/swap.hpp"
#include "partbackfill/worker/writer_locks.hpp"

namespace partbackfill::worker {

namespace {

// Of writers, for each partition that catches up.
constexpr job::Milliseconds kHoldForEach{10};

void record_settling(Part &part, bool settling) {
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = local");
    {
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).record_settling(part.partition, settling);
    }
    transaction.commit();
    part.marked = settling;
}

} // namespace

bool JointSwap::catches_up() const {
    return std::any_of(parts_.begin(), parts_.end(),
                       [](const auto &part) { return part->catch_up.has_value(); });
}

job::Milliseconds JointSwap::hold_left() const {
    return std::max(std::chrono::floor<job::Milliseconds>(held_until_ - Clock::now()), job::Milliseconds(0));
}

StepResult JointSwap::keep_writers_out(job::Milliseconds whole) {
    const auto asked = Clock::now();
    std::vector<locks::TableLock> locks;
    for (const auto &part : parts_) {
        current_ = part.get();
        if (!part->catch_up)
            continue;
        if (const auto out = await_swap_locks(job_, part->partition, job_.lock_timeout, locks);
            out != StepOutcome::done)
            return {out, locks, Clock::now() - asked};
    }
    held_until_ = Clock::now() + whole;
    for (const auto &part : parts_) {
        current_ = part.get();
        if (!part->catch_up)
            continue;
        if (const auto out = lock_out_writers(job_, part->partition, hold_left() / 2, locks);
            out != StepOutcome::done)
            return {out, locks, Clock::now() - asked};
    }
    return {};
}

// Refreshes the last rows of all while their writers wait.
StepResult JointSwap::catch_up_last() {
    const job::Milliseconds whole =
        std::max(job_.lock_timeout, kShortestHold) + kHoldForEach * static_cast<int>(parts_.size());
    if (StepResult result = keep_writers_out(whole); !result.is_done())
        return result;
    for (const auto &part : parts_) {
        current_ = part.get();
        if (!part->catch_up)
            continue;
        if (!part->catch_up->finish(held_until_ - whole / 4))
            return {StepOutcome::keys_left, {}, {}, part->catch_up->distance()};
        part->hot = part->hot || part->catch_up->has_unsettled();
        if (part->hot && !part->marked)
            return {StepOutcome::keys_left, {}, {}, "written to just now"};
    }
    injection_point(InjectionPoint::caught_up, current_->partition);
    for (const auto &part : parts_) {
        current_ = part.get();
        if (!part->catch_up || (!part->catch_up->refreshed_last() && !part->audits.are_undecided()))
            continue;
        if (StepResult result = part->audits.run_last(*part->catch_up, held_until_ - whole / 8);
            !result.is_done())
            return result;
    }
    return {};
}

// Looks at a part and at what the swaps before it have done: an event trigger may write to any partition.
void JointSwap::begin_part(std::size_t i) {
    current_ = parts_[i].get();
    if (current_->catch_up)
        current_->catch_up->check_unwritten();
}

StepResult JointSwap::make_exchanges() {
    const pg::PinnedSettings pinned;
    swaps_.clear();
    for (const auto &part : parts_)
        swaps_.emplace_back().request = swap_request(job_, part->partition);
    swap::TogetherRequest request;
    // Writers wait already, from before the looks at all of the partitions.
    request.lock_timeout = [this] { return catches_up() ? hold_left() : job_.lock_timeout; };
    request.moment = catches_up() ? job::Milliseconds(0) : job_.lock_timeout;
    request.begins = [this](std::size_t i) { begin_part(i); };
    request.swapped = [this](std::size_t i) { record_swapped(parts_[i]->partition, swaps_[i].result); };
    const std::size_t made = swap::swap_together(method_of(job_), swaps_, request);
    if (made == parts_.size())
        return {};
    current_ = parts_[made].get();
    return result_of(swaps_[made].result);
}

// To be the last thing in the transaction.
void JointSwap::settle_rows() {
    for (std::size_t i = 0; i < parts_.size(); i++) {
        Part &part = *parts_[i];
        if (!part.catch_up)
            continue;
        const job::Partition &partition = part.partition;
        load::decode_again({partition.live, partition.shadow});
        settles_ = settles_ || part.marked;
        part.catch_up->settle(swaps_[i].result.old_table == partition.shadow ? partition.live
                                                                             : partition.shadow);
    }
}

StepResult JointSwap::await_all_others() {
    for (const auto &part : parts_) {
        current_ = part.get();
        if (StepResult result = await_others(job_, part->partition); !result.is_done())
            return result;
    }
    return {};
}

// The transaction of the swaps; done when it has committed.
StepResult JointSwap::try_once() {
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep readers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    {
        const pg::PinnedSettings pinned;
        std::vector<job::Partition> partitions;
        for (const auto &part : parts_)
            partitions.push_back(part->partition);
        const pg::AsExtensionOwner owner;
        job::PublicationTable(owner).lock_for_swap(partitions);
    }
    StepResult result = await_all_others();
    if (result.is_done() && catches_up())
        result = catch_up_last();
    if (result.is_done())
        result = make_exchanges();
    if (!result.is_done())
        return result;
    settle_rows();
    injection_point(InjectionPoint::swapping, parts_.back()->partition);
    transaction.commit();
    committed_ = true;
    return {};
}

void JointSwap::mark(bool settling) {
    for (const auto &part : parts_)
        if (part->catch_up && part->marked != settling &&
            (!settling || part->hot || part->catch_up->is_busy()))
            record_settling(*part, settling);
}

// What the transaction that was rolled back has changed in memory.
void JointSwap::undo() {
    for (const auto &part : parts_) {
        part->partition.state = core::PartitionState::ready;
        part->partition.old = kNoOid;
    }
}

StepResult JointSwap::make() {
    throttle::show_phase(parts_.front()->partition, throttle::Phase::swapping);
    if (catches_up())
        mark(true);
    StepResult result;
    try {
        result = try_once();
    } catch (const job::LostClaim &) {
        throw;
    } catch (...) {
        // Rows that were settled already have to be built anew.
        if (committed_)
            throw;
        undo();
        if (!settles_)
            mark(false);
        throw;
    }
    if (result.is_done())
        return result;
    undo();
    mark(false);
    return result;
}

} // namespace partbackfill::worker

// What keeps writes from being lost: the guard, and builds that hold writers.
#include "partbackfill/worker/steps.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/fault.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;

// Tries of a swap while writers are held, and the pause between them.
constexpr int kHeldTries = 5;
constexpr job::Milliseconds kHeldPause{100};
// For a moment without a reader in the way, before writers are held.
constexpr job::Milliseconds kHeldMoment{1000};

std::vector<engine::TableLock> guard_locks(Oid partition) {
    return {{partition, engine::LockMode::share_row_exclusive}};
}

// The partition that the job began with; nullopt when it is not that any more.
std::optional<engine::Leaf> same_leaf(const job::Job &job, const job::Partition &partition) {
    const auto leaf = engine::find_leaf(partition.live, job.target);
    return leaf && leaf->bound == partition.bound ? leaf : std::nullopt;
}

enum class Guarding { done, locked_out, gone };

Guarding make_guard(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = same_leaf(job, partition);
    if (!leaf)
        return Guarding::gone;
    method_of(job).check_rights(*leaf); // no privilege is asked for when an internal trigger is made
    if (engine::look(job.id, leaf->oid, pg::Read::newest).guarded)
        return Guarding::done;
    if (!engine::lock_politely(guard_locks(leaf->oid), job.lock_timeout))
        return Guarding::locked_out;
    const auto locked = same_leaf(job, partition);
    if (!locked) // dropped or detached while we waited
        return Guarding::gone;
    method_of(job).check_rights(*locked);
    const engine::BoundedWaits bounded(job.lock_timeout);
    try {
        engine::create_guard(job.id, leaf->oid);
    } catch (const pg::Error &error) {
        if (!engine::is_contention(error))
            throw;
        return Guarding::locked_out;
    }
    return Guarding::done;
}

// What the swap needs beforehand and could not be made before the rows were
// there. False when others were in the way.
bool prepare_held(const job::Job &job, job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = same_leaf(job, partition);
    const auto &method = method_of(job);
    if (!leaf || method.prepares_early)
        return true; // the swap finds out
    engine::SwapRequest request = swap_request(job, partition);
    while (!method.prepared(request, *leaf)) {
        pg::Subtransaction subtransaction;
        std::vector<engine::TableLock> locks;
        const auto preparation = method.prepare(request, *leaf, locks);
        if (preparation == engine::Preparation::locked_out)
            return false;
        if (preparation == engine::Preparation::touched)
            return true; // the swap finds out
        reseal(partition);
        subtransaction.commit();
    }
    return true;
}

struct HeldSwap {
    engine::SwapResult swap;
    std::string holders = engine::kFreeLock; // of the locks that it did not get
    bool deadlock = false;                   // one of them waits for this process
};

// Tries of the swap in subtransactions, which give back its locks: those that
// hold writers stay. A holder that waits for them, having read what it now wants to
// write, is not waited for.
HeldSwap try_held(const job::Job &job, job::Partition &partition) {
    show_phase(partition, Phase::swapping);
    HeldSwap held;
    for (int tries = 0; tries < kHeldTries && !held.deadlock; tries++) {
        if (tries > 0)
            pg::sleep(kHeldPause, pg::Wait::backoff);
        if (!prepare_held(job, partition))
            continue;
        try {
            pg::Subtransaction subtransaction;
            {
                const engine::BoundedWaits bounded(
                    job.lock_timeout); // for the partition's row: writers are held
                held.swap = swap(job, partition, job::Milliseconds(0));
            }
            if (held.swap.outcome == engine::SwapOutcome::swapped)
                subtransaction.commit();
        } catch (const pg::Error &error) {
            if (!engine::is_contention(error))
                throw;
            continue;
        }
        if (held.swap.outcome != engine::SwapOutcome::locked_out)
            break;
        const pg::PinnedSettings pinned;
        held.holders = engine::lock_holders(held.swap.locks);
        held.deadlock = engine::holders_wait_for_us(held.swap.locks);
    }
    return held;
}

StepOutcome give_up(const job::Job &job, job::Partition &partition, const std::string &message,
                    const std::string &detail, const std::string &hint) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectInUse;
    error.message = message;
    error.detail = detail;
    error.hint = hint;
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0));
    return StepOutcome::failed;
}

// Who was in the way has stayed: what was built is given up, writers go on. One that
// waits for them itself will be gone then, and the partition is tried for as long as
// for any lock; others may stay for ever.
StepOutcome let_writers_go(const job::Job &job, job::Partition &partition, const HeldSwap &held) {
    if (partition.rebuilds < kMostRebuilds)
        return rebuild(job, partition, "its swap did not get its locks while it held writers");
    if (held.deadlock)
        return postpone(job, partition, held.swap.lock_wait, held.swap.locks,
                        held.holders + ", which waits for this build");
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not lock partition \"{}\"", partition.name);
    error.detail = fmt::format("The swap waited for a {} in build {} of this partition, which held writers.",
                               held.holders, partition.rebuilds + 1);
    error.hint = fmt::format("Start the job again when no transaction keeps the table locked for longer than "
                             "lock_timeout ({} ms), or with a longer one.",
                             job.lock_timeout.count());
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0));
    return StepOutcome::failed;
}

} // namespace

StepOutcome guard_step(const job::Job &job, job::Partition &partition) {
    if (job.on_write != job::OnWrite::rebuild)
        return StepOutcome::done;
    show_phase(partition, Phase::creating);
    const auto asked = Clock::now();
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep writers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    const Guarding result = make_guard(job, partition);
    if (result == Guarding::locked_out) {
        transaction.abort();
        return postpone(job, partition, Clock::now() - asked, guard_locks(partition.live));
    }
    if (result == Guarding::gone)
        skip(job, partition, kGone);
    reach("guard", partition);
    transaction.commit();
    return result == Guarding::gone ? StepOutcome::skipped : StepOutcome::done;
}

bool holds_writers(const job::Job &job, const job::Partition &partition) {
    return job.on_write == job::OnWrite::block ||
           (job.on_write == job::OnWrite::rebuild && method_of(job).holds_writers_at_last &&
            partition.rebuilds >= kMostRebuilds);
}

namespace {

enum class Hold { held, locked_out, gone };

// Holds writers; not for a build that, as things are, could not be swapped: a reader who
// stays would be in its way. `locks` are those that others have.
Hold hold_writers(const job::Job &job, const job::Partition &partition,
                  std::vector<engine::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    const auto leaf = same_leaf(job, partition);
    if (!leaf)
        return Hold::gone;
    method_of(job).check_rights(*leaf);
    locks = method_of(job).tables_to_lock(*leaf, partition.shadow);
    if (!engine::wait_for_moment(locks, job.lock_timeout, kHeldMoment))
        return Hold::locked_out;
    locks = method_of(job).locks_against_writers(*leaf);
    if (!engine::lock_politely(locks, job.lock_timeout))
        return Hold::locked_out;
    const auto locked = same_leaf(job, partition);
    if (!locked)
        return Hold::gone;
    method_of(job).check_rights(*locked);
    return Hold::held;
}

StepOutcome build_and_swap(const job::Job &job, job::Partition &partition, Pacer &pacer) {
    const auto asked = Clock::now();
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = local");
    std::vector<engine::TableLock> locks;
    const Hold hold = hold_writers(job, partition, locks);
    if (hold == Hold::gone) {
        skip(job, partition, kGone);
        transaction.commit();
        return StepOutcome::skipped;
    }
    if (hold == Hold::locked_out) {
        transaction.abort();
        return postpone(job, partition, Clock::now() - asked, locks);
    }
    const std::string report = build(job, partition, pacer, Speed::full);
    if (partition.rows_before && !job.allow_shrink) {
        transaction.abort();
        partition.state = core::PartitionState::running; // nothing of this was committed
        return check_shrink_step(job, partition);
    }
    const HeldSwap held = try_held(job, partition);
    const engine::SwapResult &result = held.swap;
    if (result.outcome == engine::SwapOutcome::swapped) {
        reach("swap", partition);
        transaction.commit();
        log_line(report);
        return after_swap(job, partition, result);
    }
    transaction.abort();
    partition.state = core::PartitionState::running; // nothing of this was committed
    switch (result.outcome) {
    case engine::SwapOutcome::unprepared:
        return StepOutcome::unprepared;
    case engine::SwapOutcome::locked_out:
        return let_writers_go(job, partition, held);
    case engine::SwapOutcome::touched:
        return touched(job, partition);
    default: // changed: by what its locks do not keep out, such as GRANT
        return redefined(job, partition);
    }
}

} // namespace

StepOutcome held_step(const job::Job &job, job::Partition &partition, Pacer &pacer) {
    try {
        return build_and_swap(job, partition, pacer);
    } catch (const pg::Error &error) {
        if (partition.state == core::PartitionState::done)
            throw;
        partition.state = core::PartitionState::running; // nothing of this was committed
        return postpone_build(job, partition, pacer, error);
    }
}

StepOutcome overtaken(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRebuilds || method_of(job).holds_writers_at_last)
        return rebuild(job, partition, "it was written to meanwhile");
    return give_up(job, partition, fmt::format("partition \"{}\" is written to all the time", partition.name),
                   fmt::format("It was written to during each of {} builds.", partition.rebuilds + 1),
                   "Start the job again with on_write => 'block', or with swap => 'storage'.");
}

StepOutcome touched(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRebuilds || holds_writers(job, partition))
        return rebuild(job, partition, kTouched);
    return give_up(
        job, partition,
        fmt::format("what is built for partition \"{}\" is changed all the time", partition.name),
        fmt::format("Its shadow in schema {} was changed after each of {} builds.",
                    engine::new_schema(job.id), partition.rebuilds + 1),
        "Leave the job's tables alone; a foreign key with a referential action changes them, too.");
}

StepOutcome redefined(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRedefinitions)
        return rebuild(job, partition, kChanged);
    return give_up(job, partition,
                   fmt::format("the definition of partition \"{}\" changes all the time", partition.name),
                   fmt::format("It was changed, or its parent's, after each of {} builds began.",
                               partition.rebuilds + 1),
                   "Start the job again when nobody changes the table.");
}

bool unguard(const job::Job &job, Oid partition) {
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = local");
    {
        const pg::PinnedSettings pinned;
        if (!engine::is_guarded(job.id, partition))
            return true;
        if (!engine::lock_politely(guard_locks(partition), tidying_limit(job, partition)))
            return false;
        engine::drop_guard(job.id, partition);
    }
    transaction.commit();
    return true;
}

} // namespace partbackfill::worker

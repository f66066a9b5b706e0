#include "partbackfill/worker/steps.hpp"

#include <random>

#include <fmt/format.h>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/engine/counters.hpp"
#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"
#include "partbackfill/worker/fault.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr core::Milliseconds kSwapPauseBase{200};
constexpr core::Milliseconds kSwapPauseCap{2000};

double jitter() {
    std::random_device device;
    return std::uniform_real_distribution<double>(0, 1)(device);
}

engine::SwapResult try_swap(const job::Job &job, job::Partition &partition) {
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep readers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    const engine::SwapResult result = swap(job, partition, job.lock_timeout);
    if (result.outcome == engine::SwapOutcome::gone) {
        const pg::PinnedSettings pinned;
        skip(job, partition, kGone);
    }
    if (result.outcome == engine::SwapOutcome::swapped)
        reach("swap", partition);
    if (result.outcome == engine::SwapOutcome::gone || result.outcome == engine::SwapOutcome::swapped)
        transaction.commit();
    return result;
}

} // namespace

std::vector<Oid> proofs_on(Oid partition) {
    job::ControlTables control;
    return control.proofs_on(partition);
}

const engine::SwapMethod &method_of(const job::Job &job) {
    return engine::swap_method(job.swap);
}

StepOutcome postpone(const job::Job &job, job::Partition &partition, Seconds lock_wait,
                     const std::vector<engine::TableLock> &locks, const std::string &reason) {
    pg::Transaction transaction;
    Seconds tried_for{0};
    std::string holders;
    {
        const pg::PinnedSettings pinned;
        holders = engine::lock_holders(locks);
        if (holders == engine::kFreeLock && !reason.empty())
            holders = reason;
    }
    {
        job::ControlTables control;
        const auto pause = core::backoff(partition.swap_attempts, jitter(), kSwapPauseBase, kSwapPauseCap);
        tried_for = control.swap_postponed(partition, lock_wait.count(), pause, holders);
        if (partition.state == core::PartitionState::running && tried_for < Seconds(job.swap_patience))
            control.postpone(partition);
    }
    transaction.commit();
    if (tried_for < Seconds(job.swap_patience))
        return StepOutcome::postponed;
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not lock partition \"{}\"", partition.name);
    error.detail = fmt::format("{} tries in {:.1f} s did not get the lock within {} ms.",
                               partition.swap_attempts, tried_for.count(), job.lock_timeout.count());
    if (!reason.empty())
        error.detail += fmt::format(" Its last build was given up: {}.", reason);
    error.hint =
        partition.state == core::PartitionState::ready
            ? fmt::format(
                  "What was built is kept: backfill_retry({0}) swaps it, backfill_cancel({0}) drops it.",
                  job.id)
            : "See who holds locks on the table in pg_locks, or start the job again with a longer "
              "swap_patience.";
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0), Remains::kept);
    return StepOutcome::failed;
}

StepOutcome postpone_build(const job::Job &job, job::Partition &partition, const Pacer &pacer,
                           const pg::Error &error) {
    if (!engine::is_contention(error))
        throw;
    partition.state = core::PartitionState::running; // nothing of the build was committed
    const std::string &reason = error.fields().message;
    log_line(fmt::format("backfill job {} gives up the build of partition {}: {}", job.id, partition.name,
                         reason));
    return postpone(job, partition, pacer.waited().locked, {{partition.live, engine::LockMode::access_share}},
                    reason);
}

StepOutcome rebuild(const job::Job &job, job::Partition &partition, const std::string &reason) {
    pg::Transaction transaction;
    const bool dropped = drop_politely(job, partition.shadow); // or the next attempt drops it
    {
        job::ControlTables control;
        if (dropped)
            control.forget_shadow(partition);
        control.rebuild(partition, reason);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} rebuilds partition {}: {}", job.id, partition.name, reason));
    return StepOutcome::outdated;
}

engine::SwapRequest swap_request(const job::Job &job, const job::Partition &partition) {
    engine::SwapRequest request;
    request.job = job.id;
    request.ordinal = partition.ordinal;
    request.target = job.target;
    request.live = partition.live;
    request.shadow = partition.shadow;
    request.proof = partition.proof;
    request.bound = partition.bound;
    request.constraint = partition.constraint.value_or("true");
    request.proofs = [&partition] { return proofs_on(partition.live); };
    request.fingerprint = partition.fingerprint;
    request.lock_timeout = job.lock_timeout;
    if (job.on_write == job::OnWrite::rebuild)
        request.lacks_writes = [&partition] {
            const engine::Sight now = engine::look(partition.job, partition.live, pg::Read::newest);
            job::ControlTables control;
            return control.lacks_writes(partition, now);
        };
    request.untouched = [&partition] {
        const std::string now = engine::shadow_digest(partition.shadow);
        bool untouched = false;
        {
            job::ControlTables control;
            untouched = control.shadow_untouched(partition, now);
        }
        reach("look", partition);
        return untouched;
    };
    return request;
}

engine::SwapResult swap(const job::Job &job, job::Partition &partition, job::Milliseconds moment) {
    const pg::PinnedSettings pinned;
    const pg::KeepPlans keep;
    {
        job::ControlTables control;
        control.lock_for_swap(partition);
    }
    engine::SwapRequest request = swap_request(job, partition);
    request.moment = moment;
    const engine::SwapResult result = engine::swap(method_of(job), request);
    if (result.outcome == engine::SwapOutcome::swapped) {
        job::ControlTables control;
        control.swapped(partition, result.old_table, Seconds(result.lock_wait).count());
    }
    return result;
}

StepOutcome after_swap(const job::Job &job, job::Partition &partition, const engine::SwapResult &result) {
    const Seconds locked_for = Clock::now() - result.locked_at;
    reach("swapped", partition);
    pg::Transaction transaction;
    job::BuildFigures figures;
    {
        job::ControlTables control;
        figures = control.record_locked_for(partition, locked_for.count());
    }
    engine::carry_counters(partition.live, partition.shadow, result.old_table);
    transaction.commit();
    log_line(fmt::format(
        "backfill job {} swapped partition {}: {} rows in {:.2f} s, {:.1f} MB of WAL; waited {:.1f} ms for "
        "locks, held them for {:.1f} ms",
        job.id, partition.name, figures.rows, figures.seconds.count(),
        static_cast<double>(figures.wal_bytes) / 1048576.0, Seconds(result.lock_wait).count() * 1000,
        locked_for.count() * 1000));
    return StepOutcome::done;
}

void reseal(const job::Partition &partition) {
    const std::string seal = engine::shadow_digest(partition.shadow);
    job::ControlTables control;
    control.record_seal(partition, seal);
}

StepOutcome prepare_step(const job::Job &job, job::Partition &partition) {
    for (;;) {
        pg::Transaction transaction;
        engine::Preparation preparation = engine::Preparation::complete;
        std::vector<engine::TableLock> locks;
        const auto asked = Clock::now();
        {
            const pg::PinnedSettings pinned;
            const auto leaf = engine::find_leaf(partition.live, job.target);
            if (!leaf)
                return StepOutcome::done; // the swap finds that it is gone
            const auto &method = method_of(job);
            method.check_rights(*leaf);
            if (partition.state == core::PartitionState::running && !method.prepares_early)
                return StepOutcome::done; // there is nothing in it yet
            engine::SwapRequest request = swap_request(job, partition);
            if (method.prepared(request, *leaf))
                return StepOutcome::done;
            show_phase(partition, Phase::validating);
            preparation = method.prepare(request, *leaf, locks);
            if (preparation == engine::Preparation::again) {
                if (!method.prepares_early)
                    reseal(partition);
                if (request.proof != partition.proof) {
                    job::ControlTables control;
                    control.record_proof(partition, request.proof);
                }
            }
        }
        if (preparation == engine::Preparation::touched) {
            transaction.abort();
            return touched(job, partition);
        }
        if (preparation == engine::Preparation::locked_out) {
            transaction.abort();
            return postpone(job, partition, Clock::now() - asked, locks);
        }
        reach("prepare", partition);
        transaction.commit();
    }
}

StepOutcome swap_step(const job::Job &job, job::Partition &partition) {
    show_phase(partition, Phase::swapping);
    const engine::SwapResult result = try_swap(job, partition);
    switch (result.outcome) {
    case engine::SwapOutcome::locked_out:
        return postpone(job, partition, result.lock_wait, result.locks);
    case engine::SwapOutcome::unprepared:
        return StepOutcome::unprepared;
    case engine::SwapOutcome::written:
        return overtaken(job, partition);
    case engine::SwapOutcome::touched:
        return touched(job, partition);
    case engine::SwapOutcome::changed:
        return redefined(job, partition);
    case engine::SwapOutcome::gone:
        return StepOutcome::skipped;
    case engine::SwapOutcome::swapped:
        break;
    }
    return after_swap(job, partition, result);
}

StepOutcome check_shrink_step(const job::Job &job, job::Partition &partition) {
    if (!partition.rows_before || job.allow_shrink)
        return StepOutcome::done;
    const bool kept = partition.state == core::PartitionState::ready;
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectNotInPrerequisiteState;
    error.message = fmt::format("partition \"{}\" would lose {} of its rows", partition.name,
                                partition.rows == 0 ? "all" : "more than half");
    error.detail = fmt::format("The source gives {} rows for it, the live partition has {}{}.",
                               partition.rows, *partition.rows_before > kCountedAnyway ? "more than " : "",
                               *partition.rows_before > kCountedAnyway ? *partition.rows_before - 1
                                                                       : *partition.rows_before);
    error.hint = fmt::format(
        "If that is right, backfill_alter({0}, allow_shrink => true) and backfill_retry({0}) {1}.", job.id,
        kept ? "swap what was built" : "build it again");
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0), Remains::kept);
    return StepOutcome::failed;
}

void tidy_step(const job::Job &job, const job::Partition &partition) {
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            control.forget_writes(job.id, partition.live);
        }
        transaction.commit();
    }
    if (job.keep_old)
        return;
    pg::Transaction transaction;
    if (!drop_politely(job, partition.old))
        return; // somebody reads it by its name: the end of the job tries again
    {
        job::ControlTables control;
        control.forget_old(job.id, partition.old);
    }
    reach("tidy", partition);
    transaction.commit();
}

} // namespace partbackfill::worker

#include "partbackfill/worker/steps.hpp"

#include <random>

#include <fmt/format.h>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/engine/carry.hpp"
#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/loader.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr core::Milliseconds kSwapPauseBase{200};
constexpr core::Milliseconds kSwapPauseCap{5000};

double jitter() {
    std::random_device device;
    return std::uniform_real_distribution<double>(0, 1)(device);
}

// Marks the partition as skipped; its shadow, if it has one, goes.
void skip(const job::Job &job, job::Partition &partition, const std::string &reason) {
    if (partition.shadow != kNoOid)
        engine::drop_own_table(job.id, partition.shadow);
    job::ControlTables control;
    if (partition.shadow != kNoOid)
        control.forget_shadow(partition);
    control.skip(partition, reason);
    log_line(fmt::format("backfill job {} skipped partition {}: {}", job.id, partition.name, reason));
}

// Marks the attempt as failed, and then drops its shadow: whatever becomes of that,
// the attempt has failed.
void record_failure(const job::Job &job, job::Partition &partition, core::PartitionEvent event,
                    const pg::ErrorFields &error, job::Milliseconds pause) {
    {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            control.attempt_failed(partition, event, error, pause);
        }
        transaction.commit();
    }
    if (partition.shadow == kNoOid)
        return;
    pg::Transaction transaction;
    if (engine::drop_own_table(job.id, partition.shadow)) {
        job::ControlTables control;
        control.forget_shadow(partition);
    }
    transaction.commit();
}

constexpr const char *kGone = "the partition was dropped, detached or given other bounds";

void check_still_claimed(const job::Partition &partition) {
    if (!engine::holds_claim(partition.job, partition.ordinal))
        throw job::LostClaim();
}

// What would have been in the way of the load.
void finish_definition(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = engine::find_leaf(partition.live, job.target);
    if (leaf)
        engine::carry_after_load(job.id, *leaf, partition.shadow);
}

engine::LoadRequest load_request(const job::Job &job, const job::Partition &partition, const engine::Leaf &leaf) {
    engine::LoadRequest request;
    request.shadow = partition.shadow;
    request.query = engine::load_query(job.source, job.source_oid, leaf, partition.constraint.value_or("true"));
    if (job.key_type != kNoOid)
        request.params = {pg::Param::typed(job.key_type, partition.range_start),
                          pg::Param::typed(job.key_type, partition.range_end)};
    request.key_columns = job.key_columns;
    return request;
}

} // namespace

StepOutcome create_step(const job::Job &job, job::Partition &partition) {
    show_phase(partition, Phase::creating);
    pg::Transaction transaction;
    StepOutcome outcome = StepOutcome::done;
    {
        const pg::PinnedSettings pinned;
        if (partition.shadow != kNoOid) // of an attempt that died
            engine::drop_own_table(job.id, partition.shadow);
        const auto leaf = engine::find_leaf(partition.live, job.target);
        if (!leaf || leaf->bound != partition.bound) {
            skip(job, partition, kGone);
            outcome = StepOutcome::skipped;
        } else {
            engine::check_can_be_carried(*leaf); // it may have changed since the door
            engine::ensure_schemas(job.id, *leaf);
            const std::string constraint = engine::constraint_text(leaf->oid);
            // Before the copy is made: what changes meanwhile is seen at the swap.
            const std::string fingerprint = engine::fingerprint(leaf->oid);
            const Oid shadow = engine::create_shadow(job.id, *leaf);
            job::ControlTables control;
            control.record_shadow(partition, shadow, constraint, fingerprint);
        }
    }
    transaction.commit();
    return outcome;
}

void build_step(const job::Job &job, job::Partition &partition) {
    const auto begun = Clock::now();
    const auto wal_before = pg::wal_bytes_written();
    pg::Transaction transaction;
    engine::LoadRequest request;
    {
        const pg::PinnedSettings pinned;
        const auto leaf = engine::find_leaf(partition.live, job.target);
        if (!leaf)
            pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                      fmt::format("partition \"{}\" is gone", partition.name));
        request = load_request(job, partition, *leaf);
    }
    job::BuildFigures figures;
    Clock::time_point loaded;
    Clock::time_point indexed;
    {
        const pg::SnapshotScope snapshot;
        show_phase(partition, Phase::loading);
        figures.rows = static_cast<std::int64_t>(engine::load(request));
        finish_definition(job, partition);
        loaded = Clock::now();
        engine::build_indexes(partition.shadow,
                              [&](int k, int n) { show_phase(partition, Phase::indexing, k, n); });
        indexed = Clock::now();
        show_phase(partition, Phase::analyzing);
        engine::analyze(partition.shadow);
    }
    check_still_claimed(partition);
    figures.wal_bytes = static_cast<std::int64_t>(pg::wal_bytes_written() - wal_before);
    figures.seconds = Clock::now() - begun;
    {
        job::ControlTables control;
        control.built(partition, figures);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} rebuilt partition {}: {} rows in {:.2f} s (load {:.2f} s, indexes {:.2f} s, "
                         "rest {:.2f} s), {:.1f} MB of WAL",
                         job.id, partition.name, figures.rows, figures.seconds.count(), Seconds(loaded - begun).count(),
                         Seconds(indexed - loaded).count(), Seconds(Clock::now() - indexed).count(),
                         static_cast<double>(figures.wal_bytes) / 1048576.0));
}

void check_not_emptied(const job::Partition &partition) {
    pg::Transaction transaction;
    bool emptied = false;
    {
        const pg::PinnedSettings pinned;
        emptied = partition.rows > 0 &&
                  pg::query_row("SELECT COALESCE(pg_relation_size($1), 0) = 0", {partition.shadow}).boolean(0);
    }
    transaction.commit();
    if (emptied)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("the rebuilt rows of unlogged partition \"{}\" were lost in a crash", partition.name));
}

namespace {

// A try that did not get its locks, in a transaction after the one that was
// given up.
StepOutcome postpone(const job::Job &job, job::Partition &partition, Seconds lock_wait,
                     const std::vector<Oid> &tables) {
    pg::Transaction transaction;
    Seconds tried_for{0};
    {
        job::ControlTables control;
        const auto pause = core::backoff(partition.swap_attempts, jitter(), kSwapPauseBase, kSwapPauseCap);
        tried_for = control.swap_postponed(partition, lock_wait.count(), pause, engine::lock_holders(tables));
    }
    transaction.commit();
    if (tried_for < Seconds(job.swap_patience))
        return StepOutcome::postponed;
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not lock partition \"{}\"", partition.name);
    error.detail = fmt::format("{} tries in {:.1f} s did not get the lock within {} ms.", partition.swap_attempts,
                               tried_for.count(), job.lock_timeout.count());
    error.hint = "See who holds locks on the table in pg_locks, or start the job again with a longer swap_patience.";
    record_failure(job, partition, core::PartitionEvent::fail, error, job::Milliseconds(0));
    return StepOutcome::failed;
}

// The definition changed after the shadow was made: it is made anew.
StepOutcome rebuild(const job::Job &job, job::Partition &partition) {
    pg::Transaction transaction;
    engine::drop_own_table(job.id, partition.shadow);
    {
        job::ControlTables control;
        control.forget_shadow(partition);
        control.rebuild(partition, "the definition of the partition or of its parent was changed meanwhile");
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} rebuilds partition {}: its definition was changed meanwhile", job.id,
                         partition.name));
    return StepOutcome::outdated;
}

engine::SwapResult try_swap(const job::Job &job, job::Partition &partition) {
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep readers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    engine::SwapResult result;
    {
        const pg::PinnedSettings pinned;
        {
            job::ControlTables control;
            control.lock_for_swap(partition);
        }
        result = engine::swap(engine::kAttach,
                              {job.id, partition.ordinal, job.target, partition.live, partition.shadow, partition.proof, partition.bound, partition.fingerprint,
                               job.lock_timeout});
        if (result.outcome == engine::SwapOutcome::swapped) {
            job::ControlTables control;
            control.swapped(partition, result.old_table, Seconds(result.lock_wait).count());
        } else if (result.outcome == engine::SwapOutcome::gone) {
            skip(job, partition, kGone);
        } else {
            return result; // the transaction aborts
        }
    }
    transaction.commit();
    return result;
}

} // namespace

StepOutcome prepare_step(const job::Job &job, job::Partition &partition) {
    for (;;) {
        pg::Transaction transaction;
        bool locked = true;
        std::vector<Oid> tables;
        const auto asked = Clock::now();
        {
            const pg::PinnedSettings pinned;
            const auto leaf = engine::find_leaf(partition.live, job.target);
            const auto proof =
                leaf ? engine::proof_state(*leaf, partition.proof) : engine::Proof::not_needed;
            if (proof == engine::Proof::not_needed || proof == engine::Proof::valid)
                return StepOutcome::done;
            show_phase(partition, Phase::validating);
            tables = {*engine::default_sibling(*leaf)};
            if (proof == engine::Proof::added) {
                engine::validate_proof(partition.proof);
            } else {
                const Oid added = engine::add_proof(job.id, partition.ordinal, *leaf, job.lock_timeout);
                locked = added != kNoOid;
                if (locked) {
                    job::ControlTables control;
                    control.record_proof(partition, added);
                }
            }
        }
        if (!locked) {
            transaction.abort();
            return postpone(job, partition, Clock::now() - asked, tables);
        }
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
    case engine::SwapOutcome::changed:
        return rebuild(job, partition);
    case engine::SwapOutcome::gone:
        return StepOutcome::skipped;
    case engine::SwapOutcome::swapped:
        break;
    }
    const Seconds locked_for = Clock::now() - result.locked_at;
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.record_locked_for(partition, locked_for.count());
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} swapped partition {}: waited {:.1f} ms for locks, held them for {:.1f} ms",
                         job.id, partition.name, Seconds(result.lock_wait).count() * 1000, locked_for.count() * 1000));
    return StepOutcome::done;
}

void tidy_step(const job::Job &job, const job::Partition &partition) {
    if (job.keep_old)
        return;
    pg::Transaction transaction;
    if (engine::drop_own_table(job.id, partition.live)) {
        job::ControlTables control;
        control.forget_old(job.id, partition.live);
    }
    transaction.commit();
}

void fail_attempt(const job::Job &job, job::Partition &partition, const pg::ErrorFields &error,
                  job::Milliseconds pause) {
    const auto event = partition.attempts < job.max_attempts ? core::PartitionEvent::retry : core::PartitionEvent::fail;
    record_failure(job, partition, event, error, pause);
    log_line(fmt::format("backfill job {} could not rebuild partition {} in attempt {} of {}: {}", job.id, partition.name,
                         partition.attempts, job.max_attempts, error.message));
}

namespace {

// CHECKs on DEFAULT partitions, of partitions that were not swapped. Raises when
// the lock is not had in time.
void drop_proofs(const job::Job &job, const std::vector<Oid> &proofs) {
    const pg::PinnedSettings pinned;
    const auto tables = engine::tables_of_proofs(proofs);
    if (tables.empty())
        return;
    std::chrono::steady_clock::time_point had;
    if (!engine::lock_exclusively(tables, job.lock_timeout, &had))
        pg::raise(pg::sqlcode::kLockNotAvailable,
                  fmt::format("could not lock partition \"{}\" to tidy up",
                              pg::query_row("SELECT relname FROM pg_class WHERE oid = $1", {tables.front()}).text(0)));
    for (const Oid proof : proofs)
        engine::drop_proof(proof);
}

// Everything that lies around, in one transaction.
void tidy_up(const job::Job &job) {
    pg::Transaction transaction;
    std::vector<Oid> leftovers;
    std::vector<Oid> proofs;
    {
        job::ControlTables control;
        leftovers = control.shadows(job.id);
        if (!job.keep_old)
            for (const Oid table : control.old_tables(job.id))
                leftovers.push_back(table);
        proofs = control.proofs(job.id);
    }
    for (const Oid table : leftovers)
        engine::drop_own_table(job.id, table);
    drop_proofs(job, proofs);
    engine::drop_empty_schemas(job.id);
    {
        job::ControlTables control;
        control.forget_shadows(job.id);
    }
    transaction.commit();
}

} // namespace

void end_job(const job::Job &job) {
    std::string left;
    try {
        tidy_up(job);
    } catch (const pg::Error &error) {
        // A lock comes free some time, a cancel is no reason; what cannot be
        // dropped because somebody depends on it stays, and is told of.
        if (error.code() == pg::sqlcode::kLockNotAvailable || error.code() == pg::sqlcode::kQueryCanceled ||
            error.code() == pg::sqlcode::kDeadlockDetected)
            throw;
        left = "could not tidy up: " + error.fields().message;
        log_warning(fmt::format("backfill job {} {}", job.id, left));
    }
    pg::Transaction transaction;
    {
        job::ControlTables control;
        if (!left.empty())
            control.set_error(job.id, left);
        if (job.state == core::JobState::running)
            control.end_job(job, control.census(job.id).failed > 0 ? core::JobEvent::fail : core::JobEvent::finish);
        else
            control.mark_finished(job.id);
    }
    transaction.commit();
    log_line(fmt::format("backfill job {} has ended", job.id));
}

} // namespace partbackfill::worker

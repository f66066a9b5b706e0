#include "partbackfill/worker/outcomes.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/publication_table.hpp"
#include "partbackfill/locks/shard_moves.hpp"
#include "partbackfill/locks/snapshot_waits.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/worker/adoption.hpp"
#include "partbackfill/worker/drop.hpp"
#include "partbackfill/worker/failure.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/shrinking.hpp"

namespace partbackfill::worker {

namespace {

using Seconds = std::chrono::duration<double>;

// How often a partition is built again because its definition was changed; changes of a
// definition do not go on for long.
constexpr int kMostRedefinitions = 10;

constexpr const char *kPartitionGone = "the partition was dropped, detached or given other bounds";

pg::ErrorFields could_not_lock(const job::Job &job, const job::Partition &partition, Seconds tried_for,
                               const std::string &reason) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not lock partition \"{}\"", partition.name);
    error.detail = fmt::format("{} tries in {:.1f} s did not get the lock within {} ms.",
                               partition.swap_attempts, tried_for.count(), job.lock_timeout.count());
    if (reason.starts_with(locks::kSnapshot))
        error.detail =
            fmt::format("{} tries in {:.1f} s found transactions that began before its build, and would "
                        "see none of its rows: {}.",
                        partition.swap_attempts, tried_for.count(), reason);
    else if (reason == locks::kShardMove)
        error.detail = fmt::format("{} tries in {:.1f} s found a move of its shard under way.",
                                   partition.swap_attempts, tried_for.count());
    else if (!reason.empty())
        error.detail += fmt::format(" Its last build was given up: {}.", reason);
    error.hint =
        partition.reverts() ? fmt::format("backfill_revert({}) tries again.", job.id)
        : partition.state == core::PartitionState::ready
            ? fmt::format("What was built is kept: backfill_retry({0}) {1}, backfill_cancel({0}) drops it.",
                          job.id, job.publish == job::Publish::manual ? "makes it ready again" : "swaps it")
            : "See who holds locks on the table in pg_locks, or start the job again with a longer "
              "swap_patience.";
    return error;
}

// Writers are not kept out of one partition until all others are built.
bool may_block_at_last(const job::Job &job) {
    return method_of(job).blocks_writers_at_last && job.publish == job::Publish::each;
}

// Tries the partition again later, or marks it as failed after swap_patience.
void defer(const job::Job &job, job::Partition &partition, const StepResult &result) {
    pg::Transaction transaction;
    Seconds tried_for{0};
    std::string holders;
    {
        const pg::PinnedSettings pinned;
        holders = locks::lock_holders(result.locks);
        if (holders == locks::kFreeLock && !result.reason.empty())
            holders = result.reason;
    }
    {
        const pg::AsExtensionOwner owner;
        tried_for = job::PartitionTable(owner).defer_swap(
            partition, result.lock_wait.count(), process::swap_pause(partition.swap_attempts), holders);
        if (partition.state == core::PartitionState::running && tried_for < Seconds(job.swap_patience))
            job::PartitionTable(owner).defer_build(partition);
    }
    transaction.commit();
    if (tried_for >= Seconds(job.swap_patience))
        fail_for_good(job, partition, could_not_lock(job, partition, tried_for, result.reason),
                      ShadowAfter::kept);
}

void give_up(const job::Job &job, job::Partition &partition, const std::string &message,
             const std::string &detail, const std::string &hint) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectInUse;
    error.message = message;
    error.detail = detail;
    error.hint = hint;
    fail_for_good(job, partition, error, ShadowAfter::dropped);
}

// Rows of which the write capture logs no keys cannot be caught up with.
void rebuild_after_truncation(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRedefinitions)
        rebuild(job, partition, "it was truncated, or its write capture disabled, meanwhile");
    else
        give_up(job, partition,
                fmt::format("partition \"{}\" was truncated during every build", partition.name),
                fmt::format("It was truncated, or its write capture disabled, during each of {} builds.",
                            partition.rebuilds + 1),
                "Start the job again when no session truncates the partition, or with on_write => 'block'.");
}

void rebuild_after_writes(const job::Job &job, job::Partition &partition) {
    if (job.on_write == job::OnWrite::catch_up)
        return rebuild_after_truncation(job, partition);
    // A blocking build can be written to by its own transaction only, which might never end.
    const bool blocks = may_block_at_last(job);
    const int most = blocks ? kMostRedefinitions : kMostRebuilds;
    if (partition.rebuilds < most)
        rebuild(job, partition, "it was written to meanwhile");
    else
        give_up(
            job, partition, fmt::format("partition \"{}\" was modified during every build", partition.name),
            fmt::format("It was written to during each of {} builds.", partition.rebuilds + 1),
            blocks ? "A function or an event trigger that the build calls writes to the partition."
            : job.publish != job::Publish::each
                ? "Start the job again with on_write => 'catch_up', or with publish => 'each'."
                : "Start the job again with on_write => 'catch_up' or 'block', or with swap => 'storage'.");
}

pg::ErrorFields could_not_catch_up(const job::Job &job, const job::Partition &partition,
                                   const std::string &reason) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kLockNotAvailable;
    error.message = fmt::format("could not catch up with the writers of partition \"{}\"", partition.name);
    error.detail = fmt::format("It was {} for longer than swap_patience.", reason);
    error.hint =
        fmt::format("What was built is kept: backfill_retry({0}) goes on when less is written, "
                    "backfill_cancel({0}) drops it. A longer lock_timeout lets a swap hold writers for "
                    "more keys.",
                    job.id);
    return error;
}

void rebuild_after_shadow_change(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRebuilds || blocks_writers(job, partition))
        rebuild(job, partition, "what was built for it was changed");
    else
        give_up(job, partition,
                fmt::format("the shadow of partition \"{}\" was changed after every build", partition.name),
                fmt::format("Its shadow in schema {} was changed after each of {} builds.",
                            shadow::new_schema(job.id), partition.rebuilds + 1),
                "Leave the job's tables alone; a foreign key with a referential action changes them, too.");
}

void rebuild_after_ddl(const job::Job &job, job::Partition &partition) {
    if (partition.rebuilds < kMostRedefinitions)
        rebuild(job, partition, "the definition of the partition or of its parent was changed meanwhile");
    else
        give_up(
            job, partition,
            fmt::format("the definition of partition \"{}\" was changed during every build", partition.name),
            fmt::format("It was changed, or its parent's, after each of {} builds began.",
                        partition.rebuilds + 1),
            "Start the job again when no session changes the table.");
}

void hold(const job::Job &job, const job::Partition &partition) {
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::PublicationTable(owner).hold(partition);
    }
    transaction.commit();
    process::log_line(job.id, fmt::format("holds partition {} until all are built", partition.name));
}

pg::ErrorFields not_reverted(const std::string &message, const std::string &hint = "") {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectNotInPrerequisiteState;
    error.message = message;
    error.hint = hint;
    return error;
}

// What keeps a partition from being reverted is reported, or a build brings back what an exchange cannot.
void settle_revert(const job::Job &job, job::Partition &partition, const StepResult &result) {
    const auto keep = [&](const std::string &message, const std::string &hint = "") {
        give_up_revert(job, partition, not_reverted(message, hint));
    };
    switch (result.outcome) {
    case StepOutcome::rows_written:
        if (partition.comes_back() && job.on_write == job::OnWrite::catch_up)
            return restore_by_build(job, partition, "it was written to since");
        return keep("rows were written to it since its swap", "force => true leaves them behind.");
    case StepOutcome::definition_changed:
        return partition.comes_back() ? restore_by_build(job, partition, "its definition was changed")
                                      : rebuild_after_ddl(job, partition);
    case StepOutcome::shadow_changed:
        return keep("the table with its old rows, or what was built of it, was changed meanwhile");
    case StepOutcome::keys_left:
        return give_up_revert(job, partition, could_not_catch_up(job, partition, result.reason));
    default:
        return keep(kPartitionGone);
    }
}

// Of a partition whose rows have left this node.
std::optional<pg::ErrorFields> moved_away(const job::Job &job, const job::Partition &partition) {
    if (catalog::is_in_place(job.target, job.shard))
        return std::nullopt;
    const bool is_new = job.shard == catalog::kNoShard;
    const catalog::ShardPlaces places = is_new ? catalog::ShardPlaces() : catalog::places_of_shard(job.shard);
    pg::ErrorFields error;
    error.code = pg::sqlcode::kObjectNotInPrerequisiteState;
    error.message = fmt::format("partition \"{}\" has left this node", partition.name);
    error.detail = is_new          ? "Its table was distributed by Citus."
                   : places.here   ? fmt::format("Shard {} was moved away and back.", job.shard)
                   : places.others ? fmt::format("Shard {} was moved to {}.", job.shard, places.elsewhere)
                                   : fmt::format("Shard {} was split, or its table was dropped.", job.shard);
    error.hint = "Where its rows are now, start a job for the partitions that are not done.";
    return error;
}

void skip_now(const job::Job &job, job::Partition &partition) {
    pg::Transaction transaction;
    {
        const pg::PinnedSettings pinned;
        skip(job, partition);
    }
    transaction.commit();
}

} // namespace

bool blocks_writers(const job::Job &job, const job::Partition &partition) {
    if (partition.reverts())
        return false;
    return job.on_write == job::OnWrite::block ||
           (job.on_write == job::OnWrite::rebuild && may_block_at_last(job) &&
            partition.rebuilds >= kMostRebuilds);
}

void settle(const job::Job &job, job::Partition &partition, const StepResult &result) {
    const bool is_general = result.outcome <= StepOutcome::settled ||
                            result.outcome == StepOutcome::not_prepared ||
                            result.outcome == StepOutcome::locks_not_granted;
    if (partition.reverts() && !is_general)
        return settle_revert(job, partition, result);
    switch (result.outcome) {
    case StepOutcome::done:
    case StepOutcome::settled:
    case StepOutcome::not_prepared: // the sequence validates once more
        return;
    case StepOutcome::held:
        return hold(job, partition);
    case StepOutcome::partition_gone:
        return skip_now(job, partition);
    case StepOutcome::locks_not_granted:
        return defer(job, partition, result);
    case StepOutcome::would_shrink:
        return fail_for_good(job, partition, shrink_error(job, partition), ShadowAfter::kept);
    case StepOutcome::audit_failed:
        return fail_for_good(job, partition, result.error, ShadowAfter::kept_to_look_at);
    case StepOutcome::rows_written:
        return rebuild_after_writes(job, partition);
    case StepOutcome::keys_left:
        return fail_for_good(job, partition, could_not_catch_up(job, partition, result.reason),
                             ShadowAfter::kept);
    case StepOutcome::shadow_changed:
        return rebuild_after_shadow_change(job, partition);
    case StepOutcome::definition_changed:
        return rebuild_after_ddl(job, partition);
    }
}

void skip(const job::Job &job, job::Partition &partition) {
    const auto error = moved_away(job, partition);
    if (partition.reverts())
        return keep_as_it_is(job, partition, error.value_or(not_reverted(kPartitionGone)));
    if (error) {
        record_failure(partition, *error, ShadowAfter::dropped); // the end of the job drops what is left
        process::log_line(job.id, fmt::format("fails partition {}: {}", partition.name, error->detail));
        return;
    }
    // A shadow that cannot be dropped now is dropped at the end of the job.
    const bool dropped = partition.shadow != kNoOid && drop_politely(job, partition.shadow);
    const pg::AsExtensionOwner owner;
    if (dropped)
        job::PartitionTable(owner).forget_shadow(partition);
    job::PartitionTable(owner).skip(partition, kPartitionGone);
    process::log_line(job.id, fmt::format("skipped partition {}: {}", partition.name, kPartitionGone));
}

void rebuild(const job::Job &job, job::Partition &partition, const std::string &reason) {
    pg::Transaction transaction;
    const bool dropped = drop_politely(job, partition.shadow); // or the next attempt drops it
    {
        const pg::AsExtensionOwner owner;
        if (dropped)
            job::PartitionTable(owner).forget_shadow(partition);
        job::PartitionTable(owner).rebuild(partition, reason);
    }
    transaction.commit();
    process::log_line(job.id, fmt::format("rebuilds partition {}: {}", partition.name, reason));
}

void announce(const job::Partition &partition) {
    try {
        pg::Transaction transaction;
        pg::execute("SET LOCAL synchronous_commit = off"); // a listener does not depend on it
        {
            const pg::AsExtensionOwner owner;
            job::PartitionTable(owner).announce(partition);
        }
        transaction.commit();
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled)
            throw;
        process::log_error(partition.job, error.fields());
    }
}

} // namespace partbackfill::worker

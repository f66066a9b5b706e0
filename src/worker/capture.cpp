#include "partbackfill/worker/capture.hpp"

#include <optional>

#include <fmt/format.h>

#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/drop.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

namespace {

std::vector<locks::TableLock> capture_locks(Oid partition) {
    return {{partition, locks::LockMode::share_row_exclusive}};
}

// The key of the partition's rows, for a capture that logs it.
catalog::RowKey row_key_of(const catalog::Leaf &leaf) {
    const catalog::KeyFinding found = catalog::find_row_keys({leaf.oid}).at(0);
    if (!found.key)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("partition \"{}\" cannot be caught up with", leaf.name),
                  fmt::format("It {}.", found.reason), "Use on_write => 'rebuild'.");
    return *found.key;
}

bool is_captured(const job::Job &job, const catalog::Leaf &leaf, const catalog::RowKey *key) {
    if (!writes::write_baseline(job.id, leaf.oid, pg::Read::newest).captured)
        return false;
    const auto log = key != nullptr ? shadow::find_key_log(job.id, leaf.oid, *key) : std::nullopt;
    return key == nullptr || (log && writes::logs_keys(job.id, leaf.oid, *log));
}

void make_triggers(const job::Job &job, const catalog::Leaf &leaf, const catalog::RowKey *key) {
    if (key == nullptr)
        return writes::create_write_capture(job.id, leaf.oid);
    const writes::KeyLog log = shadow::create_key_log(job.id, leaf, *key);
    writes::create_write_capture(job.id, leaf.oid, &log);
}

StepOutcome make_capture(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const pg::KeepPlans keep;
    const auto leaf = find_live(job, partition); // and rights: making an internal trigger asks for none
    if (!leaf)
        return StepOutcome::partition_gone;
    std::optional<catalog::RowKey> key;
    if (job.on_write == job::OnWrite::catch_up) {
        key = row_key_of(*leaf);
        shadow::ensure_schemas(job.id, *leaf);
    }
    const catalog::RowKey *logged = key ? &*key : nullptr;
    if (is_captured(job, *leaf, logged))
        return StepOutcome::done;
    if (logged != nullptr && shadow::key_log_of(job.id, leaf->oid) != kNoOid)
        return StepOutcome::not_prepared;
    if (!locks::lock_politely(capture_locks(leaf->oid), job.lock_timeout))
        return StepOutcome::locks_not_granted;
    if (!find_live(job, partition)) // dropped or detached meanwhile
        return StepOutcome::partition_gone;
    return locks::try_bounded(job.lock_timeout, [&] { make_triggers(job, *leaf, logged); })
               ? StepOutcome::done
               : StepOutcome::locks_not_granted;
}

// Reports not_prepared while there is a log that takes other keys.
StepResult try_capture(const job::Job &job, job::Partition &partition) {
    const auto asked = std::chrono::steady_clock::now();
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep writers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    const StepOutcome outcome = make_capture(job, partition);
    if (outcome == StepOutcome::not_prepared)
        return {outcome};
    if (outcome == StepOutcome::locks_not_granted)
        return {outcome, capture_locks(partition.live), std::chrono::steady_clock::now() - asked};
    if (outcome == StepOutcome::partition_gone)
        skip(job, partition);
    injection_point(InjectionPoint::captured, partition);
    transaction.commit();
    return {outcome == StepOutcome::partition_gone ? StepOutcome::settled : outcome};
}

} // namespace

StepResult capture_writes(const job::Job &job, job::Partition &partition) {
    if (!job::notices_writes(job.on_write) || partition.reverts()) // which was captured at its swap
        return {};
    throttle::show_phase(partition, throttle::Phase::creating);
    StepResult result = try_capture(job, partition);
    if (result.outcome != StepOutcome::not_prepared)
        return result;
    if (const Oid log = drop_log(job, partition.live); log != kNoOid)
        return {StepOutcome::locks_not_granted, {{log, locks::LockMode::access_exclusive}}};
    return try_capture(job, partition);
}

} // namespace partbackfill::worker

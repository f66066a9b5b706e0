#include "partbackfill/worker/capture.hpp"

#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

namespace {

std::vector<locks::TableLock> capture_locks(Oid partition) {
    return {{partition, locks::LockMode::share_row_exclusive}};
}

StepOutcome make_capture(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = find_live(job, partition); // and rights: making an internal trigger asks for none
    if (!leaf)
        return StepOutcome::partition_gone;
    if (writes::write_baseline(job.id, leaf->oid, pg::Read::newest).captured)
        return StepOutcome::done;
    if (!locks::lock_politely(capture_locks(leaf->oid), job.lock_timeout))
        return StepOutcome::locks_not_granted;
    if (!find_live(job, partition)) // dropped or detached meanwhile
        return StepOutcome::partition_gone;
    return locks::try_bounded(job.lock_timeout, [&] { writes::create_write_capture(job.id, leaf->oid); })
               ? StepOutcome::done
               : StepOutcome::locks_not_granted;
}

} // namespace

StepResult capture_writes(const job::Job &job, job::Partition &partition) {
    if (job.on_write != job::OnWrite::rebuild)
        return {};
    throttle::show_phase(partition, throttle::Phase::creating);
    const auto asked = std::chrono::steady_clock::now();
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep writers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    const StepOutcome outcome = make_capture(job, partition);
    if (outcome == StepOutcome::locks_not_granted)
        return {outcome, capture_locks(partition.live), std::chrono::steady_clock::now() - asked};
    if (outcome == StepOutcome::partition_gone)
        skip(job, partition);
    injection_point(InjectionPoint::captured, partition);
    transaction.commit();
    return {outcome == StepOutcome::partition_gone ? StepOutcome::settled : outcome};
}

} // namespace partbackfill::worker

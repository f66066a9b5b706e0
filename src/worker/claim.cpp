#include "partbackfill/worker/claim.hpp"

#include <fmt/format.h>

#include "partbackfill/core/backoff.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/fault.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/steps.hpp"

namespace partbackfill::worker {

using job::Job;
using job::Partition;

namespace {

pg::ErrorFields died_with(const Partition &partition, const char *doing, const char *in, int count) {
    pg::ErrorFields error;
    error.code = pg::sqlcode::kInternal;
    error.message =
        fmt::format("the worker that {} partition \"{}\" ended in {} {}", doing, partition.name, in, count);
    error.detail = "It was terminated, or the server crashed.";
    return error;
}

job::Milliseconds pause_after_crash(int crashes) {
    return core::crash_pause(pg::crash_pause_unit(), crashes);
}

// Should the commit fail, the session lock must not stay.
std::optional<Partition> commit_claim(pg::Transaction &transaction, std::optional<Partition> claimed) {
    try {
        transaction.commit();
    } catch (...) {
        if (claimed)
            engine::release_claim(claimed->job, claimed->ordinal);
        throw;
    }
    return claimed;
}

} // namespace

std::optional<Partition> claim_next(const Job &job, bool &orphan) {
    pg::Transaction transaction;
    std::optional<Partition> claimed;
    engine::lock_choice(job.id); // one at a time: what one takes up decides what others may
    std::vector<int> passed = engine::claims_of(job.id);
    {
        job::ControlTables control;
        if (!control.keep_running(job.id))
            return std::nullopt;
        while (const auto candidate = control.next_candidate(job, passed)) {
            passed.push_back(candidate->ordinal);
            if (!engine::try_claim(job.id, candidate->ordinal))
                continue;
            // The worker that had it until now may have moved it since.
            claimed = control.lock_candidate(job, candidate->ordinal);
            if (!claimed) {
                engine::release_claim(job.id, candidate->ordinal);
                continue;
            }
            orphan = claimed->state == core::PartitionState::running || claimed->held;
            control.claim(*claimed);
            if (claimed->state == core::PartitionState::ready && orphan)
                control.count_orphan(*claimed);
            if (claimed->state == core::PartitionState::running && !orphan)
                control.begin_attempt(*claimed);
            break;
        }
    }
    return commit_claim(transaction, std::move(claimed));
}

std::optional<Partition> claim_waiting(const Job &job, int ordinal) {
    pg::Transaction transaction;
    std::optional<Partition> claimed;
    {
        job::ControlTables control;
        if (!control.keep_running(job.id) || !engine::try_claim(job.id, ordinal))
            return std::nullopt;
        claimed = control.lock_waiting(job, ordinal);
        if (claimed)
            control.claim(*claimed);
        else
            engine::release_claim(job.id, ordinal);
    }
    return commit_claim(transaction, std::move(claimed));
}

bool take_over(const Job &job, Partition &partition) {
    if (partition.state == core::PartitionState::running) {
        {
            pg::Transaction transaction;
            {
                job::ControlTables control;
                control.suspect(partition);
            }
            transaction.commit();
        }
        fail_attempt(job, partition, died_with(partition, "rebuilt", "attempt", partition.attempts),
                     pause_after_crash(partition.attempts));
        return false;
    }
    if (partition.orphaned <= 1)
        return true;
    if (partition.orphaned > job.max_attempts) {
        record_failure(job, partition, core::PartitionEvent::fail,
                       died_with(partition, "swapped", "try", partition.orphaned), job::Milliseconds(0),
                       Remains::kept);
        return false;
    }
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.put_off(partition, pause_after_crash(partition.orphaned - 1));
    }
    transaction.commit();
    return false;
}

void give_back_if_paused(Partition &partition) {
    pg::Transaction transaction;
    {
        job::ControlTables control;
        control.give_back_if_paused(partition);
    }
    transaction.commit();
}

} // namespace partbackfill::worker

#include "partbackfill/worker/claim.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "partbackfill/job/claim_queue.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/pauses.hpp"
#include "partbackfill/worker/failure.hpp"

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

// The session lock must not outlive a commit that fails.
std::optional<Partition> commit_claim(pg::Transaction &transaction, std::optional<Partition> claimed) {
    try {
        transaction.commit();
    } catch (...) {
        if (claimed)
            locks::release_claim(claimed->job, claimed->ordinal);
        throw;
    }
    return claimed;
}

} // namespace

std::optional<Partition> claim_next(const Job &job, bool &orphaned) {
    pg::Transaction transaction;
    std::optional<Partition> claimed;
    locks::lock_choice(job.id); // one worker at a time: its choice decides what others may take up
    std::vector<int> passed;
    {
        const pg::AsExtensionOwner owner;
        if (!job::JobTable(owner).keep_running(job.id))
            return std::nullopt;
        const auto next = [&] {
            const auto found = job::ClaimQueue(owner).next(job, passed);
            return found ? found : job::ClaimQueue(owner).next_unheld(job, passed);
        };
        while (const auto candidate = next()) {
            const bool is_first = passed.empty();
            passed.push_back(*candidate);
            if (!locks::try_claim(job.id, *candidate)) {
                if (is_first)
                    std::ranges::copy(locks::claims_of(job.id), std::back_inserter(passed));
                continue;
            }
            // The worker that had it until now may have changed it since.
            claimed = job::ClaimQueue(owner).lock(job, *candidate);
            if (!claimed) {
                locks::release_claim(job.id, *candidate);
                continue;
            }
            orphaned = claimed->state == core::PartitionState::running || claimed->claimed;
            job::ClaimQueue(owner).claim(*claimed);
            if (claimed->state == core::PartitionState::ready && orphaned)
                job::ClaimQueue(owner).count_orphan(*claimed);
            if (claimed->state == core::PartitionState::running && !orphaned)
                job::ClaimQueue(owner).begin_attempt(*claimed);
            break;
        }
    }
    return commit_claim(transaction, std::move(claimed));
}

std::optional<Partition> claim_waiting(const Job &job, int ordinal) {
    pg::Transaction transaction;
    std::optional<Partition> claimed;
    {
        const pg::AsExtensionOwner owner;
        if (!job::JobTable(owner).keep_running(job.id) || !locks::try_claim(job.id, ordinal))
            return std::nullopt;
        claimed = job::ClaimQueue(owner).lock_waiting(job, ordinal);
        if (claimed)
            job::ClaimQueue(owner).claim(*claimed);
        else
            locks::release_claim(job.id, ordinal);
    }
    return commit_claim(transaction, std::move(claimed));
}

bool recover_orphan(const Job &job, Partition &partition) {
    if (partition.state == core::PartitionState::running) {
        {
            pg::Transaction transaction;
            {
                const pg::AsExtensionOwner owner;
                job::ClaimQueue(owner).suspect(partition);
            }
            transaction.commit();
        }
        fail_attempt(job, partition, died_with(partition, "rebuilt", "attempt", partition.attempts),
                     process::crash_pause(partition.attempts));
        return false;
    }
    if (partition.orphaned <= 1)
        return true;
    if (partition.orphaned > job.max_attempts) {
        fail_for_good(job, partition, died_with(partition, "swapped", "try", partition.orphaned),
                      ShadowAfter::kept);
        return false;
    }
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::ClaimQueue(owner).defer(partition, process::crash_pause(partition.orphaned - 1));
    }
    transaction.commit();
    return false;
}

void give_back_if_paused(Partition &partition) {
    pg::Transaction transaction;
    {
        const pg::AsExtensionOwner owner;
        job::ClaimQueue(owner).give_back_if_paused(partition);
    }
    transaction.commit();
}

} // namespace partbackfill::worker

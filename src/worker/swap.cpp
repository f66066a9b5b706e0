#include "partbackfill/worker/swap.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/catalog/changed_columns.hpp"
#include "partbackfill/catalog/counters.hpp"
#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/job/write_table.hpp"
#include "partbackfill/load/key_refresh.hpp"
#include "partbackfill/load/loader.hpp"
#include "partbackfill/locks/shard_moves.hpp"
#include "partbackfill/locks/snapshot_waits.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/log.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/writer_locks.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Whether writes keep the partition from its swap. A kept table does not come back over them either.
bool notices_writes(const job::Job &job, const job::Partition &partition) {
    return partition.reverts() ? !partition.revert_forced : job::notices_writes(job.on_write);
}

// Keys of rows that were written since the last swap.
std::int64_t keys_logged(const job::Job &job, const job::Partition &partition) {
    if (job.on_write != job::OnWrite::catch_up)
        return 0;
    const Oid log = shadow::key_log_of(job.id, partition.live);
    const pg::SnapshotScope snapshot;
    return log != kNoOid ? load::size_of_log(log).entries : 0;
}

} // namespace

swap::SwapRequest swap_request(const job::Job &job, const job::Partition &partition) {
    swap::SwapRequest request;
    request.job = job.id;
    request.ordinal = partition.ordinal;
    request.target = job.target;
    request.shard = job.shard;
    request.live = partition.live;
    request.shadow = partition.shadow;
    request.proof = partition.proof;
    request.bound = partition.bound;
    request.constraint = partition.constraint.value_or("true");
    request.proofs = [&partition] { return proofs_on(partition.live); };
    request.definition_digest = partition.definition_digest;
    request.lock_timeout = job.lock_timeout;
    request.keeps_old = job.keep_old;
    request.logs_keys = job.on_write == job::OnWrite::catch_up;
    request.empties_log = partition.reverts(); // the swap itself uses up the entries of a log otherwise
    if (partition.is_restored())
        request.discarded = partition.kept;
    if (notices_writes(job, partition))
        request.lacks_writes = [&job, &partition] {
            const writes::WriteBaseline now =
                writes::write_baseline(partition.job, partition.live, pg::Read::newest);
            {
                const pg::AsExtensionOwner owner;
                if (job::WriteTable(owner).lacks_writes(partition, now))
                    return true;
            }
            // An exchange back brings nothing along.
            return partition.comes_back() && keys_logged(job, partition) > 0;
        };
    request.shadow_unchanged = [&partition] {
        const std::string now = catalog::shadow_digest(partition.shadow);
        bool shadow_unchanged = false;
        {
            const pg::AsExtensionOwner owner;
            shadow_unchanged = job::WriteTable(owner).shadow_unchanged(partition, now);
        }
        injection_point(InjectionPoint::recheck, partition);
        return shadow_unchanged;
    };
    return request;
}

swap::SwapResult exchange(const job::Job &job, job::Partition &partition, job::Milliseconds moment,
                          job::Milliseconds limit) {
    const pg::PinnedSettings pinned;
    const pg::KeepPlans keep;
    {
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).lock_for_swap(partition);
    }
    swap::SwapRequest request = swap_request(job, partition);
    request.moment = moment;
    request.lock_timeout = limit;
    swap::SwapResult result = swap::swap(method_of(job), request);
    if (result.outcome == swap::SwapOutcome::swapped)
        record_swapped(partition, result);
    return result;
}

void record_swapped(job::Partition &partition, const swap::SwapResult &swap) {
    const std::string columns = catalog::columns_of(swap.live);
    const pg::AsExtensionOwner owner;
    job::PartitionTable(owner).swapped(
        partition, {swap.live, swap.old_table, Seconds(swap.lock_wait).count(), swap.captured, columns});
}

StepResult result_of(const swap::SwapResult &swap) {
    switch (swap.outcome) {
    case swap::SwapOutcome::swapped:
        return {};
    case swap::SwapOutcome::locks_not_granted:
        return {StepOutcome::locks_not_granted, swap.locks, swap.lock_wait};
    case swap::SwapOutcome::not_prepared:
        return {StepOutcome::not_prepared};
    case swap::SwapOutcome::rows_written:
        return {StepOutcome::rows_written};
    case swap::SwapOutcome::shadow_changed:
        return {StepOutcome::shadow_changed};
    case swap::SwapOutcome::definition_changed:
        return {StepOutcome::definition_changed};
    case swap::SwapOutcome::shard_moves:
        return {StepOutcome::locks_not_granted, {}, swap.lock_wait, locks::kShardMove};
    case swap::SwapOutcome::partition_gone:
        return {StepOutcome::partition_gone};
    }
    return {};
}

namespace {

// Whether Citus moves the shard to another node just now.
bool shard_moves(const job::Job &job, const job::Partition &partition) {
    if (job.shard == catalog::kNoShard)
        return false;
    const pg::Subtransaction always_rolled_back;
    return locks::is_moving(partition.live) || !locks::lock_shard(job.shard, job::Milliseconds(0));
}

} // namespace

StepResult await_others(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    if (shard_moves(job, partition))
        return {StepOutcome::locks_not_granted, {}, {}, locks::kShardMove};
    if (partition.comes_back())
        return {};
    const std::string holders = locks::older_snapshots(partition.shadow);
    return holders.empty() ? StepResult{} : StepResult{StepOutcome::locks_not_granted, {}, {}, holders};
}

void finish_swap(const job::Job &job, job::Partition &partition, const swap::SwapResult &swap,
                 std::chrono::duration<double> locked_for) {
    injection_point(InjectionPoint::swapped, partition);
    pg::Transaction transaction;
    job::BuildFigures figures;
    {
        const pg::AsExtensionOwner owner;
        figures = job::PartitionTable(owner).record_locked_for(partition, locked_for.count());
    }
    catalog::carry_counters(partition.live, partition.shadow, swap.old_table);
    transaction.commit();
    process::log_line(
        job.id,
        partition.reverts()
            ? fmt::format("{} partition {}: waited {:.1f} ms for locks, held them for {:.1f} ms",
                          partition.state == core::PartitionState::reverted ? "reverted" : "swapped again",
                          partition.name, Seconds(swap.lock_wait).count() * 1000, locked_for.count() * 1000)
            : fmt::format("swapped partition {}: {} rows in {:.2f} s, {:.1f} MB of WAL; waited {:.1f} ms for "
                          "locks, held them for {:.1f} ms",
                          partition.name, figures.rows, figures.seconds.count(),
                          static_cast<double>(figures.wal_bytes) / 1048576.0,
                          Seconds(swap.lock_wait).count() * 1000, locked_for.count() * 1000));
}

namespace {

void record_settling(const job::Partition &partition, bool settling) {
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = local");
    {
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).record_settling(partition, settling);
    }
    transaction.commit();
}

// How long writers are held, by a swap that refreshes the last rows first: a writer waits from the
// moment at which the worker enters the queue.
struct Hold {
    Clock::time_point until;
    job::Milliseconds left() const {
        return std::max(std::chrono::floor<job::Milliseconds>(until - Clock::now()), job::Milliseconds(0));
    }
};

// Keeps writers out and refreshes the last rows, within the transaction of the swap.
StepResult catch_up_last(const job::Job &job, const job::Partition &partition, CatchUp &catch_up,
                         Audits &audits, Hold &hold) {
    {
        const pg::PinnedSettings pinned;
        const pg::AsExtensionOwner owner;
        job::PartitionTable(owner).lock_for_swap(partition); // before any table
    }
    const auto asked = Clock::now();
    std::vector<locks::TableLock> locks;
    if (const StepOutcome out = await_swap_locks(job, partition, job.lock_timeout, locks);
        out != StepOutcome::done)
        return {out, locks, Clock::now() - asked};
    const job::Milliseconds whole = std::max(job.lock_timeout, kShortestHold);
    hold.until = Clock::now() + whole;
    if (const StepOutcome out = lock_out_writers(job, partition, job.lock_timeout / 2, locks);
        out != StepOutcome::done)
        return {out, locks, Clock::now() - asked};
    if (!catch_up.finish(hold.until - whole / 4))
        return {StepOutcome::keys_left, {}, {}, catch_up.distance()};
    injection_point(InjectionPoint::caught_up, partition);
    return catch_up.refreshed_last() || audits.are_undecided()
               ? audits.run_last(catch_up, hold.until - whole / 8)
               : StepResult{};
}

// The transaction of the swap; done when it has committed.
StepResult try_swap(const job::Job &job, job::Partition &partition, CatchUp *catch_up, Audits &audits,
                    swap::SwapResult &swap, bool &settles) {
    pg::Transaction transaction;
    // A synchronous standby that hangs must not keep readers out.
    pg::execute("SET LOCAL synchronous_commit = local");
    Hold hold{};
    StepResult result = await_others(job, partition);
    if (result.is_done() && catch_up != nullptr)
        result = catch_up_last(job, partition, *catch_up, audits, hold);
    if (result.is_done()) {
        swap = exchange(job, partition, catch_up != nullptr ? job::Milliseconds(0) : job.lock_timeout,
                        catch_up != nullptr ? hold.left() : job.lock_timeout);
        result = result_of(swap);
    }
    if (result.outcome == StepOutcome::partition_gone) {
        {
            const pg::PinnedSettings pinned;
            skip(job, partition);
        }
        transaction.commit();
        return {StepOutcome::settled};
    }
    if (!result.is_done())
        return result;
    if (catch_up != nullptr) {
        settles = true;
        load::decode_again({partition.live, partition.shadow});
        catch_up->settle(swap.old_table == partition.shadow ? partition.live : partition.shadow);
    }
    injection_point(InjectionPoint::swapping, partition);
    transaction.commit();
    return {};
}

} // namespace

StepResult swap_partition(const job::Job &job, job::Partition &partition, CatchUp *catch_up, Audits &audits) {
    throttle::show_phase(partition, throttle::Phase::swapping);
    if (catch_up != nullptr)
        record_settling(partition, true);
    swap::SwapResult swap;
    StepResult result;
    bool settles = false;
    try {
        result = try_swap(job, partition, catch_up, audits, swap, settles);
    } catch (const job::LostClaim &) {
        throw;
    } catch (...) {
        // An attempt that failed; rows that were settled already have to be built anew.
        if (catch_up != nullptr)
            partition.state = core::PartitionState::ready;
        if (catch_up != nullptr && !settles)
            record_settling(partition, false);
        throw;
    }
    if (result.is_done())
        finish_swap(job, partition, swap, Clock::now() - swap.locked_at);
    else if (catch_up != nullptr && result.outcome != StepOutcome::settled)
        record_settling(partition, false);
    return result;
}

bool lacks_writes(const job::Job &job, const job::Partition &partition) {
    if (!notices_writes(job, partition))
        return false;
    pg::Transaction transaction;
    bool lacks = false;
    {
        const pg::PinnedSettings pinned;
        lacks = swap_request(job, partition).lacks_writes();
    }
    transaction.commit();
    return lacks;
}

StepResult check_not_emptied(const job::Job &job, const job::Partition &partition) {
    if (partition.rows == 0 || partition.comes_back())
        return {};
    pg::Transaction transaction;
    const std::vector<locks::TableLock> locks{{partition.shadow, locks::LockMode::access_share}};
    bool emptied = false;
    {
        const pg::PinnedSettings pinned;
        if (!locks::lock_politely(locks, job.lock_timeout))
            return {StepOutcome::locks_not_granted, locks};
        emptied = !pg::query(R"SQL(
            SELECT FROM pg_class AS c WHERE c.oid = $1 AND c.relpersistence = 'u' AND pg_relation_size(c.oid) = 0
        )SQL",
                             {partition.shadow})
                       .empty();
    }
    transaction.commit();
    if (emptied)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("the rebuilt rows of unlogged partition \"{}\" were lost in a crash",
                              partition.name));
    return {};
}

} // namespace partbackfill::worker

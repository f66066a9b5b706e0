#include "partbackfill/worker/steps.hpp"

#include <algorithm>
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "partbackfill/engine/fingerprint.hpp"
#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/likeness.hpp"
#include "partbackfill/engine/loader.hpp"
#include "partbackfill/engine/lock_waits.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/row_count.hpp"
#include "partbackfill/engine/row_triggers.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/swap.hpp"
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
using Seconds = std::chrono::duration<double>;

void check_still_claimed(const job::Partition &partition) {
    if (!engine::holds_claim(partition.job, partition.ordinal))
        throw job::LostClaim();
}

// What belongs to the partition is copied under a lock on it, which is waited for
// holding all that the build holds, and not in a queue: whoever reads the table would
// wait there, too. So it is asked each time whether a holder waits for this build,
// which no one else would find; and who waits longer than kLongestHold for it, whatever
// for, does not wait for the holder as well.
// `work` runs under the lock, which then stays if it returns true.
void lock_live(const job::Job &job, const job::Partition &partition, Pacer &pacer,
               const std::function<bool()> &work) {
    constexpr std::chrono::milliseconds kBetweenTries{100};
    const pg::PinnedSettings pinned;
    const std::vector<engine::TableLock> locks{{partition.live, engine::LockMode::access_share}};
    const auto give_up = [&](const std::string &why) {
        pg::raise(pg::sqlcode::kLockNotAvailable, fmt::format("{}, {}", engine::lock_holders(locks), why));
    };
    const auto asked = Clock::now();
    const auto had = [&] {
        pg::Subtransaction subtransaction; // gives back what it had of the locks
        const bool locked = engine::lock_politely(locks, job.lock_timeout);
        pacer.skip_lock_wait(Clock::now() - asked);
        if (locked && work())
            subtransaction.commit();
        return locked;
    };
    while (!had()) {
        if (engine::holders_wait_for_us(locks))
            give_up("which waits for this build");
        if (const auto waiter = engine::waiter_since(engine::kLongestHold))
            give_up(fmt::format("while {} waits for this build", *waiter));
        if (pacer.waited().locked >= Seconds(job.swap_patience))
            give_up("for longer than swap_patience");
        show_waiting(pacer.waited(), engine::lock_holders(locks));
        pg::sleep(kBetweenTries, pg::Wait::backoff);
    }
    show_waiting(pacer.waited(), "");
}

void lock_to_finish(const job::Job &job, const job::Partition &partition, Pacer &pacer) {
    lock_live(job, partition, pacer, [] { return true; });
}

// The rows of the live partition, as far as it is worth counting, if its rebuild has none of
// them or fewer than half as many; nullopt otherwise. Counted is where the estimate leaves it
// open. The partition is locked for a moment at a time: who wants it exclusively, with readers
// behind, waits for no more than a piece.
std::optional<std::int64_t> rows_before_shrinking(const job::Job &job, const job::Partition &partition,
                                                  Pacer &pacer, std::int64_t rebuilt,
                                                  const std::function<void()> &between) {
    const std::int64_t limit = engine::kShrinking * rebuilt;
    engine::RowCount count;
    bool is_open = false;
    lock_live(job, partition, pacer, [&] {
        is_open = engine::may_shrink(partition.live, rebuilt);
        return false;
    });
    while (is_open && !count.over && !job.allow_shrink) {
        reach("count", partition);
        between();
        lock_live(job, partition, pacer, [&] {
            engine::count_piece(partition.live, std::max(limit, kCountedAnyway), count);
            return false;
        });
    }
    return count.rows > limit ? std::optional(count.rows) : std::nullopt;
}

// What follows once the rows and indexes are there.
void finish_shadow(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const auto leaf = engine::find_leaf(partition.live, job.target);
    if (!leaf)
        return;
    const std::vector<Oid> proofs = proofs_on(partition.live);
    method_of(job).finish_shadow(job.id, *leaf, partition.shadow, proofs);
    // What was changed on the partition meanwhile has it built again; what else differs would be so again.
    std::string known = partition.fingerprint;
    if (job.swap != engine::kStorageName &&
        engine::has_fingerprint(partition.live, partition.shadow, proofs, known))
        engine::check_likeness(*leaf, partition.shadow, proofs);
}

// What the build sees of the live partition, by its own snapshot. A guard that was
// switched off since it was made has a hole.
engine::Sight see(const job::Job &job, const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    const engine::Sight seen = engine::look(job.id, partition.live, pg::Read::active_snapshot);
    if (job.on_write == job::OnWrite::rebuild && !seen.guarded)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("writes to partition \"{}\" are not noticed", partition.name),
                  "A trigger that watches it was disabled or dropped.");
    return seen;
}

// Nobody else has the shadow from here to the end of the transaction. Rows that
// somebody put into it do not matter, since it gets a new file; a constraint that
// somebody took off does.
void take_shadow(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    engine::lock_for_load(partition.shadow);
    const std::string now = engine::shadow_digest(partition.shadow);
    job::ControlTables control;
    if (!control.shadow_untouched(partition, now))
        pg::raise(
            pg::sqlcode::kObjectNotInPrerequisiteState,
            fmt::format("the shadow of partition \"{}\" was changed before it was filled", partition.name));
}

// From here on it is noticed when somebody changes the shadow: its rows by a guard
// like that of the live partition, its definition by the digest.
void seal(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    engine::create_guard(partition.job, partition.shadow);
    reseal(partition);
}

engine::LoadRequest load_request(const job::Job &job, const job::Partition &partition,
                                 const engine::Leaf &leaf) {
    engine::LoadRequest request;
    request.shadow = partition.shadow;
    std::optional<engine::RangeKey> key;
    if (job.key_type != kNoOid)
        key = engine::RangeKey{job.key_type, ""};
    std::string source;
    {
        job::ControlTables control;
        source = control.source(job.id);
    }
    request.query =
        engine::load_query(source, job.source_oid, key, leaf, partition.constraint.value_or("true"));
    if (job.key_type != kNoOid)
        request.params = {pg::Param::typed(job.key_type, partition.range_start),
                          pg::Param::typed(job.key_type, partition.range_end)};
    request.key_columns = job.key_columns;
    return request;
}

// What the source reads is not waited for any longer than other locks: while writers are
// held, whoever has it could come to wait for the partition, and be the one that the server
// cancels; and a build that waits in a queue says nothing and obeys nobody.
engine::LoadRequest load_request_in_time(const job::Job &job, const job::Partition &partition,
                                         const engine::Leaf &leaf) {
    const engine::BoundedWaits bounded(job.lock_timeout);
    try {
        engine::LoadRequest request = load_request(job, partition, leaf);
        engine::check_source(request);
        return request;
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kLockNotAvailable)
            throw;
        pg::raise(error.code(),
                  fmt::format("no lock within {} ms on what the source reads", job.lock_timeout.count()));
    }
}

// What functions and views lock in the midst of a build is known to nobody beforehand:
// the build stands in a queue then, and gives up when swap_patience is over; after
// kLongestHold when writers wait for it meanwhile.
class PatientWaits : public pg::SettingsScope {
public:
    PatientWaits(const job::Job &job, bool paced) {
        constexpr std::int64_t kLongest = std::numeric_limits<int>::max(); // of the setting
        const std::chrono::milliseconds hold = engine::kLongestHold;
        const std::int64_t limit = (paced ? std::max(job.swap_patience, job.lock_timeout) : hold).count();
        set("lock_timeout", std::to_string(std::clamp<std::int64_t>(limit, 1, kLongest)).c_str());
    }
};

enum class Creation { done, locked_out, gone };

// The copy reads the partition and what is above it. Whoever changes the tree locks
// it from its root, and so do we.
std::vector<engine::TableLock> locks_to_copy(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    std::vector<engine::TableLock> locks = engine::share_ancestors(partition.live);
    locks.push_back({partition.live, engine::LockMode::access_share});
    return locks;
}

void make_shadow(const job::Job &job, job::Partition &partition, const engine::Leaf &leaf) {
    const std::string constraint = engine::constraint_text(leaf.oid);
    const std::vector<Oid> proofs = proofs_on(leaf.oid);
    // Before the copy is made: what changes meanwhile is seen at the swap.
    const std::string fingerprint = engine::fingerprint(leaf.oid, kNoOid, proofs);
    const Oid shadow = method_of(job).create_shadow(job.id, leaf, proofs);
    job::ControlTables control;
    control.record_shadow(partition, shadow, constraint, fingerprint, engine::shadow_digest(shadow));
}

Creation try_create(const job::Job &job, job::Partition &partition,
                    const std::vector<engine::TableLock> &locks) {
    const pg::PinnedSettings pinned;
    const auto found = engine::find_leaf(partition.live, job.target);
    if (!found || found->bound != partition.bound)
        return Creation::gone;
    method_of(job).check_rights(*found);
    engine::check_can_be_carried(*found, job.swap); // it may have changed since the door
    if (job.on_write == job::OnWrite::ignore)
        engine::check_can_ignore_writes({found->oid});
    if (!job.skip_triggers && !engine::reads_own_rows(job.source_oid, found->oid))
        engine::check_row_triggers({found->oid});
    engine::ensure_schemas(job.id, *found);
    if (!engine::lock_politely(locks, job.lock_timeout))
        return Creation::locked_out;
    const auto leaf = engine::find_leaf(partition.live, job.target);
    if (!leaf || leaf->bound != partition.bound)
        return Creation::gone;
    method_of(job).check_rights(*leaf);
    const engine::BoundedWaits bounded(job.lock_timeout);
    try {
        make_shadow(job, partition, *leaf);
    } catch (const pg::Error &error) {
        if (!engine::is_contention(error))
            throw;
        return Creation::locked_out;
    }
    return Creation::done;
}

} // namespace

StepOutcome create_step(const job::Job &job, job::Partition &partition) {
    show_phase(partition, Phase::creating);
    const auto asked = Clock::now();
    pg::Transaction transaction;
    if (partition.shadow != kNoOid && !drop_politely(job, partition.shadow)) { // of an attempt that died
        const auto locks = locks_to_drop(job, partition.shadow);
        transaction.abort();
        return postpone(job, partition, Clock::now() - asked, locks);
    }
    const auto locks = locks_to_copy(partition);
    const Creation result = try_create(job, partition, locks);
    if (result == Creation::locked_out) {
        transaction.abort();
        return postpone(job, partition, Clock::now() - asked, locks);
    }
    if (result == Creation::gone) {
        const pg::PinnedSettings pinned;
        skip(job, partition, kGone);
    }
    reach("create", partition);
    transaction.commit();
    return result == Creation::gone ? StepOutcome::skipped : StepOutcome::done;
}

std::string build(const job::Job &job, job::Partition &partition, Pacer &pacer, Speed speed) {
    const auto begun = Clock::now() - std::chrono::duration_cast<Clock::duration>(pacer.waited().throttled);
    const bool paced = speed == Speed::paced;
    const auto wal_before = pg::wal_bytes_written();
    std::optional<engine::Leaf> leaf;
    {
        const pg::PinnedSettings pinned;
        leaf = engine::find_leaf(partition.live, job.target);
        if (!leaf)
            pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                      fmt::format("partition \"{}\" is gone", partition.name));
        method_of(job).check_rights(*leaf);
    }
    // The source is parsed as the user meant it.
    engine::LoadRequest request = load_request_in_time(job, partition, *leaf);
    pacer.fills(partition.shadow);
    pacer.skip();
    request.reads_ahead = !paced || !pacer.slows_down();
    if (paced) {
        request.pace = [&] { pacer.check(); };
        request.serial = pacer.wants_serial_plan();
    }
    const auto settle = [&] {
        if (paced)
            pacer.settle();
    };
    job::BuildFigures figures;
    engine::Sight seen;
    Clock::time_point loaded;
    Clock::time_point indexed;
    take_shadow(partition);
    {
        const PatientWaits patient(job, paced);
        const pg::SnapshotScope snapshot;
        seen = see(job, partition);
        show_phase(partition, Phase::loading);
        reach("load", partition);
        figures.rows = static_cast<std::int64_t>(engine::load(request));
        loaded = Clock::now();
        show_rows(figures.rows);
        engine::end_progress();
        settle();
        const bool side_by_side = !paced || !pacer.waits_between_indexes();
        engine::build_indexes(partition.shadow, side_by_side, [&](int k, int n) {
            show_phase(partition, Phase::indexing, k, n);
            settle();
            reach("index", partition);
        });
        show_phase(partition, Phase::validating);
        engine::end_progress();
        settle();
        indexed = Clock::now();
        figures.rows_before = rows_before_shrinking(job, partition, pacer, figures.rows, settle);
        lock_to_finish(job, partition, pacer);
        if (paced)
            pacer.skip();
        finish_shadow(job, partition);
        show_phase(partition, Phase::analyzing);
        reach("analyze", partition);
        engine::analyze(partition.shadow);
    }
    seal(partition);
    check_still_claimed(partition);
    figures.wal_bytes = static_cast<std::int64_t>(pg::wal_bytes_written() - wal_before);
    figures.seconds = Clock::now() - begun;
    pacer.end();
    figures.throttled = pacer.waited().throttled;
    figures.held = pacer.waited().held;
    {
        job::ControlTables control;
        control.record_sight(partition, seen);
        control.built(partition, figures);
    }
    return fmt::format(
        "backfill job {} rebuilt partition {}: {} rows in {:.2f} s (load {:.2f} s, indexes {:.2f} s, "
        "rest {:.2f} s), {:.1f} MB of WAL",
        job.id, partition.name, figures.rows, figures.seconds.count(), Seconds(loaded - begun).count(),
        Seconds(indexed - loaded).count(), Seconds(Clock::now() - indexed).count(),
        static_cast<double>(figures.wal_bytes) / 1048576.0);
}

StepOutcome build_step(const job::Job &job, job::Partition &partition, Pacer &pacer) {
    for (;;) {
        try {
            pg::Transaction transaction;
            const std::string report = build(job, partition, pacer, Speed::paced);
            reach("built", partition);
            transaction.commit();
            reach("ready", partition);
            log_line(report);
            announce(partition);
            return StepOutcome::done;
        } catch (const pg::Error &error) {
            // A throttle_query that was set just now needs a load without parallel
            // workers: it begins anew.
            if (!pacer.wants_another_plan())
                return postpone_build(job, partition, pacer, error);
        }
    }
}

void check_not_emptied(const job::Partition &partition) {
    pg::Transaction transaction;
    bool emptied = false;
    {
        const pg::PinnedSettings pinned;
        emptied = partition.rows > 0 && !pg::query(R"SQL(
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
}

} // namespace partbackfill::worker

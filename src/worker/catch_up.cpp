#include "partbackfill/worker/catch_up.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "partbackfill/catalog/definition_digest.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/core/quantity.hpp"
#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/deadline.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settled_rows.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/key_log.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/load_request.hpp"

namespace partbackfill::worker {

namespace {

// Entries of the log that one transaction takes, at first, at least and at most. As many as take this
// long: what a batch locks, and its snapshot, are given up then.
constexpr std::int64_t kFirstBatch = 1000;
constexpr std::int64_t kSmallestBatch = 50;
constexpr std::int64_t kLargestBatch = 20000;
constexpr std::chrono::milliseconds kBatchTime{250};
constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
// Constraints that rows of one snapshot violate, before that is taken for the source's fault: a row
// that a new row refers to may be gone since the snapshot was taken.
constexpr int kMostViolations = 3;

// Of rows that are written in several parts: the row that is in the way may be in another part.
bool is_violation(const pg::Error &error) {
    constexpr int kExclusionViolation = pg::sqlstate("23P01");
    return error.code() == pg::sqlcode::kUniqueViolation || error.code() == kExclusionViolation ||
           error.code() == pg::sqlcode::kForeignKeyViolation;
}

std::int64_t entries_now(Oid log) {
    const pg::SnapshotScope snapshot;
    return load::size_of_log(log).entries;
}

bool definition_changed(const job::Partition &partition) {
    const pg::PinnedSettings pinned;
    std::string known = partition.definition_digest;
    return !catalog::matches_definition_digest(partition.live, partition.shadow, proofs_on(partition.live),
                                               known);
}

} // namespace

CatchUp::CatchUp(const job::Job &job, job::Partition &partition, throttle::Throttler &throttler)
    : job_(job), partition_(partition), throttler_(throttler), batch_(kFirstBatch) {}

// Half of what a swap may hold writers: the rest is for the exchange.
job::Milliseconds CatchUp::budget() const {
    return std::max(job_.lock_timeout / 2, job::Milliseconds(5));
}

// A log or a key that is not as it was is a change of the definition.
StepOutcome CatchUp::prepare() {
    pg::Transaction transaction;
    const auto leaf = [&] {
        const pg::PinnedSettings pinned;
        return find_live(job_, partition_);
    }();
    if (!leaf)
        return StepOutcome::partition_gone;
    std::optional<catalog::RowKey> key;
    std::optional<writes::KeyLog> log;
    Oid index = kNoOid;
    {
        const pg::PinnedSettings pinned;
        const pg::KeepPlans keep;
        key = catalog::find_row_key(leaf->oid);
        log = key ? shadow::find_key_log(job_.id, leaf->oid, *key) : std::nullopt;
        index = key ? catalog::index_with_key(partition_.shadow, *key) : kNoOid;
        if (!log || index == kNoOid || !writes::logs_keys(job_.id, leaf->oid, *log))
            return StepOutcome::definition_changed;
    }
    request_ = bounded_refresh_request(job_, partition_, *leaf, *key);
    request_->log = log->table;
    request_->index = index;
    for (const std::uint32_t block : pg::unfrozen_blocks(partition_.shadow))
        blocks_.insert(block);
    transaction.commit();
    return StepOutcome::done;
}

StepResult CatchUp::prepare_once() {
    if (request_)
        return {};
    try {
        return {prepare()};
    } catch (const pg::Error &error) {
        if (!locks::is_contention(error))
            throw;
        return {StepOutcome::locks_not_granted, {}, {}, error.fields().message};
    }
}

StepResult CatchUp::run() {
    throttle::show_phase(partition_, throttle::Phase::catching_up);
    if (StepResult prepared = prepare_once(); !prepared.is_done())
        return prepared;
    for (;;) {
        const auto begun = Clock::now();
        StepResult result = pass();
        if (!result.is_done())
            return result;
        settle_committed();
        if (Clock::now() - begun <= budget() || (pace_.behind() == 0 && pace_.done() == 0))
            break;
    }
    injection_point(InjectionPoint::converged, partition_);
    return {};
}

// Looks at what is left. The pass ends where the log ends now, or writers could keep it from its end.
load::LogSize CatchUp::begin_pass() {
    pg::Transaction transaction;
    load::LogSize size;
    {
        const pg::SnapshotScope snapshot;
        size = load::size_of_log(request_->log, &seen_);
    }
    transaction.commit();
    return size;
}

bool CatchUp::is_behind() {
    return begin_pass().entries > 0;
}

// Passes that do not become smaller are outrun.
void CatchUp::measure(std::int64_t behind) {
    const auto now = Clock::now();
    pace_.begin_pass(behind, now);
    distance_ = pace_.text();
    if (!pace_.is_too_slow())
        outrun_since_.reset();
    else if (!outrun_since_)
        outrun_since_ = now;
    show_pace();
}

void CatchUp::show_pace() const {
    throttle::show_keys_behind(pace_.behind(), pace_.time_left(Clock::now()));
}

bool CatchUp::is_over(const std::optional<Clock::time_point> &since) const {
    return since && Clock::now() - *since >= job_.swap_patience;
}

bool CatchUp::is_outrun() const {
    return is_over(outrun_since_) || is_over(unfinished_since_);
}

StepResult CatchUp::pass() {
    const load::LogSize size = begin_pass();
    measure(size.entries);
    if (is_outrun())
        return {StepOutcome::keys_left, {}, {}, is_over(unfinished_since_) ? unfinished_ : distance_};
    load::LogPart part{0, batch_, size.blocks};
    bool at_end = false;
    while (!at_end) {
        std::int64_t keys = 0;
        StepResult result = next_batch(part, keys, at_end);
        if (!result.is_done())
            return result;
        pace_.add_done(keys);
        show_pace();
    }
    return {};
}

// A batch in a transaction of its own. Waits no longer than lock_timeout for any lock: it may have
// locked keys that its rows refer to.
StepResult CatchUp::next_batch(load::LogPart &part, std::int64_t &keys, bool &at_end) {
    throttler_.pay_between_batches();
    if (outrun_since_ || unfinished_since_)
        throttle::show_waiting(throttler_.waited(), distance_);
    if (whole_)
        part = {0, kAll};
    const auto asked = Clock::now();
    try {
        pg::Transaction transaction;
        // A synchronous standby that hangs must not keep the locks on keys that rows refer to.
        pg::execute("SET LOCAL synchronous_commit = local");
        load::Refreshed refreshed;
        {
            const locks::BoundedWaits bounded(job_.lock_timeout);
            refreshed = refresh_part(part, partition_.is_restored() ? load::Entries::remembered
                                                                    : load::Entries::consumed);
        }
        injection_point(InjectionPoint::catching_up, partition_);
        if (!locks::holds_claim(partition_.job, partition_.ordinal))
            throw job::LostClaim();
        record_refreshed(refreshed);
        transaction.commit();
        keys = refreshed.keys;
        at_end = refreshed.at_end;
        set_batch(keys, Clock::now() - asked);
        blocks_.insert(refreshed.blocks.begin(), refreshed.blocks.end());
        if (partition_.is_restored())
            seen_.add(refreshed.file, refreshed.entries);
        else
            shorten_log(part.from, refreshed.next);
        part = {refreshed.next, batch_, part.end};
        whole_ = false;
        violations_ = 0;
        return {};
    } catch (const pg::Error &error) {
        if (error.code() == pg::sqlcode::kQueryCanceled)
            throw;
        StepResult result = after_error(error, part);
        result.lock_wait = Clock::now() - asked;
        return result;
    }
}

// The rows of an unlogged shadow that the build left empty would not be missed after a crash. A shadow
// that has passed the audits is another one now.
void CatchUp::record_refreshed(const load::Refreshed &refreshed) {
    const bool first_rows = partition_.rows == 0 && refreshed.rows > 0;
    const bool audited = partition_.audited && refreshed.keys > 0;
    if (!first_rows && !audited)
        return;
    const pg::AsExtensionOwner owner;
    if (first_rows)
        job::PartitionTable(owner).record_rows(partition_, refreshed.rows);
    if (audited)
        job::PartitionTable(owner).record_audited(partition_, false);
}

// The next passes need not look at entries that are used up.
void CatchUp::shorten_log(std::uint32_t from, std::uint32_t to) {
    pg::Transaction transaction;
    pg::execute("SET LOCAL synchronous_commit = off");
    pg::remove_deleted_rows(request_->log, from, to);
    transaction.commit();
}

void CatchUp::set_batch(std::int64_t keys, Clock::duration time) {
    if (time > kBatchTime)
        batch_ = std::max(std::min(batch_, keys) / 2, kSmallestBatch);
    else if (keys >= batch_ && time < kBatchTime / 2)
        batch_ = std::min(batch_ * 2, kLargestBatch);
}

// Whether an error in a batch is the source's is not always known at once.
StepResult CatchUp::after_error(const pg::Error &error, load::LogPart &part) {
    if (locks::is_contention(error))
        return {StepOutcome::locks_not_granted, {}, {}, error.fields().message};
    bool changed = false;
    {
        pg::Transaction transaction;
        changed = definition_changed(partition_);
        transaction.commit();
    }
    if (changed)
        return {StepOutcome::definition_changed};
    if (!is_violation(error) || ++violations_ > kMostViolations)
        throw;
    whole_ = true;
    part = {0, kAll};
    return {};
}

load::Refreshed CatchUp::refresh_part(const load::LogPart &part, load::Entries entries) {
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE"); // as if each row were inserted by itself
    pg::SettingsScope short_queries;
    short_queries.set("jit", "off"); // to compile a query takes as long as a swap may hold writers
    const pg::SnapshotScope snapshot;
    return load::refresh(*request_, part, entries, seen_, form_);
}

// A log that goes on after the swap begins without entries. Other logs are dropped or emptied then.
load::Entries CatchUp::last_entries() const {
    return job_.keep_old && !partition_.is_restored() ? load::Entries::consumed : load::Entries::kept;
}

bool CatchUp::finish(Clock::time_point deadline) {
    const auto left = std::chrono::floor<job::Milliseconds>(deadline - Clock::now());
    if (left <= job::Milliseconds(0))
        return false;
    try {
        const pg::Deadline limit(left);
        const locks::BoundedWaits bounded(std::min(left, job_.lock_timeout));
        const load::Refreshed refreshed = refresh_part({0, kAll}, last_entries());
        blocks_.insert(refreshed.blocks.begin(), refreshed.blocks.end());
        refreshed_last_ = refreshed.keys > 0;
        finished_at_ = entries_now(request_->log);
        return true;
    } catch (const pg::Error &error) {
        // A violation shows itself in the next pass, which tells a fault of the source from one of time.
        if (!pg::Deadline::is_over(error) && !locks::is_contention(error) && !is_violation(error))
            throw;
        note_unfinished("too slow for the last keys within lock_timeout");
        return false;
    }
}

void CatchUp::check_unwritten() const {
    if (entries_now(request_->log) == finished_at_)
        return;
    pg::raise(pg::sqlcode::kObjectInUse,
              fmt::format("partition \"{}\" was written to by the swap of another one", partition_.name),
              "An event trigger, or a function that the swap calls, writes to it.",
              "Start the job again with publish => 'each', or while that event trigger is disabled.");
}

void CatchUp::note_unfinished(const std::string &why) {
    if (!unfinished_since_)
        unfinished_since_ = Clock::now();
    distance_ = unfinished_ = why;
}

void CatchUp::settle(Oid table) {
    pg::settle_rows(table, {blocks_.begin(), blocks_.end()});
    blocks_.clear();
}

void CatchUp::settle_committed() {
    if (blocks_.empty())
        return;
    pg::Transaction transaction;
    settle(partition_.shadow);
    transaction.commit();
}

} // namespace partbackfill::worker

#include "partbackfill/worker/audit.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/job/claimed_row.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/partition_table.hpp"
#include "partbackfill/load/audit.hpp"
#include "partbackfill/locks/advisory_locks.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/deadline.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/throttle/activity.hpp"
#include "partbackfill/worker/injection_points.hpp"
#include "partbackfill/worker/live_partition.hpp"
#include "partbackfill/worker/swap.hpp"

namespace partbackfill::worker {

// Within a transaction.
void Audits::read() {
    if (audits_)
        return;
    const pg::PinnedSettings pinned;
    const pg::KeepPlans keep;
    const pg::AsExtensionOwner owner;
    audits_ = partition_.reverts() ? std::vector<std::string>() : job::JobTable(owner).audits(job_.id);
}

void Audits::show(std::size_t i) const {
    throttle::show_phase(partition_, throttle::Phase::auditing, static_cast<int>(i) + 1,
                         static_cast<int>(audits_->size()));
    if (i == 0)
        injection_point(InjectionPoint::auditing, partition_);
}

StepResult Audits::failed(std::size_t number, const std::string &row) const {
    StepResult result{StepOutcome::audit_failed};
    result.error.code = pg::sqlcode::kCheckViolation;
    result.error.message =
        fmt::format("audit {} of partition \"{}\" returned a row", number, partition_.name);
    result.error.detail = fmt::format("The row is ({}).", row);
    result.error.hint = fmt::format("What was built is kept in schema {0} for a look: backfill_retry({1}) "
                                    "builds it anew, backfill_cancel({1}) drops it.",
                                    shadow::new_schema(job_.id), job_.id);
    return result;
}

// The audit may give up every lock of the session.
StepResult Audits::ask(std::size_t i) const {
    const std::string &audit = audits_->at(i);
    core::Placeholders names;
    {
        const pg::PinnedSettings pinned;
        const auto leaf = find_live(job_, partition_);
        if (!leaf)
            return {StepOutcome::partition_gone};
        const auto shadow = catalog::find_relation(partition_.shadow);
        if (!shadow)
            return {StepOutcome::shadow_changed};
        const std::vector<locks::TableLock> locks{{leaf->oid, locks::LockMode::access_share}};
        const auto asked = CatchUp::Clock::now();
        if (load::reads_live(audit) && !locks::lock_politely(locks, job_.lock_timeout))
            return {StepOutcome::locks_not_granted, locks, CatchUp::Clock::now() - asked};
        names = load::audit_names(shadow->qualified(), leaf->qualified(), partition_.range_start,
                                  partition_.range_end);
    }
    std::optional<std::string> row;
    {
        const locks::BoundedWaits bounded(job_.lock_timeout);
        row = load::audited_row(i + 1, audit, names);
    }
    if (!locks::holds_claim(partition_.job, partition_.ordinal))
        throw job::LostClaim();
    return row ? failed(i + 1, *row) : StepResult{};
}

StepResult Audits::ask_all(bool shown) const {
    for (std::size_t i = 0; i < audits_->size(); i++) {
        if (shown)
            show(i);
        if (StepResult result = ask(i); !result.is_done())
            return result;
    }
    return {};
}

StepResult Audits::run(CatchUp *catch_up) {
    undecided_ = false;
    if (!audits_) {
        pg::Transaction transaction;
        read();
        transaction.commit();
    }
    if (partition_.audited)
        return {};
    StepResult result = ask_each();
    if (result.outcome != StepOutcome::audit_failed)
        return result;
    if (lacks_writes(job_, partition_))
        return {StepOutcome::rows_written};
    undecided_ = catch_up != nullptr && catch_up->is_behind();
    return undecided_ ? StepResult{} : result;
}

StepResult Audits::ask_each() const {
    try {
        for (std::size_t i = 0; i < audits_->size(); i++) {
            pg::Transaction transaction;
            show(i);
            StepResult result = ask(i);
            if (!result.is_done())
                return result;
            if (i + 1 == audits_->size()) {
                const pg::AsExtensionOwner owner;
                job::PartitionTable(owner).record_audited(partition_, true);
            }
            transaction.commit();
        }
        return {};
    } catch (const pg::Error &error) {
        if (!locks::is_contention(error))
            throw;
        return {StepOutcome::locks_not_granted, {}, {}, error.fields().message};
    }
}

StepResult Audits::run_within() {
    read();
    return ask_all(true);
}

StepResult Audits::run_last(CatchUp &catch_up, CatchUp::Clock::time_point deadline) {
    read();
    if (audits_->empty())
        return {};
    const auto too_slow = [&]() -> StepResult {
        catch_up.note_unfinished("too slow for the audits within lock_timeout");
        return {StepOutcome::keys_left, {}, {}, catch_up.distance()};
    };
    const auto left = std::chrono::floor<job::Milliseconds>(deadline - CatchUp::Clock::now());
    if (left <= job::Milliseconds(0))
        return too_slow();
    try {
        const pg::Deadline limit(left);
        pg::SettingsScope short_queries;
        short_queries.set("jit", "off");
        return ask_all(false);
    } catch (const pg::Error &error) {
        if (!pg::Deadline::is_over(error) && !locks::is_contention(error))
            throw;
        return too_slow();
    }
}

} // namespace partbackfill::worker

// The function that SQL calls to start a job.
#include "partbackfill/pg/server.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "partbackfill/checks/access_methods.hpp"
#include "partbackfill/checks/lock_table.hpp"
#include "partbackfill/checks/preconditions.hpp"
#include "partbackfill/checks/refusals.hpp"
#include "partbackfill/checks/row_keys.hpp"
#include "partbackfill/checks/row_triggers.hpp"
#include "partbackfill/checks/shards.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/job/new_job.hpp"
#include "partbackfill/job/option_table.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/load/audit.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/load/source_plan.hpp"
#include "partbackfill/locks/label_lock.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/processes.hpp"
#include "partbackfill/pg/session_settings.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/registration.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill {

namespace {

catalog::Selection read_selection(const pg::Arguments &arguments, int first) {
    catalog::Selection selection;
    selection.range_start = arguments.optional_text(first, "range_start");
    selection.range_end = arguments.optional_text(first + 1, "range_end");
    selection.partitions = arguments.optional_oids(first + 2);
    selection.newest_first = arguments.boolean(first + 3, "newest_first");
    return selection;
}

// The unfinished job of the caller that has the label, once every session that starts one with that
// label has ended its transaction. The job of a repeated call; another table's is an error.
std::optional<std::int64_t> find_labelled(const std::string &label, Oid target, const std::string &source) {
    locks::lock_label(pg::current_role(), label);
    std::optional<job::NewJobRows::Labelled> found;
    {
        const Oid owner = pg::current_role();
        const pg::SnapshotScope newest; // also above READ COMMITTED
        const pg::AsExtensionOwner as_owner;
        found = job::NewJobRows(as_owner).unfinished_with_label(owner, label);
    }
    if (!found)
        return std::nullopt;
    if (found->target != target)
        pg::raise(pg::sqlcode::kObjectInUse,
                  fmt::format("label \"{}\" already belongs to an unfinished job", label),
                  fmt::format("It is job {}, of table {}.", found->job, found->target_name),
                  "Use another label.");
    pg::notice(fmt::format("backfill job {} has label \"{}\" and is unfinished: no job is started",
                           found->job, label),
               found->source == source ? "" : "Its source is another one.",
               found->state == core::JobState::running
                   ? ""
                   : fmt::format("The job is {}: call {}.", core::name(found->state),
                                 job::way_on(found->job, found->state)));
    return found->job;
}

void check_may_log_in() {
    if (!pg::needs_login_role())
        return;
    if (!pg::query_row("SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE oid OPERATOR(pg_catalog.=) $1",
                       {pg::current_role()})
             .boolean(0))
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  fmt::format("role \"{}\" cannot log in", pg::role_name(pg::current_role())),
                  "The job's workers connect as the role that starts it.",
                  "Start it as a role with LOGIN that is a member of this one.");
}

// Plans the query of the first build: a table that the caller may not read is an error here already.
void check_readable(const load::Source &source, const catalog::Target &target) {
    for (const catalog::Leaf &leaf : target.leaves) {
        if (!leaf.selected)
            continue;
        std::string constraint;
        {
            const pg::PinnedSettings pinned;
            constraint = catalog::constraint_text(leaf.oid);
        }
        load::explain(source, target, leaf, constraint);
        return;
    }
}

// No transaction lasts from the snapshot of the first build to the swap of all.
void check_can_publish(const job::Options &options) {
    if (options.on_write == job::OnWrite::block)
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  "cannot swap partitions together with on_write => 'block'",
                  "Writers would wait from the build of the first partition to that of the last.",
                  "Use on_write => 'catch_up' or on_write => 'rebuild', or publish => 'each'.");
}

// The locks of all exchanges are held until the last.
void notice_long_locks(std::size_t partitions) {
    constexpr std::size_t kMany = 100;
    if (partitions >= kMany)
        pg::notice(
            fmt::format("the swap of {} partitions in one transaction will hold its locks for seconds",
                        partitions),
            "Each takes about 5 ms by storage; by attach 10 ms, and more the more partitions the table has. "
            "Who reads or writes one of them waits meanwhile.",
            "Several jobs, each with a range, hold them for a shorter time each.");
}

void check_size(const std::vector<pg::Setting> &settings) {
    std::size_t size = 0;
    for (const auto &[name, value] : settings)
        size += name.size() + value.size();
    if (size > pg::kLongestText)
        pg::raise(pg::sqlcode::kProgramLimit, "settings of the session must not be longer than 1 MB in all",
                  "A job keeps those that its source may read.", "RESET the longest.");
}

void insert_partitions(const job::NewJobRows &rows, std::int64_t id, const catalog::Target &target) {
    int ordinal = 0;
    for (const catalog::Leaf &leaf : target.leaves) {
        if (!leaf.selected)
            continue;
        try {
            rows.insert_partition(id, {++ordinal, leaf.oid, leaf.qualified(), leaf.range_start,
                                       leaf.range_end, leaf.bound, leaf.rows});
        } catch (const pg::Error &error) {
            // Of two sessions that start jobs at once the unique index lets one through.
            if (error.code() == pg::sqlcode::kUniqueViolation)
                job::raise_busy(leaf.name, 0);
            throw;
        }
    }
}

job::Job insert_job(const catalog::Target &target, const load::Source &source,
                    const catalog::Selection &selection, const job::Options &options, std::int64_t shard,
                    std::vector<pg::Setting> settings) {
    const Oid owner = pg::current_role();
    const pg::AsExtensionOwner as_owner;
    const pg::KeepPlans keep(pg::KeepPlans::From::second_use); // of the statements for each partition
    const job::NewJobRows rows(as_owner);
    for (const catalog::Leaf &leaf : target.leaves)
        if (leaf.selected)
            if (const auto other = rows.claimant_of(leaf.oid)) {
                if (other->failed || other->state == core::JobState::failed)
                    job::raise_kept(leaf.name, other->job);
                if (!job::way_on(other->job, other->state).empty())
                    job::raise_resting(leaf.name, other->job, other->state);
                job::raise_busy(leaf.name, other->job);
            }
    job::NewJob job;
    do
        job.id = rows.next_number();
    while (!shadow::try_make_schemas(job.id));
    job.target = target.oid;
    job.target_name = target.qualified();
    job.source = source.text;
    job.source_oid = source.relation;
    job.reads_target = source.reads_target;
    job.key_type = target.key ? target.key->type : kNoOid;
    job.key_columns.assign(target.key_columns.begin(), target.key_columns.end());
    job.owner = owner;
    job.shard = shard;
    job.range_start = selection.range_start;
    job.range_end = selection.range_end;
    job.options = options;
    job.settings = std::move(settings);
    rows.insert(job);
    insert_partitions(rows, job.id, target);
    return job::JobTable(as_owner).find(job.id).value();
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_start: checks all that can be checked before anything is written, inserts
// the job and its partitions, and registers workers, which begin once the calling
// transaction has committed. With the label of an unfinished job it returns that one's number instead,
// and starts nothing.
// Locks: ACCESS SHARE on the partition tree and the source, to the end of the
// calling transaction.
PARTBACKFILL_FUNCTION(partbackfill_start_1_1) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_start()");
    if (InSecurityRestrictedOperation())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "cannot start a backfill within a security-restricted operation");
    const locks::FirstVictim in_deadlocks;
    const Oid oid = arguments.oid(0, "target");
    const std::string text = arguments.string(1, "source");
    const catalog::Selection selection = read_selection(arguments, 2);
    job::Options options = job::read_options(arguments, 5);

    checks::check_may_start(oid);
    if (options.label)
        if (const auto same = find_labelled(*options.label, oid, text))
            PG_RETURN_INT64(*same);
    catalog::Target target = catalog::inspect(oid, selection);
    check_may_log_in();
    std::set<std::string> row_key_columns;
    std::int64_t shard = 0;
    {
        const pg::PinnedSettings pinned;
        shard = checks::check_shard(target);
        options.swap = checks::check_preconditions(target, options.swap).name;
        if (options.publish != job::Publish::each) {
            check_can_publish(options);
            checks::check_room_for_locks(target.selected_oids());
            notice_long_locks(target.selected_oids().size());
        }
        if (options.on_write == job::OnWrite::ignore)
            checks::check_can_ignore_writes(target.selected_oids());
        if (options.on_write == job::OnWrite::block)
            checks::check_can_block_writes(target.selected_oids());
        if (options.on_write == job::OnWrite::catch_up)
            row_key_columns = checks::check_can_catch_up(target);
    }
    const load::Source source = load::check_source(text, target, row_key_columns);
    if (!source.own_rows && !options.skip_triggers) {
        const pg::PinnedSettings pinned;
        checks::check_row_triggers(target.selected_oids());
    }
    check_readable(source, target);
    if (const auto leaves = load::leaves_without_rows(source, target); !leaves.empty())
        load::raise_without_rows(leaves);
    load::check_audits(options.audits, target);
    std::vector<pg::Setting> settings = pg::session_settings();
    check_size(settings);
    const job::Job job = insert_job(target, source, selection, options, shard, std::move(settings));
    {
        const pg::PinnedSettings pinned;
        checks::check_access_methods(job.id, target, swap::swap_method(job.swap),
                                     job::notices_writes(job.on_write));
    }
    process::register_workers(job, job.workers, 0);
    if (options.on_write == job::OnWrite::catch_up)
        checks::notice_doubt(target, source, row_key_columns);
    PG_RETURN_INT64(job.id);
}

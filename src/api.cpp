// The functions that SQL calls to start, await and purge jobs.
#include "partbackfill/pg/server.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/engine/door.hpp"
#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/engine/row_triggers.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/source.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/job/pace_options.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/at_commit.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/registration.hpp"

namespace partbackfill {

namespace {

engine::Selection read_selection(const pg::Arguments &arguments, int first) {
    engine::Selection selection;
    selection.range_start = arguments.optional_text(first, "range_start");
    selection.range_end = arguments.optional_text(first + 1, "range_end");
    selection.partitions = arguments.optional_oids(first + 2);
    selection.newest_first = arguments.boolean(first + 3, "newest_first");
    return selection;
}

// The parameters after the selection, in the order of the function's declaration.
job::Options read_options(const pg::Arguments &arguments) {
    job::Options options;
    int i = 5;
    options.newest_first = arguments.boolean(i++, "newest_first");
    options.workers = job::checked_workers(arguments.integer(i++, "workers"));
    options.delay = arguments.interval(i++, "delay");
    options.nice_ratio = job::checked_nice_ratio(arguments.number(i++, "nice_ratio"));
    options.max_wal_rate = job::checked_wal_rate(arguments.optional_text(i++, "max_wal_rate"));
    options.max_replica_lag = job::checked_replica_lag(arguments.optional_interval(i++, "max_replica_lag"));
    options.throttle_query = job::checked_throttle_query(arguments.optional_text(i++, "throttle_query"));
    options.min_free_disk = job::checked_free_disk(arguments.optional_text(i++, "min_free_disk"));
    options.on_write = arguments.string(i++, "on_write");
    options.on_error = arguments.string(i++, "on_error");
    options.max_attempts = arguments.integer(i++, "max_attempts");
    options.swap = arguments.string(i++, "swap");
    options.keep_old = arguments.boolean(i++, "keep_old");
    options.lock_timeout = arguments.interval(i++, "lock_timeout");
    options.swap_patience = arguments.interval(i++, "swap_patience");
    options.skip_triggers = arguments.boolean(i++, "skip_triggers");
    options.allow_shrink = arguments.boolean(i++, "allow_shrink");
    if (options.max_attempts < 1)
        pg::raise(pg::sqlcode::kInvalidParameter, "max_attempts must be at least 1");
    if (options.on_write != "rebuild" && options.on_write != "block" && options.on_write != "ignore")
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("invalid value for on_write: \"{}\"", options.on_write), "",
                  "Valid values are \"rebuild\", \"block\" and \"ignore\".");
    if (options.on_error != "continue" && options.on_error != "stop")
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("invalid value for on_error: \"{}\"", options.on_error), "",
                  "Valid values are \"continue\" and \"stop\".");
    if (options.swap != engine::kAttachName && options.swap != engine::kStorageName)
        pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("invalid value for swap: \"{}\"", options.swap),
                  "", "Valid values are \"attach\" and \"storage\".");
    return options;
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

// Plans the first build: what the caller may not read is an error here already.
void check_readable(const engine::Source &source, const engine::Target &target) {
    for (const engine::Leaf &leaf : target.leaves) {
        if (!leaf.selected)
            continue;
        std::string constraint;
        {
            const pg::PinnedSettings pinned;
            constraint = engine::constraint_text(leaf.oid);
        }
        engine::explain(source, target, leaf, constraint);
        return;
    }
}

void check_size(const std::vector<pg::Setting> &settings) {
    std::size_t size = 0;
    for (const auto &[name, value] : settings)
        size += name.size() + value.size();
    if (size > pg::kLongestText)
        pg::raise(pg::sqlcode::kProgramLimit, "settings of the session must not be longer than 1 MB in all",
                  "A job keeps those that its source may read.", "RESET the longest.");
}

void insert_partitions(job::ControlTables &control, std::int64_t id, const engine::Target &target) {
    int ordinal = 0;
    for (const engine::Leaf &leaf : target.leaves) {
        if (!leaf.selected)
            continue;
        try {
            control.insert_partition(id, {++ordinal, leaf.oid, leaf.qualified(), leaf.range_start,
                                          leaf.range_end, leaf.bound, leaf.rows});
        } catch (const pg::Error &error) {
            // Two sessions at once: the unique index decides.
            if (error.code() == pg::sqlcode::kUniqueViolation)
                job::raise_busy(leaf.name, 0);
            throw;
        }
    }
}

job::Job insert_job(const engine::Target &target, const engine::Source &source,
                    const engine::Selection &selection, const job::Options &options,
                    std::vector<pg::Setting> settings) {
    const Oid owner = pg::current_role();
    job::ControlTables control;
    for (const engine::Leaf &leaf : target.leaves)
        if (leaf.selected)
            if (const auto other = control.claimant_of(leaf.oid)) {
                if (other->failed)
                    job::raise_kept(leaf.name, other->job);
                if (other->paused)
                    job::raise_paused(leaf.name, other->job);
                job::raise_busy(leaf.name, other->job);
            }
    job::NewJob job;
    do
        job.id = control.next_job_number();
    while (!engine::try_make_schemas(job.id));
    job.target = target.oid;
    job.target_name = target.qualified();
    job.source = source.text;
    job.source_oid = source.relation;
    job.reads_target = source.reads_target;
    job.key_type = target.key ? target.key->type : kNoOid;
    job.key_columns.assign(target.key_columns.begin(), target.key_columns.end());
    job.owner = owner;
    job.range_start = selection.range_start;
    job.range_end = selection.range_end;
    job.options = options;
    job.settings = std::move(settings);
    control.insert_job(job);
    insert_partitions(control, job.id, target);
    return control.find_job(job.id).value();
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_start: checks everything that can be checked before anything is
// written, records the job and its partitions, and registers its workers, which
// begin once the calling transaction has committed.
// Locks: ACCESS SHARE on the partition tree and the source, to the end of the
// calling transaction.
PARTBACKFILL_FUNCTION(partbackfill_start) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_start()");
    if (InSecurityRestrictedOperation())
        pg::raise(pg::sqlcode::kInsufficientPrivilege,
                  "cannot start a backfill within a security-restricted operation");
    const engine::FirstVictim in_deadlocks;
    const Oid oid = arguments.oid(0, "target");
    const std::string text = arguments.string(1, "source");
    const engine::Selection selection = read_selection(arguments, 2);
    const job::Options options = read_options(arguments);

    engine::check_may_start(oid);
    const engine::Target target = engine::inspect(oid, selection);
    check_may_log_in();
    {
        const pg::PinnedSettings pinned;
        engine::check_at_door(target, options.swap);
        if (options.on_write == "ignore")
            engine::check_can_ignore_writes(engine::selected_oids(target));
    }
    const engine::Source source = engine::check_source(text, target);
    if (!source.own_rows && !options.skip_triggers) {
        const pg::PinnedSettings pinned;
        engine::check_row_triggers(engine::selected_oids(target));
    }
    check_readable(source, target);
    if (const auto leaves = engine::leaves_without_rows(source, target); !leaves.empty())
        engine::raise_without_rows(leaves);
    std::vector<pg::Setting> settings = pg::session_settings();
    check_size(settings);
    const job::Job job = insert_job(target, source, selection, options, std::move(settings));
    worker::register_workers(job, job.workers, 0);
    PG_RETURN_INT64(job.id);
}

namespace partbackfill {

namespace {

// Between looks at whether the job that is waited for has a worker.
constexpr std::chrono::seconds kBetweenWorkerLooks{1};

bool has_no_worker(std::int64_t id) {
    job::ControlTables control;
    const auto jobs = control.jobs_without_worker();
    return std::any_of(jobs.begin(), jobs.end(), [&](const auto &idle) { return idle.job == id; });
}

// Nothing would end the wait; somebody else may be about to resume the job.
void warn_of_no_worker(std::int64_t id) {
    const std::string message = fmt::format("backfill job {} has no worker", id);
    const std::string hint = fmt::format("Call backfill_resume({}) in another session.", id);
    pg::guard([&] {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", message.c_str()),
                          errdetail("The server was restarted, or promoted, since the job was started."),
                          errhint("%s", hint.c_str())));
    });
}

} // namespace

} // namespace partbackfill

// backfill_wait: the state in which the job rests, or its state after `timeout`.
PARTBACKFILL_FUNCTION(partbackfill_wait) {
    const pg::Arguments arguments(fcinfo);
    const std::int64_t id = arguments.bigint(0, "job");
    const auto limit = arguments.optional_interval(1);
    using Clock = std::chrono::steady_clock;
    const auto begun = Clock::now();
    const std::chrono::duration<double> seconds(
        limit ? pg::query_row("SELECT pg_catalog.date_part('epoch', $1::interval)", {*limit}).number(0) : 0);
    job::find_job_to_stop(id);
    {
        job::ControlTables control;
        if (control.is_of_this_transaction(id))
            pg::raise(
                pg::sqlcode::kActiveTransaction,
                fmt::format("cannot wait for backfill job {} in the transaction that started or changed it",
                            id),
                "Its workers see that once the transaction has committed.");
    }
    // A short job is noticed at once, a long one costs no more than ten looks a second.
    std::chrono::milliseconds pause{5};
    auto looked = begun;
    bool warned = false;
    for (;;) {
        // Whatever the isolation level, the newest state is wanted.
        std::optional<job::Job> job;
        {
            const pg::SnapshotScope snapshot;
            job::ControlTables control;
            job = control.find_job_now(id);
            if (job && !warned && Clock::now() - looked >= kBetweenWorkerLooks) {
                looked = Clock::now();
                warned = has_no_worker(id);
                if (warned)
                    warn_of_no_worker(id);
            }
        }
        if (!job)
            pg::raise(pg::sqlcode::kUndefinedObject, fmt::format("backfill job {} does not exist", id));
        if (job::at_rest(*job) || (limit && Clock::now() - begun >= seconds))
            return pg::return_text(std::string(core::name(job->state)));
        pg::wait_latch(pause, pg::Wait::result);
        pause = std::min(pause * 5 / 4, std::chrono::milliseconds(100));
    }
}

// backfill_purge: how many old partitions it dropped. ACCESS EXCLUSIVE on each,
// which no reader of the partitioned table can see any more.
PARTBACKFILL_FUNCTION(partbackfill_purge) {
    const pg::Arguments arguments(fcinfo);
    job::begin_change("backfill_purge()");
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    if (!job::at_rest(job))
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("backfill job {} has not ended", job.id),
                  fmt::format("Its state is \"{}\".", core::name(job.state)),
                  fmt::format("Wait for it with backfill_wait({}).", job.id));
    std::vector<Oid> tables;
    {
        job::ControlTables control;
        tables = control.old_tables(job.id);
    }
    int dropped = 0;
    for (const Oid table : tables) {
        dropped += engine::drop_own_table(job.id, table) ? 1 : 0;
        job::ControlTables control;
        control.forget_old(job.id, table);
    }
    engine::drop_empty_schemas(job.id);
    {
        job::ControlTables control;
        control.clear_tidy_error(job.id);
    }
    PG_RETURN_INT32(dropped);
}

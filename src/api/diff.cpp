// The functions that SQL calls to see how the new rows of a partition differ from the old ones.
#include "partbackfill/pg/server.hpp"

extern "C" {
#include "storage/lmgr.h"
}

#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/catalog/compared_tables.hpp"
#include "partbackfill/catalog/comparison_query.hpp"
#include "partbackfill/catalog/rights.hpp"
#include "partbackfill/job/compared_partitions.hpp"
#include "partbackfill/job/own_job.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/notice.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/results.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill {

namespace {

using job::ComparedPartition;

// Pairs of tables that are locked and found to be no pair any more, since a swap came between.
constexpr int kMostLooks = 5;

// With the newest snapshot, whatever the isolation level: what was swapped since an older one is exchanged
// for it, too.
template <class Find>
auto read_control(Find &&find) {
    const pg::SnapshotScope snapshot;
    const pg::PinnedSettings pinned;
    const pg::AsExtensionOwner owner;
    return find(job::ComparedPartitions(owner));
}

[[noreturn]] void raise_not_comparable(const ComparedPartition &partition) {
    const bool is_built = partition.state == "ready" || partition.state == "done";
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
              fmt::format("cannot compare the rows of partition \"{}\"", partition.name),
              is_built ? fmt::format("Its state is \"{}\", and its {} rows are not kept.", partition.state,
                                     partition.state == "done" ? "old" : "new")
                       : fmt::format("Its state is \"{}\".", partition.state),
              "Rows can be compared while a partition is ready, and once it is done until its old rows are "
              "dropped.");
}

ComparedPartition named_partition(const job::Job &job, Oid table) {
    const auto found =
        read_control([&](const job::ComparedPartitions &rows) { return rows.find_by_table(job.id, table); });
    if (!found)
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("table \"{}\" is no partition of backfill job {}",
                              pg::query_row("SELECT $1::regclass::text", {table}).text(0), job.id),
                  "", "backfill_progress lists the partitions of a job.");
    if (!found->has_both())
        raise_not_comparable(*found);
    return *found;
}

// Waits as any statement of the session's does, for up to its own lock_timeout; the partition is locked
// before the shadow, as by a swap. A worker that catches up changes rows of the shadow in place, which no
// snapshot can bear: SHARE holds it up.
void lock_tables(const job::Job &job, const ComparedPartition &partition) {
    const bool may_change = partition.state == "ready" && job.on_write == job::OnWrite::catch_up;
    for (const Oid table : {partition.old_table, partition.new_table}) {
        {
            const pg::SnapshotScope snapshot;
            catalog::check_may_read(table);
        }
        const LOCKMODE mode = may_change && table == partition.new_table ? ShareLock : AccessShareLock;
        pg::guard([&] { LockRelationOid(table, mode); });
    }
}

// Within its life the partition's two tables are locked, and are the two that belong together: a swap comes
// before or after. The locks end with it, and so do no harm to a swap for longer than rows are read.
class LockedPair {
public:
    // False when the partition is not comparable any more.
    bool lock(const job::Job &job, const ComparedPartition &first) {
        partition_ = first;
        for (int look = 0; look < kMostLooks; look++) {
            locks_.emplace();
            if (partition_.has_both())
                lock_tables(job, partition_);
            const auto now = read_control(
                [&](const job::ComparedPartitions &rows) { return rows.find(job.id, first.ordinal); });
            if (now && *now == partition_ && now->has_both())
                return true;
            locks_.reset();
            if (!now || !now->has_both()) {
                if (now)
                    partition_ = *now;
                return false;
            }
            partition_ = *now;
        }
        pg::raise(pg::sqlcode::kObjectInUse, fmt::format("partition \"{}\" is being swapped", first.name), "",
                  "Try again later.");
    }

    const ComparedPartition &partition() const noexcept { return partition_; }

private:
    ComparedPartition partition_;
    std::optional<pg::Subtransaction> locks_;
};

std::string quoted_list(const std::vector<std::string> &names) {
    std::string list;
    for (const std::string &name : names)
        list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", name);
    return list;
}

void notice_columns(const ComparedPartition &partition, const catalog::ComparedTables &tables) {
    if (const auto names = tables.without_equality(); !names.empty())
        pg::notice(fmt::format("columns of partition \"{}\" are compared by their text: {}", partition.name,
                               quoted_list(names)),
                   "Their types have no equality.", "");
    const auto left_out = [&](const char *which, const std::vector<std::string> &names) {
        if (!names.empty())
            pg::notice(fmt::format("columns of partition \"{}\" are not compared: {}", partition.name,
                                   quoted_list(names)),
                       fmt::format("Only the {} rows have them.", which), "");
    };
    left_out("old", tables.only_old);
    left_out("new", tables.only_new);
}

catalog::ComparedTables definitions_of(const ComparedPartition &partition) {
    const pg::PinnedSettings pinned;
    const pg::SnapshotScope snapshot;
    return catalog::compare_definitions(partition.old_table, partition.new_table);
}

// Reads the tables as the caller would by hand, with a snapshot taken under the locks. The texts of values
// must show all that there is of them; rows that row security hides are an error.
pg::Result read_rows(const std::string &statement, const pg::Params &params) {
    const pg::ReadOnlyScope read_only;
    const pg::CallersPath path;
    pg::SettingsScope settings;
    settings.set("row_security", "off");
    settings.set("extra_float_digits", "3");
    settings.set("DateStyle", "ISO, YMD");
    settings.set("IntervalStyle", "postgres");
    const pg::SnapshotScope snapshot;
    return pg::query(statement, params, pg::Read::active_snapshot);
}

// Of the columns that differ in some row in how many they do, as jsonb.
std::string counts_of_columns(const pg::Row &row, const catalog::ComparedTables &tables) {
    constexpr std::size_t kFirst = 6; // after the counts of rows
    std::vector<std::string> names;
    std::vector<std::string> counts;
    for (std::size_t i = 0; i < tables.columns.size(); i++)
        if (row.integer(kFirst + i) > 0) {
            names.push_back(tables.columns[i].name);
            counts.push_back(row.text(kFirst + i));
        }
    return pg::query_row("SELECT COALESCE(jsonb_object_agg(c.name, c.count::bigint), '{}')::text "
                         "FROM unnest($1::text[], $2::text[]) AS c (name, count)",
                         {names, counts})
        .text(0);
}

pg::TextRow diff_row(const ComparedPartition &partition) {
    const catalog::ComparedTables tables = definitions_of(partition);
    notice_columns(partition, tables);
    const pg::Row counts = read_rows(catalog::counting_query(tables), {}).rows.at(0);
    return {std::to_string(partition.ordinal),
            partition.name,
            counts.text("old_rows"),
            counts.text("new_rows"),
            counts.text("same"),
            counts.field("changed"),
            counts.text("only_old"),
            counts.text("only_new"),
            tables.key ? std::optional(counts_of_columns(counts, tables)) : std::nullopt};
}

std::vector<pg::TextRow> example_rows(const ComparedPartition &partition, int most) {
    const catalog::ComparedTables tables = definitions_of(partition);
    notice_columns(partition, tables);
    std::vector<pg::TextRow> rows;
    for (const pg::Row &row : read_rows(catalog::showing_query(tables), {most}).rows)
        rows.push_back({row.field("kind"), row.field("key"), row.field("old"), row.field("new")});
    return rows;
}

} // namespace

} // namespace partbackfill

using namespace partbackfill;

// backfill_diff: a row for each partition of which the old and the new rows are there, in the order of the
// job; or for the one that is named. ACCESS SHARE on two tables at a time, while they are read.
PARTBACKFILL_FUNCTION(partbackfill_diff) {
    const pg::Arguments arguments(fcinfo);
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    std::vector<ComparedPartition> partitions;
    if (arguments.is_null(1))
        partitions = read_control([&](const job::ComparedPartitions &rows) { return rows.all(job.id); });
    else
        partitions.push_back(named_partition(job, arguments.oid(1, "partition")));
    std::vector<pg::TextRow> rows;
    for (const ComparedPartition &partition : partitions) {
        LockedPair pair;
        if (pair.lock(job, partition))
            rows.push_back(diff_row(pair.partition()));
        else if (!arguments.is_null(1))
            raise_not_comparable(pair.partition());
    }
    return pg::return_rows(fcinfo, rows);
}

// backfill_diff_rows: the rows that are found first, no more than max_rows, ordered by kind and key.
PARTBACKFILL_FUNCTION(partbackfill_diff_rows) {
    const pg::Arguments arguments(fcinfo);
    const job::Job job = job::find_job_to_stop(arguments.bigint(0, "job"));
    const ComparedPartition partition = named_partition(job, arguments.oid(1, "partition"));
    const int most = arguments.integer(2, "max_rows");
    if (most < 0)
        pg::raise(pg::sqlcode::kInvalidParameter, "max_rows must not be negative");
    std::vector<pg::TextRow> rows;
    {
        LockedPair pair;
        if (!pair.lock(job, partition))
            raise_not_comparable(pair.partition());
        rows = example_rows(pair.partition(), most);
    }
    return pg::return_rows(fcinfo, rows);
}

#include "partbackfill/worker/load_request.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/job/job_table.hpp"
#include "partbackfill/load/error_position.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::worker {

namespace {

// A kept table whose rows come back is their source.
std::string source_of(const job::Job &job, const job::Partition &partition) {
    if (partition.is_restored()) {
        const pg::PinnedSettings pinned;
        return "SELECT * FROM ONLY " + catalog::relation_entry(partition.kept).qualified();
    }
    const pg::AsExtensionOwner owner;
    return job::JobTable(owner).source(job.id);
}

// The partition's row has no column for a position: it becomes a sentence of the detail.
pg::ErrorFields with_position_in_detail(pg::ErrorFields error, const std::string &source) {
    if (error.internal_position > 0 && error.internal_query == source)
        error.detail += fmt::format("{}The error is at character {} of the source.",
                                    error.detail.empty() ? "" : " ", error.internal_position);
    return error;
}

std::optional<catalog::RangeKey> range_key(const job::Job &job) {
    return job.key_type != kNoOid ? std::optional(catalog::RangeKey{job.key_type}) : std::nullopt;
}

// $1 and $2 of the source.
pg::Params bounds(const job::Job &job, const job::Partition &partition) {
    if (job.key_type == kNoOid)
        return {};
    return {pg::Param::typed(job.key_type, partition.range_start),
            pg::Param::typed(job.key_type, partition.range_end)};
}

std::set<std::string> row_key_columns(Oid live) {
    const pg::PinnedSettings pinned;
    const pg::KeepPlans keep;
    std::set<std::string> names;
    if (const auto key = catalog::find_row_key(live))
        for (const catalog::KeyColumn &column : key->columns)
            names.insert(column.name);
    return names;
}

// What rows of the source belong to the partition: those of its bounds and, of a distributed table, of its
// shard.
std::string condition(const job::Job &job, const job::Partition &partition) {
    std::string bounds = partition.constraint.value_or("true");
    if (job.shard == catalog::kNoShard)
        return bounds;
    const pg::PinnedSettings pinned;
    const auto rows = catalog::rows_of_shard(job.shard);
    if (!rows)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState, fmt::format("shard {} is no more", job.shard));
    return fmt::format("({}) AND {}", bounds, rows->condition);
}

load::LoadRequest load_request(const job::Job &job, const job::Partition &partition,
                               const catalog::Leaf &leaf, const std::string &source) {
    load::LoadRequest request;
    request.shadow = partition.shadow;
    // The kept table goes with the swap: a row of it outside the bounds is an error, by the shadow's CHECK.
    const bool restored = partition.is_restored();
    request.query = load::load_query(source, restored ? kNoOid : job.source_oid, range_key(job), leaf,
                                     restored ? "true" : condition(job, partition));
    request.params = bounds(job, partition);
    request.key_columns = job.key_columns;
    if (job::catches_up(job, partition))
        request.row_key_columns = row_key_columns(leaf.oid);
    return request;
}

// Runs `make` on the source.
template <class Make>
auto bounded(const job::Job &job, const job::Partition &partition, Make &&make) {
    const std::string source = source_of(job, partition);
    const locks::BoundedWaits bounded(job.lock_timeout);
    try {
        return load::showing_position_in(source, [&] { return make(source); });
    } catch (const pg::Error &error) {
        if (error.code() != pg::sqlcode::kLockNotAvailable)
            throw pg::Error(with_position_in_detail(error.fields(), source));
        pg::raise(error.code(),
                  fmt::format("no lock within {} ms on what the source reads", job.lock_timeout.count()));
    }
}

} // namespace

load::LoadRequest bounded_load_request(const job::Job &job, const job::Partition &partition,
                                       const catalog::Leaf &leaf) {
    return bounded(job, partition, [&](const std::string &source) {
        load::LoadRequest request = load_request(job, partition, leaf, source);
        load::check_query(request);
        return request;
    });
}

load::RefreshRequest bounded_refresh_request(const job::Job &job, const job::Partition &partition,
                                             const catalog::Leaf &leaf, const catalog::RowKey &key) {
    return bounded(job, partition, [&](const std::string &source) {
        load::RefreshRequest request;
        request.shadow = partition.shadow;
        request.queries =
            load::key_queries(source, job.source_oid, range_key(job), leaf, condition(job, partition), key);
        request.params = bounds(job, partition);
        return request;
    });
}

} // namespace partbackfill::worker

#include "partbackfill/checks/access_methods.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/writes/write_capture.hpp"

namespace partbackfill::checks {

namespace {

struct Stored {
    Oid leaf = kNoOid;
    std::string method;
};

std::vector<Stored> one_of_each(const std::vector<Oid> &leaves) {
    std::vector<Stored> found;
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT DISTINCT ON (am.oid) c.oid::bigint, am.amname
        FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam
        WHERE c.oid = ANY ($1) AND am.amhandler <> 'heap_tableam_handler'::regproc
        ORDER BY am.oid, c.oid
    )SQL",
                                        {leaves})
                                  .rows)
        found.push_back({row.oid(0), row.text(1)});
    return found;
}

void try_one(std::int64_t job, const catalog::Leaf &leaf, const std::string &access_method,
             const swap::SwapMethod &method, bool notices_writes) {
    const pg::Subtransaction always_rolled_back;
    shadow::ensure_schemas(job, leaf);
    const Oid shadow = method.create_shadow(job, leaf, {});
    if (notices_writes && writes::finest_level(shadow) != writes::Level::row)
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("cannot notice writes to partition \"{}\"", leaf.name),
                  fmt::format("It is stored by access method {}, which has no triggers for each row.",
                              pg::quote_identifier(access_method)),
                  "Use on_write => 'ignore', for partitions to which no session writes meanwhile.");
}

} // namespace

void check_access_methods(std::int64_t job, const catalog::Target &target, const swap::SwapMethod &method,
                          bool notices_writes) {
    for (const Stored &stored : one_of_each(target.selected_oids())) {
        const auto leaf = std::find_if(target.leaves.begin(), target.leaves.end(),
                                       [&](const catalog::Leaf &l) { return l.oid == stored.leaf; });
        try_one(job, *leaf, stored.method, method, notices_writes);
    }
}

} // namespace partbackfill::checks

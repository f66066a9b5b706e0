// What stands against a swap of a partition, or what a user should know before it.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::swap {

struct Hazard {
    Oid leaf = kNoOid;
    std::string text; // "has a row security policy"
};

// The hazards that a query finds: the leaf's OID as bigint, and the text.
std::vector<Hazard> find_hazards(const std::string &sql, const pg::Params &params);

} // namespace partbackfill::swap

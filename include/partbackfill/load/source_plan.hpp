// What the planner makes of a source.
#pragma once

#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/load/source.hpp"

namespace partbackfill::load {

// The plan, as JSON, of what a build of this leaf would run. What the caller may not read
// is an error.
std::string explain(const Source &source, const catalog::Target &target, const catalog::Leaf &leaf,
                    const std::string &constraint);

// Leaves, of those that are selected, for which $1 or $2 is NULL and a condition on it keeps
// every row of the source, or of a part of it, away: the query and its plan tell. Such a
// build would lose what the source means to give.
std::vector<const catalog::Leaf *> leaves_without_rows(const Source &source, const catalog::Target &target);

// Raises that the source gives no rows for these leaves.
[[noreturn]] void raise_without_rows(const std::vector<const catalog::Leaf *> &leaves);

// Whether in that plan the leaf's filter stays above a part of the source that
// has to be computed whole (a window, a limit, an aggregate without the key):
// each partition then costs a read of everything.
bool reads_everything(const std::string &plan);

} // namespace partbackfill::load

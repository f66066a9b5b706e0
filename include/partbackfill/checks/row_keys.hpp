// What on_write => 'catch_up' needs of a partition: a row key, by which the source is asked for the rows
// that were written meanwhile, and a table whose rows may be deleted and inserted again. No function
// takes a lock.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/load/source.hpp"
#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::checks {

// The row key of each leaf, or the reason for which it cannot be caught up with: that of
// catalog::find_row_keys, or that the leaf is no plain heap, or that a foreign key refers to it. In the
// order of the leaves. Needs a PinnedSettings scope.
std::vector<catalog::KeyFinding> catch_up_keys(const std::vector<Oid> &leaves);

// Raises unless each selected leaf can be caught up with. Returns the columns of the row keys, which the
// source must give with exactly their types. Needs a PinnedSettings scope.
std::set<std::string> check_can_catch_up(const catalog::Target &target);
// As that, for one leaf.
void check_can_catch_up(const catalog::Leaf &leaf);

// For backfill_plan: of each selected leaf the key by which it can be caught up with, or why it cannot;
// and, where it can, whether the source combines rows. The source may be nullptr. In no PinnedSettings
// scope.
std::vector<swap::Hazard> catch_up_hazards(const catalog::Target &target, const load::Source *source);

// Sends a NOTICE when the source combines rows of the target, or computes the columns of a row key from
// them: what it gives for a key may then change without a write of that key.
void notice_doubt(const catalog::Target &target, const load::Source &source,
                  const std::set<std::string> &key_columns);

} // namespace partbackfill::checks

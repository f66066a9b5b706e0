// What does not stop a job, but what a user should know before.
#pragma once

#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::checks {

// Warnings about the selected leaves, those of one leaf in the order in which backfill_plan
// shows them. A warning that concerns one swap method begins with its name. Needs a
// PinnedSettings scope. No lock.
std::vector<swap::Hazard> warnings(const catalog::Target &target);

} // namespace partbackfill::checks

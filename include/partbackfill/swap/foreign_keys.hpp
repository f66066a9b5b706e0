// The steps that give a filled shadow the foreign keys of its partition, for both methods.
#pragma once

#include <vector>

#include "partbackfill/shadow/foreign_keys.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::swap {

// Adds the next foreign key that the shadow lacks, or validates the next one. Takes the locks of
// shadow::next_foreign_key_step, and SHARE ROW EXCLUSIVE on the shadow.
Preparation prepare_foreign_key(const SwapRequest &request, const catalog::Leaf &leaf, shadow::Keys keys,
                                std::vector<locks::TableLock> &locks);

} // namespace partbackfill::swap

// The shadow of the storage method: a table whose rows lie on disk exactly as those of the live
// partition, so that the two can exchange their files.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::shadow {

// Makes the shadow, empty, in the job's schema, and returns the OID. The shadow has the columns of
// the live partition with the same numbers (dropped ones included), the access method, tablespaces
// and storage options, a TOAST table when the live partition has one, an index for each valid index,
// and the constraints and expressions that a load has to check and compute. Grants, triggers and the
// like stay with the live partition and are not copied; proofs are left out.
//
// pg_class.relrewrite of each index names the live index for which it is made. Needs a PinnedSettings
// scope. ACCESS SHARE on the live partition, to the end of the transaction.
Oid create_storage_shadow(std::int64_t job, const catalog::Leaf &leaf, const std::vector<Oid> &proofs);

// Makes a table that was exchanged with the leaf before, and is in that schema of the job, a shadow again:
// indexes are paired with those that the leaf has by now, and statistics objects made. SHARE UPDATE EXCLUSIVE
// on it.
void adopt_storage_shadow(const catalog::Leaf &leaf, Oid shadow, const std::string &schema);

} // namespace partbackfill::shadow

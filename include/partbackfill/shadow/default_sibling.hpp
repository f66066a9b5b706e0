// The DEFAULT partition beside a rebuilt one, and proofs on it.
//
// ATTACH must know that the DEFAULT holds no row of the partition that comes in. Unless a
// constraint of the DEFAULT says so, ATTACH scans the DEFAULT, however large, under ACCESS
// EXCLUSIVE. So a large DEFAULT is given such a CHECK before the swap, the proof: added NOT
// VALID, validated while other sessions read and write, and dropped by the swap.
//
// Each function needs a PinnedSettings scope.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/locks/table_locks.hpp"

namespace partbackfill::shadow {

enum class Proof {
    not_needed, // no DEFAULT sibling, or one that is scanned in no time
    missing,    // add_proof() comes next
    added,      // validate_proof() comes next
    valid,
};

// The DEFAULT partition of the leaf's parent; nullopt when there is none, or when the leaf is it.
std::optional<Oid> default_sibling(const catalog::Leaf &leaf);

// Largest number of pages of a DEFAULT that ATTACH scans in less time than adding and dropping a
// CHECK takes.
inline constexpr int kSmallPages = 64;

// State of the proof for the leaf; `proof` is the OID of the CHECK, kNoOid before it is added. No
// proof is made on a DEFAULT of another owner or that is no plain table: ATTACH scans it.
Proof proof_state(const catalog::Leaf &leaf, Oid proof);

// Locks that add_proof takes: ACCESS EXCLUSIVE on the DEFAULT partition, ACCESS SHARE on the
// parent.
std::vector<locks::TableLock> locks_for_proof(Oid parent, Oid sibling);

// Adds the CHECK, not validated, and returns its OID; kNoOid when a lock was not granted within
// the limit. Takes locks_for_proof, to the end of the transaction, which should do nothing else.
Oid add_proof(std::int64_t job, int ordinal, const catalog::Leaf &leaf, std::chrono::milliseconds limit);

// Validates the CHECK by a scan of the DEFAULT partition. Raises when the DEFAULT holds rows of the
// partition. SHARE UPDATE EXCLUSIVE: readers and writers pass.
void validate_proof(Oid proof);

// Drops the CHECK if it is still there and, when a table is given, on that table. ACCESS EXCLUSIVE
// on the table of the CHECK.
void drop_proof(Oid proof, Oid table = kNoOid);

// The recorded proofs that are still in the catalogs.
std::vector<Oid> proofs_left(const std::vector<Oid> &recorded);

// Drops from the shadow of a DEFAULT partition the copies of proofs that LIKE has made.
void drop_copies_of_proofs(Oid shadow, const std::vector<Oid> &proofs);

// Tables that have the CHECKs.
std::vector<Oid> tables_of_proofs(const std::vector<Oid> &proofs);

} // namespace partbackfill::shadow

// The DEFAULT partition beside a rebuilt one.
//
// ATTACH must know that the DEFAULT holds no row of the partition that comes in;
// unless a constraint of the DEFAULT says so, it scans it, whatever its size,
// under ACCESS EXCLUSIVE. So a large DEFAULT is given such a CHECK before the
// swap: added NOT VALID, validated while everybody reads and writes, and dropped
// by the swap.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/engine/partitions.hpp"
#include "partbackfill/engine/polite_locks.hpp"

namespace partbackfill::engine {

enum class Proof {
    not_needed, // no DEFAULT sibling, or one that is scanned in no time
    missing,    // add_proof() comes next
    added,      // validate_proof() comes next
    valid,
};

// The DEFAULT partition of the leaf's parent, unless that is the leaf itself.
std::optional<Oid> default_sibling(const Leaf &leaf);

// A DEFAULT of fewer pages is scanned in less time than a CHECK takes to add and
// drop.
inline constexpr int kSmallPages = 64;

// How far the proof for this partition is; `proof` is the OID of its CHECK, if
// one was added. None is made on a DEFAULT that is not ours, or that is no plain
// table: ATTACH scans that.
Proof proof_state(const Leaf &leaf, Oid proof);

// Adds the CHECK, not validated, and returns its OID; kNoOid when a lock was not
// had. ACCESS EXCLUSIVE on the DEFAULT partition, in whose queue it stands for no
// longer than `limit`, and ACCESS SHARE on the parent, to the end of the
// transaction, which has nothing else to do.
std::vector<TableLock> locks_for_proof(Oid parent, Oid sibling);
Oid add_proof(std::int64_t job, int ordinal, const Leaf &leaf, std::chrono::milliseconds limit);

// Scans the DEFAULT partition: SHARE UPDATE EXCLUSIVE, readers and writers pass.
// An error when it holds rows of the partition.
void validate_proof(Oid proof);

// Drops the CHECK, if it is still there, and on that table if one is given. ACCESS EXCLUSIVE on its table.
void drop_proof(Oid proof, Oid table = kNoOid);

// Those of the recorded proofs that the catalogs still have.
std::vector<Oid> proofs_left(const std::vector<Oid> &recorded);

// A shadow of a DEFAULT partition was made LIKE it, proofs included: those go.
void drop_copies_of_proofs(Oid shadow, const std::vector<Oid> &proofs);

// The tables that the CHECKs are on.
std::vector<Oid> tables_of_proofs(const std::vector<Oid> &proofs);

} // namespace partbackfill::engine

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

namespace partbackfill::engine {

enum class Proof {
    not_needed, // no DEFAULT sibling, or one that is scanned in no time
    missing,    // add_proof() comes next
    added,      // validate_proof() comes next
    valid,
};

// The DEFAULT partition of the leaf's parent, unless that is the leaf itself.
std::optional<Oid> default_sibling(const Leaf &leaf);

// How far the proof for this partition is.
Proof proof_state(std::int64_t job, int ordinal, const Leaf &leaf);

// Adds the CHECK, not validated. ACCESS EXCLUSIVE on the DEFAULT partition, in
// whose queue it stands for no longer than `limit`, to the end of the
// transaction, which has nothing else to do. False when the lock was not had.
bool add_proof(std::int64_t job, int ordinal, const Leaf &leaf, std::chrono::milliseconds limit);

// Scans the DEFAULT partition: SHARE UPDATE EXCLUSIVE, readers and writers pass.
// An error when it holds rows of the partition.
void validate_proof(std::int64_t job, int ordinal, const Leaf &leaf);

// Drops the CHECK within the swap, which holds the locks for it.
void drop_proof(std::int64_t job, int ordinal, const Leaf &leaf);

// Tables that still have CHECKs of the job, of partitions that were not swapped;
// drop_proofs() needs ACCESS EXCLUSIVE on them.
std::vector<Oid> tables_with_proofs(std::int64_t job);
void drop_proofs(std::int64_t job);

} // namespace partbackfill::engine

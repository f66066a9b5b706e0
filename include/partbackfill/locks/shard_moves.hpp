// Moves of a shard to another node, and its splits, by Citus: what is exchanged during one is not moved.
#pragma once

#include <chrono>
#include <cstdint>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::locks {

inline constexpr const char *kShardMove = "shard move"; // for people

// Takes Citus's lock on the placement of the shard, shared, to the end of the (sub)transaction: writers of
// the shard take the same one, and a move takes it exclusively, from its beginning when it keeps writers out
// and before its end otherwise. To be taken before locks on tables, of which a move reads some. False when
// it was not granted within the limit: the (sub)transaction must then be rolled back. Needs a PinnedSettings
// scope.
bool lock_shard(std::int64_t shard, std::chrono::milliseconds limit);

// Whether a move that lets writers go on is under way: it reads the table by logical decoding, which does
// not see an exchange. A move begins by a lock on the table that waits for SHARE ROW EXCLUSIVE and stronger
// locks. Needs a PinnedSettings scope. No lock.
bool is_moving(Oid table);

} // namespace partbackfill::locks

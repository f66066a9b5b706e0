// Kinds of the extension's advisory locks: locktag_field4, objsubid in pg_locks.
#pragma once

#include <cstdint>

namespace partbackfill::locks {

// pg_advisory_lock uses 1 and 2, and extensions count on from there (Citus has a dozen): ours begin where no
// other is known to be.
constexpr std::uint16_t kFirstClass = 28770;
constexpr std::uint16_t kPartitionClass = kFirstClass;
constexpr std::uint16_t kJobClass = kFirstClass + 1;
constexpr std::uint16_t kSchemasClass = kFirstClass + 2;
constexpr std::uint16_t kWorkerSlotClass = kFirstClass + 3;
constexpr std::uint16_t kChoiceClass = kFirstClass + 4;
constexpr std::uint16_t kLabelClass = kFirstClass + 5;
constexpr std::uint16_t kWaitClass = kFirstClass + 6;

} // namespace partbackfill::locks

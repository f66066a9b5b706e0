// The part of a target's RANGE key that a partition holds, and the range of a request. To be
// included after server.hpp; errors are reported by longjmp: call under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/partcache.h"
}

namespace partbackfill::catalog {

// The range of a request as values of the key.
struct RequestedRange {
    bool given;
    bool has_start;
    bool has_end;
    Datum start;
    Datum end;
};

// A child of the target with its part of the key's range, which holds for all partitions
// below the child.
struct KeyRange {
    bool in_range;
    char *start; // text, nullptr is unbounded
    char *end;
};

// Whether the key is RANGE with one column.
bool has_range_key(PartitionKey key);

// Reads the values of a request under the caller's settings; nullptr is unbounded. Raises when
// the target's key is no RANGE with one column. False when the range is empty.
bool parse_range(Oid target, const char *start, const char *end, RequestedRange *range);

// The part of the key's range that the child holds, and whether the request means it.
KeyRange key_range(PartitionKey key, Oid child, const RequestedRange *requested);

} // namespace partbackfill::catalog

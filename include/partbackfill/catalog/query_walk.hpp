// Traits of an analyzed query. To be included after server.hpp; errors are reported by
// longjmp: call under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::catalog {

struct QueryTraits {
    bool locks_rows;        // FOR UPDATE and the like, anywhere
    bool uses_parameter[2]; // $1, $2
    List *functions;        // OIDs of called functions that did not come with the server
    const char *temporary;  // the first temporary object that is used, "table \"raw\""; null: none
};

// Traits of the queries (of Query *; views expanded) and of the relations that they read (OIDs).
QueryTraits query_traits(List *queries, List *relations);

} // namespace partbackfill::catalog

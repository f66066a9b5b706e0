// What an analyzed query is made of. To be included after server.hpp; reports errors by
// longjmp: call it under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::engine {

struct QueryTraits {
    bool locks_rows;        // FOR UPDATE and the like, anywhere
    bool uses_parameter[2]; // $1, $2
    List *functions;        // OIDs of those that it calls and that did not come with the server
    const char *temporary;  // the first temporary object that it depends on, "table \"raw\""; null: none
};

// Of the queries (Query *), views expanded, and the relations that they read (OIDs).
QueryTraits query_traits(List *queries, List *relations);

} // namespace partbackfill::engine

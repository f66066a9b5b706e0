// Crossing from the server into C++.
//
// PARTBACKFILL_FUNCTION(name) declares a function that SQL can call. Nothing
// throws or jumps through it: whatever C++ throws is caught at the edge, copied
// into plain data, and reported once every C++ frame is gone.
//
// All entries are here, and each pins search_path: nothing of the extension runs under
// a search_path that others can set. The suite "floors" looks for entries that do not.
#pragma once

#include "partbackfill/pg/server.hpp"

namespace partbackfill::pg {

// The body of a function for SQL. An error when the extension's objects have another version than the
// library, whose functions may have had other parameters.
using Implementation = Datum (*)(FunctionCallInfo);
Datum enter(Implementation implementation, FunctionCallInfo fcinfo);
// As enter(), for a function that looks after the version itself.
Datum enter_any_version(Implementation implementation, FunctionCallInfo fcinfo);

// Runs the main function of a background worker, in which transactions are pg::Transaction.
void enter_worker(void (*function)(void *), void *argument);

// Runs what the server calls in the midst of the user's query, within the transaction of a
// call or of a worker.
void enter_callback(void (*function)(void *), void *argument);

} // namespace partbackfill::pg

#define PARTBACKFILL_ENTRY(name, enter_function)                                                             \
    static Datum name##_body(FunctionCallInfo fcinfo);                                                       \
    extern "C" {                                                                                             \
    PG_FUNCTION_INFO_V1(name);                                                                               \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS) {                                                               \
        return partbackfill::pg::enter_function(name##_body, fcinfo);                                        \
    }                                                                                                        \
    }                                                                                                        \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)

#define PARTBACKFILL_FUNCTION(name) PARTBACKFILL_ENTRY(name, enter)
#define PARTBACKFILL_FUNCTION_OF_ANY_VERSION(name) PARTBACKFILL_ENTRY(name, enter_any_version)

// Crossing from the server into C++.
//
// PARTBACKFILL_FUNCTION(name) declares a function that SQL can call. Nothing
// throws or jumps through it: whatever C++ throws is caught at the edge, copied
// into plain data, and reported once every C++ frame is gone.
#pragma once

#include "partbackfill/pg/server.hpp"

namespace partbackfill::pg {

using Implementation = Datum (*)(FunctionCallInfo);
Datum enter(Implementation implementation, FunctionCallInfo fcinfo);

// The same for a callback of the server that returns nothing.
void enter_void(void (*function)(void *), void *argument);

} // namespace partbackfill::pg

#define PARTBACKFILL_FUNCTION(name)                                                                          \
    static Datum name##_body(FunctionCallInfo fcinfo);                                                       \
    extern "C" {                                                                                             \
    PG_FUNCTION_INFO_V1(name);                                                                               \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS) { return partbackfill::pg::enter(name##_body, fcinfo); }        \
    }                                                                                                        \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)

// Functions that had other parameters or results in an earlier version. Each version has a name of its own in
// the library: neither a session that still has the earlier library nor the objects of the earlier version
// call what takes other arguments.
#include "partbackfill/pg/server.hpp"

#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/error.hpp"

using namespace partbackfill;

namespace {

// Where the objects are of the earlier version, the entry has said what to do.
[[noreturn]] void raise_former() {
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              "this function of partbackfill is that of an earlier version");
}

} // namespace

// Version 1.0.
PARTBACKFILL_FUNCTION(partbackfill_start) {
    raise_former();
}
PARTBACKFILL_FUNCTION(partbackfill_alter) {
    raise_former();
}
PARTBACKFILL_FUNCTION(partbackfill_live) {
    raise_former();
}

// The library's magic block.
#include "partbackfill/pg/server.hpp"

extern "C" {
PG_MODULE_MAGIC;
}
